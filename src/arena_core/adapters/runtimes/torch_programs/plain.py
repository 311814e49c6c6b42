"""The plain form of what torch.export has saved: without notes, and for any device.

Notes are where in its source a call comes from, guards and names of modules.  Nobody
needs them to run the program; torch's own loader evaluates some of them, and they hold
paths of the machine that it was exported on.
"""

import json
import re
from typing import Any

import msgspec
from msgspec.structs import replace

from arena_core.adapters.runtimes.torch_programs import schema
from arena_core.domain.errors import Rejected

_CPU = schema.Device(type="cpu")
_CONTAINERS = {
    "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict",
}  # fmt: skip
_KEY = re.compile(r"[A-Za-z0-9_.:/ -]{1,100}")
_MOST_LEVELS = 8


def program(exported: schema.Exported) -> schema.Exported:
    """Return the program without notes.

    Raises `Rejected` if its arguments or answers are trees of anything but tuples,
    lists and dicts, for torch imports by name what a tree says it is made of.
    """
    module = exported.graph_module
    return replace(
        exported,
        graph_module=replace(
            module,
            graph=_graph(module.graph),
            module_call_graph=[_whole(module.module_call_graph)],
            metadata={},
            treespec_namedtuple_fields={},
        ),
        guards_code=[],
    )


def payloads(stored: schema.Payloads) -> schema.Payloads:
    """Return the same arrays, on the CPU."""
    return schema.Payloads(
        config={
            name: replace(payload, tensor_meta=_meta(payload.tensor_meta))
            for name, payload in stored.config.items()
        }
    )


def _graph(graph: schema.Graph) -> schema.Graph:
    return replace(
        graph,
        nodes=[_node(node) for node in graph.nodes],
        tensor_values={name: _meta(m) for name, m in graph.tensor_values.items()},
    )


def _node(node: schema.Node) -> schema.Node:
    return replace(
        node,
        inputs=[replace(given, arg=_argument(given.arg)) for given in node.inputs],
        metadata={},
    )


def _argument(argument: schema.Argument) -> schema.Argument:
    if argument.as_device is msgspec.UNSET:
        return argument
    return replace(argument, as_device=_CPU)


def _meta(meta: schema.TensorMeta) -> schema.TensorMeta:
    return replace(meta, device=_CPU)


def _whole(entries: list[schema.CallEntry]) -> schema.CallEntry:
    """Return how the program itself is called; the others are its modules."""
    for entry in entries:
        if entry.fqn == "" and entry.signature is not None:
            signature = entry.signature
            for tree in (signature.in_spec, signature.out_spec):
                _check_tree(tree)
            return replace(entry, signature=replace(signature, inputs=[], outputs=[]))
    raise _odd()


def _check_tree(text: str) -> None:
    try:
        version, tree = msgspec.json.decode(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _odd() from error
    if version != 1:
        raise _odd()
    _check_branch(tree, _MOST_LEVELS)


def _check_branch(tree: Any, levels: int) -> None:  # noqa: ANN401
    match tree:
        case {"type": None, "context": None, "children_spec": [], **more} if not more:
            return
        case {"type": kind, "context": keys, "children_spec": list(children), **more}:
            if kind not in _CONTAINERS or more or levels == 0 or not _are_plain(keys):
                raise _odd()
            for child in children:
                _check_branch(child, levels - 1)
        case _:
            raise _odd()


def _are_plain(keys: object) -> bool:
    """Say whether `keys` is JSON of nothing, or of a list of plain names."""
    try:
        names = json.loads(keys) if isinstance(keys, str) else ...
    except (ValueError, RecursionError):
        return False
    if names is None:
        return True
    return isinstance(names, list) and all(
        isinstance(name, str) and _KEY.fullmatch(name) is not None for name in names
    )


def _odd() -> Rejected:
    return Rejected(
        "The weights take or return something other than tuples, lists and dicts of "
        "arrays: export a module that takes and returns those only.",
        field="weights",
    )
