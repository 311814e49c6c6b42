"""The read model: the present state of every aggregate, kept up from the log.

One projection makes one row of each stream, by the very `evolve` that commands use,
so what is read cannot disagree with what is decided.  An event that cannot be
understood stops the projection and is shown in health: it is never skipped.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, TypeVar
from uuid import UUID

from attrs import field, frozen

from arena_core.application.deeds import Hand, deeds_after
from arena_core.application.handling import Decider
from arena_core.application.history import PAGE, pages
from arena_core.application.past import Past
from arena_core.application.ports import (
    Batch,
    EventStore,
    Recorded,
    Row,
    RowReader,
    RowStore,
)
from arena_core.application.relations import parent, refers
from arena_core.application.snapshots import Snapshot
from arena_core.domain import (
    agent,
    checkpoint_import,
    credential,
    deployment,
    experiment,
    keyed_request,
    organisation,
    pipeline,
    project,
    sign_in,
    stage,
    user,
)
from arena_core.domain.errors import ArenaError, Corrupt, Unavailable, UnknownEvent

log = logging.getLogger(__name__)

DECIDERS: dict[str, Decider[Any, Any, Any]] = {
    decider.KIND: decider
    for decider in (
        project,
        experiment,
        checkpoint_import,
        agent,
        deployment,
        credential,
        keyed_request,
        user,
        organisation,
        sign_in,
        pipeline,
        stage,
    )
}
PAST_VIEWS = 8
"""How many pasts are kept for the next question."""
MOST_FOLDS = 2
"""How many pasts may be folded at the same time: each reads the whole log."""
UNKNOWN = -1
PATIENCE_S = 5.0
"""How long one who catches up waits for another who does, before trying it beside."""
MOST_KNOWN = 4096
"""How many findings are kept until the log moves on."""

T = TypeVar("T")


@frozen
class _Findings:
    """What was found out of the rows when the log ended at `position`."""

    position: int
    by_key: dict[Hashable, Any] = field(factory=dict)


@frozen
class Halt:
    """Where the projection stopped, and why."""

    position: int
    reason: str


def advance(row: Row | None, recorded: Recorded) -> Row:
    """Return the row of the stream after one more event."""
    kind = recorded.name.partition(".")[0]
    if kind not in DECIDERS:
        raise UnknownEvent(f"No aggregate knows the event {recorded.name}.")
    state = DECIDERS[kind].evolve(row.state if row else None, recorded.event)
    return Row(
        kind=kind,
        id=recorded.stream,
        organisation=recorded.context.organisation if row is None else row.organisation,
        parent=parent(state),
        name=getattr(state, "name", ""),
        deleted=state.deleted,
        created_by=str(recorded.context.actor) if row is None else row.created_by,
        version=recorded.version,
        created_position=recorded.position if row is None else row.created_position,
        # When it was recorded, so that it is there as of that very time.
        created_at=recorded.recorded_at if row is None else row.created_at,
        position=recorded.position,
        changed_at=recorded.recorded_at,
        state=state,
        refers=refers(state),
        deeds=deeds_after(
            row.deeds if row else (),
            recorded.event,
            hand(recorded),
            recorded.position,
        ),
    )


def hand(recorded: Recorded) -> Hand:
    """Return by whose hand an event came."""
    context = recorded.context
    return Hand(str(context.actor), recorded.recorded_at, context.reason)


def fold(events: Iterable[Recorded], rows: RowReader) -> dict[UUID, Row]:
    """Return the rows that `events` change, as they are afterwards."""
    changed: dict[UUID, Row] = {}
    for recorded in events:
        before = changed.get(recorded.stream) or rows.get(recorded.stream)
        try:
            changed[recorded.stream] = advance(before, recorded)
        except ArenaError:
            raise
        except Exception as error:
            raise UnknownEvent(
                f"The event {recorded.name} at position {recorded.position} "
                f"does not fit the state before it."
            ) from error
    return changed


class Views:
    """Keeps a `RowStore` up with an `EventStore`, and rebuilds the past."""

    def __init__(self, store: EventStore, rows: RowStore) -> None:
        self.rows: RowReader = rows
        self.halted: Halt | None = None
        self._store = store
        self._rows = rows
        self._position = UNKNOWN
        self._changed: dict[str, int] = {}
        self._changed_unseen = UNKNOWN
        """Up to where others have brought the rows, so that any may have changed."""
        self._catching_up = threading.Lock()
        self._findings = _Findings(UNKNOWN)
        self._past: OrderedDict[tuple[type, int], RowReader] = OrderedDict()
        self._lock = threading.Lock()
        self._folding = threading.Semaphore(MOST_FOLDS)

    @property
    def position(self) -> int:
        """How far this process knows the rows to be; asks nobody."""
        return self._position

    def catch_up(self) -> int:
        """Bring the rows up to the head of the log; return the position reached.

        Never raises for an event that cannot be understood: see `halted`.
        """
        with self._lock:
            if self._position == UNKNOWN:
                self._position = self._resume()
        head = self._store.head()
        if self._position < head:
            # One at a time: what one has brought up, the others need not look at.
            is_alone = self._catching_up.acquire(timeout=PATIENCE_S)
            try:
                self._catch_up_to(head)
            finally:
                if is_alone:
                    self._catching_up.release()
        return self._position

    def _catch_up_to(self, head: int) -> None:
        while self.halted is None and self._position < head:
            try:
                self._position = self._rows.update(self._page)
            except Corrupt as error:
                self.halted = Halt(self._position, str(error))
                log.exception("The read model stopped at %d", self._position)

    def changed_at(self, kinds: Collection[str]) -> int:
        """Return a position after which no row of these kinds has changed, so far.

        It moves whenever one may have, be it that another process has brought it up.
        """
        ours = (self._changed.get(kind, UNKNOWN) for kind in kinds)
        return max(self._changed_unseen, *ours)

    def known(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return what `find` finds out of the rows, found once until the log moves on.

        `key` must say all that `find` depends on besides the rows.
        """
        position = self.catch_up()
        if self.halted is not None:
            return find()
        findings = self._findings
        if findings.position != position or len(findings.by_key) >= MOST_KNOWN:
            findings = self._findings = _Findings(position)
        try:
            found: T = findings.by_key[key]
        except KeyError:
            # Rows that are ahead of `position` do no harm: who asks for what is kept
            # for it has begun before they were.
            found = findings.by_key[key] = find()
        return found

    def require_live(self) -> None:
        """Raise `Unavailable` if the projection has stopped."""
        if self.halted is not None:
            raise Unavailable(
                f"The read model stopped after position {self.halted.position}: "
                f"{self.halted.reason} Nothing is changed until that is mended."
            )

    def present(self, stream: UUID) -> Row | None:
        """Return the row of one stream folded from the log itself.

        It is true even while the projection has stopped.
        """
        return self._of(stream, None)

    def _of(self, stream: UUID, up_to: int | None) -> Row | None:
        events = self._store.read(stream, up_to=up_to)
        return fold(events, Snapshot([])).get(stream)

    def rebuild(self) -> int:
        """Make all rows anew from the log, and put them in place at once."""
        head = self._store.head()
        rows = fold(pages(self._store, up_to=head), Snapshot([]))
        self._rows.replace(Batch(list(rows.values()), head))
        self._position, self.halted, self._changed_unseen = head, None, head
        # Another process may have been further than that.
        return self.catch_up()

    def at(self, position: int) -> RowReader:
        """Return the rows as they were when the log ended at `position`.

        They are what the read model says, as far as it has not changed since.  Raises
        `Corrupt` for an event up to there that cannot be understood.
        """
        position = min(position, self._store.head())  # what lies ahead may change
        if self.catch_up() < position:  # it has stopped before
            return self.replayed(position)
        return self._kept(Past, position, lambda: Past(position, self.rows, self._of))

    def replayed(self, position: int) -> RowReader:
        """Return the same from the log alone, which is read from its beginning.

        Raises `Corrupt` for an event up to there that cannot be understood.
        """
        position = min(position, self._store.head())
        return self._kept(Snapshot, position, lambda: self._folded(position))

    def _folded(self, position: int) -> Snapshot:
        with self._folding:
            rows = fold(pages(self._store, up_to=position), Snapshot([]))
        return Snapshot(rows.values())

    def _kept(
        self, kind: type, position: int, make: Callable[[], RowReader]
    ) -> RowReader:
        """Return the past that is known, or that is made: the next may ask for it."""
        key = (kind, position)
        with self._lock:
            known = self._past.get(key)
        known = known or make()
        with self._lock:
            self._past[key] = known
            self._past.move_to_end(key)
            while len(self._past) > PAST_VIEWS:
                self._past.popitem(last=False)
        return known

    def _resume(self) -> int:
        """Return the position that the rows have reached in an earlier life.

        If they come of another log, as after one was restored from a back-up, they
        are replaced as a whole: whoever reads them meanwhile sees the old or the new.
        """
        stale = False

        def look(position: int, rows: RowReader) -> None:
            nonlocal stale
            stale = position > 0 and not self._was_read(position, rows)

        position = self._rows.update(look)
        if not stale:
            return position
        batch = self._as_far_as_possible()
        self._rows.replace(batch)
        return batch.position

    def _was_read(self, position: int, rows: RowReader) -> bool:
        """Say whether `rows` come of the log as it is, up to `position`."""
        try:
            events = self._store.read_all(after=position - 1, limit=1)
        except Corrupt:
            return True
        row = rows.get(events[0].stream) if events else None
        return row is not None and (row.position, row.version, row.changed_at) == (
            position,
            events[0].version,
            events[0].recorded_at,
        )

    def _as_far_as_possible(self) -> Batch:
        """Return all rows, up to the head or to an event that cannot be understood."""
        rows: dict[UUID, Row] = {}
        position = 0
        try:
            while page := self._store.read_all(after=position, limit=PAGE):
                rows.update(fold(page, Snapshot(rows)))
                position = page[-1].position
        except Corrupt:
            log.warning("The read model can be rebuilt up to %d only", position)
        return Batch(list(rows.values()), position)

    def _page(self, position: int, rows: RowReader) -> Batch | None:
        if position > self._position:
            # Another process has brought the rows further than we knew.
            self._position = self._changed_unseen = position
        events = self._store.read_all(after=position, limit=PAGE)
        if not events:
            return None
        changed = fold(events, rows).values()
        self._changed.update({row.kind: events[-1].position for row in changed})
        return Batch(list(changed), events[-1].position)
