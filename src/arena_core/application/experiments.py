"""Use cases of experiments: their checkpoints and their metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from attrs import frozen

from arena_core.application import metric_points
from arena_core.application.configuring import configuration
from arena_core.application.contents import Contents, contents
from arena_core.application.handling import Change
from arena_core.application.keeping import keep, points
from arena_core.application.measurements import Measurements
from arena_core.application.naming import the_experiment
from arena_core.application.ownership import owner_of
from arena_core.application.ports import Measured, MetricPoint, Row
from arena_core.application.queueing import queue
from arena_core.application.resources import (
    CheckpointView,
    ExperimentView,
    experiment_view,
)
from arena_core.application.scores import scores
from arena_core.application.session import ALL, Page, Paging, Session, page
from arena_core.application.trainer import Pace
from arena_core.application.triggering import bound_to
from arena_core.application.trust import check_draft
from arena_core.domain import experiment, project
from arena_core.domain.algorithms import family_of
from arena_core.domain.course import by_hand
from arena_core.domain.errors import Conflict
from arena_core.domain.ids import Digest, ExperimentId, ProjectId
from arena_core.domain.values import (
    Family,
    ProjectKind,
    Source,
    SourceKind,
    one_of,
    shown,
)


def gym(name: str) -> Source:
    """Return a Gymnasium environment as the source of an experiment."""
    return Source(SourceKind.GYM, name)


def dataset(name: str) -> Source:
    """Return a dataset as the source of an experiment."""
    return Source(SourceKind.DATASET, name)


def setup(  # noqa: PLR0913 -- the fields of the resource
    *,
    algorithm: str,
    family: Family | str | None = None,
    source: Source | None = None,
    base_model: str | None = None,
    recipe: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> experiment.Setup:
    """Return a set-up; the family of a known algorithm need not be named."""
    known = (
        family_of(algorithm)
        if family is None
        else one_of(Family, family, field="family")
    )
    return experiment.Setup(
        algorithm, known, source, base_model, recipe, _text(config or {})
    )


def _text(config: Mapping[str, Any]) -> str:
    return msgspec.json.encode(config, order="sorted").decode()


def source_label(row: experiment.Experiment, kind: ProjectKind) -> str:
    """Return how a source experiment is shown to whoever creates an agent of it."""
    source = row.setup.source
    if source is None:
        return row.name
    if kind is ProjectKind.ADVANCED:
        return source.name
    return f"{row.name} ({source.name})"


@frozen
class Experiments:
    session: Session

    def create(  # noqa: PLR0913 -- the fields of the resource
        self,
        project_id: UUID,
        *,
        name: str,
        algorithm: str,
        family: Family | str | None = None,
        source: Source | None = None,
        base_model: str | None = None,
        recipe: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> ExperimentView:
        """Draft an experiment in a project.  Raises `NotFound` without the project."""
        self.session.find(project.KIND, project_id)
        experiment_id = ExperimentId(self.session.core.new_id())
        asked = setup(
            algorithm=algorithm,
            family=family,
            source=source,
            base_model=base_model,
            recipe=recipe,
            config=config,
        )
        check_draft(self.session, asked)
        command = experiment.DraftExperiment(
            experiment_id, ProjectId(project_id), name, asked
        )
        self.session.execute(
            Change(project, project_id, project.RequireProject()),
            Change(experiment, experiment_id, command),
        )
        return self.get(experiment_id)

    def get(self, experiment_id: UUID) -> ExperimentView:
        """Return the experiment.  Raises `NotFound`."""
        return self._view(self.session.find(experiment.KIND, experiment_id))

    def look_up(self, name: str, *, project: str | None = None) -> ExperimentView:
        """Return, of the experiments of that name, the one that changed last.

        `project`: the name of its project, if it matters.  Raises `NotFound`.
        """
        return self._view(the_experiment(self.session, name, project=project))

    def list(
        self,
        *,
        project_id: UUID | None = None,
        name: str | None = None,
        paging: Paging = ALL,
    ) -> Page[ExperimentView]:
        """Return the organisation's experiments, in the order of their creation."""
        rows = self.session.query(
            experiment.KIND, parent=project_id, name=name, paging=paging
        )
        return page(rows, self._view, paging)

    def edit(  # noqa: PLR0913 -- the fields of the resource
        self,
        experiment_id: UUID,
        *,
        name: str | None = None,
        algorithm: str | None = None,
        family: Family | str | None = None,
        source: Source | None = None,
        base_model: str | None = None,
        recipe: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> ExperimentView:
        """Rename, or configure while it is a Draft; None leaves as it is.

        Raises `Rejected` where the pipeline that it is bound in could not be run then.
        """
        configure = experiment.ConfigureExperiment(
            algorithm,
            None if family is None else one_of(Family, family, field="family"),
            source,
            base_model,
            recipe,
            None if config is None else _text(config),
        )

        def changes() -> Sequence[Change]:
            state = self.session.find(experiment.KIND, experiment_id).state
            asked = experiment.configured(state.setup, configure)
            if asked != state.setup:
                # First of all, whether it may be changed at all.
                experiment.decide(configure, state, self.session.core.clock())
                check_draft(self.session, asked)
            changes = [*configuration(self.session, state, configure)]
            if name is not None:
                rename = experiment.RenameExperiment(name)
                changes.append(Change(experiment, experiment_id, rename))
            return changes

        self.session.execute_anew(changes)
        return self.get(experiment_id)

    def delete(self, experiment_id: UUID) -> None:
        """Delete the experiment.  Agents made of it keep their checkpoints.

        Raises `Conflict` while a stage of a pipeline is bound to it.
        """
        self.session.find(experiment.KIND, experiment_id)
        bound = bound_to(self.session, experiment_id)
        if bound is not None:
            raise Conflict(
                "The experiment is bound to a stage of the pipeline "
                f"{shown(bound.pipeline.name)}: bind another one to it, or remove the "
                "stage, first."
            )
        self._execute(experiment_id, experiment.DeleteExperiment())

    def add_checkpoint(  # noqa: PLR0913 -- what is known of a checkpoint
        self,
        experiment_id: UUID,
        *,
        step: int,
        path: Path | str,
        score: float | None = None,
        fitness: float | None = None,
        digest: str | None = None,
    ) -> CheckpointView:
        """Record the bundle in the folder `path` as the checkpoint of a step.

        `score` and `fitness` are recorded as metrics at that step.  `digest`: what
        the bundle's must be, if it is known.  The bundle is durable before the event
        that names it.  Doing it again is harmless; another bundle at the same step
        raises `Conflict`, and nothing of it is kept.
        """
        state: experiment.Experiment = self.session.find(
            experiment.KIND, experiment_id
        ).state
        metric_points.check_step(step)
        metric_points.check_scores(score, fitness)
        kept = keep(self.session.core, Path(path), step, state, digest)
        self._execute(experiment_id, kept)
        self._add(experiment_id, points(step, score, fitness), of=kept.digest)
        return next(c for c in self.checkpoints(experiment_id) if c.step == step)

    def checkpoints(self, experiment_id: UUID) -> Sequence[CheckpointView]:
        """Return the checkpoints by step, each with what was measured of it."""
        row = self.session.find(experiment.KIND, experiment_id)
        state: experiment.Experiment = row.state
        measured = scores(self.session, state)
        return [
            CheckpointView(
                written.step,
                written.digest,
                written.size_bytes,
                measured[written.step].training,
                measured[written.step].evaluation,
                written.written_at,
            )
            for written in sorted(state.checkpoints, key=lambda c: c.step)
        ]

    def contents(self, experiment_id: UUID, step: int) -> Contents:
        """Return what the bundle of a checkpoint says of itself.  Raises `NotFound`."""
        state: experiment.Experiment = self.session.find(
            experiment.KIND, experiment_id
        ).state
        return contents(self.session.core.blobs, state.checkpoint(step).digest)

    def delete_checkpoint(self, experiment_id: UUID, step: int) -> None:
        """Take the checkpoint of a step off the experiment.  Agents keep theirs."""
        self.session.find(experiment.KIND, experiment_id)
        self._execute(experiment_id, experiment.DeleteCheckpoint(step))

    def add_metrics(self, experiment_id: UUID, points: Sequence[MetricPoint]) -> None:
        """Record what training has measured: all points or none.

        `score` and `fitness` are the training and the evaluation score of the
        checkpoint that is at the same step; where none is, of the one that the latest
        training will have there.  For one step and name the last point counts.
        """
        self._add(experiment_id, points)

    def metrics(
        self,
        experiment_id: UUID,
        *,
        names: Sequence[str] | None = None,
        training: int | None = None,
    ) -> Sequence[MetricPoint]:
        """Return the points, by step and name; none if nothing was measured.

        They are those of one training: see `Measurements`.
        """
        return Measurements(self.session).points(
            experiment_id, names=names, training=training
        )

    def _add(
        self,
        experiment_id: UUID,
        points: Sequence[MetricPoint],
        *,
        of: Digest | None = None,
    ) -> None:
        """Record points by hand.  `of`: they are said of this checkpoint alone."""
        row = self.session.find(experiment.KIND, experiment_id)
        state: experiment.Experiment = row.state
        if not points:
            return
        said_of = by_hand(state.checkpoints, state.begun)
        self.session.core.metrics.record(
            state.id,
            [Measured(point, said_of(point.step, of)) for point in points],
            log_position=self.session.core.store.head(),
        )

    def _view(self, row: Row) -> ExperimentView:
        owner, state = owner_of(self.session, row), row.state
        waits = state.status is experiment.Status.PENDING
        place = queue(self.session).get(state.run_id) if waits else None
        return experiment_view(row, owner, self._pace(row), place)

    def _pace(self, row: Row) -> Pace | None:
        """Return how far its training is just now, which the log does not say."""
        state: experiment.Experiment = row.state
        runs = state.status in (experiment.Status.RUNNING, experiment.Status.STOPPING)
        if self.session.as_of is not None or state.run_id is None or not runs:
            return None
        return self.session.core.trainer.pace(state.run_id)

    def _execute(self, experiment_id: UUID, command: object) -> None:
        self.session.execute(Change(experiment, experiment_id, command))
