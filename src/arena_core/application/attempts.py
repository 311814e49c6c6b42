"""One attempt at what a caller asks for: what came along with it, and what came of it.

Under an idempotency key the first attempt is recorded in the append that does the
work.  Another attempt does nothing: it looks at the log as it was before that append,
and from the moment at which it would have changed something, as it was right after it.
The ids of new things are derived from the key.  So the same code gives the same answer.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import count
from uuid import UUID, uuid5

import msgspec
from attrs import define, field, frozen

from arena_core.application.handling import Change, Expected, Guard, Handled
from arena_core.application.history import pages
from arena_core.application.ports import EventStore, Row
from arena_core.domain import keyed_request
from arena_core.domain.ids import Digest, RequestId
from arena_core.domain.values import Caller

USUALLY_APPENDED = 8
"""A page of so many events holds nearly every append."""
_NAMESPACE = UUID("8a4f3a52-6f0d-5c7e-9d3c-1b8f1c0a7e55")


@frozen
class Key:
    """An idempotency key, where it counts, and what was asked for under it."""

    request_id: RequestId
    method: str
    path: str
    digest: Digest

    @classmethod
    def of(
        cls, caller: Caller, method: str, path: str, text: str, *, asked: object
    ) -> "Key":
        """Return the key `text` of a caller; `asked` is all that it asks for."""
        actor = caller.actor
        scope = (
            caller.organisation,
            actor.kind.value,
            actor.name,
            method,
            path,
            text,
        )
        request_id = uuid5(_NAMESPACE, msgspec.json.encode(scope).decode())
        digest = sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()
        return cls(RequestId(request_id), method, path, Digest(digest))

    def change(self) -> Change:
        command = keyed_request.CarryOut(
            self.request_id, self.method, self.path, self.digest
        )
        return Change(keyed_request, self.request_id, command)

    def ids(self, use: int) -> Callable[[], UUID]:
        """Return what gives the ids of what is made at one use of the key."""
        numbers = count()
        return lambda: uuid5(self.request_id, f"{use}:{next(numbers)}")


@define
class Repetition:
    """Where in the log what is asked for again was done the first time."""

    before: int
    after: int
    looks_at: int | None = field(init=False)
    """The position that is looked at; None: the present."""

    def __attrs_post_init__(self) -> None:
        """Begin where the first attempt has begun."""
        self.looks_at = self.before

    @classmethod
    def of(cls, row: Row, store: EventStore) -> "Repetition":
        """Return where that was which `row` records: it is the first of an append."""
        after, appended = row.position, None
        for recorded in pages(store, after=row.position - 1, size=USUALLY_APPENDED):
            appended = appended or recorded.context.command_id
            if recorded.context.command_id != appended:
                break
            after = recorded.position
        return cls(row.position - 1, after)

    def done(self) -> Handled:
        """Look at the log as it was when it had been done."""
        self.looks_at = self.after
        return Handled({}, self.after)


@define
class Attempt:
    """What is true of one request only.  Not for several threads at a time."""

    traceparent: str | None = None
    expected: Expected | None = None
    """As what the caller knows the things that it changes."""
    rights: Guard = tuple
    """What the caller's rights hang on; raises if they are not what they were."""
    key: Key | None = None
    repetition: Repetition | None = None
    """None: it is the first attempt."""
    command_id: Callable[[], UUID] | None = None
    """Gives the ids of its commands; None: whatever gives those of all else."""
    versions: dict[UUID, int] = field(factory=dict, init=False)
    """Of the streams that it has changed."""
    _is_recorded: bool = field(default=False, init=False)

    @property
    def is_open(self) -> bool:
        """Whether nothing is recorded under its key that it knows of."""
        return self.repetition is None and not self._is_recorded

    def look_at_the_present(self) -> None:
        """See in a repetition, too, what has come since: it is waited for."""
        if self.repetition is not None:
            self.repetition.looks_at = None

    def changes(self, changes: Sequence[Change]) -> Iterator[Change]:
        """Yield the changes, and first of all that they are what was asked for."""
        if self.key is not None and not self._is_recorded:
            yield self.key.change()
        yield from changes

    def carried_out(self, handled: Handled) -> None:
        """Take note of what was done: what was expected has been so, then."""
        self.expected, self._is_recorded = None, True
        self.versions.update(handled.versions)
