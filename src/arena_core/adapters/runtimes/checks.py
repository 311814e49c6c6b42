"""What every runtime checks, whatever runs the weights."""

from typing import Any, Self

import numpy as np
from attrs import frozen

from arena_core.application.ports import Array, Runtime, Tensors
from arena_core.domain.checkpoint import Signature, TensorSpec
from arena_core.domain.errors import Rejected, Unavailable

Shape = tuple[int | None, ...]


@frozen
class _Column:
    """One input, prepared for the check that every request pays for."""

    name: str
    dtype: np.dtype[Any]
    row: Shape
    is_fixed: bool

    @classmethod
    def of(cls, spec: TensorSpec) -> Self:
        row = spec.shape[1:]
        return cls(spec.name, np.dtype(spec.dtype), row, None not in row)

    def fits(self, shape: tuple[int, ...]) -> bool:
        row = shape[1:]
        if self.is_fixed:
            return row == self.row and shape != ()
        return len(shape) == len(self.row) + 1 and _fits(row, self.row)


@frozen
class InputCheck:
    """Whether arrays are what a signature's inputs ask for."""

    _columns: tuple[_Column, ...]
    _names: frozenset[str]

    @classmethod
    def of(cls, signature: Signature) -> Self:
        columns = tuple(map(_Column.of, signature.inputs))
        return cls(columns, frozenset(column.name for column in columns))

    def rows(self, inputs: Tensors) -> int:
        """Return how many rows each input has.

        Raises `Rejected` for a missing or unknown name, a wrong dtype or shape, no
        row at all, or inputs that disagree on the number of rows.
        """
        if inputs.keys() != self._names:
            raise self._misnamed(inputs)
        rows: int | None = None
        for column in self._columns:
            array = inputs[column.name]
            if array.dtype != column.dtype or not column.fits(array.shape):
                raise _misfit(column, array)
            if rows is None:
                rows = len(array)
            elif len(array) != rows:
                raise _uneven(column.name, len(array), rows)
        if not rows:
            raise Rejected("The inputs have no rows: give at least one.", field="rows")
        return rows

    def _misnamed(self, inputs: Tensors) -> Rejected:
        missing = sorted(self._names - inputs.keys())
        if missing:
            return Rejected(
                f"The input {missing[0]} is missing: give an array of that name.",
                field=missing[0],
            )
        # The caller's own words are not repeated: they may hold anything.
        known = _listed(sorted(self._names))
        return Rejected(
            f"An input is unknown: give no other than {known}.",
            field=min(inputs.keys() - self._names),
        )


def accept_rows(outputs: dict[str, Array], rows: int) -> dict[str, Array]:
    """Return `outputs`.  Raises `Rejected` unless each has `rows` rows."""
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            got = len(array) if array.ndim else "no"
            raise Rejected(
                f"The output {name} has {got} rows for {rows} rows of input: export "
                "the weights so that the first axis of every output is the batch.",
                field="weights",
            )
    return outputs


def accept_outputs(signature: Signature, outputs: dict[str, Array]) -> None:
    """Raise `Rejected` unless `outputs` are of the dtypes and shapes of `signature`."""
    for spec in signature.outputs:
        shape = outputs[spec.name].shape
        if len(shape) != len(spec.shape) or not _fits(shape[1:], spec.shape[1:]):
            found = _in_words((None, *shape[1:]))
            raise Rejected(
                f"The output {spec.name} has the shape {found}, the manifest says "
                f"{_in_words(spec.shape)}: correct the manifest.",
                field="signature",
            )
        if outputs[spec.name].dtype != spec.dtype:
            raise Rejected(
                f"The output {spec.name} has the dtype {outputs[spec.name].dtype}, the "
                f"manifest says {spec.dtype}: correct the manifest.",
                field="signature",
            )


def accept_signature(found: Signature, wanted: Signature) -> None:
    """Raise `Rejected` unless the manifest, `wanted`, is true of the weights, `found`.

    Both list the same names in the same order, with the same dtypes.  The manifest
    leaves the batch axis free; it may fix another axis that the weights leave free,
    not the other way round.  An output whose shape the weights do not know, `()`,
    can have any.
    """
    _accept_specs("input", found.inputs, wanted.inputs)
    _accept_specs("output", found.outputs, wanted.outputs)
    for spec in found.inputs:
        if spec.shape[0] not in (None, 1):
            raise Rejected(
                f"The weights fix the batch axis of the input {spec.name} to "
                f"{spec.shape[0]}: export them with a free batch axis.",
                field="weights",
            )


def prove(runtime: Runtime) -> None:
    """Run one and two rows of zeros, unless sizes are free that only callers know.

    Raises `Rejected` unless outputs follow the batch and are as the signature says.
    """
    specs = runtime.signature.inputs
    if any(None in spec.shape[1:] for spec in specs):
        return
    for rows in (1, 2):
        zeros = {spec.name: _zeros(spec, rows) for spec in specs}
        try:
            outputs = runtime.run(zeros)
        except Unavailable as error:
            raise Rejected(
                f"The weights can't answer a batch of {rows} rows of zeros: "
                "export them with a free batch axis.",
                field="weights",
            ) from error
        accept_outputs(runtime.signature, outputs)


def _zeros(spec: TensorSpec, rows: int) -> Array:
    row = [size for size in spec.shape[1:] if size is not None]
    return np.zeros((rows, *row), spec.dtype)


def _accept_specs(
    kind: str, found: tuple[TensorSpec, ...], wanted: tuple[TensorSpec, ...]
) -> None:
    ours, theirs = ([spec.name for spec in specs] for specs in (wanted, found))
    if not theirs:
        raise Rejected(f"The weights have no {kind}: export a model.", field="weights")
    if ours != theirs:
        raise Rejected(
            f"The manifest names the {kind}s {_listed(ours)}, the weights "
            f"{_listed(theirs)}: list in the manifest what the weights have, in order.",
            field="signature",
        )
    for one, other in zip(wanted, found, strict=True):
        _accept_spec(kind, one, other)


def _accept_spec(kind: str, wanted: TensorSpec, found: TensorSpec) -> None:
    if wanted.dtype != found.dtype:
        raise Rejected(
            f"The manifest says {wanted.dtype} for the {kind} {wanted.name}, the "
            f"weights {found.dtype}: correct the manifest.",
            field="signature",
        )
    if not wanted.shape or wanted.shape[0] is not None:
        raise Rejected(
            f"The manifest fixes the batch axis of the {kind} {wanted.name}: "
            "begin its shape with null.",
            field="signature",
        )
    if kind == "output" and not found.shape:
        return
    narrowed = len(wanted.shape) == len(found.shape) and _fits(
        wanted.shape[1:], found.shape[1:]
    )
    if not narrowed:
        raise Rejected(
            f"The manifest says {_in_words(wanted.shape)} for the shape of the {kind} "
            f"{wanted.name}, the weights {_in_words(found.shape)}: correct it.",
            field="signature",
        )


def _fits(shape: Shape, pattern: Shape) -> bool:
    """Say whether sizes agree where `pattern` has one; both have as many axes."""
    pairs = zip(shape, pattern, strict=True)
    return all(fixed is None or size == fixed for size, fixed in pairs)


def _in_words(shape: Shape) -> str:
    """Return such as `(rows, 4, any)`."""
    axes = ["any" if size is None else str(size) for size in shape[1:]]
    return f"({', '.join(['rows', *axes])})" if shape else "()"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


def _misfit(column: _Column, array: Array) -> Rejected:
    if array.dtype != column.dtype:
        return Rejected(
            f"The input {column.name} has the dtype {array.dtype}: "
            f"give {column.dtype}.",
            field=column.name,
        )
    given = f"({', '.join(map(str, array.shape))})"
    return Rejected(
        f"The input {column.name} has the shape {given}: "
        f"give {_in_words((None, *column.row))}.",
        field=column.name,
    )


def _uneven(name: str, rows: int, expected: int) -> Rejected:
    return Rejected(
        f"The input {name} has {rows} rows and an earlier one {expected}: "
        "give the same number in all.",
        field=name,
    )
