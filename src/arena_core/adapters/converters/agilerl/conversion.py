"""From a checkpoint of AgileRL to the parts of a bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from arena_core.adapters.converters import computed_traces, policy_json
from arena_core.adapters.converters.agilerl.actors import policy_of
from arena_core.adapters.converters.agilerl.observing import is_image
from arena_core.adapters.converters.agilerl.saved import Saved, SavedActor, read
from arena_core.adapters.converters.networks import Network
from arena_core.adapters.converters.weights import refuse
from arena_core.application import golden, spaces
from arena_core.application.conversion import (
    MODEL_FILE,
    TRACE_FILE,
    Converted,
    Options,
    Report,
)
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.application.manifests import FORMAT_VERSION, SINGLE
from arena_core.domain.checkpoint import Discrete, MultiDiscrete, Policy


@frozen(eq=False)
class Served:
    policy: Policy
    network: Network


def convert(folder: Path, options: Options, report: Report) -> Converted:
    """Convert what `agent.save_checkpoint` has written."""
    report("reading the checkpoint")
    saved = read((folder / MODEL_FILE).read_bytes())
    report("building the networks")
    parts = served(saved, options)
    report("recording the golden trace")
    trace, origin = _trace(folder, parts, saved.agents)
    report("writing the weights")
    return Converted(
        checkpoint=_manifest(saved, parts, options, origin),
        weights={
            part.policy.weights: part.network.to_onnx() for part in parts.values()
        },
        trace=trace,
    )


def served(saved: Saved, options: Options) -> dict[str, Served]:
    """Return the policies by name.  Raises `Rejected` for what is not known."""
    if options.channels_last and not any(
        _sees_images(a) for a in saved.actors.values()
    ):
        refuse("no part of its observations has channels, let alone last ones")
    files = _files(saved)
    return {
        name: Served(
            *policy_of(
                actor,
                files[name],
                normalises_images=saved.normalises_images,
                channels_last=options.channels_last,
            )
        )
        for name, actor in saved.actors.items()
    }


def _sees_images(actor: SavedActor) -> bool:
    return any(map(is_image, spaces.leaves(actor.seen_space).values()))


def _files(saved: Saved) -> dict[str, str]:
    """Return the name of each policy's file: names of agents may not be such."""
    if not saved.agents:
        return {SINGLE: "policy.onnx"}
    return {name: f"policy_{i}.onnx" for i, name in enumerate(sorted(saved.actors))}


def _manifest(
    saved: Saved, parts: Mapping[str, Served], options: Options, origin: str
) -> dict[str, Any]:
    policies = {name: policy_json.to_json(part.policy) for name, part in parts.items()}
    provenance: dict[str, Any] = {
        "converted_from": "agilerl",
        "golden": origin,
        "step": saved.steps,
    }
    return {
        "format_version": FORMAT_VERSION,
        "algorithm": options.algorithm or saved.algorithm,
        "family": "rl",
        "framework": {"name": "agilerl", "version": saved.version},
        **(
            {"policies": policies, "agents": dict(saved.agents)}
            if saved.agents
            else policies[SINGLE]
        ),
        "provenance": provenance,
    }


# --- the golden trace ----------------------------------------------------------------


def _trace(
    folder: Path, parts: Mapping[str, Served], agents: Mapping[str, str]
) -> tuple[GoldenTrace, str]:
    """Return the trace, and where it comes from."""
    recorded = folder / TRACE_FILE
    if recorded.exists():
        return golden.read(recorded.read_bytes()), "recorded in training"
    rng = np.random.default_rng(computed_traces.SEED)
    cases = [
        _case(parts, agents, rows, rng, masked=masked)
        for masked in ((False, True) if _can_be_masked(parts) else (False,))
        for rows in computed_traces.BATCHES
    ]
    return GoldenTrace(
        tuple(Case(f"case{number}", steps) for number, steps in enumerate(cases))
    ), "computed from the weights"


def _can_be_masked(parts: Mapping[str, Served]) -> bool:
    return any(
        isinstance(part.policy.action_space, Discrete | MultiDiscrete)
        for part in parts.values()
    )


def _case(
    parts: Mapping[str, Served],
    agents: Mapping[str, str],
    rows: int,
    rng: np.random.Generator,
    *,
    masked: bool,
) -> tuple[Step, ...]:
    """Return the steps of one case: of the only agent, or of all beside each other."""
    episodes = {
        f"agents/{agent}/" if agent else "": computed_traces.episode(
            parts[name].policy, parts[name].network, rows, rng, masked=masked
        )
        for agent, name in (agents or {"": SINGLE}).items()
    }
    return tuple(
        Step(
            {
                f"{at}{what}": array
                for at, step in zip(episodes, steps, strict=True)
                for what, array in step.items()
            }
        )
        for steps in zip(*episodes.values(), strict=True)
    )
