"""What an experiment measures, as Server-Sent Events, while it measures it.

Events `point` have a number as their id, by which a reader goes on: each was recorded
after those before it, and of one step and name the last counts.  Events `status` say
how the training stands, at first and whenever that has changed.
"""

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

import msgspec
from attrs import frozen

from arena_core.application.experiments import Experiments
from arena_core.application.measurements import Measurements, News
from arena_core.application.ports import MetricPoint, NumberedPoint
from arena_core.application.resources import ExperimentView, TrainingView
from arena_core.application.session import Session
from arena_core.domain.errors import ArenaError
from arena_core.domain.experiment import Status
from arena_core.domain.values import Caller
from arena_core.entrypoints.http.endpoints import Again
from arena_core.entrypoints.http.feed import Feed, Follower
from arena_core.entrypoints.http.server_sent import MOST_EVENTS, ServerSentEvents

LOOK_AGAIN_S = 0.5


@frozen
class Standing:
    """How a training stands."""

    status: Status
    reason: str | None
    training: TrainingView | None


@frozen
class Measuring:
    """Whose points are followed, which of them, and by whom."""

    session: Session
    experiment_id: UUID
    names: Sequence[str]
    """None of them: all."""
    after: int
    training: int | None
    """None: the latest, whichever that is by then."""
    again: Again


class MetricStream(ServerSentEvents):
    """It ends too when its caller may not see the experiment any more."""

    longest_sleep_s: ClassVar[float] = LOOK_AGAIN_S

    def __init__(self, measuring: Measuring, feed: Feed, follower: Follower) -> None:
        super().__init__(feed, follower)
        self._measuring = measuring
        self._after = measuring.after
        self._standing: Standing | None = None
        self._caller = measuring.session.caller

    def _next(self) -> bytes | None:
        """See `ServerSentEvents`.

        How the training stands is read before its points: whoever reads that it has
        ended has read all of them.  The caller is authenticated after both.
        """
        try:
            view = self._view()
            news = self._news()
            caller = self._measuring.again()
        except ArenaError:
            return None
        if not self._may_see(caller):
            return None
        self._is_behind, self._after = news.is_cut, news.after
        return b"".join(self._encoded(news.points)) + self._status(view)

    def _may_see(self, caller: Caller) -> bool:
        return caller.organisation == self._caller.organisation

    def _view(self) -> ExperimentView:
        measuring = self._measuring
        return Experiments(measuring.session).get(measuring.experiment_id)

    def _news(self) -> News:
        measuring = self._measuring
        return Measurements(measuring.session).recorded(
            measuring.experiment_id,
            self._after,
            limit=MOST_EVENTS,
            training=measuring.training,
        )

    def _encoded(self, points: Sequence[NumberedPoint]) -> Sequence[bytes]:
        names = self._measuring.names
        return [
            _event(b"point", numbered.point, numbered.number)
            for numbered in points
            if not names or numbered.point.name in names
        ]

    def _status(self, view: ExperimentView) -> bytes:
        """Return what has changed of it, once all points have been sent."""
        standing = Standing(view.status, view.reason, view.training)
        if self._is_behind or standing == self._standing:
            return b""
        self._standing = standing
        return _event(b"status", standing)


def _event(
    name: bytes, data: MetricPoint | Standing, number: int | None = None
) -> bytes:
    id_ = b"" if number is None else b"id: %d\n" % number
    # JSON has no line breaks.
    return b"%bevent: %b\ndata: %b\n\n" % (id_, name, msgspec.json.encode(data))
