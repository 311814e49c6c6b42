"""The scores of checkpoints: what was measured of each, and of no other."""

from collections.abc import Iterator, Mapping

from arena_core.application.keeping import FITNESS, SCORE, points
from arena_core.application.ports import MetricPoint
from arena_core.application.session import Session
from arena_core.domain import checkpoint_import
from arena_core.domain.course import is_of
from arena_core.domain.experiment import Experiment, Written
from arena_core.domain.values import Scores


def scores(session: Session, state: Experiment) -> Mapping[int, Scores]:
    """Return the scores of each checkpoint, by its step.

    What another training has measured at the same step is no score of it.
    """
    found = {
        (written.step, point.name): point.value
        for written, point in imported(session, state)
    }
    places = {(c.belongs_to, c.step): c for c in state.checkpoints}
    measured = session.core.metrics.at(
        state.id, list(places), names=[SCORE, FITNESS], up_to=session.as_of
    )
    for each in measured:
        place = each.origin.training, each.point.step
        if is_of(each.origin, places[place]):
            found[each.point.step, each.point.name] = each.point.value
    return {
        c.step: Scores(found.get((c.step, SCORE)), found.get((c.step, FITNESS)))
        for c in state.checkpoints
    }


def imported(
    session: Session, state: Experiment
) -> Iterator[tuple[Written, MetricPoint]]:
    """Yield what imports say of the checkpoints that are there, the last one last."""
    added = {(c.step, c.digest): c for c in state.checkpoints if c.training is None}
    rows = session.query(checkpoint_import.KIND, parent=state.id) if added else ()
    for row in sorted(rows, key=lambda row: row.position):
        made: checkpoint_import.Import = row.state
        if made.digest is None:  # it has not succeeded
            continue
        written, said = added.get((made.order.step, made.digest)), made.order.scores
        if written is not None:
            for point in points(written.step, said.training, said.evaluation):
                yield written, point
