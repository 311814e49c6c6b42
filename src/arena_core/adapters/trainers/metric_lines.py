"""Lines of `metrics.jsonl`: what trainings say in numbers, read with bounds.

A line is one JSON object: `{"step": 100, "score": 1.5, "loss": 0.2}`.  Trainings are
programs of anybody's, so a line that cannot be understood is told by its number.
"""

from collections.abc import Sequence

import msgspec

from arena_core.application import metric_points
from arena_core.application.ports import MetricPoint
from arena_core.domain.errors import Rejected

FILE = "metrics.jsonl"
STEP = "step"
LONGEST_BYTES = 1 << 16
"""Of one line, without its end."""

_LINE = msgspec.json.Decoder(dict[str, int | float])


class BrokenLine(Exception):  # noqa: N818 -- what it is, not what it raises
    """`str(error)` is a sentence for the user, which names the line."""


def points(line: bytes, number: int) -> Sequence[MetricPoint]:
    """Return what line `number`, from 1, says.  Raises `BrokenLine`."""
    if len(line) > LONGEST_BYTES:
        raise too_long(number)
    try:
        values = _LINE.decode(line)
        step = values.pop(STEP)
        if not isinstance(step, int):
            raise _broken(number, "its step is no whole number")
        found = [MetricPoint(step, name, float(v)) for name, v in values.items()]
        metric_points.check_step(step)
        metric_points.check(found)
    except KeyError as error:
        raise _broken(number, "it has no step") from error
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise _broken(number, "it is no JSON object of finite numbers") from error
    except Rejected as error:
        raise _broken(number, str(error).rstrip(".")) from error
    return found


def step_of(line: bytes) -> int | None:
    """Return the step of a line; None if it cannot be understood."""
    try:
        step = _LINE.decode(line).get(STEP, -1)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    is_one = isinstance(step, int) and 0 <= step <= metric_points.LARGEST_STEP
    return int(step) if is_one else None


def too_long(number: int) -> BrokenLine:
    return _broken(number, f"it has more than {LONGEST_BYTES} bytes")


def _broken(number: int, problem: str) -> BrokenLine:
    return BrokenLine(
        f"Line {number} of {FILE} cannot be understood: {problem}. "
        'Write lines like {"step": 100, "score": 1.5}.'
    )
