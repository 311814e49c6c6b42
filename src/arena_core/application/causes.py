"""From an event back to what began it: the command that somebody gave.

What this software does by itself names the event that made it do so.
"""

from collections.abc import Iterable
from uuid import UUID

from attrs import define, field

from arena_core.application.history import PAGE
from arena_core.application.ports import EventStore, Recorded


@define
class Causes:
    """What led to events, found in the log before them, which is read once at most."""

    _store: EventStore
    _read_from: int
    """What is from this position on is known, or of no interest."""
    _known: dict[UUID, Recorded] = field(factory=dict)
    _firsts: dict[UUID, Recorded] = field(factory=dict)

    def know(self, events: Iterable[Recorded]) -> None:
        """Take note of events that need not be looked for then."""
        self._known |= {recorded.event_id: recorded for recorded in events}

    def beginning(self, recorded: Recorded) -> Recorded:
        """Return the event that began what `recorded` is a part of.

        That is the first that the command has led to; itself, if it was given to it.
        """
        cause = recorded
        while cause.context.causation_id is not None:
            found = self._found(cause.context.causation_id)
            if found is None:
                break
            cause = found
        return recorded if cause is recorded else self._first(cause)

    def _first(self, recorded: Recorded) -> Recorded:
        """Return the first event of the same command, in the same stream."""
        if recorded.event_id not in self._firsts:
            history = self._store.read(recorded.stream, up_to=recorded.position)
            command = recorded.context.command_id
            of_it = (each for each in history if each.context.command_id == command)
            self._firsts[recorded.event_id] = next(of_it)
        return self._firsts[recorded.event_id]

    def _found(self, event_id: UUID) -> Recorded | None:
        while event_id not in self._known and self._read_from > 1:
            begin = max(self._read_from - PAGE, 1)
            bounds = {"after": begin - 1, "up_to": self._read_from - 1}
            self.know(self._store.read_all(limit=PAGE, **bounds))
            self._read_from = begin
        return self._known.get(event_id)
