"""What every use case starts from: the ports, who is asking, and as of when."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar
from uuid import UUID

from attrs import evolve, field, frozen

from arena_core.application.agreement import Agreement
from arena_core.application.attempts import Attempt, Key, Repetition
from arena_core.application.handling import ATTEMPTS, Change, Handled, Handler
from arena_core.application.keys import MasterSecret
from arena_core.application.ports import (
    BlobStore,
    Clock,
    Context,
    EventStore,
    Inspection,
    MetricStore,
    Query,
    Row,
    RowReader,
)
from arena_core.application.signing import TokenSigner
from arena_core.application.trainer import Requirements, Trainer
from arena_core.application.views import Views
from arena_core.domain.errors import NotFound, Overtaken, Rejected
from arena_core.domain.values import Caller, shown


@frozen
class Core:
    """The application's ports, put together once by the wiring."""

    store: EventStore
    handler: Handler
    views: Views
    metrics: MetricStore
    blobs: BlobStore
    inspect: Inspection
    clock: Clock
    new_id: Callable[[], UUID]
    scratch: Callable[[], AbstractContextManager[str]] = TemporaryDirectory
    """Gives a new, empty folder that is gone afterwards."""
    agreement: Agreement = field(factory=Agreement.alone)
    master: MasterSecret = field(kw_only=True, repr=False)
    signer: TokenSigner = field(kw_only=True, repr=False)
    trainer: Trainer = field(kw_only=True, repr=False)
    allow_commands: bool = field(default=False, kw_only=True)
    """Whether callers over HTTP may have programs of their own run."""
    check_here: Requirements = field(default=lambda _: None, kw_only=True, repr=False)


@frozen
class Paging:
    """Which part of a list: rows created after a position, and how many at most."""

    after: int = 0
    limit: int | None = None


ALL = Paging()
LONGEST_REASON = 1000
T = TypeVar("T")


@frozen
class Page(Generic[T]):
    """Part of a list, in the order of creation; behaves like a sequence."""

    items: list[T]
    next_after: int | None = None
    """Where the next part begins (see `Paging.after`); None if this is the end."""

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> T:
        return self.items[index]


def page(rows: Sequence[Row], view: Callable[[Row], T], paging: Paging) -> Page[T]:
    """Return the page of `rows`, which may go one or more beyond its end."""
    if paging.limit is None or len(rows) <= paging.limit:
        return Page([view(row) for row in rows])
    shown = rows[: paging.limit]
    last = shown[-1].created_position if shown else paging.after
    return Page([view(row) for row in shown], last)


@frozen
class Session:
    """One caller's view of one organisation, now or as it was at a position.

    Everything of another organisation looks as if it did not exist.
    """

    core: Core = field(repr=False)
    caller: Caller
    _as_of: int | None = None
    _from_the_log: bool = False
    """Whether the past is folded from the log alone, from its beginning."""
    attempt: Attempt = field(factory=Attempt, kw_only=True, repr=False)

    @property
    def as_of(self) -> int | None:
        """The position that is looked at; None: the present."""
        repetition = self.attempt.repetition
        return self._as_of if repetition is None else repetition.looks_at

    @property
    def looks_at(self) -> tuple[int | None, bool]:
        """What tells apart sessions of an organisation that may see other rows."""
        return self.as_of, self._from_the_log

    def at(self, position: int | None) -> "Session":
        return evolve(self, as_of=position, attempt=Attempt())

    def replayed(self, position: int) -> "Session":
        """Return the session at a position, with nothing read but the log."""
        return evolve(self.at(position), from_the_log=True)

    def under(self, key: Key) -> "Session":
        """Return the session in which this is asked for under an idempotency key.

        In that of a repetition nothing is done, and all looks as it did then.  Raises
        `KeyReused` if something else was asked for under the key.
        """
        core = self.core
        core.views.catch_up()
        row = core.views.rows.get(key.request_id)
        uses = 0 if row is None else row.state.uses
        attempt = evolve(self.attempt, key=key, command_id=core.new_id)
        if row is not None and row.state.is_known(key.digest, core.clock()):
            uses -= 1
            attempt.repetition = Repetition.of(row, core.store)
        keyed = evolve(core, new_id=key.ids(uses))
        return evolve(self, core=keyed, attempt=attempt)

    @property
    def rows(self) -> RowReader:
        """The read model: what this process has written is in it."""
        if self.as_of is not None:
            views = self.core.views
            look = views.replayed if self._from_the_log else views.at
            return look(self.as_of)
        self.core.views.catch_up()
        return self.core.views.rows

    def execute(self, *changes: Change, reason: str | None = None) -> Handled:
        """Carry out `changes` in the caller's name, all or none.

        Raises `PreconditionFailed` if the caller expects another state of things, and
        `AlreadyCarriedOut` if this very request has been done by somebody faster.
        """
        if self.attempt.repetition is not None:
            return self.attempt.repetition.done()
        if self.as_of is not None:
            raise Rejected(
                "The past cannot be changed: leave as_of out.", field="as_of"
            )
        self.core.views.catch_up()
        self.core.views.require_live()
        handled = self.core.handler.handle(
            self._context(reason),
            *self.attempt.changes(changes),
            expected=self.attempt.expected,
            guard=self.attempt.rights,
        )
        self.attempt.carried_out(handled)
        self.core.views.catch_up()
        return handled

    def execute_anew(
        self, changes: Callable[[], Sequence[Change]], *, reason: str | None = None
    ) -> Handled:
        """Carry out `changes`, decided anew whenever what they hang on has changed."""
        for attempt in range(1, ATTEMPTS):
            try:
                return self.execute(*changes(), reason=reason)
            except Overtaken:
                self.core.handler.pause(attempt)
        return self.execute(*changes(), reason=reason)

    def find(self, kind: str, row_id: UUID, *, deleted: bool = False) -> Row:
        """Return the row.  Raises `NotFound` if it is not there for this caller."""
        if not isinstance(row_id, UUID):
            raise Rejected(
                f"{shown(repr(row_id))} is no id: give the id of a {kind}, a UUID.",
                field="id",
            )
        row = self.rows.get(row_id)
        if (
            row is None
            or row.kind != kind
            or row.organisation != self.caller.organisation
            or (row.deleted and not deleted)
        ):
            raise NotFound(f"There is no such {kind}.")
        return row

    def query(
        self,
        kind: str,
        *,
        parent: UUID | None = None,
        name: str | None = None,
        refers: UUID | None = None,
        paging: Paging = ALL,
    ) -> list[Row]:
        """Return the organisation's rows of a kind, in the order of their creation.

        One more than the limit, so that it can be told whether there are more.
        """
        limit = None if paging.limit is None else paging.limit + 1
        query = Query(
            kind,
            self.caller.organisation,
            parent,
            name,
            paging.after,
            limit,
            refers=refers,
        )
        return list(self.rows.find(query))

    def _context(self, reason: str | None) -> Context:
        command_id = (self.attempt.command_id or self.core.new_id)()
        return Context(
            organisation=self.caller.organisation,
            actor=self.caller.actor,
            command_id=command_id,
            correlation_id=command_id,
            reason=_said(reason),
            traceparent=self.attempt.traceparent,
        )


def _said(reason: str | None) -> str | None:
    """Return why something is done, if it was said.  Raises `Rejected` if too long."""
    if not isinstance(reason, str | None):
        raise Rejected("The reason must be a text.", field="reason")
    if reason is None or not reason.strip():
        return None
    if len(reason) > LONGEST_REASON:
        raise Rejected(
            f"The reason has {len(reason)} characters: use at most {LONGEST_REASON}.",
            field="reason",
        )
    return reason.strip()
