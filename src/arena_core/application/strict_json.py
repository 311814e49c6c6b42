"""JSON from strangers, parsed by type; every refusal is a `Rejected`."""

import re
from typing import TypeVar

import msgspec

from arena_core.application import decoding
from arena_core.application.choices import choices
from arena_core.application.filenames import shown
from arena_core.domain.errors import Rejected

T = TypeVar("T")

_PROBLEM = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?", re.DOTALL)
_PLACE = re.compile(r" - at `.*", re.DOTALL)
_LONGEST_PROBLEM = 200


def decode(data: bytes, *, most_levels: int) -> object:
    """Return what `data` say.

    Refuses NaN and infinity, and what is nested more than `most_levels` deep.
    """
    too_deep = f"It is nested too deeply: use at most {most_levels} levels."
    try:
        obj: object = msgspec.json.decode(data)
    except RecursionError as error:
        raise Rejected(too_deep) from error
    except ValueError as error:
        raise Rejected(
            "It is not JSON with finite numbers in UTF-8: write it with a JSON "
            f"library, without NaN or Infinity ({shown(_PLACE.sub('', str(error)))})."
        ) from error
    if not _is_shallow(obj, most_levels):
        raise Rejected(too_deep)
    return obj


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    children = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(child, levels - 1) for child in children)


def convert(obj: object, form: type[T], *, at: str = "") -> T:
    """Return `obj`, decoded JSON, as a `form`.

    The `field` of the `Rejected` is the path within it, such as `inputs 0.dtype`,
    after `at`, the path of `obj` itself.
    """
    try:
        return decoding.convert(obj, form)
    except msgspec.ValidationError as error:
        problem = _PROBLEM.fullmatch(str(error))
        what, where = problem.group("what", "where") if problem else ("", None)
        inside = re.sub(r"\[(.*?)\]", r" \1", where or "").strip()
        path = shown(".".join(filter(None, (at, inside))))
        told = f"The {path or 'top level'} is wrong: {_readable(what)}."
        if what.startswith("Invalid enum value"):
            told += f" Use one of {', '.join(choices(form, where or ''))}."
        raise Rejected(told, field=path or None) from error


def _readable(problem: str) -> str:
    """Return what msgspec says without what may not stand in a message."""
    plain = re.sub(r"[^A-Za-z0-9 .,_|<>='-]", "?", problem.replace("`", ""))
    return plain[:_LONGEST_PROBLEM]
