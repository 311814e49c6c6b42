"""Programs of torch.export: real ones, small ones written by hand, and their parts."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO

import numpy as np

from arena_core.adapters.runtimes.torch_export_safety import strip
from arena_core.domain.checkpoint import Signature, TensorSpec

from real_checkpoints import CHECKPOINTS

PROGRAM = "archive/models/model.json"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
SAMPLES = "archive/data/sample_inputs/model.pt"
DTYPES = {"uint8": 1, "int64": 5, "float16": 6, "float32": 7, "float64": 8, "bool": 12}

Members = dict[str, bytes]


def saved(name: str) -> bytes:
    """Return the file as `torch.export.save` has written it.

    The members are in a folder `archive`, as if it had been given a buffer.
    """
    found = unpacked((CHECKPOINTS / "torch" / f"{name}.pt2").read_bytes())
    return packed({f"archive/{n.partition('/')[2]}": it for n, it in found.items()})


def plain(name: str) -> bytes:
    return strip(saved(name))


def unpacked(archive: bytes) -> Members:
    with zipfile.ZipFile(BytesIO(archive)) as members:
        return {name: members.read(name) for name in members.namelist()}


def packed(members: Mapping[str, bytes]) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def changed(
    archive: bytes, change: Callable[[dict], object], member: str = PROGRAM
) -> bytes:
    """Return the archive after `change` of the JSON in one of its members."""
    members = unpacked(archive)
    content = json.loads(members[member])
    change(content)
    return packed(members | {member: json.dumps(content).encode()})


def signature(
    inputs: Sequence[tuple[str, str, tuple]], outputs: Sequence[tuple[str, str, tuple]]
) -> Signature:
    """Return a signature of (name, dtype, shape of a row)."""
    return Signature(
        *(
            tuple(TensorSpec(name, dtype, (None, *row)) for name, dtype, row in specs)
            for specs in (inputs, outputs)
        )
    )


# --- by hand ---------------------------------------------------------------------

OBS = signature([("obs", "float32", (4,))], [("answer", "float32", (4,))])


class Value(str):
    """The name of a value, where a text could stand too."""

    __slots__ = ()


class Number(str):
    """The name of a length of an axis."""

    __slots__ = ()


def call(operator: str, makes: object, **arguments: object) -> dict:
    """Return a node; `makes` names what it returns, a list several."""
    several = makes if isinstance(makes, list) else [makes]
    return {
        "target": operator if operator[0] == "_" else f"torch.ops.{operator}",
        "inputs": [
            {"name": name, "arg": _argument(value), "kind": 1}
            for name, value in arguments.items()
        ],
        "outputs": [_result(name) for name in several],
        "metadata": {},
    }


def program(
    nodes: Sequence[dict],
    *,
    answers: Sequence[str] = ("answer",),
    arrays: Mapping[str, np.ndarray] | None = None,
    interface: Signature = OBS,
    rows: tuple[int, int | None] = (0, None),
) -> bytes:
    """Return a plain archive of a program, whose arrays are its parameters."""
    arrays = arrays or {}
    batch = {"expr_str": "Symbol('s0', positive=True, integer=True)"}
    metas = {
        name: _meta(array.dtype.name, array.shape) for name, array in arrays.items()
    }
    for spec in interface.inputs:
        metas[spec.name] = _meta(spec.dtype, spec.shape)
    for name, spec in zip(answers, interface.outputs, strict=True):
        metas.setdefault(name, _meta(spec.dtype, spec.shape))
    for meta in metas.values():
        meta["sizes"] = [
            {"as_expr": batch} if size is None else {"as_int": size}
            for size in meta["sizes"]
        ]
    inputs = [spec.name for spec in interface.inputs]
    graph = {
        "inputs": [{"as_tensor": {"name": name}} for name in (*arrays, *inputs)],
        "outputs": [{"as_tensor": {"name": name}} for name in answers],
        "nodes": list(nodes),
        "tensor_values": metas,
        "sym_int_values": {},
        "sym_bool_values": {},
    }
    specs = {
        "input_specs": [
            *({"parameter": {"arg": {"name": n}, "parameter_name": n}} for n in arrays),
            *({"user_input": {"arg": {"as_tensor": {"name": n}}}} for n in inputs),
        ],
        "output_specs": [
            {"user_output": {"arg": {"as_tensor": {"name": name}}}} for name in answers
        ],
    }
    module = {
        "graph": graph,
        "signature": specs,
        "module_call_graph": [_calling(inputs)],
    }
    exported = {
        "graph_module": module,
        "opset_version": {"aten": 10},
        "range_constraints": {"s0": {"min_val": rows[0], "max_val": rows[1]}},
        "schema_version": {"major": 8, "minor": 17},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0",
    }
    places = {name: f"weight_{place}" for place, name in enumerate(arrays)}
    config = {
        name: {
            "path_name": places[name],
            "is_param": True,
            "use_pickle": False,
            "tensor_meta": metas[name],
        }
        for name in arrays
    }
    return packed(
        {
            PROGRAM: json.dumps(exported).encode(),
            WEIGHTS: json.dumps({"config": config}).encode(),
            CONSTANTS: json.dumps({"config": {}}).encode(),
            SAMPLES: b"",
            "archive/archive_format": b"pt2",
            "archive/archive_version": b"0",
            "archive/byteorder": b"little",
            "archive/.data/version": b"6\n",
            **{
                f"archive/data/weights/{places[name]}": array.tobytes()
                for name, array in arrays.items()
            },
        }
    )


def _meta(dtype: str, shape: Sequence[int | None]) -> dict:
    strides = [
        int(np.prod([n or 1 for n in shape[i + 1 :]])) for i in range(len(shape))
    ]
    return {
        "dtype": DTYPES[dtype],
        "sizes": list(shape),
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


def _calling(inputs: Sequence[str]) -> dict:
    leaf = {"type": None, "context": None, "children_spec": []}

    def branch(kind: str, context: str, *children: dict) -> dict:
        return {"type": kind, "context": context, "children_spec": list(children)}

    positional = branch("builtins.tuple", "null", *[leaf] * len(inputs))
    both = branch("builtins.tuple", "null", positional, branch("builtins.dict", "[]"))
    signature = {
        "inputs": [],
        "outputs": [],
        "in_spec": json.dumps([1, both]),
        "out_spec": json.dumps([1, leaf]),
        "forward_arg_names": list(inputs),
    }
    return {"fqn": "", "signature": signature}


def _argument(value: object) -> dict:
    match value:
        case Value():
            return {"as_tensor": {"name": value}}
        case Number():
            return {"as_sym_int": {"as_name": value}}
        case [Value(), *_]:
            return {"as_tensors": [{"name": name} for name in value]}
        case [*parts] if any(isinstance(part, Number) for part in parts):
            return {"as_sym_ints": [_integer(part) for part in parts]}
        case [*_]:
            return {"as_ints": value}
        case None:
            return {"as_none": True}
        case dict():
            return value
        case _:
            kinds = {
                bool: "as_bool",
                int: "as_int",
                float: "as_float",
                str: "as_string",
            }
            return {kinds[type(value)]: value}


def _integer(part: object) -> dict:
    return {"as_name": part} if isinstance(part, Number) else {"as_int": part}


def _result(name: object) -> dict:
    if isinstance(name, list):
        return {"as_tensors": [{"name": part} for part in name]}
    if isinstance(name, Number):
        return {"as_sym_int": {"as_name": name}}
    return {"as_none": True} if name is None else {"as_tensor": {"name": name}}
