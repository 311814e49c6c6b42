"""Going back in the log: to a position, or to a time."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime

from arena_core.application.ports import EventStore, Recorded
from arena_core.domain.errors import Rejected, Unavailable

PAGE = 500
LOOK_AGAIN_S = 0.2


def pages(
    store: EventStore,
    *,
    after: int = 0,
    up_to: int | None = None,
    size: int | None = None,
) -> Iterator[Recorded]:
    """Yield every event after a position, up to another, reading page by page.

    `size`: of a page, in events; a small one where few of them are wanted.
    """
    limit = PAGE if size is None else size
    while page := store.read_all(after=after, limit=limit, up_to=up_to):
        yield from page
        after = page[-1].position


def follow(
    store: EventStore, *, after: int = 0, until: Callable[[], bool]
) -> Iterator[Recorded]:
    """Yield every event after a position, and then each new one as it comes.

    Heals itself: while the store is not available it waits, and goes on where it was;
    nothing is left out and nothing comes twice.  Ends once `until()` is true, which is
    asked at least every `LOOK_AGAIN_S`.  Raises `UnknownEvent` at an event that cannot
    be understood.
    """
    while not until():
        try:
            page = store.read_all(after=after, limit=PAGE)
            if not page:
                store.head(beyond=after, timeout_s=LOOK_AGAIN_S)
        except Unavailable:
            time.sleep(LOOK_AGAIN_S)
            continue
        for recorded in page:
            after = recorded.position
            yield recorded


def position_at(store: EventStore, moment: datetime) -> int:
    """Return the position of the last event recorded at or before `moment`.

    `recorded_at` never goes back as positions grow, hence a binary search: it
    reads about log2(head) events.
    """
    low, high = 0, store.head()
    while low < high:
        middle = (low + high) // 2
        following = store.read_all(after=middle, limit=1)
        if following and following[0].recorded_at <= moment:
            low = following[0].position
        else:
            high = middle
    return low


def parse_moment(
    store: EventStore, moment: int | str | datetime, *, now: datetime
) -> int:
    """Return the position that is meant: one itself, or an RFC 3339 time.

    Raises `Rejected` for what lies ahead: nobody knows yet what was the case then.
    """
    text = moment.isoformat() if isinstance(moment, datetime) else str(moment)
    if text.isascii() and text.isdigit():
        if len(text) <= len(str(head := store.head())) and int(text) <= head:
            return int(text)
        raise Rejected(
            f"The log ends at position {head}: name no later one.",
            field="as_of",
        )
    try:
        then = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        then = None
    if then is None or then.tzinfo is None:
        raise Rejected(
            "Name a position of the log, or a time with its zone such as "
            "2026-01-31T14:03:00Z.",
            field="as_of",
        )
    if then > now:
        raise Rejected(
            "That time is still to come: name one that is past.", field="as_of"
        )
    return position_at(store, then)
