"""The work of a run: where it goes on, how it stands, and how it is made to end.

That of an Experiment stage is a training, that of a Deployment stage an agent that is
to be live.  Both go on elsewhere; a stage only looks at what the log says of them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never
from uuid import UUID

from arena_core.application.handling import Change
from arena_core.application.ports import Recorded
from arena_core.application.stage_agents import deployment_state
from arena_core.application.streams import Streams
from arena_core.domain import deployment, experiment
from arena_core.domain.deployment import Deployment
from arena_core.domain.experiment import Experiment
from arena_core.domain.ids import AgentId, Digest, deployment_of
from arena_core.domain.stage import Stage
from arena_core.domain.stage_run import Outcome, Run, Status, Verdict


def place(run: Run) -> UUID | None:
    """Return the stream in which the run's work goes on; None: it has not begun."""
    if run.agent_id is not None:
        return deployment_of(run.agent_id)
    return None if run.training is None else run.settings.experiment_id


def concerns_work(event: object) -> bool:
    """Say whether, after `event` in its place, the work of a run may stand otherwise.

    It begins, which its time limit counts from, or it ends.
    """
    return not isinstance(
        event, experiment.CheckpointWritten | experiment.TrainingClaimed
    )


def outcome(streams: Streams, state: Stage) -> Outcome | None:
    """Return how the work of the latest run stands; None: it has not begun."""
    run = state.run
    if state.status is Status.PENDING:
        return None
    if run.agent_id is not None and run.candidate is not None:
        wanted = run.candidate.digest
        ongoing = Outcome(Verdict.ONGOING, began_at=run.started_at)
        return _of_deployment(deployment_state(streams, run.agent_id), wanted, ongoing)
    bound = run.settings.experiment_id
    events = () if bound is None else streams.events(bound)
    trained = None if bound is None else streams.state(experiment, bound)
    return _of_training(trained, run.training, _training_began(events))


def _training_began(events: Sequence[Recorded]) -> datetime | None:
    """Return when the latest training has begun; None: it waits for its turn still."""
    told = (experiment.TrainingRequested, experiment.TrainingStarted)
    latest = next((r for r in reversed(events) if isinstance(r.event, told)), None)
    if latest is None or isinstance(latest.event, experiment.TrainingRequested):
        return None
    return latest.occurred_at


def _of_training(
    state: Experiment | None, number: int | None, began_at: datetime | None
) -> Outcome:
    if state is None or state.training is None or state.training.number != number:
        return Outcome(Verdict.FAILED, "Its experiment was trained anew meanwhile.")
    match state.status:
        case experiment.Status.SUCCEEDED:
            return Outcome(Verdict.SUCCEEDED)
        case experiment.Status.FAILED:
            return Outcome(Verdict.FAILED, state.reason)
        case experiment.Status.STOPPED | experiment.Status.DRAFT:
            return Outcome(Verdict.STOPPED, "Its training was stopped.")
        case (
            experiment.Status.PENDING
            | experiment.Status.RUNNING
            | experiment.Status.STOPPING
        ):
            return Outcome(Verdict.ONGOING, began_at=began_at)
        case _:
            assert_never(state.status)


def _of_deployment(
    state: Deployment | None, wanted: Digest, ongoing: Outcome
) -> Outcome:
    if state is None:
        return Outcome(Verdict.STOPPED, "Its agent was deleted before it was live.")
    if state.swap is not None and state.swap.digest == wanted != state.digest:
        return ongoing
    match state.status:
        case deployment.Status.PENDING:
            return ongoing
        case deployment.Status.FAILED:
            return Outcome(Verdict.FAILED, state.reason)
        case deployment.Status.UNDEPLOYED:
            why = "Its agent was disconnected before it was live."
            return Outcome(Verdict.STOPPED, why)
        case deployment.Status.DEPLOYED:
            return _of_what_is_live(state, wanted)
        case _:
            assert_never(state.status)


def _of_what_is_live(state: Deployment, wanted: Digest) -> Outcome:
    if state.digest == wanted:
        return Outcome(Verdict.SUCCEEDED)
    last = state.last_swap
    if last is not None and last.digest == wanted and last.reason is not None:
        return Outcome(Verdict.FAILED, last.reason)
    return Outcome(Verdict.FAILED, "Its agent was given another checkpoint meanwhile.")


def stopping(streams: Streams, state: Stage) -> Sequence[Change]:
    """Return what makes the work of the latest run end; nothing if that was asked for.

    What answers already is not taken off its endpoint because it does not change over:
    a swap ends by itself.
    """
    run = state.run
    if run.agent_id is not None:
        return _disconnected(streams, run.agent_id)
    if run.training is None or run.settings.experiment_id is None:
        return ()
    stream = run.settings.experiment_id
    training = streams.state(experiment, stream)
    can_be_stopped = (experiment.Status.PENDING, experiment.Status.RUNNING)
    if training is None or training.status not in can_be_stopped:
        return ()
    return (Change(experiment, stream, experiment.RequestStop()),)


def _disconnected(streams: Streams, agent_id: AgentId) -> Sequence[Change]:
    state = deployment_state(streams, agent_id)
    waits = state is not None and state.status is deployment.Status.PENDING
    if state is None or state.swap is not None or not waits:
        return ()
    return (Change(deployment, state.id, deployment.Disconnect()),)
