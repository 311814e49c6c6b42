"""What ONNX weights must not contain before a runtime sees them.

A model is a tree of protobuf messages, and every message of it is looked at, wherever
it hangs: a list of the known places would be one release behind the format.
"""

import functools
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

from arena_core.domain.errors import Rejected, TooLarge

LARGEST_BYTES = 2**31
"""Protobuf, hence ONNX without external data, can't hold more."""

# Not `com.microsoft`: its operators include some that open files by name and some
# that call back into Python, and no exporter of policies needs it.
_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_CHOICE = "If"
"""The one operator that holds graphs and runs none of them more than once."""


def refuse_unsafe(weights: bytes, *, largest_bytes: int = LARGEST_BYTES) -> None:
    """Raise `Rejected` unless `weights` are self-contained, standard ONNX.

    That means: one file, no data kept outside of it (which a runtime would read from
    this machine's disk), operators of the ONNX standard only, and no loops.
    """
    # Imported here, for only those who load a model need them.
    from google.protobuf import message as protobuf  # noqa: PLC0415
    from google.protobuf import unknown_fields  # noqa: PLC0415

    if len(weights) > largest_bytes:
        raise TooLarge(
            f"The weights have {len(weights)} bytes: at most {largest_bytes} are "
            "accepted.",
            field="weights",
        )
    try:
        model = _onnx().ModelProto.FromString(weights)
    except protobuf.DecodeError as error:
        raise _not_onnx() from error
    if not model.HasField("graph"):
        raise _not_onnx()
    for message in _messages(model):
        # What this release can't read it can't check, and the runtime may know more.
        if len(unknown_fields.UnknownFieldSet(message)):
            raise Rejected(
                "The weights have parts that this version of ONNX does not know: "
                "export them for an older version.",
                field="weights",
            )
        _refuse(message)


@functools.cache
def _onnx() -> Any:  # noqa: ANN401 -- generated, without types
    """Import the messages of the format, and no more of the package.

    All of it takes three times as long, and memory that a server keeps: tools to make
    and to convert models, and the data types of hardware.
    """
    package: Any = find_spec("onnx")  # finds it, and imports nothing
    places = package.submodule_search_locations
    spec: Any = PathFinder.find_spec("onnx_ml_pb2", places)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _messages(root: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield `root` and every message below it.  Protobuf bounds the depth."""
    pending = [root]
    while pending:
        message = pending.pop()
        yield message
        if message.DESCRIPTOR.name == "TensorProto":
            continue  # nothing below it but the data
        for field, value in message.ListFields():
            if field.message_type is not None:
                pending.extend([value] if hasattr(value, "ListFields") else value)


def _refuse(message: Any) -> None:  # noqa: ANN401
    match message.DESCRIPTOR.name:
        case "TensorProto":
            _refuse_external(message)
        case "NodeProto":
            _refuse_custom(message)
            _refuse_loop(message)
        case "FunctionProto":
            # A few that call each other twice inline to a graph of any size.
            raise Rejected(
                "The weights define functions of their own: inline them in the export.",
                field="weights",
            )


def _refuse_external(tensor: Any) -> None:  # noqa: ANN401
    if tensor.external_data or tensor.data_location == tensor.EXTERNAL:
        raise Rejected(
            "The weights keep data outside of their file: "
            "export them without external data.",
            field="weights",
        )


def _refuse_custom(node: Any) -> None:  # noqa: ANN401
    if node.domain not in _STANDARD_DOMAINS:
        raise Rejected(
            "The weights use operators that are not of the ONNX standard: "
            "export them with standard operators only.",
            field="weights",
        )


def _refuse_loop(node: Any) -> None:  # noqa: ANN401
    """Refuse Loop, Scan, SequenceMap, and whatever else may repeat a graph.

    A few hundred bytes can ask for 2**60 rounds, or for as many as an input says; and
    onnxruntime does not heed its own flag to end a run while a body without nodes is
    repeated.
    """
    holds_a_graph = any(it.HasField("g") or it.graphs for it in node.attribute)
    if holds_a_graph and node.op_type != _CHOICE:
        raise Rejected(
            "The weights hold a loop, which may never end: export them without one.",
            field="weights",
        )


def _not_onnx() -> Rejected:
    return Rejected(
        "The weights are no ONNX model: export them as ONNX, or upload them again "
        "if they were cut off.",
        field="weights",
    )
