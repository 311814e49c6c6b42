"""What replaying a golden trace has shown: whether weights answer as in training."""

from enum import Enum

from attrs import field, frozen

from arena_core.domain.values import finite, natural


class Verdict(Enum):
    """What replaying the golden trace has shown."""

    PASSED = "passed"
    FAILED = "failed"
    UNCHECKED = "unchecked"


@frozen
class Difference:
    """The first value of the golden trace that was served otherwise than trained."""

    case: str
    output: str
    index: tuple[int, ...]
    expected: float = field(validator=finite)
    served: float | None = field(validator=finite)
    """None if the served value was not finite, or was missing."""


@frozen
class Parity:
    verdict: Verdict
    values_compared: int = field(default=0, validator=natural)
    difference: Difference | None = None

    @property
    def allows_serving(self) -> bool:
        """False for what answers otherwise than it was trained to."""
        return self.verdict is not Verdict.FAILED
