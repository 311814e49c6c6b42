"""Python code, laid out over lines as formatters lay it out."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from arena_core.application.ports import Array
from arena_core.entrypoints.http.examples.arrays import Forbidding, Tree
from arena_core.entrypoints.http.examples.literals import python

WIDTH = 88
INDENT = "    "
Lines: TypeAlias = list[str]
Code: TypeAlias = "str | Brackets"


@frozen
class Brackets:
    """A call, a list, a dict or a tuple: what lines are broken at."""

    opening: str
    """With what stands before it, as in `np.zeros(`."""
    items: Sequence[tuple[str, Code]]
    """Each after what names it, as in `("dtype=", "bool")`; mostly nothing."""
    closing: str
    is_call: bool = False

    def __str__(self) -> str:
        return self.opening + self.inside + self.closing

    @property
    def inside(self) -> str:
        listed = ", ".join(f"{name}{value}" for name, value in self.items)
        lone = self.opening == "(" and len(self.items) == 1
        return listed + "," if lone else listed


def call(function: str, *arguments: Code, **named: Code) -> Brackets:
    items = [("", argument) for argument in arguments]
    items += [(f"{name}=", value) for name, value in named.items()]
    return Brackets(f"{function}(", items, ")", is_call=True)


def mapping(items: Mapping[str, Code]) -> Brackets:
    entries = [(f"{python(key)}: ", value) for key, value in items.items()]
    return Brackets("{", entries, "}")


def laid_out(before: str, code: Code, after: str = "", *, levels: int = 0) -> Lines:
    """Return `before`, the code and `after`, over as many lines as it takes."""
    return _laid_out(before, code, after, INDENT * levels)


def _laid_out(before: str, code: Code, after: str, indent: str) -> Lines:
    line = f"{indent}{before}{code}{after}"
    if len(line) <= WIDTH:
        return [line]
    inner = indent + INDENT
    if isinstance(code, str):
        if not before.endswith(" = ") or len(inner + code) > WIDTH:
            return [line]
        return [f"{indent}{before}(", inner + code, f"{indent})"]
    within = [inner + code.inside]
    if not code.is_call or len(within[0]) > WIDTH:
        within = [
            part
            for name, value in code.items
            for part in _laid_out(name, value, ",", inner)
        ]
    first = f"{indent}{before}{code.opening}"
    return [first, *within, f"{indent}{code.closing}{after}"]


def indented(lines: Sequence[str], levels: int = 1) -> Lines:
    return [INDENT * levels + line for line in lines]


# --- arrays ------------------------------------------------------------------------


def array(value: Array) -> Code:
    """Return NumPy code that makes `value`."""
    dtype = "bool" if value.dtype == bool else f"np.{value.dtype}"
    shape = str(value.size) if value.ndim == 1 else str(value.shape)
    if value.ndim == 0:
        return call("np.array", _number(value), dtype=dtype)
    if not value.any():
        return call("np.zeros", shape, dtype=dtype)
    if (value == value.flat[0]).all():
        return call("np.full", shape, _number(value.flat[0]), dtype=dtype)
    return call("np.array", _listed(value), dtype=dtype)


def _listed(value: Array) -> Code:
    if value.ndim == 0:
        return _number(value)
    return Brackets("[", [("", _listed(part)) for part in value], "]")


def _number(value: object) -> str:
    return str(value).replace("e+", "e")


def tree(value: Tree) -> Code:
    """Return code that makes a tree of arrays."""
    if isinstance(value, Mapping):
        return mapping({key: tree(part) for key, part in value.items()})
    if isinstance(value, tuple):
        return Brackets("(", [("", tree(part)) for part in value], ")")
    return array(value)


def packed(value: Tree) -> Code:
    """Return code that makes what `tree` does, with `pack` called on each array."""
    if isinstance(value, Mapping):
        return mapping({key: packed(part) for key, part in value.items()})
    if isinstance(value, tuple):
        return Brackets("[", [("", packed(part)) for part in value], "]")
    return call("pack", array(value))


def mask(forbidding: Forbidding) -> str:
    """Return code that makes a mask, without a batch axis."""
    size = math.prod(forbidding.shape)
    shaped = "" if len(forbidding.shape) == 1 else f".reshape{forbidding.shape}"
    return f"np.arange({size}){shaped} != {forbidding.place}"
