"""What the application needs of the world, and what it may rely on.

Each port is a Protocol; its docstrings are its contract, and one class of tests in
`tests/contract/` states that contract for every adapter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from operator import index
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from attrs import field, frozen
from numpy.typing import NDArray

from arena_core.application.deeds import Deed
from arena_core.domain.checkpoint import Manifest, Signature
from arena_core.domain.course import Origin, Stretch
from arena_core.domain.ids import (
    DeploymentId,
    Digest,
    ExperimentId,
    OrganisationId,
    WorkerId,
)
from arena_core.domain.values import Actor

Clock: TypeAlias = Callable[[], datetime]
"""Returns the present time, aware, in UTC."""

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = Mapping[str, Array]
"""Arrays by name; the first axis of each is the batch."""


# --- the event log ---------------------------------------------------------------


@frozen
class Context:
    """On whose behalf, because of what: kept with every event that comes of it."""

    organisation: OrganisationId
    actor: Actor
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None = None
    """The event that caused this command, if one did."""
    reason: str | None = None
    traceparent: str | None = None
    """The caller's place in a trace of its own (W3C Trace Context), if it has one."""


@frozen
class Write:
    """Events to append to one stream, whose version must be `expected`."""

    stream: UUID
    expected: int
    """The number of events that the stream holds now; 0 for a new one."""
    events: Sequence[Any]


@frozen
class Recorded:
    """One event as the log holds it.  Positions order all events, times do not."""

    position: int
    stream: UUID
    version: int
    name: str
    """The stored name, such as `agent.checkpoint_frozen`."""
    name_version: int
    event_id: UUID
    occurred_at: datetime
    recorded_at: datetime
    """Never earlier than that of any event with a smaller position."""
    context: Context
    code: str
    """The release that wrote it, such as `arena-core 0.1.0`."""
    hash: str
    """SHA-256 over the previous hash of the stream, the metadata and the body."""
    event: Any
    """Today's class of it, whatever version was stored."""


@frozen
class Fault:
    """Where the log or a checkpoint is not what was stored.  Position 0: a blob."""

    position: int
    detail: str


class EventStore(Protocol):
    """Append-only streams of events, in one order over all streams.

    Safe to use from several threads, and one database from several processes.
    Every method raises `Unavailable` if the database is locked for too long, and
    `StorageFull` if no space is left; in both cases nothing was written.
    """

    def append(
        self, writes: Sequence[Write], *, context: Context, occurred_at: datetime
    ) -> int:
        """Append all events of all `writes`, or none; return the last one's position.

        Raises `ConcurrentWrite` unless every stream is at its expected version;
        no hole can come about.  Repeating an append that has succeeded (the same
        writes with the same command id) changes nothing and returns its position.
        No event is ever given a position below one that a reader may have seen.
        Nothing to append: returns the head.
        """
        ...

    def read(self, stream: UUID, *, up_to: int | None = None) -> Sequence[Recorded]:
        """Return the stream's events, oldest first; none if it is unknown.

        `up_to`: only those with at most this position.
        """
        ...

    def read_all(
        self, *, after: int = 0, limit: int = 500, up_to: int | None = None
    ) -> Sequence[Recorded]:
        """Return up to `limit` events of all streams with position > `after`.

        Raises `UnknownEvent` if the first of them cannot be understood; one
        further on ends the page before it.
        """
        ...

    def head(self, *, beyond: int = -1, timeout_s: float = 0.0) -> int:
        """Return the position of the last event, 0 if there is none.

        Waits for it to be greater than `beyond`, but no longer than `timeout_s`.
        Events that other processes append end the wait too.
        """
        ...

    def faults(self) -> Iterator[Fault]:
        """Recompute every hash chain; yield each fault, by position."""
        ...

    def close(self) -> None:
        """Free everything.  Safe to call twice."""
        ...


# --- the read model --------------------------------------------------------------


@frozen
class Row:
    """The present state of one aggregate."""

    kind: str
    """The aggregate's `KIND`, such as `agent`."""
    id: UUID
    organisation: OrganisationId
    parent: UUID | None
    """What it is listed under: an experiment's project, an agent's experiment..."""
    name: str
    deleted: bool
    created_by: str
    """By whose hand its first event came: an actor, as text."""
    version: int
    """The number of events in its stream."""
    created_position: int
    created_at: datetime
    position: int
    """The position of its last event."""
    changed_at: datetime
    state: Any
    refers: frozenset[UUID] = frozenset()
    """What else it is to be found by: the experiments bound to a pipeline's stages."""
    deeds: tuple[Deed, ...] = ()
    """By whom the latest run or training was asked for, and what was done to it since.

    A state is made of events alone, which do not say by whose hand they came.
    """


@frozen
class Query:
    """Which rows; None means any.  Rows come in the order of their creation."""

    kind: str
    organisation: OrganisationId | None
    parent: UUID | None = None
    name: str | None = None
    after: int = 0
    """Only rows with a greater `created_position`."""
    limit: int | None = None
    deleted: bool = False
    """Whether to return the deleted ones too."""
    refers: UUID | None = None
    """Only rows that are to be found by this."""
    changed_since: int | None = None
    """Only rows that were there at this position, and have changed after it."""


@frozen
class Batch:
    """Rows to put, and the position up to which the log is then accounted for."""

    rows: Sequence[Row]
    position: int


class RowReader(Protocol):
    def get(self, row_id: UUID) -> Row | None:
        """Return the row, a deleted one too; None if there is none."""
        ...

    def find(self, query: Query) -> Sequence[Row]:
        """Return the rows that `query` asks for."""
        ...


class RowStore(RowReader, Protocol):
    """A read model that can be thrown away: the log can always rebuild it."""

    def update(self, step: Callable[[int, RowReader], Batch | None]) -> int:
        """Put the rows of the batch that `step(position, rows)` returns.

        Rows and position become visible together or not at all.  Only one update
        runs at a time, over all processes.  None: nothing is changed.  Returns
        the position after it.  What `step` raises is raised, nothing is changed.
        """
        ...

    def replace(self, batch: Batch) -> None:
        """Put the rows of `batch` in the place of all others, at once."""
        ...

    def close(self) -> None:
        """Free everything.  Safe to call twice."""
        ...


# --- metrics ---------------------------------------------------------------------


@frozen
class MetricPoint:
    """A value that training has measured.  `score` and `fitness` have a meaning."""

    step: int = field(converter=index)
    name: str
    value: float = field(converter=float)


@frozen
class Measured:
    """A point, and where it comes from."""

    point: MetricPoint
    origin: Origin


@frozen
class NumberedPoint:
    """A point as it was recorded: a later one may count in its place."""

    number: int
    """Within its experiment, from 1."""
    point: MetricPoint
    origin: Origin


class MetricStore(Protocol):
    """Metric points, append-only.

    Of several for one step and name that one counts that belongs to the latest
    training, and of these the last.  Stretches name no training twice.
    """

    def record(
        self,
        experiment_id: ExperimentId,
        measured: Sequence[Measured],
        *,
        log_position: int,
    ) -> None:
        """Keep all that was measured, or nothing.  `log_position`: the log's head."""
        ...

    def points(  # noqa: PLR0913 -- which points
        self,
        experiment_id: ExperimentId,
        course: Sequence[Stretch],
        *,
        names: Sequence[str] | None = None,
        up_to: int | None = None,
        after: tuple[int, str] | None = None,
        limit: int | None = None,
    ) -> Sequence[MetricPoint]:
        """Return the points of `course`, by step and then name.

        `up_to`: as they were when the log's head was at this position.  `after`: only
        those beyond this step and name.  `limit`: the first of them, as many at most.
        """
        ...

    def latest(
        self,
        experiment_id: ExperimentId,
        course: Sequence[Stretch],
        *,
        names: Sequence[str] | None = None,
        up_to: int | None = None,
    ) -> Sequence[MetricPoint]:
        """Return of each name the point of its largest step in `course`, by name.

        `up_to`: as for `points`.
        """
        ...

    def has_any(
        self, experiment_id: ExperimentId, training: int, *, up_to: int | None = None
    ) -> bool:
        """Say whether any point belongs to a training.  `up_to`: as for `points`."""
        ...

    def at(
        self,
        experiment_id: ExperimentId,
        places: Sequence[tuple[int, int]],
        *,
        names: Sequence[str],
        up_to: int | None = None,
    ) -> Sequence[NumberedPoint]:
        """Return all that was recorded at `places`, in the order of recording.

        A place is a training and a step.  `up_to`: as for `points`.
        """
        ...

    def since(
        self, experiment_id: ExperimentId, after: int, *, limit: int
    ) -> Sequence[NumberedPoint]:
        """Return what was recorded after number `after`, in the order of recording.

        Numbers grow, and none below one that was seen appears later.  At most `limit`
        points, but for those that have the number of the last one.
        """
        ...

    def close(self) -> None:
        """Free everything.  Safe to call twice."""
        ...


# --- checkpoints -----------------------------------------------------------------


class BlobStore(Protocol):
    """Checkpoint bundles by content.  Safe to use from several threads."""

    def put(self, folder: Path) -> Digest:
        """Copy the files below `folder` in; return the digest of the bundle.

        When it returns, the bundle survives a power cut.  A bundle that is there
        already is not written again.  Raises `StorageFull` and then keeps nothing.
        """
        ...

    def read(self, digest: Digest, name: str) -> bytes:
        """Return one file of the bundle, of which every byte has been verified.

        Raises `NotFound`, or `Corrupt` if it is not what was stored.
        """
        ...

    def sizes(self, digest: Digest) -> Mapping[str, int]:
        """Return the bundle's file names and their sizes in bytes, verified.

        Raises `NotFound` or `Corrupt`.
        """
        ...


# --- runtimes --------------------------------------------------------------------


class Device(Enum):
    """Where to run: AUTO is CUDA where it works, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Runtime(Protocol):
    """A loaded checkpoint.  Safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """What runs it and which release, such as `onnxruntime 1.31.1`."""
        ...

    @property
    def device(self) -> str:
        """Where it really runs: `cpu` or `cuda:0`."""
        ...

    @property
    def signature(self) -> Signature:
        """What goes in and what comes out, as the weights themselves say."""
        ...

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Return one output row for each input row; rows do not see each other.

        Every array has the dtype and the shape of its spec, and all have the
        same number of rows, at least one.  Raises `Rejected` for a missing or
        unknown name, a wrong dtype or a wrong shape.
        """
        ...

    def close(self) -> None:
        """Free the memory.  Safe to call twice; `run` raises `Unloaded` then."""
        ...


class RuntimeLoader(Protocol):
    def __call__(self, signature: Signature, weights: bytes) -> Runtime:
        """Load `weights`.  Raises `Rejected` unless they have that signature."""
        ...


class Inspection(Protocol):
    def __call__(self, bundle: Path, manifest: Manifest) -> None:
        """Raise `Rejected` unless the weights load as `manifest` says.

        `bundle`: the folder that they lie in, whose manifest it is.
        """
        ...


# --- who serves ------------------------------------------------------------------


@frozen
class Note:
    """What a worker tells all others that are alive beside it."""

    position: int = 0
    """How far it has followed the log."""
    prepared: frozenset[tuple[DeploymentId, Digest]] = frozenset()
    """The weights that it holds, and could answer with from one moment to the next."""
    leaving: bool = False
    """Whether it is about to end, so that nothing should be handed over to it."""


class Presence(Protocol):
    """Which workers are alive.  A worker that dies is gone at once, even by kill -9.

    Safe to use from several threads.
    """

    def announce(self, worker: WorkerId) -> None:
        """Be alive as `worker` from now on."""
        ...

    def is_alive(self, worker: WorkerId) -> bool:
        """Say whether some process is alive as `worker`."""
        ...

    def withdraw(self, worker: WorkerId) -> None:
        """Be alive as `worker` no more.  Safe to call twice."""
        ...

    def tell(self, worker: WorkerId, note: Note) -> None:
        """Put `note` in the place of what `worker` has told before.

        It is seen as a whole or not at all, and is gone with the worker.  What a
        worker tells that this object has not announced is not heard.
        """
        ...

    def notes(self) -> Mapping[WorkerId, Note]:
        """Return the note of every worker, an empty one of those that told nothing.

        Cheap enough to be asked every few milliseconds, for it does not look who has
        died: a dead worker is among them until somebody asks whether it is alive.
        """
        ...
