"""From what this software did by itself back to the command that began it.

Every command that follows from an event passes on the correlation id: it is the id of
the first command of the chain, which somebody gave.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from uuid import UUID

from arena_core.application.history import PAGE
from arena_core.application.ports import EventStore, Recorded
from arena_core.domain.errors import Corrupt


def first_of(
    store: EventStore, commands: Collection[UUID], *, before: int
) -> Mapping[UUID, Recorded]:
    """Return the first event of each command, by the command's id.

    The log is read backwards from `before`, until all are found; what cannot be read
    is passed over, and what is not in the log is left out.
    """
    found: dict[UUID, Recorded] = {}
    is_open = bool(commands)
    while is_open and before > 1:
        begin = max(before - PAGE, 1)
        page = list(_readable(store, begin, before))
        found |= _firsts(page, commands)
        # Of an append that has begun before this page the first event is still to come.
        is_cut = bool(page) and page[0].context.command_id in commands
        is_open, before = is_cut or len(found) < len(commands), begin
    return found


def _firsts(
    page: Iterable[Recorded], commands: Collection[UUID]
) -> Mapping[UUID, Recorded]:
    firsts: dict[UUID, Recorded] = {}
    for recorded in page:
        if recorded.context.command_id in commands:
            firsts.setdefault(recorded.context.command_id, recorded)
    return firsts


def _readable(store: EventStore, begin: int, end: int) -> Iterator[Recorded]:
    """Yield the events from one position to before another, but for damaged ones."""
    after = begin - 1
    while after < end - 1:
        try:
            page = store.read_all(after=after, limit=PAGE, up_to=end - 1)
        except Corrupt:
            after += 1
        else:
            yield from page
            after = page[-1].position if page else end
