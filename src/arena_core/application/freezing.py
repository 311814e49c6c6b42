"""Making an agent of an experiment's checkpoint: of which one, and of which kind."""

import re
from collections.abc import Sequence
from uuid import UUID

from attrs import frozen

from arena_core.application.experiments import Experiments, source_label
from arena_core.application.handling import Change
from arena_core.application.resources import CheckpointView
from arena_core.application.session import Session
from arena_core.domain import agent, deployment, experiment, project
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import AgentId, deployment_of
from arena_core.domain.values import (
    CheckpointChoice,
    CheckpointType,
    Family,
    ProjectKind,
    SourceKind,
    choose,
    shown,
    trimmed,
)

_STEP = re.compile(r"(?:step[_-])?([0-9]{1,19})")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def best() -> CheckpointChoice:
    """Choose the checkpoint with the highest evaluation score."""
    return CheckpointChoice(CheckpointType.BEST)


def final() -> CheckpointChoice:
    """Choose the checkpoint with the largest step."""
    return CheckpointChoice(CheckpointType.FINAL)


def specific(step: int) -> CheckpointChoice:
    """Choose the checkpoint at `step`."""
    return CheckpointChoice(CheckpointType.SPECIFIC, step)


def named(name: str | None, checkpoints: Sequence[CheckpointView]) -> CheckpointChoice:
    """Return what a user of the command line means by the name of a checkpoint.

    None: the best, or the final one where none has an evaluation score.  A step may
    be written `step_10`, `step-10` or `10`; a digest stands for its largest step.
    Raises `Rejected` for any other name, and for a digest that is not there.
    """
    if name is None:
        scored = any(c.evaluation_score is not None for c in checkpoints)
        return best() if scored else final()
    plain = name.strip().lower()
    if plain in (CheckpointType.BEST.value, CheckpointType.FINAL.value):
        return CheckpointChoice(CheckpointType(plain))
    if step := _STEP.fullmatch(plain):
        return specific(int(step[1]))
    if _DIGEST.fullmatch(plain):
        return specific(_step_of(plain, checkpoints))
    raise Rejected(
        f"No checkpoint is called {shown(name)}: use best, final, a step such as "
        "step_500000, or a digest.",
        field="checkpoint",
    )


def _step_of(digest: str, checkpoints: Sequence[CheckpointView]) -> int:
    steps = [c.step for c in checkpoints if c.digest == digest]
    if not steps:
        raise Rejected(
            "The experiment has no checkpoint with that digest: use best, final or a "
            "step.",
            field="checkpoint",
        )
    return max(steps)


@frozen
class SourceView:
    """An experiment that an agent can be made of, and how to show it."""

    experiment_id: UUID
    label: str


@frozen
class Naming:
    """How a new agent is called."""

    name: str
    description: str


def sources(session: Session, kind: ProjectKind) -> Sequence[SourceView]:
    """Return the experiments with checkpoints, in projects of one kind."""
    of_kind = {row.id for row in session.query(project.KIND) if row.state.kind is kind}
    return [
        SourceView(row.id, source_label(row.state, kind))
        for row in session.query(experiment.KIND)
        if row.parent in of_kind and row.state.checkpoints
    ]


def frozen_checkpoint(
    session: Session,
    experiment_id: UUID,
    choice: CheckpointChoice,
    naming: Naming,
    kind: ProjectKind | None,
) -> agent.FreezeCheckpoint:
    """Return the command that makes the agent.  Raises `Rejected` or `NotFound`.

    `kind`: what the experiment's project must be; None: decided by its source.
    """
    _check(choice)
    state: experiment.Experiment = session.find(experiment.KIND, experiment_id).state
    name = trimmed(naming.name)
    decided = _kind(session, state, kind)
    checkpoint = chosen(session, experiment_id, choice)
    return agent.FreezeCheckpoint(
        AgentId(session.core.new_id()),
        decided,
        name,
        naming.description,
        origin(state),
        checkpoint,
    )


def chosen(
    session: Session, experiment_id: UUID, choice: CheckpointChoice
) -> agent.Frozen:
    """Return the checkpoint that `choice` means.  Raises `Rejected` or `NotFound`."""
    _check(choice)
    session.find(experiment.KIND, experiment_id)
    found = choose(choice, Experiments(session).checkpoints(experiment_id))
    return agent.Frozen(choice.type, found.step, found.digest, found.scores)


def _check(choice: CheckpointChoice) -> None:
    if not isinstance(choice, CheckpointChoice):
        raise Rejected(
            "The checkpoint must be best(), final() or specific(step).",
            field="checkpoint",
        )


def _kind(
    session: Session, state: experiment.Experiment, wanted: ProjectKind | None
) -> ProjectKind:
    if wanted is None:
        return _kind_by_source(state.setup)
    row = session.rows.get(state.project_id)
    state_kind: ProjectKind | None = None if row is None else row.state.kind
    if state_kind is wanted:
        return wanted
    if not sources(session, wanted):
        raise Rejected(
            f"There is no experiment with checkpoints in any project of the kind "
            f"{wanted.title}: train one first.",
            field="kind",
        )
    raise Rejected(
        f"The experiment is not in a project of the kind {wanted.title}: choose "
        "one that is.",
        field="experiment_id",
    )


def _kind_by_source(setup: experiment.Setup) -> ProjectKind:
    by_dataset = setup.source is not None and setup.source.kind is SourceKind.DATASET
    if by_dataset or setup.family is not Family.RL:
        return ProjectKind.ADVANCED
    return ProjectKind.CLASSIC


def origin(state: experiment.Experiment) -> agent.Origin:
    """Return where an agent of the experiment comes from."""
    return agent.Origin(
        state.id,
        state.name,
        state.project_id,
        state.setup.algorithm,
        state.setup.family,
        state.setup.base_model,
    )


def deployment_creation(
    state: agent.Agent | agent.FreezeCheckpoint,
    scope: deployment.MemoryScope | None = None,
) -> Change:
    """Return the change that gives an agent its deployment, with or without a scope."""
    agent_id = state.id if isinstance(state, agent.Agent) else state.agent_id
    stream = deployment_of(agent_id)
    command = deployment.CreateDeployment(
        stream,
        agent_id,
        state.checkpoint.digest,
        deployment.MemoryScope.USER if scope is None else scope,
    )
    return Change(deployment, stream, command)
