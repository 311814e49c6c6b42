"""/api/v1/events: the organisation's log, page by page or as it grows."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from urllib.parse import urlencode
from uuid import UUID

from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response

from arena_core.application.audit import Audit
from arena_core.application.ports import Recorded
from arena_core.application.resources import EventView
from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.values import Caller, Role
from arena_core.entrypoints.http import cloud_events
from arena_core.entrypoints.http.bodies import MOST_ITEMS
from arena_core.entrypoints.http.endpoints import (
    JSON,
    LONGEST_WAIT_S,
    Again,
    Call,
    Endpoint,
    Past,
    Reply,
    encoded,
)
from arena_core.entrypoints.http.event_stream import EventStream, Following
from arena_core.entrypoints.http.feed import Feed
from arena_core.entrypoints.http.fields import Seconds
from arena_core.entrypoints.http.server_sent import MEDIA_TYPE, last_seen

PATH = "/api/v1/events"
LAST = 2**63 - 1
"""No position is greater."""


class EventQuery(Past, kw_only=True):
    """`after`: a position of the log; `stream`: the id of one aggregate.

    `wait`: seconds to hold the answer until there is an event.
    """

    after: int = 0
    limit: int = 100
    stream: UUID | None = None
    wait: Seconds = 0.0


@frozen
class Events:
    """`next_after` begins the next page; it is null at the end of the log."""

    items: list[EventView]
    next_after: int | None


def listed(call: Call) -> Reply:
    query: EventQuery = call.query
    if not 1 <= query.limit <= MOST_ITEMS:
        raise Rejected(f"limit must be between 1 and {MOST_ITEMS}.", field="limit")
    streams = MEDIA_TYPE in call.accept
    if not streams and not query.wait > 0:
        return _reply(call, _page(call, query.after))
    if query.as_of is not None:
        raise Rejected(
            "The past does not grow: leave as_of out, or do not wait.", field="as_of"
        )
    return Reply(None, goes_on=partial(_stream if streams else _awaited, call))


def _page(call: Call, after: int) -> Events:
    limit: int = call.query.limit
    log = call.use.audit.log(after=_bounded(after), stream=call.query.stream)
    events = list(islice(log, limit + 1))
    shown = events[:limit]
    return Events(shown, shown[-1].position if len(events) > limit else None)


def _reply(call: Call, page: Events) -> Reply:
    if cloud_events.BATCH not in call.accept:
        return Reply(page)
    source = call.base_url + PATH
    following = None
    if page.next_after is not None:
        asked = {"after": page.next_after, "limit": call.query.limit}
        if call.query.stream is not None:
            asked["stream"] = call.query.stream
        following = f"{source}?{urlencode(asked)}"
    return cloud_events.reply(page.items, source, following)


async def _awaited(call: Call, request: Request, again: Again) -> Response:
    """Answer once there is an event, or without any at the end of the time."""
    feed: Feed = request.app.state.feed
    after = call.query.after
    await feed.threads.run(partial(_check_is_there, call, after, "after"))
    until_s = time.monotonic() + min(call.query.wait, LONGEST_WAIT_S)
    async with feed.followed(request.receive) as follower:
        while True:
            follower.ready()
            head, page = await feed.threads.run(partial(_looked, call, after))
            left_s = until_s - time.monotonic()
            if page.items or left_s <= 0 or follower.is_gone or feed.is_over:
                break
            after = max(after, head)
            await follower.sleep(left_s)
    if await feed.threads.run(again) != call.use.session.caller:
        raise Conflict("What you may see has changed while you waited: ask again.")
    return encoded(_reply(call, page))


def _looked(call: Call, after: int) -> tuple[int, Events]:
    """Return how far the log goes, and what there is up to there at least."""
    head = call.use.session.core.store.head()
    return head, _page(call, after)


async def _stream(call: Call, request: Request, again: Again) -> Response:
    """Answer with what there is, and with whatever comes."""
    feed: Feed = request.app.state.feed
    session, stream = call.use.session, call.query.stream

    def show(caller: Caller, page: Sequence[Recorded]) -> Sequence[EventView]:
        wanted = (r for r in page if stream in (None, r.stream))
        return Audit(evolve(session, caller=caller)).shown(wanted)

    seen = request.headers.get("last-event-id")
    after = last_seen(seen, call.query.after)
    field = "Last-Event-ID" if seen else "after"
    await feed.threads.run(partial(_check_is_there, call, after, field))
    following = Following(session.core.store, _bounded(after), show, again, PATH)
    return EventStream(following, feed, feed.join())


def _check_is_there(call: Call, seen: int, field: str) -> None:
    """Refuse to wait behind the end of the log: who does misses what comes first."""
    head = call.use.session.core.store.head()
    if seen > head:
        raise Rejected(
            f"The log ends at position {head}, before what you have seen: it may have "
            "been restored from a back-up. Follow it from there, or anew from 0.",
            field=field,
        )


def _bounded(after: int) -> int:
    return min(max(after, 0), LAST)


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "Read or follow the log",
        Events,
        query=EventQuery,
        media_types=(JSON, MEDIA_TYPE, cloud_events.BATCH),
    ),
)
