"""The calls that a torch.export program makes, understood one by one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeAlias

from attrs import frozen
from msgspec import UNSET, Struct

from arena_core.adapters.runtimes.torch_programs import schema
from arena_core.adapters.runtimes.torch_programs.operators import (
    CLAIMS,
    refuse_unknown,
)
from arena_core.domain.errors import Rejected, TooLarge

MOST_CALLS = 20_000
DTYPES: Mapping[int, str] = MappingProxyType(
    {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16",
     7: "float32", 8: "float64", 12: "bool", 13: "bfloat16", 28: "uint16"}
)  # fmt: skip
"""As the schema numbers them."""
STRIDED = 7
"""How the schema numbers the layout of every ordinary array."""
_FORMATS = {1: "contiguous_format", 2: "channels_last", 4: "preserve_format"}
_IN_TRAINING = ("train", "training")
_DROPOUT = "dropout_p"


@frozen
class Value:
    """What an input, a parameter or an earlier call is called."""

    name: str


@frozen
class DType:
    name: str


@frozen
class MemoryFormat:
    name: str


class Setting(Enum):
    """What only those who run the program know."""

    DEVICE = "device"
    LAYOUT = "layout"


Argument: TypeAlias = (
    bool | int | float | str | Value | DType | MemoryFormat | Setting | list[Any] | None
)


@frozen
class Call:
    """A call of an operator, of which every argument is given by its name."""

    operator: str
    arguments: Mapping[str, Argument]
    names: tuple[str | None, ...]
    """Of what it returns; None where nothing is made of a part."""
    returns_several: bool
    """Whether it returns a sequence, of as many parts as there are names."""

    @property
    def used(self) -> set[str]:
        """The names of the values that it takes."""
        return {value.name for value in _values(self.arguments.values())}


def calls(nodes: Sequence[schema.Node]) -> Iterator[Call]:
    """Yield the calls in order.  Raises `Rejected` for one that is not served."""
    if len(nodes) > MOST_CALLS:
        raise TooLarge(
            f"The weights make {len(nodes)} calls: at most {MOST_CALLS} are served.",
            field="weights",
        )
    for node in nodes:
        refuse_unknown(node.target)
        if node.target not in CLAIMS:
            yield _call(node)


def only(union: Struct) -> tuple[str, Any]:
    """Return the name and the value of the one field that is set."""
    found = [
        (name, value)
        for name in union.__struct_fields__
        if (value := getattr(union, name)) is not UNSET
    ]
    if len(found) != 1:
        raise foreign("a value of several kinds at once, or of none")
    return found[0]


def foreign(what: str) -> Rejected:
    """Return the refusal of weights that hold `what`."""
    return Rejected(
        f"The weights hold {what}, which is not served: export a module that takes "
        "and returns arrays only.",
        field="weights",
    )


def _call(node: schema.Node) -> Call:
    arguments = {it.name: _argument(it.arg) for it in node.inputs}
    if len(arguments) < len(node.inputs):
        raise foreign("a call that is given an argument twice")
    for name, value in arguments.items():
        _check_evaluates(name, value)
    return Call(node.target, arguments, *_results(node.outputs))


def _check_evaluates(name: str, value: Argument) -> None:
    """Refuse what draws at random or learns, as modules do in training mode."""
    if (name in _IN_TRAINING and value is not False) or (
        name == _DROPOUT and value != 0
    ):
        raise Rejected(
            "The weights were exported in training mode: call eval() on the module "
            "before it is exported.",
            field="weights",
        )


def _results(
    outputs: Sequence[schema.Argument],
) -> tuple[tuple[str | None, ...], bool]:
    """Return the names of what a call returns, and whether it returns several."""
    match [only(output) for output in outputs]:
        case [("as_tensors", parts)]:
            return tuple(part.name for part in parts), True
        case found:
            return tuple(_result(*it) for it in found), len(found) != 1


def _result(kind: str, value: Any) -> str | None:  # noqa: ANN401
    match kind, value:
        case "as_tensor", schema.Tensor(name=name):
            return name
        case "as_sym_int", schema.Integer(as_name=str(name)):
            return name
        case "as_none", _:
            return None
        case _:
            raise foreign("a call that returns no array")


# --- arguments -------------------------------------------------------------------


def _values(arguments: Iterable[Argument]) -> Iterator[Value]:
    for argument in arguments:
        if isinstance(argument, Value):
            yield argument
        elif isinstance(argument, list):
            yield from _values(argument)


def _argument(argument: schema.Argument) -> Argument:
    kind, value = only(argument)
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return Value(value.name)
        case "as_tensors":
            return [Value(part.name) for part in value]
        case "as_optional_tensors":
            return [_optional(part) for part in value]
        case "as_sym_int":
            return _integer(value)
        case "as_sym_ints":
            return [_integer(part) for part in value]
        case "as_float":
            return float(value)
        case "as_floats":
            return [float(part) for part in value]
        case "as_int" | "as_ints" | "as_bool" | "as_bools" | "as_string":
            plain: Argument = value
            return plain
        case _:
            return _setting(kind, value)


def _setting(kind: str, value: Any) -> Argument:  # noqa: ANN401
    match kind:
        case "as_scalar_type" if value in DTYPES:
            return DType(DTYPES[value])
        case "as_memory_format" if value in _FORMATS:
            return MemoryFormat(_FORMATS[value])
        case "as_layout" if value == STRIDED:
            return Setting.LAYOUT
        case "as_device":
            return Setting.DEVICE
        case _:
            raise foreign("an argument of a call that is neither number nor array")


def _optional(part: schema.OptionalTensor) -> Argument:
    kind, value = only(part)
    return None if kind == "as_none" else Value(value.name)


def _integer(part: schema.Integer) -> Argument:
    kind, value = only(part)
    return Value(value) if kind == "as_name" else int(value)
