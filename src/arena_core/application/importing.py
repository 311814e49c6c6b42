"""The importer: converts what is to be imported, and records what came of it.

It stands to imports as the supervisor to deployments: a Pending import is an order
that anybody may take, and a pass looks at states and not at news.  What is converted
is never opened in this process: the converter has one of its own.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from arena_core.application import orders
from arena_core.application.conversion import Converter, Format, Options
from arena_core.application.handling import Change
from arena_core.application.keeping import keep
from arena_core.application.ports import Context, Presence, Query, Row
from arena_core.application.progress import Progress
from arena_core.application.session import Core
from arena_core.domain import checkpoint_import, experiment
from arena_core.domain.checkpoint_import import OPEN, Import
from arena_core.domain.errors import (
    ConcurrentWrite,
    Conflict,
    Corrupt,
    NotFound,
    Rejected,
    Unavailable,
)
from arena_core.domain.ids import OrganisationId, WorkerId
from arena_core.domain.values import one_of, system

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=15)
"""Longer than any conversion may take."""
MOST_ATTEMPTS = 5
TRY_AGAIN = timedelta(seconds=10)
"""How long an import waits, times its attempts, when something was not to be had."""
LOOK_AGAIN_S = 1.0
BEGINNING = datetime.min.replace(tzinfo=UTC)


class _StoppedError(Exception):
    """This process is to end."""


class _MovedOnError(Exception):
    """The import is not, or no longer, this worker's."""


class Importer:
    """Does, in this process, what the log says is to be imported."""

    kinds = frozenset({checkpoint_import.KIND})
    """Of what a change may leave something to be done."""

    def __init__(
        self,
        core: Core,
        presence: Presence,
        converter: Converter,
        worker: WorkerId,
        progress: Progress,
    ) -> None:
        self._core = core
        self._presence = presence
        self._convert = converter
        self._worker = worker
        self._progress = progress
        self._pass = threading.Lock()
        self._stopping = threading.Event()
        self._ended_up_to = 0
        self._not_before: dict[UUID, datetime] = {}

    def stop(self) -> None:
        """End what is being done; it is Pending again.  Safe to call twice."""
        self._stopping.set()

    def look_again_s(self) -> float:
        """Return how often claims and pauses are looked at while the log is quiet."""
        return LOOK_AGAIN_S

    def reconcile(self) -> None:
        """Look at every import that has not ended, and do what is outstanding.

        Organisations take turns, those that ask meanwhile too: the many orders of one
        must not keep the others waiting for hours.
        """
        attended: set[UUID] = set()
        turns: Counter[OrganisationId] = Counter()
        with self._pass:
            while not self._stopping.is_set():
                left = [row for row in self._open() if row.id not in attended]
                if not left:
                    return
                row = min(left, key=lambda row: turns[row.organisation])
                attended.add(row.id)
                turns[row.organisation] += 1
                self._attend(row)

    def _open(self) -> list[Row]:
        """Return the rows of what has not ended.

        What has ended never goes on: those before the first open one are not read
        again.
        """
        self._core.views.catch_up()
        if self._core.views.halted is not None:
            return []
        query = Query(
            checkpoint_import.KIND, organisation=None, after=self._ended_up_to
        )
        rows = self._core.views.rows.find(query)
        found = [row for row in rows if row.state.status in OPEN]
        if found:
            self._ended_up_to = found[0].created_position - 1
        elif rows:
            self._ended_up_to = rows[-1].created_position
        return found

    def _attend(self, row: Row) -> None:
        state: Import = row.state
        lost = self._lost_worker(state)
        if lost is not None:
            self._interrupt(row, lost, "The process that converted it has ended.")
        elif self._core.clock() < self._not_before.get(row.id, BEGINNING):
            return
        elif checkpoint_import.react(state, self._core.clock()) is not None:
            self._take_on(row)

    def _lost_worker(self, state: Import) -> WorkerId | None:
        """Return the worker that holds the import and does nothing for it any more."""
        if state.claim is None:
            return None
        holder = state.claim.worker
        # Passes are serialised, so a claim of our own is one that we gave up.
        is_at_work = holder != self._worker and self._presence.is_alive(holder)
        return None if is_at_work else holder

    def _take_on(self, row: Row) -> None:
        lease_until = self._core.clock() + LEASE
        claim = checkpoint_import.ClaimImport(self._worker, lease_until)
        claimed = self._record(row, claim)
        if claimed is None:
            return
        if claimed.attempts > MOST_ATTEMPTS:
            why = row.state.reason or "Its process ended each time."
            tries = f"{MOST_ATTEMPTS} attempts to convert it did not end."
            self._fail(row, claimed, f"Gave up: {tries} {why}")
            return
        try:
            self._carry_out(row, claimed)
        finally:
            self._progress.end(claimed.id)

    def _carry_out(self, row: Row, claimed: Import) -> None:
        try:
            self._finish(row, claimed)
        except _StoppedError:
            why = "The process that converted it was stopped."
            self._record(row, checkpoint_import.ReleaseImport(self._worker, why))
        except _MovedOnError:
            log.info("Import %s has moved on meanwhile", claimed.id)
        except (Unavailable, ConcurrentWrite) as error:
            self._not_before[row.id] = self._core.clock() + TRY_AGAIN * claimed.attempts
            self._interrupt(row, self._worker, str(error))
        except (Rejected, Conflict, NotFound, Corrupt) as error:
            self._fail(row, claimed, str(error))

    def _finish(self, row: Row, claimed: Import) -> None:
        """Make the checkpoint, and record it together with the success."""
        order, core = claimed.order, self._core
        report = self._reporting(claimed)
        with orders.scratch(core) as folder:
            bundle = self._converted(claimed, folder, report)
            report("checking the bundle")
            state = self._experiment(claimed)
            checkpoint = keep(core, bundle, order.step, state)
        report("recording it")
        succeeded = checkpoint_import.SucceedImport(
            self._worker, claimed.claims, checkpoint.digest
        )
        core.handler.handle(
            self._context(row),
            Change(checkpoint_import, row.id, succeeded),
            Change(experiment, claimed.experiment_id, checkpoint),
        )

    def _converted(
        self, claimed: Import, folder: Path, report: Callable[[str], None]
    ) -> Path:
        """Return the folder of the bundle, below `folder`."""
        report("laying out the files")
        self._experiment(claimed)
        orders.take_out(self._core.blobs, claimed.files.digest, folder / "order")
        of = one_of(Format, claimed.order.format, field="format")
        options = Options(claimed.order.algorithm, claimed.order.channels_last)
        self._convert(of, folder / "order", folder / "bundle", options, report)
        return folder / "bundle"

    def _reporting(self, claimed: Import) -> Callable[[str], None]:
        """Return what is told of the progress, and ends what is not wanted."""

        def report(what: str) -> None:
            self._progress.say(claimed.id, what, self._core.clock())
            if self._stopping.is_set():
                raise _StoppedError
            if not self._is_ours(claimed):
                raise _MovedOnError

        return report

    def _is_ours(self, claimed: Import) -> bool:
        self._core.views.catch_up()
        row = self._core.views.rows.get(claimed.id)
        return row is not None and row.state.claim == claimed.claim

    def _experiment(self, claimed: Import) -> experiment.Experiment:
        row = self._core.views.rows.get(claimed.experiment_id)
        if row is None or row.deleted:
            raise NotFound("The experiment was deleted before the import was done.")
        state: experiment.Experiment = row.state
        return state

    def _fail(self, row: Row, claimed: Import, reason: str) -> None:
        failed = checkpoint_import.FailImport(self._worker, claimed.claims, reason)
        self._record(row, failed)

    def _interrupt(self, row: Row, worker: WorkerId, reason: str) -> None:
        self._record(row, checkpoint_import.InterruptImport(worker, reason))

    def _record(self, row: Row, command: object) -> Import | None:
        """Record the command; None if it comes too late."""
        change = Change(checkpoint_import, row.id, command)
        try:
            handled = self._core.handler.handle(self._context(row), change)
        except (Conflict, NotFound):
            log.info("Import %s has moved on meanwhile", row.id)
            return None
        state: Import = handled.states[row.id]
        return state

    def _context(self, row: Row) -> Context:
        """Return on whose behalf it is done: whoever asked, by the hand of a policy."""
        asked, *_ = self._core.store.read(row.id, up_to=row.created_position)
        return Context(
            row.organisation,
            system("importer"),
            self._core.new_id(),
            asked.context.correlation_id,
            asked.event_id,
        )
