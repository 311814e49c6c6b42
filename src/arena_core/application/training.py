"""Use cases of training: asking for it, and for its end.

An experiment that is Pending waits for whoever trains; nothing here does.
"""

from uuid import UUID

from attrs import frozen

from arena_core.application.experiments import Experiments
from arena_core.application.handling import Change
from arena_core.application.resources import ExperimentView
from arena_core.application.session import Session
from arena_core.domain import experiment, project
from arena_core.domain.ids import ExperimentId, ProjectId


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
        experiment_id = ExperimentId(self.session.core.new_id())
        draft = experiment.DraftExperiment(
            experiment_id, ProjectId(project_id), name, setup
        )
        self.session.execute(
            Change(project, project_id, project.RequireProject()),
            Change(experiment, experiment_id, draft),
            Change(experiment, experiment_id, _request(None, max_steps)),
        )
        return self._view(experiment_id)

    def request(
        self, experiment_id: UUID, *, max_steps: int | None = None
    ) -> ExperimentView:
        """Ask for training from the beginning."""
        return self._execute(experiment_id, _request(None, max_steps))

    def stop(self, experiment_id: UUID) -> ExperimentView:
        """Ask for the end; what nobody has begun is Stopped at once."""
        return self._execute(experiment_id, experiment.RequestStop())

    def resume(
        self, experiment_id: UUID, *, max_steps: int | None = None
    ) -> ExperimentView:
        """Ask for training to go on from the checkpoint with the largest step."""
        state: experiment.Experiment = self.session.find(
            experiment.KIND, experiment_id
        ).state
        step = max((c.step for c in state.checkpoints), default=0)
        return self._execute(experiment_id, _request(step, max_steps))

    def _execute(self, experiment_id: UUID, command: object) -> ExperimentView:
        self.session.find(experiment.KIND, experiment_id)
        self.session.execute(Change(experiment, experiment_id, command))
        return self._view(experiment_id)

    def _view(self, experiment_id: UUID) -> ExperimentView:
        return Experiments(self.session).get(experiment_id)


def _request(step: int | None, max_steps: int | None) -> experiment.RequestTraining:
    return experiment.RequestTraining(step, max_steps)
