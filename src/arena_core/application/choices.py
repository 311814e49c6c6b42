"""Which values a form allows in a place where only some are allowed."""

import re
from collections.abc import Iterable, Sequence

from msgspec import inspect

_STEP = re.compile(r"\[[^\]]*\]|[^.\[\]]+")


def choices(form: type, where: str) -> Sequence[str]:
    """Return what may stand in a place of `form`, as it is written in JSON.

    `where`: the path as msgspec writes it, such as `stages[0].trigger`.  Nothing is
    returned where anything of a type may stand.
    """
    return list(_at(inspect.type_info(form), _STEP.findall(where)))


def _at(kind: inspect.Type, steps: Sequence[str]) -> Iterable[str]:
    if isinstance(kind, inspect.Metadata):
        return _at(kind.type, steps)
    if isinstance(kind, inspect.UnionType):
        return [each for one in kind.types for each in _at(one, steps)]
    if not steps:
        return _allowed(kind)
    return [each for one in _inside(kind, steps[0]) for each in _at(one, steps[1:])]


def _allowed(kind: inspect.Type) -> Iterable[str]:
    if isinstance(kind, inspect.LiteralType):
        return map(str, kind.values)
    if isinstance(kind, inspect.EnumType):
        return [str(member.value) for member in kind.cls]
    return []


def _inside(kind: inspect.Type, step: str) -> Sequence[inspect.Type]:
    """Return the types that there may be one step further in."""
    match kind:
        case inspect.StructType() | inspect.DataclassType():
            return [f.type for f in kind.fields if f.encode_name == step]
        case inspect.ListType() | inspect.VarTupleType():
            return [kind.item_type]
        case inspect.TupleType():
            return kind.item_types
        case inspect.DictType():
            return [kind.value_type]
        case _:
            return []
