"""From one model that is a function of arrays to the parts of a bundle.

The model says which arrays it takes; what else is needed comes from the description,
or, where only one thing is possible, from what the model answers.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from attrs import evolve, frozen

from arena_core.adapters.converters import model_traces
from arena_core.adapters.converters.arrangements import (
    arrange,
    infer_head,
    infer_hidden_states,
)
from arena_core.adapters.converters.descriptions import Description, Framework
from arena_core.adapters.converters.model_traces import Run
from arena_core.application import manifests, space_json
from arena_core.application.conversion import (
    SPACES_FILE,
    TRACE_FILE,
    Converted,
    Report,
)
from arena_core.application.filenames import shown
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import (
    DTYPES,
    HiddenState,
    LeafSpace,
    Signature,
    Space,
    TensorSpec,
)
from arena_core.domain.errors import Rejected

_PROBE_ROWS = 2


@frozen(eq=False)
class Model:
    """A function of arrays, batch axis first, and what is known of it."""

    inputs: tuple[TensorSpec, ...]
    """By the names that the model has for them."""
    outputs: tuple[str, ...] | None
    """Their names; None: they have none."""
    run: Run
    weights: str
    """The name of the file in the bundle."""
    write: Callable[[Signature], bytes]
    """Returns the content of that file, with the inputs named as in the signature."""
    framework: Framework
    source: str
    """What it is converted from."""


@frozen(eq=False)
class _Understood:
    """What the inputs and outputs of a model are."""

    space: Space
    signature: Signature
    head: str
    states: tuple[HiddenState, ...]


def convert(
    model: Model, described: Description, folder: Path, report: Report
) -> Converted:
    """Return the parts of the bundle of `model`.

    Raises `Rejected` for what the description lacks, or where it contradicts.
    """
    report("asking the model what it returns")
    checkpoint = _checkpoint(model, described, _understood(model, described))
    policy = manifests.parse(json.dumps(checkpoint).encode()).policy
    report("recording what it answers")
    trace, origin = model_traces.trace(folder / TRACE_FILE, policy, model.run)
    checkpoint["provenance"]["golden"] = origin
    return Converted(checkpoint, {model.weights: model.write(policy.signature)}, trace)


def _checkpoint(
    model: Model, described: Description, understood: _Understood
) -> dict[str, Any]:
    states = [{"input": it.input, "output": it.output} for it in understood.states]
    optional = {
        "normaliser": described.normaliser,
        "hidden_state": states or None,
        "action_transform": described.action_transform,
        "log_std": described.log_std,
    }
    framework = described.framework or model.framework
    return {
        "format_version": manifests.FORMAT_VERSION,
        "algorithm": described.algorithm,
        "family": described.family,
        "framework": {"name": framework.name, "version": framework.version},
        "weights": model.weights,
        "signature": {
            "inputs": [_tensor(spec) for spec in understood.signature.inputs],
            "outputs": [_tensor(spec) for spec in understood.signature.outputs],
        },
        "head": understood.head,
        "observation_space": space_json.to_json(understood.space),
        "action_space": described.action_space,
        **{key: value for key, value in optional.items() if value is not None},
        "provenance": {
            **(described.provenance or {}),
            "converted_from": model.source,
        },
    }


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


# --- what the model is -----------------------------------------------------------


def _understood(model: Model, described: Description) -> _Understood:
    space = space_json.from_json(described.observation_space, field="observation_space")
    nameless = model.outputs is None and described.outputs is None
    if nameless and (described.log_std or described.hidden_state):
        raise Rejected(
            f"The model has no names for what it returns: write outputs into "
            f"{SPACES_FILE}, a list of names in their order.",
            field="outputs",
        )
    for spec in model.inputs:
        _check_batch(spec)
    space, observed, hidden = arrange(space, model.inputs)
    inputs = (*observed, *hidden)
    outputs = _asked(model, inputs, described)
    head = (
        described.head
        or infer_head(_actions(described), outputs[0], described.algorithm or "").value
    )
    states = _states(described, hidden, outputs)
    if nameless:
        outputs, states = _named(outputs, head, states)
    signature = Signature(tuple(map(_batched, inputs)), outputs)
    return _Understood(space, signature, head, states)


def _check_batch(spec: TensorSpec) -> None:
    """Refuse an input without a batch axis, or with one of several rows."""
    if spec.shape[:1] not in {(None,), (1,)}:
        raise Rejected(
            f"The input {shown(spec.name)} does not have a free batch axis first: "
            "export the model with a dynamic first axis of every input.",
            field="weights",
        )


def _batched(spec: TensorSpec) -> TensorSpec:
    return evolve(spec, shape=(None, *spec.shape[1:]))


def _actions(described: Description) -> LeafSpace | None:
    if described.action_space is None:
        return None
    space = space_json.from_json(described.action_space, field="action_space")
    return cast("LeafSpace", space)  # a Dict or a Tuple is refused with the manifest


def _asked(
    model: Model, inputs: Sequence[TensorSpec], described: Description
) -> tuple[TensorSpec, ...]:
    """Return the outputs, as zeros show them.

    Those without names are called by their places.
    """
    arrays = model.run([_zeros(spec) for spec in inputs])
    names = model.outputs or described.outputs or [str(i) for i in range(len(arrays))]
    if len(names) != len(arrays) or (model.outputs and described.outputs):
        raise Rejected(
            f"The model returns {len(arrays)} arrays: write in outputs as many names, "
            "in their order, or leave it out if the model names them.",
            field="outputs",
        )
    return tuple(map(_measured, names, arrays))


def _zeros(spec: TensorSpec) -> Array:
    if None in spec.shape[1:]:
        raise Rejected(
            f"The input {spec.name} has an axis of any size: export the model with a "
            "fixed size for all but the batch.",
            field="weights",
        )
    sizes = [size for size in spec.shape[1:] if size is not None]
    return np.zeros((_PROBE_ROWS, *sizes), spec.dtype)


def _measured(name: str, array: Array) -> TensorSpec:
    if array.shape[:1] != (_PROBE_ROWS,) or array.dtype.name not in DTYPES:
        raise Rejected(
            f"The output {name} does not have one row of numbers for each row of "
            "input: export the model so that the first axis of each output is the "
            "batch.",
            field="weights",
        )
    return TensorSpec(name, array.dtype.name, (None, *array.shape[1:]))


def _states(
    described: Description,
    hidden: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[HiddenState, ...]:
    if described.hidden_state is None:
        batched = list(map(_batched, hidden))
        return infer_hidden_states(batched, outputs) if hidden else ()
    return tuple(HiddenState(it.input, it.output) for it in described.hidden_state)


def _named(
    outputs: Sequence[TensorSpec], head: str, states: Sequence[HiddenState]
) -> tuple[tuple[TensorSpec, ...], tuple[HiddenState, ...]]:
    """Return the outputs, and the hidden states among them, by telling names."""
    names = {spec.name: f"output_{spec.name}" for spec in outputs}
    names |= {state.output: f"{state.input}_next" for state in states}
    names["0"] = head
    return (
        tuple(evolve(spec, name=names[spec.name]) for spec in outputs),
        tuple(evolve(state, output=names[state.output]) for state in states),
    )
