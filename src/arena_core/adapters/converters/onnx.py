"""ONNX models from anywhere.

What they answer, for the golden trace, is computed by the reference implementation of
the standard, which has nothing in common with the runtime that serves them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from arena_core.adapters.converters import descriptions, single_models
from arena_core.adapters.converters.descriptions import Framework
from arena_core.adapters.runtimes.onnx_safety import refuse_unsafe
from arena_core.application.conversion import MODEL_FILE, Converted, Options, Report
from arena_core.application.filenames import shown
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import DTYPES, Signature, TensorSpec
from arena_core.domain.errors import Rejected

_WEIGHTS = "policy.onnx"


def convert(folder: Path, options: Options, report: Report) -> Converted:
    """Convert `folder / MODEL_FILE`, an ONNX model in one file.

    `folder / SPACES_FILE` says what the model cannot say.  Raises `Rejected`, in one
    sentence, for what cannot be converted.
    """
    report("reading the model")
    data = (folder / MODEL_FILE).read_bytes()
    proto = _parsed(data)
    refuse_unsafe(data)
    described = descriptions.read(folder, options)
    inputs = _inputs(proto.graph)
    model = single_models.Model(
        inputs=inputs,
        outputs=tuple(output.name for output in proto.graph.output),
        run=_Reference.of(proto, inputs).run,
        weights=_WEIGHTS,
        write=lambda signature: _written(proto, signature),
        framework=Framework(
            name=shown(proto.producer_name or "onnx"),
            version=shown(proto.producer_version or "unknown"),
        ),
        source="onnx",
    )
    return single_models.convert(model, described, folder, report)


def _parsed(data: bytes) -> Any:  # noqa: ANN401 -- onnx has no types
    from google.protobuf import message as protobuf  # noqa: PLC0415 -- slow
    from onnx import ModelProto  # noqa: PLC0415 -- slow to import

    try:
        proto = ModelProto.FromString(data)
    except protobuf.DecodeError as error:
        raise _no_model() from error
    said = (proto.producer_name, proto.producer_version, *_names(proto.graph))
    if not proto.HasField("graph") or not all(map(_is_text, said)):
        raise _no_model()
    return proto


def _is_text(name: object) -> bool:
    """Say whether it is UTF-8: of old messages, protobuf gives bytes if it is not."""
    return isinstance(name, str)


def _no_model() -> Rejected:
    return Rejected(
        "The file is no ONNX model, or was cut off: export the model to ONNX and "
        "import that with the format onnx.",
        field="weights",
    )


def _inputs(graph: Any) -> tuple[TensorSpec, ...]:  # noqa: ANN401 -- onnx has no types
    # Of old, constants may be listed as inputs too.
    constants = {tensor.name for tensor in graph.initializer}
    return tuple(_spec(it) for it in graph.input if it.name not in constants)


def _spec(value: Any) -> TensorSpec:  # noqa: ANN401
    sizes = tuple(
        axis.dim_value if axis.HasField("dim_value") else None
        for axis in value.type.tensor_type.shape.dim
    )
    return TensorSpec(value.name, _dtype(value), sizes)


def _dtype(value: Any) -> str:  # noqa: ANN401
    from onnx import helper  # noqa: PLC0415

    try:
        found = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    except KeyError:
        found = None
    if found is None or found.name not in DTYPES:
        raise Rejected(
            f"The {shown(value.name)} is no array of numbers: export a model "
            "that takes and returns such only.",
            field="weights",
        )
    name: str = found.name
    return name


def _written(proto: Any, signature: Signature) -> bytes:  # noqa: ANN401
    """Return the model with its inputs called as in the signature."""
    from onnx import ModelProto, helper  # noqa: PLC0415

    written = ModelProto()
    written.CopyFrom(proto)
    graph = written.graph
    old = [spec.name for spec in _inputs(graph)]
    new = dict(zip(old, (spec.name for spec in signature.inputs), strict=True))
    taken = set(_names(graph))
    copies = []
    for value in graph.input:
        name = new.get(value.name, value.name)
        if name == value.name:
            continue
        if name in taken:
            raise Rejected(
                f"The model has something else that is called {shown(name)}: give that "
                "name to the input before you export it.",
                field="observation_space",
            )
        copies.append(helper.make_node("Identity", [name], [value.name]))
        value.name = name
    nodes = [*copies, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    content: bytes = written.SerializeToString(deterministic=True)
    return content


def _names(graph: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield what everything in the graph is called, branches included."""
    yield from (it.name for it in (*graph.input, *graph.initializer))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _names(attribute.g)


@frozen(eq=False)
class _Reference:
    """The model as the reference implementation of ONNX runs it."""

    _evaluator: Any
    _names: Sequence[str]
    _dtypes: Sequence[str]
    """Of the outputs: the reference computes some in double precision."""
    _row_by_row: bool
    """The model takes one row at a time."""

    @classmethod
    def of(cls, proto: Any, inputs: Sequence[TensorSpec]) -> "_Reference":  # noqa: ANN401
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 -- slow

        try:
            evaluator = ReferenceEvaluator(proto)
        except Exception as error:  # of any kind, for it trusts its input
            raise _failed() from error
        return cls(
            evaluator,
            [spec.name for spec in inputs],
            [_dtype(value) for value in proto.graph.output],
            any(spec.shape[:1] == (1,) for spec in inputs),
        )

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs for any number of rows."""
        if not self._row_by_row:
            return self._together(inputs)
        rows = range(len(inputs[0]))
        by_row = [self._together([a[row : row + 1] for a in inputs]) for row in rows]
        return [np.concatenate(output) for output in zip(*by_row, strict=True)]

    def _together(self, inputs: Sequence[Array]) -> list[Array]:
        given = dict(zip(self._names, inputs, strict=True))
        try:
            with np.errstate(all="ignore"):
                outputs = self._evaluator.run(None, given)
        except Exception as error:  # operators fail in ways of their own
            raise _failed() from error
        pairs = zip(outputs, self._dtypes, strict=True)
        return [np.asarray(output, dtype) for output, dtype in pairs]


def _failed() -> Rejected:
    return Rejected(
        "The model cannot be computed as the ONNX standard says: export it with "
        "another opset, with a free batch axis and without custom operators.",
        field="weights",
    )
