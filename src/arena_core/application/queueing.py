"""Trainings that wait for their turn: as many as may run at once are at work.

Organisations take turns, so where one stands among its own is all that can be said.
"""

from collections.abc import Mapping

from arena_core.application.session import Session
from arena_core.domain import experiment
from arena_core.domain.experiment import Experiment, Status
from arena_core.domain.ids import RunId


def queue(session: Session) -> Mapping[RunId, int]:
    """Return the places of the organisation's trainings that wait, from 1.

    Found out once until the log moves on.
    """
    key = ("queue", session.caller.organisation, session.as_of)
    return session.core.views.known(key, lambda: _queue(session))


def _queue(session: Session) -> Mapping[RunId, int]:
    rows = session.query(experiment.KIND)
    # In the order in which the training loop takes them on.
    waiting = sorted((r for r in rows if _waits(r.state)), key=lambda r: r.position)
    return {row.state.run_id: place for place, row in enumerate(waiting, start=1)}


def _waits(state: Experiment) -> bool:
    is_taken = state.training is None or state.training.claim is not None
    return state.status is Status.PENDING and not is_taken
