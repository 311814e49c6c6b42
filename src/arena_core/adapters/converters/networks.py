"""Networks, written down once, computed by NumPy and emitted as ONNX.

A network is made of values: its inputs, and what layers make of other values.

    obs = Input(TensorSpec("obs", "float32", (None, 4)))
    hidden = TANH(Linear(weight, bias)(obs))
    network = Network((obs,), {"logits": Linear(weight2, bias2)(hidden)})
    network.run({"obs": observations})["logits"]
    network.to_onnx()

Each layer says what it does twice, for NumPy in `apply` and for ONNX in `emit`.  The
two know nothing of each other, so what one computes proves the other.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from attrs import frozen

from arena_core.application.ports import Array, Tensors
from arena_core.domain.checkpoint import Signature, TensorSpec
from arena_core.domain.errors import Rejected

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8
"""Old enough for every runtime that is still in use."""
BATCH = "batch"


@frozen(eq=False)
class Input:
    """An array that callers give, batch axis first."""

    spec: TensorSpec
    arguments = ()


@frozen(eq=False)
class Result:
    """What `layer` makes of `arguments`: one array, batch axis first."""

    layer: "Layer"
    arguments: tuple["Value", ...]


Value: TypeAlias = Input | Result


class Layer:
    """A function of arrays, in each of which the first axis is the batch."""

    apply: Callable[..., Array]
    """Takes an array for each argument.  Rows don't see each other."""
    emit: Callable[..., str]
    """Takes the `Graph`, and for each argument the name of its tensor.  Adds what is
    needed to the graph and returns the name of the tensor that comes of it."""

    def __call__(self, *arguments: Value) -> Result:
        return Result(self, arguments)


class Graph:
    """An ONNX graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 -- as ONNX has them
        """Add a node with one output and return the name of that."""
        from onnx import helper  # noqa: PLC0415 -- slow to import

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def rename(self, name: str, output: str) -> None:
        """Call the tensor `name` `output` too."""
        from onnx import helper  # noqa: PLC0415 -- slow to import

        self.nodes.append(helper.make_node("Identity", [name], [output]))

    def constant(self, array: Array) -> str:
        """Add an array that is part of the weights and return its name."""
        from onnx import numpy_helper  # noqa: PLC0415 -- slow to import

        name = f"constant_{len(self.tensors)}"
        contiguous = np.ascontiguousarray(array).reshape(np.shape(array))
        self.tensors.append(numpy_helper.from_array(contiguous, name))
        return name


class Network:
    """Arrays by name in, arrays by name out.

    Raises `Rejected` if the layers do not fit together.
    """

    def __init__(self, inputs: tuple[Input, ...], outputs: Mapping[str, Value]) -> None:
        self._inputs = inputs
        self._outputs = dict(outputs)
        self._results = _in_order(self._outputs.values())
        self.signature = self._signature()

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Return the outputs, as NumPy computes them."""
        arrays: dict[Value, Array] = {
            value: inputs[value.spec.name] for value in self._inputs
        }
        with np.errstate(all="ignore"):
            for result in self._results:
                given = (arrays[argument] for argument in result.arguments)
                arrays[result] = result.layer.apply(*given)
        return {name: arrays[value] for name, value in self._outputs.items()}

    def to_onnx(self) -> bytes:
        """Return the network as ONNX, in one file of standard operators."""
        from onnx import checker, helper  # noqa: PLC0415 -- slow to import

        graph = self._graph()
        model = helper.make_model(
            helper.make_graph(
                graph.nodes,
                "policy",
                [_value_info(spec) for spec in self.signature.inputs],
                [_value_info(spec) for spec in self.signature.outputs],
                graph.tensors,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="arena-core",
        )
        checker.check_model(model, full_check=True)
        serialized: bytes = model.SerializeToString(deterministic=True)
        return serialized

    def _graph(self) -> Graph:
        graph = Graph()
        names: dict[Value, str] = {value: value.spec.name for value in self._inputs}
        for result in self._results:
            given = (names[argument] for argument in result.arguments)
            names[result] = result.layer.emit(graph, *given)
        for name, value in self._outputs.items():
            graph.rename(names[value], name)
        return graph

    def _signature(self) -> Signature:
        specs = tuple(value.spec for value in self._inputs)
        zeros = {s.name: np.zeros([n or 1 for n in s.shape], s.dtype) for s in specs}
        try:
            outputs = self.run(zeros)
        except (ValueError, IndexError) as error:
            raise Rejected(
                "The weights do not fit together, or not the spaces: save the "
                "checkpoint again, or export it to ONNX and import that.",
                field="weights",
            ) from error
        return Signature(
            specs,
            tuple(
                TensorSpec(name, str(array.dtype), (None, *array.shape[1:]))
                for name, array in outputs.items()
            ),
        )


def chain(value: Value, *layers: Layer) -> Value:
    """Return what the last of `layers` makes of ... the first makes of `value`."""
    for layer in layers:
        value = layer(value)
    return value


def _in_order(outputs: Iterable[Value]) -> list[Result]:
    """Return the results that `outputs` need, each behind those it is made of."""
    done: dict[Value, None] = {}
    pending = list(outputs)
    while pending:
        value = pending.pop()
        missing = [it for it in value.arguments if it not in done]
        if missing:
            pending += [value, *missing]
        else:
            done[value] = None
    return [value for value in done if isinstance(value, Result)]


def _value_info(spec: TensorSpec) -> "onnx.ValueInfoProto":
    from onnx import helper  # noqa: PLC0415 -- slow to import

    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, dtype, [BATCH, *spec.shape[1:]])
