"""A program that torch.export has saved, as a list of calls and nothing else.

It is understood here, without torch and without its loader, which unpickles, evaluates
text and makes Python code of names: docs/decisions says more.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from attrs import evolve, frozen

from arena_core.adapters.runtimes.torch_programs import schema
from arena_core.adapters.runtimes.torch_programs.calls import (
    DTYPES,
    STRIDED,
    Call,
    calls,
    foreign,
    only,
)
from arena_core.domain.checkpoint import TensorSpec
from arena_core.domain.errors import Rejected

SCHEMA_MAJOR = 8
"""Of torch 2.11 to 2.13."""
_BFLOAT16 = "bfloat16"
Rows: TypeAlias = tuple[int, int | None]
"""The least and the greatest number of rows; None is any."""


@frozen
class Stored:
    """How an array lies over the bytes of a member of the archive."""

    place: str
    """`weight_<i>` or `tensor_<i>`."""
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In elements, as the offset is."""
    offset: int


@frozen
class Program:
    """What is called with what.  Every value is made before it is used, and once."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    """With the shape `()`, for shapes are known when it has run."""
    stored: Mapping[str, Stored]
    """The parameters, buffers and constants, by the names of their values."""
    calls: tuple[Call, ...]
    rows: Rows
    """With how many it may be run; it was not exported for other numbers."""
    torch_version: str
    """Of the torch that has exported it, such as `2.13.0+cpu`."""


@frozen
class _Ends:
    """The values that there are before the first call, and those that are answered."""

    stored: Mapping[str, Stored]
    given: tuple[str, ...]
    begin: tuple[str, ...]
    """The stored and the given ones, in the order of the program's inputs."""
    end: tuple[str, ...]


def understand(
    exported: schema.Exported, weights: schema.Payloads, constants: schema.Payloads
) -> Program:
    """Return what the program does.  Raises `Rejected` for anything not served."""
    if exported.schema_version.major != SCHEMA_MAJOR:
        raise Rejected(
            "The weights are of a generation of torch.export that is not served: save "
            "them with torch 2.11 to 2.13.",
            field="weights",
        )
    graph = exported.graph_module.graph
    if graph.custom_obj_values or graph.sym_bool_values or graph.sym_float_values:
        raise foreign("values that are neither arrays nor whole numbers")
    ends = _ends(exported.graph_module.signature, weights, constants)
    program = Program(
        inputs=tuple(_spec(graph, name) for name in ends.given),
        # Of what an LSTM returns, torch 2.11 and 2.12 note a shape that it has not.
        outputs=tuple(evolve(_spec(graph, name), shape=()) for name in ends.end),
        stored=ends.stored,
        calls=tuple(calls(graph.nodes)),
        rows=_rows(exported, ends.given),
        torch_version=exported.torch_version,
    )
    _check_order(graph, program.calls, ends)
    return program


# --- what goes in and comes out --------------------------------------------------


def _ends(
    signature: schema.Signature, weights: schema.Payloads, constants: schema.Payloads
) -> _Ends:
    kept: dict[str, Stored] = {}
    begin: list[str] = []
    for spec in signature.input_specs:
        match only(spec):
            case "user_input", schema.UserValue(arg=arg):
                begin.append(_array(arg))
                continue
            case "parameter", schema.Parameter(arg=it, parameter_name=path):
                kept[it.name] = _found(weights, path)
            case "buffer", schema.Buffer(arg=it, buffer_name=path, persistent=True):
                kept[it.name] = _found(weights, path)
            case "buffer", schema.Buffer(arg=it, buffer_name=path):
                kept[it.name] = _found(constants, path)
            case "tensor_constant", schema.Constant(arg=it, tensor_constant_name=path):
                kept[it.name] = _found(constants, path)
            case _:
                raise foreign("an input that is no array")
        begin.append(it.name)
    given = tuple(name for name in begin if name not in kept)
    end = tuple(map(_answered, signature.output_specs))
    return _Ends(kept, given, tuple(begin), end)


def _answered(spec: schema.OutputSpec) -> str:
    kind, value = only(spec)
    if kind != "user_output":
        raise Rejected(
            "The weights change while they run: call eval() on the module before it "
            "is exported, and make its state an input and an output.",
            field="weights",
        )
    return _array(value.arg)


def _array(argument: schema.Argument) -> str:
    kind, value = only(argument)
    if kind != "as_tensor":
        raise foreign("an input or an output that is no array")
    name: str = value.name
    return name


def _spec(graph: schema.Graph, name: str) -> TensorSpec:
    meta = graph.tensor_values.get(name)
    dtype = "" if meta is None else DTYPES.get(meta.dtype, "")
    if meta is None or dtype in {"", _BFLOAT16}:
        raise foreign(f"the array {name}, whose dtype does not travel")
    return TensorSpec(
        name,
        dtype,
        tuple(s.as_int if isinstance(s.as_int, int) else None for s in meta.sizes),
    )


def _rows(exported: schema.Exported, given: Sequence[str]) -> Rows:
    """Return the numbers of rows that every input allows."""
    values = exported.graph_module.graph.tensor_values
    limits = [
        _limits(values[name].sizes[0], exported) for name in given if values[name].sizes
    ]
    least = max((low for low, _ in limits), default=1)
    most = min((high for _, high in limits if high is not None), default=None)
    if most is not None and most < least:
        raise foreign("inputs that allow no common number of rows")
    return least, most


def _limits(length: schema.Length, exported: schema.Exported) -> Rows:
    if not isinstance(length.as_expr, schema.Symbolic):
        fixed = length.as_int if isinstance(length.as_int, int) else 1
        return fixed, fixed
    symbol = length.as_expr.expr_str.partition("'")[2].partition("'")[0]
    limits = exported.range_constraints.get(symbol)
    if limits is None:
        return 1, None
    return max(1, limits.min_val or 0), limits.max_val


# --- parameters, buffers and constants -------------------------------------------


def _found(payloads: schema.Payloads, path: str) -> Stored:
    payload = payloads.config.get(path)
    if payload is None:
        raise _incomplete()
    return stored(payload)


def stored(payload: schema.Payload) -> Stored:
    """Return where the array is.  Raises `Rejected` if its dtype is not served."""
    meta = payload.tensor_meta
    dtype = DTYPES.get(meta.dtype)
    if dtype is None or meta.layout != STRIDED:
        raise foreign("a parameter of an unusual dtype or layout")
    shape, strides = (
        tuple(map(_natural, meta.sizes)),
        tuple(map(_natural, meta.strides)),
    )
    if len(shape) != len(strides):
        raise _incomplete()
    return Stored(
        payload.path_name, dtype, shape, strides, _natural(meta.storage_offset)
    )


def item_bytes(dtype: str) -> int:
    """Return the size of one element; NumPy has no bfloat16."""
    return 2 if dtype == _BFLOAT16 else np.dtype(dtype).itemsize


def _natural(length: schema.Length) -> int:
    number = length.as_int
    if not isinstance(number, int) or number < 0:
        raise _incomplete()
    return number


def _incomplete() -> Rejected:
    return Rejected(
        "The weights lack a parameter, or do not say its shape: save them again with "
        "torch.export.save.",
        field="weights",
    )


# --- the order -------------------------------------------------------------------


def _check_order(graph: schema.Graph, made_by: Sequence[Call], ends: _Ends) -> None:
    """Refuse a value that is used before it is made, or made twice."""
    begin, end = map(_array, graph.inputs), map(_array, graph.outputs)
    made = set(ends.begin)
    if (
        tuple(begin) != ends.begin
        or tuple(end) != ends.end
        or len(made) < len(ends.begin)
    ):
        raise _disordered()
    for call in made_by:
        new = [name for name in call.names if name is not None]
        if not call.used <= made or made & {*new} or len({*new}) < len(new):
            raise _disordered()
        made.update(new)
    if not made.issuperset(ends.end):
        raise _disordered()


def _disordered() -> Rejected:
    return Rejected(
        "The weights use a value that no call has made, or make one twice: save them "
        "again with torch.export.save.",
        field="weights",
    )
