"""How the work of a run begins: a training is asked for, or an agent is to be live.

What is returned goes into one append with `StageStarted`, so that nothing ever begins
twice, and nothing of which the stage does not know.  A refusal here is for good: the
same would be refused again.
"""

from collections.abc import Sequence

from attrs import frozen

from arena_core.application import recipes
from arena_core.application.freezing import deployment_creation, origin
from arena_core.application.handling import Change
from arena_core.application.stage_agents import agent_for
from arena_core.application.streams import Streams
from arena_core.domain import agent, deployment, experiment, pipeline, stage
from arena_core.domain.agent import FreezeCheckpoint, Frozen
from arena_core.domain.deployment import Deployment
from arena_core.domain.errors import Conflict, NotFound
from arena_core.domain.experiment import Beginning, Experiment, RequestTraining
from arena_core.domain.ids import AgentId, ExperimentId, deployment_of
from arena_core.domain.lineage import last_left, trains
from arena_core.domain.stage_commands import StartStage
from arena_core.domain.stage_run import Consumed, Product, Run
from arena_core.domain.stage_settings import (
    HandOver,
    Link,
    StageType,
    Trains,
    link,
)
from arena_core.domain.swap_commands import RequestSwap
from arena_core.domain.values import CheckpointType, ProjectKind


def start(streams: Streams, state: stage.Stage) -> Sequence[Change]:
    """Return what begins the next attempt of the latest run.

    Raises `Rejected`, `Conflict` or `NotFound` if it can never begin.
    """
    if state.run.settings.type is StageType.DEPLOYMENT:
        return _Deploying(streams, state).changes()
    return _Training(streams, state).changes()


@frozen
class _Training:
    streams: Streams
    stage: stage.Stage

    def changes(self) -> Sequence[Change]:
        run, state = self.stage.run, self._experiment()
        recipes.checked(state.setup)
        number = 1 if state.training is None else state.training.number + 1
        request = RequestTraining(
            _resume_step(run, state),
            run.ordered.max_steps,
            beginning=self._beginning(run, state),
            stage=self.stage.id,
        )
        started = StartStage(run.id, training=number)
        return (
            Change(experiment, state.id, request),
            Change(stage, self.stage.id, started),
        )

    def _experiment(self) -> Experiment:
        bound = self.stage.run.settings.experiment_id
        state = None if bound is None else self.streams.state(experiment, bound)
        if state is None or state.deleted:
            raise NotFound("Its experiment was deleted: bind another one to the stage.")
        return state

    def _beginning(self, run: Run, state: Experiment) -> Beginning:
        seed = run.ordered.seed
        if run.consumed is None:
            return Beginning(seed=seed)
        role = link(self._source(run, run.consumed), trains(state))
        digest = run.consumed.product.digest
        if role is None:
            raise Conflict(
                f"{state.setup.algorithm} cannot use the checkpoint that the stage has "
                "taken: its experiment was configured otherwise since."
            )
        if role is Link.DECODER:
            return Beginning(decoder=digest, seed=seed)
        return Beginning(weights=digest, seed=seed)

    def _source(self, run: Run, consumed: Consumed) -> Trains:
        if consumed.agent_id is not None and run.settings.start is not None:
            return run.settings.start.trains
        return trains(self.streams.known(experiment, consumed.product.experiment_id))


def _resume_step(run: Run, state: Experiment) -> int | None:
    """Return the checkpoint to go on from; None: begin anew.

    Another attempt goes on from whatever those before it have left.
    """
    return last_left(run, state.checkpoints) if run.attempt else run.resume_step


@frozen
class _Deploying:
    streams: Streams
    stage: stage.Stage

    def changes(self) -> Sequence[Change]:
        run = self.stage.run
        if run.candidate is None:
            raise Conflict("There is no checkpoint to deploy: run the stage before it.")
        frozen = _frozen(run, run.candidate)
        source = run.candidate.experiment_id
        agent_id, known = agent_for(self.streams, self.stage.id, source)
        if known is None:
            changes = self._made(agent_id, frozen, source)
        else:
            changes = self._changed(known, frozen)
        connect = Change(deployment, deployment_of(agent_id), deployment.Connect())
        started = Change(stage, self.stage.id, StartStage(run.id, agent_id=agent_id))
        return (*changes, connect, started)

    def _made(
        self, agent_id: AgentId, frozen: Frozen, source: ExperimentId
    ) -> Sequence[Change]:
        freeze = saved_model(self.streams, agent_id, self._name(), source, frozen)
        return (Change(agent, agent_id, freeze), deployment_creation(freeze))

    def _changed(self, known: Deployment, frozen: Frozen) -> Sequence[Change]:
        """Return what gives the agent that is there another checkpoint.

        What answers goes on answering until the new weights are loaded.
        """
        of_agent: object = agent.ReplaceCheckpoint(frozen, agent.Cause.REDEPLOY)
        of_deployment: object = deployment.AssignCheckpoint(frozen.digest)
        if known.status is deployment.Status.DEPLOYED:
            of_agent = agent.RequireAgent()
            of_deployment = RequestSwap(frozen, agent.Cause.REDEPLOY)
        return (
            *_withdrawn(known, frozen),
            Change(agent, known.agent_id, of_agent),
            Change(deployment, known.id, of_deployment),
        )

    def _name(self) -> str:
        named = self.stage.run.settings.agent_name
        if named is not None:
            return named
        return self.streams.known(pipeline, self.stage.pipeline_id).name


def _withdrawn(state: Deployment, frozen: Frozen) -> Sequence[Change]:
    """Return what makes room for `frozen` where another checkpoint is being loaded."""
    waits = state.status is deployment.Status.PENDING
    if not waits or state.digest == frozen.digest:
        return ()
    return (Change(deployment, state.id, deployment.Disconnect()),)


def _frozen(run: Run, product: Product) -> Frozen:
    best = run.settings.checkpoint is HandOver.BEST
    chosen = CheckpointType.BEST if best else CheckpointType.FINAL
    return Frozen(chosen, product.step, product.digest, product.scores)


def saved_model(
    streams: Streams,
    agent_id: AgentId,
    name: str | None,
    experiment_id: ExperimentId,
    frozen: Frozen,
) -> FreezeCheckpoint:
    """Return the command that makes an agent of a checkpoint.  Raises `NotFound`.

    `name`: None: that of the experiment.
    """
    state = streams.known(experiment, experiment_id)
    return FreezeCheckpoint(
        agent_id, ProjectKind.ADVANCED, name or state.name, "", origin(state), frozen
    )
