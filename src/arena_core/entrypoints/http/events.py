"""/api/v1/events: the organisation's log, page by page."""

from itertools import islice
from uuid import UUID

from attrs import frozen

from arena_core.application.resources import EventView
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Role
from arena_core.entrypoints.http.bodies import MOST_ITEMS
from arena_core.entrypoints.http.endpoints import Call, Endpoint, Past, Reply

PATH = "/api/v1/events"
LAST = 2**63 - 1
"""No position is greater."""


class Feed(Past, kw_only=True):
    """`after`: a position of the log; `stream`: the id of one aggregate."""

    after: int = 0
    limit: int = 100
    stream: UUID | None = None


@frozen
class Events:
    """`next_after` begins the next page; it is null at the end of the log."""

    items: list[EventView]
    next_after: int | None


def listed(call: Call) -> Reply:
    query: Feed = call.query
    if not 1 <= query.limit <= MOST_ITEMS:
        raise Rejected(f"limit must be between 1 and {MOST_ITEMS}.", field="limit")
    log = call.use.audit.log(after=min(max(query.after, 0), LAST), stream=query.stream)
    events = list(islice(log, query.limit + 1))
    shown = events[: query.limit]
    more = len(events) > len(shown)
    return Reply(Events(shown, shown[-1].position if more else None))


ENDPOINTS = (
    Endpoint("GET", PATH, listed, Role.VIEWER, "Read the log", Events, query=Feed),
)
