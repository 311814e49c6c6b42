"""Import: an order to make a checkpoint of what other training code has saved.

Pending --claimed by a worker--> Running --> Succeeded or Failed.  Running goes back
to Pending when the worker is lost, which counts as an attempt, or is stopped, which
does not; Cancel ends what has not ended yet.

The log is the outbox, as it is for deployments: a Pending import is work that is
outstanding (`react`).  Success is recorded together with the checkpoint itself.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain.errors import (
    AlreadyExists,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.ids import Digest, ExperimentId, ImportId, WorkerId
from arena_core.domain.values import Claim, Scores, natural, said, sha256, trimmed

KIND = "import"


class Status(Enum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


OPEN = (Status.PENDING, Status.RUNNING)


def _format(name: str) -> str:
    return trimmed(name, field="format")


def _algorithm(name: str | None) -> str | None:
    return None if name is None else trimmed(name, field="algorithm")


@frozen
class Files:
    """What was handed in, as the blob store keeps it."""

    digest: Digest = field(validator=sha256)
    size_bytes: int = field(validator=natural)
    """Of all files together."""


@frozen
class Order:
    """What is to become of it, as it was declared."""

    format: str = field(converter=_format)
    """Such as `sb3`: a word of its time, for one that is not read any more must not
    make history unreadable."""
    step: int = field(validator=natural)
    algorithm: str | None = field(default=None, converter=_algorithm)
    """None: as the files say."""
    channels_last: bool = False
    scores: Scores = field(factory=Scores)
    """What the metrics at the step will say once it has succeeded."""


@frozen
class RequestImport:
    import_id: ImportId
    experiment_id: ExperimentId
    files: Files
    order: Order


@frozen
class ClaimImport:
    worker: WorkerId
    lease_until: datetime


@frozen
class SucceedImport:
    worker: WorkerId
    claim: int
    digest: Digest = field(validator=sha256)


@frozen
class FailImport:
    worker: WorkerId
    claim: int
    reason: str = field(validator=said)


@frozen
class InterruptImport:
    """What `worker` was doing for it is lost.  No news of another worker's."""

    worker: WorkerId
    reason: str = field(validator=said)


@frozen
class ReleaseImport:
    """`worker` gives it back undone, for it is about to end: that is no attempt."""

    worker: WorkerId
    reason: str = field(validator=said)


@frozen
class CancelImport:
    pass


Command: TypeAlias = (
    RequestImport
    | ClaimImport
    | SucceedImport
    | FailImport
    | InterruptImport
    | ReleaseImport
    | CancelImport
)


@frozen
class ImportRequested:
    import_id: ImportId
    experiment_id: ExperimentId
    files: Files
    order: Order


@frozen
class ImportClaimed:
    worker: WorkerId
    lease_until: datetime
    claim: int


@frozen
class ImportSucceeded:
    worker: WorkerId
    digest: Digest = field(validator=sha256)


@frozen
class ImportFailed:
    worker: WorkerId
    reason: str


@frozen
class ImportInterrupted:
    worker: WorkerId
    reason: str


@frozen
class ImportReleased:
    worker: WorkerId
    reason: str


@frozen
class ImportCancelled:
    pass


Event: TypeAlias = (
    ImportRequested
    | ImportClaimed
    | ImportSucceeded
    | ImportFailed
    | ImportInterrupted
    | ImportReleased
    | ImportCancelled
)


@frozen
class Import:
    id: ImportId
    experiment_id: ExperimentId
    files: Files
    order: Order
    status: Status = Status.PENDING
    reason: str | None = None
    """Why it failed, or why it is Pending again."""
    digest: Digest | None = None
    """Of the bundle that came of it."""
    claim: Claim | None = None
    claims: int = 0
    """How many claims there have ever been."""
    attempts: int = 0
    """How many of them were not given back."""
    deleted: bool = False
    """Never: what was handed in, and what came of it, stays known."""


@frozen
class ConvertOrder:
    """Convert what was handed in, and record what comes of it."""

    import_id: ImportId
    files: Files
    order: Order


def react(state: Import, now: datetime) -> ConvertOrder | None:
    """Return the work that is outstanding and that nobody holds a lease on."""
    if state.status not in OPEN:
        return None
    if state.claim is not None and now < state.claim.lease_until:
        return None
    return ConvertOrder(state.id, state.files, state.order)


def decide(command: Command, state: Import | None, now: datetime) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    match command, state:
        case RequestImport(), None:
            return [
                ImportRequested(
                    command.import_id,
                    command.experiment_id,
                    command.files,
                    command.order,
                )
            ]
        case RequestImport(), Import():
            raise AlreadyExists("This import exists already.")
        case _, None:
            raise NotFound("There is no such import.")
        case ClaimImport(), Import():
            return _claim(state, command, now)
        case SucceedImport(), Import():
            _check_claim(state, command.worker, command.claim)
            return [ImportSucceeded(command.worker, command.digest)]
        case FailImport(), Import():
            _check_claim(state, command.worker, command.claim)
            return [ImportFailed(command.worker, command.reason)]
        case InterruptImport(), Import():
            if state.claim is None or state.claim.worker != command.worker:
                return []
            return [ImportInterrupted(command.worker, command.reason)]
        case ReleaseImport(), Import():
            if state.claim is None or state.claim.worker != command.worker:
                return []
            return [ImportReleased(command.worker, command.reason)]
        case CancelImport(), Import(status=Status.CANCELLED):
            return []
        case CancelImport(), Import() if state.status in OPEN:
            return [ImportCancelled()]
        case CancelImport(), Import():
            raise IllegalTransition(
                f"The import has ended already, it is {state.status.value}: only one "
                "that is Pending or Running can be cancelled."
            )
        case _:
            assert_never(command)  # type: ignore[arg-type]  # mypy narrows no tuples


def _claim(state: Import, command: ClaimImport, now: datetime) -> Sequence[Event]:
    if react(state, now) is None:
        raise IllegalTransition("Nothing to claim: it has ended, or it is claimed.")
    if command.lease_until <= now:
        raise Rejected("A lease must end in the future.", field="lease_until")
    return [ImportClaimed(command.worker, command.lease_until, state.claims + 1)]


def _check_claim(state: Import, worker: WorkerId, number: int) -> None:
    held = state.claim
    if held is None or (held.worker, held.number) != (worker, number):
        raise IllegalTransition("The claim on this import is not, or no longer, yours.")


def evolve(state: Import | None, event: Event) -> Import:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, ImportRequested):
        return Import(event.import_id, event.experiment_id, event.files, event.order)
    assert state is not None, f"{event!r} before ImportRequested"
    match event:
        case ImportClaimed():
            claim = Claim(event.worker, event.lease_until, event.claim)
            running = _unclaimed(state, Status.RUNNING, None)
            attempts = state.attempts + 1
            return replace(running, claim=claim, claims=event.claim, attempts=attempts)
        case ImportSucceeded():
            done = _unclaimed(state, Status.SUCCEEDED, None)
            return replace(done, digest=event.digest)
        case ImportFailed():
            return _unclaimed(state, Status.FAILED, event.reason)
        case ImportInterrupted():
            return _unclaimed(state, Status.PENDING, event.reason)
        case ImportReleased():
            released = _unclaimed(state, Status.PENDING, event.reason)
            return replace(released, attempts=max(0, state.attempts - 1))
        case ImportCancelled():
            return _unclaimed(state, Status.CANCELLED, None)
        case _:
            assert_never(event)


def _unclaimed(state: Import, status: Status, reason: str | None) -> Import:
    return replace(state, status=status, reason=reason, claim=None)
