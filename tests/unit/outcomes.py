"""What has become of a pipeline: all of it that does not depend on who did it, or when.

Two lives of it are alike if these are equal, whoever has died meanwhile.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import attrs
from attrs import frozen

from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.application.use_cases import UseCases
from arena_core.domain.swap import SwapRequested
from unit.lines import Line

OF_ITS_PROCESS = frozenset(
    {
        "connect_claimed",
        "connection_lost",
        "server_replaced",
        "swap_claimed",
        "swap_interrupted",
        "training_claimed",
    }
)
"""What happens as often as somebody takes it on."""
AGAIN = frozenset({"answers", "connect_requested", "given", "parity_checked"})
"""What whoever comes after the dead does once more, with the same result."""
VARIES = frozenset({"claim", "lease_until", "load_ms", "server", "worker"})
"""Fields that say who did it, or how long it took."""
ONCE = frozenset({"start", "stop", "discard"})
"""What is done to a training and is not the same when it is done twice."""
RETOLD = "start again"
"""It has changed nothing."""


@frozen
class Outcome:
    """What has become of it, and what was done to the world outside."""

    stages: list
    experiments: list
    agents: list
    streams: dict
    bundles: dict
    """The names and sizes of what each bundle holds, by its digest."""

    @classmethod
    def of(cls, use: UseCases, line: Line) -> "Outcome":
        stages = use.pipelines.get(line.pipeline).stages
        experiments = [_experiment(use, e) for e in use.experiments.list()]
        written = {digest for _, _, kept, _ in experiments for _, digest, _ in kept}
        blobs = use.session.core.blobs
        return cls(
            [_stage(stage) for stage in stages],
            experiments,
            sorted(_agent(agent) for agent in use.agents.list()),
            _streams(use),
            {digest: _whole(blobs, digest) for digest in written},
        )


def done_to(trainer: MemoryTrainer) -> tuple[Counter, set]:
    """Return what was done once to trainings, and what may have been done again.

    Those that had ended before are tidied up as often as somebody begins.
    """
    ledger = [(effect.what, effect.run_id) for effect in trainer.ledger]
    once = Counter(effect for effect in ledger if effect[0] in ONCE)
    begun = {run_id for what, run_id in once if what == "start"}
    again = {*ledger} - once.keys()
    return once, {(w, run_id) for w, run_id in again if run_id in begun and w != RETOLD}


def _stage(stage):
    run = stage.run
    return (
        stage.status.value,
        stage.stale,
        run.number,
        run.attempt,
        run.consumed and run.consumed.digest,
        run.produced and (run.produced.digest, run.produced.scores),
        run.agent_id,
        run.reason,
    )


def _experiment(use, made):
    written = [
        (c.step, c.digest, c.evaluation_score)
        for c in use.experiments.checkpoints(made.id)
    ]
    points = [(p.step, p.name, p.value) for p in use.experiments.metrics(made.id)]
    return made.name, made.status.value, written, points


def _agent(agent):
    status = agent.deployment and agent.deployment.status.value
    return str(agent.id), agent.name, agent.checkpoint.digest, status


def _whole(blobs, digest):
    sizes = blobs.sizes(digest)
    assert all(len(blobs.read(digest, name)) == size for name, size in sizes.items())
    return sizes


def _streams(use) -> dict:
    """Return what has happened to each thing, in its words."""
    streams: dict = {}
    for recorded in use.session.core.store.read_all(limit=10_000):
        name, event = recorded.name, recorded.event
        stream = streams.setdefault(recorded.stream, [])
        if name in GIVEN_OR_LIVE:
            if name == "deployment.checkpoint_assigned" and stream[-1] == WITHDRAWN:
                stream.pop()
            name, said = GIVEN_OR_LIVE[name], _digest_of(event)
        else:
            said = _said(attrs.asdict(event, recurse=True))
        what = name.partition(".")[2]
        is_known = what in AGAIN and (name, said) in stream
        if what not in OF_ITS_PROCESS and not is_known:
            stream.append((name, said))
    return streams


GIVEN_OR_LIVE = {
    "deployment.checkpoint_assigned": "deployment.given",
    "deployment.swap_requested": "deployment.given",
    "deployment.checkpoint_swapped": "deployment.answers",
    "deployment.connected": "deployment.answers",
}
"""What is live is swapped; where whoever served it has just died, it is connected."""
WITHDRAWN = ("deployment.disconnected", {})


def _digest_of(event: object) -> str:
    return event.checkpoint.digest if isinstance(event, SwapRequested) else event.digest


def _said(value: object) -> object:
    """Return what an event says, less what varies from one life to the next."""
    if isinstance(value, Mapping):
        return {k: _said(v) for k, v in value.items() if k not in VARIES}
    if isinstance(value, list | tuple):
        return [_said(item) for item in value]
    return datetime if isinstance(value, datetime) else value
