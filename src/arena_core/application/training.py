"""Use cases of training: asking for it, for its end, and what is known of it.

What trains is the training loop, in whatever process serves the store; here it is only
asked for.  An experiment that is bound to a stage of a pipeline is trained by that
stage, so that the pipeline knows of it.
"""

from collections.abc import Sequence
from uuid import UUID

from attrs import frozen

from arena_core.application.copies import copied
from arena_core.application.experiments import Experiments
from arena_core.application.handling import Change
from arena_core.application.measurements import Measurements
from arena_core.application.ports import MetricPoint
from arena_core.application.resources import ExperimentView
from arena_core.application.session import Session
from arena_core.application.triggering import bound_to, triggered
from arena_core.application.trust import check_trainable, require_trust
from arena_core.application.waiting import awaited
from arena_core.domain import experiment, project, stage_run
from arena_core.domain.errors import NotFound, Rejected
from arena_core.domain.experiment import (
    AT_WORK,
    Beginning,
    DraftExperiment,
    Experiment,
    RequestTraining,
    RequireResumable,
)
from arena_core.domain.ids import ExperimentId, ProjectId, RunId, training_of
from arena_core.domain.stage_run import Cause
from arena_core.domain.values import CheckpointChoice, choose

MOST_LINES = 10_000


@frozen
class Training:
    session: Session

    def submit(
        self,
        project_id: UUID,
        *,
        name: str,
        setup: experiment.Setup,
        max_steps: int | None = None,
    ) -> ExperimentView:
        """Draft an experiment and request its training, both or neither."""
        self.session.find(project.KIND, project_id)
        check_trainable(self.session, setup)
        experiment_id = ExperimentId(self.session.core.new_id())
        draft = DraftExperiment(experiment_id, ProjectId(project_id), name, setup)
        self.session.execute(
            Change(project, project_id, project.RequireProject()),
            Change(experiment, experiment_id, draft),
            Change(experiment, experiment_id, RequestTraining(max_steps=max_steps)),
        )
        return self._view(experiment_id)

    def train(
        self,
        experiment_id: UUID,
        *,
        max_steps: int | None = None,
        seed: int | None = None,
        reason: str | None = None,
    ) -> ExperimentView:
        """Ask for training from the beginning.

        `max_steps`, `seed`: None leaves them to the recipe's settings.  Raises
        `Rejected` if it could not be trained, and `Forbidden` if the caller may not
        have it trained.
        """
        beginning = Beginning(seed=seed)
        request = RequestTraining(max_steps=max_steps, beginning=beginning)
        return self._ask(experiment_id, request, Cause.TRAIN, reason)

    def stop(self, experiment_id: UUID, *, reason: str | None = None) -> ExperimentView:
        """Ask for the end; what nobody has begun is Stopped at once."""
        self._state(experiment_id)
        stop = Change(experiment, experiment_id, experiment.RequestStop())
        self.session.execute(stop, reason=reason)
        return self._view(experiment_id)

    def resume(
        self,
        experiment_id: UUID,
        *,
        max_steps: int | None = None,
        reason: str | None = None,
    ) -> ExperimentView:
        """Ask for training to go on from the checkpoint with the largest step."""
        state = self._state(experiment_id)
        request = RequestTraining(
            max((c.step for c in state.checkpoints), default=0),
            max_steps,
            beginning=_going_on(state),
        )
        return self._ask(experiment_id, request, Cause.RESUME, reason)

    def resume_as(
        self,
        experiment_id: UUID,
        *,
        name: str,
        checkpoint: CheckpointChoice,
        max_steps: int | None = None,
        reason: str | None = None,
    ) -> ExperimentView:
        """Go on from a checkpoint in a new experiment, which is returned.

        It has the same set-up, and is bound to no stage.
        """
        state = self._state(experiment_id)
        check_trainable(self.session, state.setup)
        views = Experiments(self.session).checkpoints(experiment_id)
        chosen = choose(checkpoint, views)
        made = ExperimentId(self.session.core.new_id())
        self.session.execute(
            Change(project, state.project_id, project.RequireProject()),
            Change(experiment, state.id, RequireResumable(chosen.step, chosen.digest)),
            Change(
                experiment,
                made,
                DraftExperiment(made, state.project_id, name, state.setup),
            ),
            Change(
                experiment,
                made,
                RequestTraining(
                    chosen.step,
                    max_steps,
                    chosen.digest,
                    _going_on(state),
                    resume_of=_writer(state, chosen.step),
                ),
            ),
            reason=reason,
        )
        return self._view(made)

    def duplicate(
        self, experiment_id: UUID, *, name: str | None = None
    ) -> ExperimentView:
        """Draft an experiment with the same set-up, without anything that was trained.

        `name`: None is the same with a suffix.
        """
        state = self._state(experiment_id)
        require_trust(self.session, state.setup)
        made = ExperimentId(self.session.core.new_id())
        draft = copied(state, made)
        if name is not None:
            draft = DraftExperiment(made, state.project_id, name, state.setup)
        self.session.execute(
            Change(project, state.project_id, project.RequireProject()),
            Change(experiment, made, draft),
        )
        return self._view(made)

    # --- what is known of it -------------------------------------------------------

    def log(
        self, experiment_id: UUID, *, lines: int = 200, training: int | None = None
    ) -> Sequence[str]:
        """Return the last lines that a training has printed, if any are left.

        `training`: its number, from 1; None: the latest.  They are what they are now,
        whatever the past position that is looked at.  Raises `NotFound` for one that
        there was not, and for an earlier one whose log is not kept any more.
        """
        if not 1 <= lines <= MOST_LINES:
            raise Rejected(f"Ask for between 1 and {MOST_LINES} lines.", field="lines")
        state = self._state(experiment_id)
        latest = 0 if state.training is None else state.training.number
        if training is not None and not 1 <= training <= latest:
            raise NotFound(
                f"There is no training {training}: there were {latest} of it so far."
            )
        number = training or latest
        if not number:
            return []
        found = self.session.core.trainer.log(training_of(state.id, number), lines)
        if not found and number < latest:
            raise NotFound(
                f"Nothing that training {number} has printed is kept: when a later one "
                "has ended it is removed. How it ended is in the event log."
            )
        return found

    def latest(self, experiment_id: UUID) -> Sequence[MetricPoint]:
        """Return the last point of each metric of the latest training, by name.

        While one that begins anew has measured nothing, there is none.
        """
        return Measurements(self.session).of_training(experiment_id)

    def wait(self, experiment_id: UUID, *, timeout_s: float) -> ExperimentView:
        """Return the experiment once it has ended, or as it is after the time."""
        store = self.session.core.store
        found = awaited(store, lambda: self.settled(experiment_id), timeout_s)
        return found or self._view(experiment_id)

    def settled(self, experiment_id: UUID) -> ExperimentView | None:
        """Return the experiment, unless it is at work or its stage is."""
        found = self._view(experiment_id)
        if found.status in AT_WORK or self._is_in_its_stage(experiment_id):
            return None
        return found

    def is_to_begin(self, experiment_id: UUID) -> bool:
        """Say whether its stage was triggered, and has not begun to train it yet."""
        self._state(experiment_id)
        return self._of_its_stage(experiment_id) is stage_run.Status.PENDING

    def _is_in_its_stage(self, experiment_id: UUID) -> bool:
        return self._of_its_stage(experiment_id) in stage_run.AT_WORK

    def _of_its_stage(self, experiment_id: UUID) -> stage_run.Status | None:
        """Return how the stage stands that it is bound to; None: it never ran."""
        bound = bound_to(self.session, experiment_id)
        row = None if bound is None else self.session.rows.get(bound.planned.id)
        return None if row is None else row.state.status

    # --- how -----------------------------------------------------------------------

    def _ask(
        self,
        experiment_id: UUID,
        request: RequestTraining,
        cause: Cause,
        reason: str | None,
    ) -> ExperimentView:
        state = self._state(experiment_id)
        # Refused here in the words of whoever asks, also where a stage is asked.
        experiment.decide(request, state, self.session.core.clock())
        check_trainable(self.session, state.setup)

        def changes() -> Sequence[Change]:
            bound = bound_to(self.session, experiment_id)
            if bound is None:
                return (
                    Change(experiment, experiment_id, experiment.RequireUnbound()),
                    Change(experiment, experiment_id, request),
                )
            return triggered(
                self.session,
                bound,
                cause,
                resume_step=request.resume_step,
                max_steps=request.max_steps,
                seed=request.beginning.seed,
            )

        self.session.execute_anew(changes, reason=reason)
        return self._view(experiment_id)

    def _state(self, experiment_id: UUID) -> Experiment:
        state: Experiment = self.session.find(experiment.KIND, experiment_id).state
        return state

    def _view(self, experiment_id: UUID) -> ExperimentView:
        return Experiments(self.session).get(experiment_id)


def _going_on(state: Experiment) -> Beginning:
    """Return what a training begins with that goes on: the same decoder and seed."""
    if state.training is None:
        return Beginning()
    before = state.training.beginning
    return Beginning(decoder=before.decoder, seed=before.seed)


def _writer(state: Experiment, step: int) -> RunId | None:
    training = state.checkpoint(step).training
    return None if training is None else training_of(state.id, training)
