"""Trainings that wait for their turn: as many as may run at once are at work.

Organisations take turns, so where one stands among its own is all that can be said.
"""

from collections.abc import Mapping

from arena_core.application.ports import Row
from arena_core.application.session import Session
from arena_core.domain import experiment
from arena_core.domain.experiment import Experiment, Status
from arena_core.domain.ids import RunId


def came(row: Row) -> int:
    """Return where in the log the training was asked for: who came first is first.

    The experiment may have changed since, by another name or one checkpoint less.
    """
    return row.deeds[0].position


def queue(session: Session) -> Mapping[RunId, int]:
    """Return the places of the organisation's trainings that wait, from 1.

    Found out once until the log moves on.
    """
    key = ("queue", session.caller.organisation, session.looks_at)
    return session.core.views.known(key, lambda: _queue(session))


def _queue(session: Session) -> Mapping[RunId, int]:
    rows = session.query(experiment.KIND)
    waiting = sorted((row for row in rows if _waits(row.state)), key=came)
    return {row.state.run_id: place for place, row in enumerate(waiting, start=1)}


def _waits(state: Experiment) -> bool:
    is_taken = state.training is None or state.training.claim is not None
    return state.status is Status.PENDING and not is_taken
