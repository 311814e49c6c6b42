"""Small real ONNX models, and the signatures that are true of them."""

from collections.abc import Sequence

import numpy as np
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from arena_core.domain.checkpoint import Signature, TensorSpec

OPSET = helper.make_opsetid("", 20)
LOCAL = helper.make_opsetid("local", 1)


def signature(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
    return Signature(tuple(inputs), tuple(outputs))


POLICY = signature(
    [TensorSpec("obs", "float32", (None, 4))],
    [TensorSpec("logits", "float32", (None, 2))],
)
MASKED_POLICY = signature(
    [
        TensorSpec("obs", "float16", (None, 2, 3)),
        TensorSpec("step", "int64", (None,)),
        TensorSpec("mask", "bool", (None, 6)),
    ],
    [
        TensorSpec("q", "float32", (None, 6)),
        TensorSpec("next", "int64", (None,)),
    ],
)
SEQUENCE = signature(
    [TensorSpec("tokens", "float32", (None, None, 3))],
    [TensorSpec("scaled", "float32", (None, None, 3))],
)


PICK = signature(
    [TensorSpec("obs", "int64", (None,))],
    [TensorSpec("logits", "float32", (None, 2))],
)
READER = signature(
    [TensorSpec("obs", "float32", (None, 4))],
    [TensorSpec("logits", "float32", (None, 4))],
)


def value(name: str, dtype: int, shape: Sequence[int | str | None] | None):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: Sequence[TensorProto] = (),
    *,
    functions: Sequence[FunctionProto] = (),
    opsets: Sequence = (OPSET,),
) -> ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    return helper.make_model(
        graph, opset_imports=opsets, functions=functions, ir_version=10
    )


def policy(*, batch: int | str = "batch", **names: str) -> bytes:
    """Return an MLP 4-8-2 with tanh; `batch` is the size of its first axis."""
    obs, logits = names.get("obs", "obs"), names.get("logits", "logits")
    random = np.random.default_rng(0)
    return model(
        [
            helper.make_node("Gemm", [obs, "w0", "b0"], ["h0"]),
            helper.make_node("Tanh", ["h0"], ["h1"]),
            helper.make_node("Gemm", ["h1", "w1", "b1"], [logits]),
        ],
        [value(obs, TensorProto.FLOAT, [batch, 4])],
        [value(logits, TensorProto.FLOAT, [batch, 2])],
        [
            numpy_helper.from_array(random.normal(size=size).astype("f4"), name)
            for name, size in [("w0", (4, 8)), ("b0", 8), ("w1", (8, 2)), ("b1", 2)]
        ],
    ).SerializeToString()


def gossiping_policy() -> bytes:
    """Return a policy whose rows see each other: it subtracts the batch's mean."""
    return model(
        [
            helper.make_node("Slice", ["obs", "from", "to", "axis"], ["logits0"]),
            helper.make_node("ReduceMean", ["logits0", "batch"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["logits0", "mean"], ["logits"]),
        ],
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.array([number]), name)
            for name, number in [("from", 0), ("to", 2), ("axis", 1), ("batch", 0)]
        ],
    ).SerializeToString()


def collapsing_policy(*, keepdims: int = 1) -> bytes:
    """Return a policy that answers one row, or none, to any number of them."""
    axes = np.array([0] if keepdims else [0, 1])
    return model(
        [helper.make_node("ReduceSum", ["obs", "axes"], ["logits"], keepdims=keepdims)],
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(axes, "axes")],
    ).SerializeToString()


def masked_policy() -> bytes:
    """Return a policy of three inputs and two outputs, of four dtypes."""
    return model(
        [
            helper.make_node("Flatten", ["obs"], ["flat"]),
            helper.make_node("Cast", ["flat"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Where", ["mask", "wide", "never"], ["q"]),
            helper.make_node("Add", ["step", "one"], ["next"]),
        ],
        [
            value("obs", TensorProto.FLOAT16, ["batch", 2, 3]),
            value("step", TensorProto.INT64, ["batch"]),
            value("mask", TensorProto.BOOL, ["batch", 6]),
        ],
        [
            value("q", TensorProto.FLOAT, ["batch", 6]),
            value("next", TensorProto.INT64, ["batch"]),
        ],
        [
            numpy_helper.from_array(np.array(-1e9, np.float32), "never"),
            numpy_helper.from_array(np.array(1), "one"),
        ],
    ).SerializeToString()


def undescribed_policy() -> bytes:
    """Return a policy whose output has no shape in the file, nor can it be inferred."""
    return model(
        [
            helper.make_node("Shape", ["obs"], ["shape"]),
            helper.make_node("NonZero", ["shape"], ["axes"]),
            helper.make_node("Gather", ["shape", "axes"], ["nested"]),
            helper.make_node("Squeeze", ["nested"], ["same"]),
            helper.make_node("Reshape", ["obs", "same"], ["logits"]),
        ],
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("logits", TensorProto.FLOAT, None)],
    ).SerializeToString()


def reshaping_policy() -> bytes:
    """Return a policy that says it takes any batch, but was traced with one row."""
    return model(
        [
            helper.make_node("Reshape", ["obs", "traced"], ["row"]),
            helper.make_node("Slice", ["row", "from", "to", "axis"], ["logits"]),
        ],
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.array(numbers), name)
            for name, numbers in [
                ("traced", [1, 4]),
                ("from", [0]),
                ("to", [2]),
                ("axis", [1]),
            ]
        ],
    ).SerializeToString()


def sequence_model() -> bytes:
    """Return a model with a second free axis, the length."""
    return model(
        [helper.make_node("Tanh", ["tokens"], ["scaled"])],
        [value("tokens", TensorProto.FLOAT, ["batch", "length", 3])],
        [value("scaled", TensorProto.FLOAT, ["batch", "length", 3])],
    ).SerializeToString()


def pick_policy() -> bytes:
    """Return a policy that picks one of two rows by the number it is given."""
    return model(
        [helper.make_node("Gather", ["table", "obs"], ["logits"])],
        [value("obs", TensorProto.INT64, ["batch"])],
        [value("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32), "table")],
    ).SerializeToString()


def constant_policy() -> bytes:
    """Return a policy that takes no input."""
    always = numpy_helper.from_array(np.zeros((1, 2), np.float32))
    return model(
        [helper.make_node("Constant", [], ["logits"], value=always)],
        [],
        [value("logits", TensorProto.FLOAT, [1, 2])],
    ).SerializeToString()


def text_policy() -> bytes:
    return model(
        [helper.make_node("Identity", ["obs"], ["logits"])],
        [value("obs", TensorProto.STRING, ["batch"])],
        [value("logits", TensorProto.STRING, ["batch"])],
    ).SerializeToString()


# --- what must not be loaded -----------------------------------------------------

CANARY = np.array([3, 1, 4, 1], np.float32)
"""What `canary.bin` holds: an answer with these numbers has read the file."""


def _outside() -> TensorProto:
    tensor = TensorProto(
        name="secret", data_type=TensorProto.FLOAT, dims=[4],
        data_location=TensorProto.EXTERNAL,
    )  # fmt: skip
    for key, text in [("location", "canary.bin"), ("length", str(CANARY.nbytes))]:
        tensor.external_data.add(key=key, value=text)
    return tensor


def _reader(nodes: Sequence[NodeProto], weights=(), **more) -> ModelProto:
    return model(
        nodes,
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("logits", TensorProto.FLOAT, None)],
        weights,
        **more,
    )


ADD = helper.make_node("Add", ["obs", "secret"], ["logits"])


def secret_weights() -> ModelProto:
    return _reader([ADD], [_outside()])


def secret_constant() -> ModelProto:
    return _reader(
        [helper.make_node("Constant", [], ["secret"], value=_outside()), ADD]
    )


def _branch(weights: Sequence[TensorProto] = ()) -> GraphProto:
    return helper.make_graph(
        [helper.make_node("Add", ["obs", "secret"], ["sum"])],
        "branch",
        [],
        [value("sum", TensorProto.FLOAT, None)],
        weights,
    )


def secret_branch() -> ModelProto:
    branch = _branch([_outside()])
    yes = numpy_helper.from_array(np.array(True))
    return _reader(
        [
            helper.make_node("Constant", [], ["yes"], value=yes),
            helper.make_node(
                "If", ["yes"], ["logits"], then_branch=branch, else_branch=branch
            ),
        ]
    )


def secret_function() -> ModelProto:
    body = [helper.make_node("Constant", [], ["secret"], value=_outside()), ADD]
    function = helper.make_function("local", "F", ["obs"], ["logits"], body, [OPSET])
    call = helper.make_node("F", ["obs"], ["logits"], domain="local")
    return _reader([call], functions=[function], opsets=[OPSET, LOCAL])


def secret_sparse_weights() -> ModelProto:
    reader = _reader([ADD])
    sparse = reader.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(_outside())
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(4)))
    return reader


def secret_training() -> ModelProto:
    reader = _reader([helper.make_node("Relu", ["obs"], ["logits"])])
    reader.training_info.add().initialization.initializer.append(_outside())
    return reader


def located_but_inside() -> ModelProto:
    reader = secret_weights()
    reader.graph.initializer[0].data_location = TensorProto.DEFAULT
    reader.graph.initializer[0].raw_data = CANARY.tobytes()
    return reader


def outside_but_nowhere() -> ModelProto:
    reader = secret_weights()
    reader.graph.initializer[0].ClearField("external_data")
    return reader


def custom_operator(domain: str) -> ModelProto:
    call = helper.make_node("Gelu", ["obs"], ["logits"], domain=domain)
    return _reader([call], opsets=[OPSET, helper.make_opsetid(domain, 1)])


def _body(inputs: Sequence[str], outputs: Sequence[str]) -> GraphProto:
    """Return a graph without nodes, which copies: a loop of it can't be ended."""
    scalars = {
        "round": value("round", TensorProto.INT64, []),
        "on": value("on", TensorProto.BOOL, []),
    }
    values = {
        name: scalars.get(name) or value(name, TensorProto.FLOAT, None)
        for name in (*inputs, *outputs)
    }
    return helper.make_graph(
        [],
        "body",
        [values[name] for name in inputs],
        [values[name] for name in outputs],
    )


def endless_loop(rounds: int = 2**60) -> ModelProto:
    body = _body(["round", "on", "row"], ["on", "row"])
    return _reader(
        [helper.make_node("Loop", ["rounds", "", "obs"], ["logits"], body=body)],
        [numpy_helper.from_array(np.array(rounds), "rounds")],
    )


def loop_by_input() -> ModelProto:
    """Return a loop of as many rounds as the greatest number of the input."""
    body = _body(["round", "on", "row"], ["on", "row"])
    return _reader(
        [
            helper.make_node("ReduceMax", ["obs"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["rounds"], to=TensorProto.INT64),
            helper.make_node("Loop", ["rounds", "", "obs"], ["logits"], body=body),
        ]
    )


def loop_in_a_branch() -> ModelProto:
    branch = helper.make_graph(
        list(endless_loop().graph.node),
        "branch",
        [],
        [value("logits", TensorProto.FLOAT, None)],
        list(endless_loop().graph.initializer),
    )
    yes = numpy_helper.from_array(np.array(True))
    return _reader(
        [
            helper.make_node("Constant", [], ["yes"], value=yes),
            helper.make_node(
                "If", ["yes"], ["logits"], then_branch=branch, else_branch=branch
            ),
        ]
    )


def endless_scan() -> ModelProto:
    """Return a scan over an array of 2**50 rows of nothing, which needs no memory."""
    body = _body(["row", "nothing"], ["row"])
    return _reader(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["nothings"]),
            helper.make_node(
                "Scan", ["obs", "nothings"], ["logits"], body=body, num_scan_inputs=1
            ),
        ],
        [numpy_helper.from_array(np.array([2**50, 0]), "shape")],
    )


def mapped_sequence() -> ModelProto:
    """Return an operator of the standard that runtimes expand to a loop."""
    body = _body(["row"], ["row"])
    return _reader(
        [
            helper.make_node("SequenceConstruct", ["obs"], ["rows"]),
            helper.make_node("SequenceMap", ["rows"], ["same"], body=body),
            helper.make_node("ConcatFromSequence", ["same"], ["logits"], axis=0),
        ]
    )


def branching_policy() -> bytes:
    """Return a policy that chooses one of two constants by a condition."""
    branches = [
        helper.make_graph(
            [helper.make_node("Mul", ["obs", "sign"], ["chosen"])],
            "branch",
            [],
            [value("chosen", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.array(sign, np.float32), "sign")],
        )
        for sign in (1, -1)
    ]
    return _reader(
        [
            helper.make_node("ReduceMax", ["obs"], ["most"], keepdims=0),
            helper.make_node("Greater", ["most", "zero"], ["positive"]),
            helper.make_node(
                "If",
                ["positive"],
                ["logits"],
                then_branch=branches[0],
                else_branch=branches[1],
            ),
        ],
        [numpy_helper.from_array(np.array(0, np.float32), "zero")],
    ).SerializeToString()


def own_function() -> ModelProto:
    body = [helper.make_node("Relu", ["obs"], ["logits"])]
    function = helper.make_function("local", "F", ["obs"], ["logits"], body, [OPSET])
    call = helper.make_node("Relu", ["obs"], ["logits"])
    return _reader([call], functions=[function], opsets=[OPSET, LOCAL])
