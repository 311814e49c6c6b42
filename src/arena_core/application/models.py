"""A loaded checkpoint that answers: one policy, or one for each of several agents.

What a checkpoint answers is decided here and in what this calls, and nowhere else.
The parity gate replays golden traces through the same functions.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from attrs import frozen

from arena_core.application.forced_actions import Forced
from arena_core.application.observations import Arrays
from arena_core.application.pace import UNKNOWN, Measure, Pace, measure
from arena_core.application.policies import LoadedPolicy
from arena_core.application.ports import Array, Runtime, Tensors
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.errors import Rejected, Unavailable
from arena_core.domain.ids import Digest
from arena_core.domain.values import Family

SINGLE = ""
"""The agent of a single-agent checkpoint."""
NOTHING: Tensors = MappingProxyType({})


class Turn(NamedTuple):
    """What one agent asks.  Every array has B rows."""

    observed: Arrays
    rows: int
    legal: Array | None = None
    """What its head allows; None: everything."""
    hidden: Tensors = NOTHING
    """By input of the weights."""
    forced: Forced | None = None
    """What the environment has chosen in place of the policy."""


class Acted(NamedTuple):
    """What one agent does."""

    actions: Array
    outputs: dict[str, Array]
    """All that the weights have said."""


@frozen(eq=False)
class Model:
    """A loaded checkpoint.  Safe to use from several threads."""

    manifest: Manifest
    policies: Mapping[str, LoadedPolicy]
    agents: Mapping[str, LoadedPolicy]
    """The policy of each agent, in the order of the manifest."""
    decoder: Runtime | None = None
    pace: Pace = UNKNOWN

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        runtimes: Mapping[str, Runtime],
        digest: Digest,
        measure: Measure = measure,
    ) -> "Model":
        """Put a manifest and its weights, by file name, together."""
        decoder = manifest.decoder
        policies = {
            name: LoadedPolicy.of(policy, runtimes[policy.weights], digest)
            for name, policy in manifest.policies.items()
        }
        of_agents = manifest.agents or dict.fromkeys([SINGLE], *policies)
        return cls(
            manifest,
            policies,
            {agent: policies[name] for agent, name in of_agents.items()},
            None if decoder is None else runtimes[decoder.weights],
            _pace(list(runtimes.values()), measure),
        )

    @property
    def acts(self) -> bool:
        """Whether `get_action` is its route; `predict` is otherwise."""
        return self.manifest.family is Family.RL

    @property
    def runtime(self) -> str:
        """What runs the weights; several names if they are of several kinds."""
        return ", ".join(sorted({runtime.name for runtime in self._runtimes}))

    @property
    def device(self) -> str:
        return ", ".join(sorted({runtime.device for runtime in self._runtimes}))

    @property
    def _runtimes(self) -> list[Runtime]:
        loaded = [policy.runtime for policy in self.policies.values()]
        return loaded if self.decoder is None else [*loaded, self.decoder]

    @property
    def single(self) -> LoadedPolicy:
        """The only policy of a checkpoint that has one agent, or none."""
        return self.agents[SINGLE]

    def act(
        self, turns: Mapping[str, Turn], random: np.random.Generator | None = None
    ) -> dict[str, Acted]:
        """Return what each agent does, in the order of `turns`.

        `random`: sample where the policy says how; None: greedy.
        """
        return self.act_together([(turns, random)])[0]

    def act_together(
        self, asked: Sequence[tuple[Mapping[str, Turn], np.random.Generator | None]]
    ) -> list[dict[str, Acted]]:
        """Return what `act` would for each of `asked`.

        All turns of one policy go through its weights together.
        """
        answered: list[dict[str, Acted]] = [{} for _ in asked]
        for policy in self.policies.values():
            parts = [
                _Part(place, agent, turn, random)
                for place, (turns, random) in enumerate(asked)
                for agent, turn in turns.items()
                if self.agents[agent] is policy
            ]
            if parts:
                for part, acted in zip(parts, _act(policy, parts), strict=True):
                    answered[part.place][part.agent] = acted
        if len(self.policies) == 1:
            return answered
        return [
            {agent: acted[agent] for agent in turns}
            for acted, (turns, _) in zip(answered, asked, strict=True)
        ]

    def predict(self, observed: Arrays) -> tuple[Array, dict[str, Array]]:
        """Return the results, and all that the weights have said, each (B, ...)."""
        policy = self.single
        outputs = policy.run(observed, {})
        results = outputs[policy.first]
        if self.decoder is not None:
            signature = self.decoder.signature
            decoded = self.decoder.run({signature.inputs[0].name: results})
            results = decoded[signature.outputs[0].name]
            if not np.isfinite(results).all():
                raise Unavailable("The decoder answered with a number not finite.")
        return results, outputs

    def close(self) -> None:
        for runtime in self._runtimes:
            runtime.close()


class _Part(NamedTuple):
    """The turn of one agent in one request."""

    place: int
    agent: str
    turn: Turn
    random: np.random.Generator | None


def _act(policy: LoadedPolicy, parts: Sequence[_Part]) -> list[Acted]:
    """Run the weights once for all turns of one policy."""
    if len(parts) == 1:
        ((_, _, turn, random),) = parts
        outputs = policy.run(turn.observed, turn.hidden)
        return [_choose(policy, turn, outputs, random)]
    outputs = policy.run(
        _stacked([part.turn.observed for part in parts]),
        _stacked([part.turn.hidden for part in parts]),
    )
    acted, begin = [], 0
    for part in parts:
        rows = slice(begin, begin + part.turn.rows)
        own = {output: array[rows] for output, array in outputs.items()}
        acted.append(_choose(policy, part.turn, own, part.random))
        begin = rows.stop
    return acted


def _stacked(parts: Sequence[Tensors]) -> dict[str, Array]:
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _choose(
    policy: LoadedPolicy,
    turn: Turn,
    outputs: dict[str, Array],
    random: np.random.Generator | None,
) -> Acted:
    assert policy.head is not None  # noqa: S101 -- policies of the family rl act
    actions = policy.head.choose(outputs, turn.legal, random)
    if turn.forced is not None:
        actions = turn.forced.over(actions)
    return Acted(actions, outputs)


def _pace(runtimes: Sequence[Runtime], measure: Measure) -> Pace:
    """Return how long rows of zeros take.

    Weights that want more than 1 along an axis that is free cannot be tried.
    """

    def run(rows: int) -> None:
        for runtime in runtimes:
            runtime.run(
                {
                    spec.name: np.zeros(
                        [rows, *(axis or 1 for axis in spec.shape[1:])], spec.dtype
                    )
                    for spec in runtime.signature.inputs
                }
            )

    try:
        return measure(run)
    except (Rejected, Unavailable):
        return UNKNOWN
