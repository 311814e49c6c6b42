"""Going back in the log: to a position, or to a time."""

from collections.abc import Iterator
from datetime import datetime

from arena_core.application.ports import EventStore, Recorded
from arena_core.domain.errors import Rejected

PAGE = 500


def pages(
    store: EventStore, *, after: int = 0, up_to: int | None = None
) -> Iterator[Recorded]:
    """Yield every event after a position, up to another, reading page by page."""
    while page := store.read_all(after=after, limit=PAGE, up_to=up_to):
        yield from page
        after = page[-1].position


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
        time = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise Rejected(
            "Name a position of the log, or a time with its zone such as "
            "2026-01-31T14:03:00Z.",
            field="as_of",
        )
    if time > now:
        raise Rejected(
            "That time is still to come: name one that is past.", field="as_of"
        )
    return position_at(store, time)
