"""The supervisor: makes what runs agree with what the log says should run.

A Pending deployment is an order that anybody may take: claim it with a lease, load
and check the model, record the outcome.  The same pass serves after a start, after a
crash and in between, for it looks at states and not at news.  A worker that has died
is known by its presence, so nobody waits for its lease to run out.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from arena_core.application import parity
from arena_core.application.handling import Change
from arena_core.application.importing import Importer
from arena_core.application.loading import Loaded, Runtimes, load
from arena_core.application.ports import (
    Context,
    Presence,
    Query,
    Row,
)
from arena_core.application.serving import Registry
from arena_core.application.session import Core
from arena_core.domain import deployment
from arena_core.domain.deployment import Deployment, Status, Verdict
from arena_core.domain.errors import (
    ArenaError,
    Conflict,
    Corrupt,
    NotFound,
    Rejected,
    Unavailable,
)
from arena_core.domain.ids import DeploymentId, WorkerId
from arena_core.domain.values import system

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
MOST_ATTEMPTS = 5
STOP_S = 0.1
"""How long a stop may have to wait for a thread that waits for the log."""
JOIN_AGAIN = timedelta(seconds=30)
"""How long a worker waits that could not load what another serves."""
BEGINNING = datetime.min.replace(tzinfo=UTC)
LOOK_AGAIN_S = 1.0
"""How often presences and leases are looked at while the log is quiet."""


class Supervisor:
    """Serves, in this process, what the log says is to be served."""

    def __init__(  # noqa: PLR0913 -- what it works with
        self,
        core: Core,
        registry: Registry,
        presence: Presence,
        runtimes: Runtimes,
        worker: WorkerId,
        *,
        importer: Importer,
    ) -> None:
        self.worker = worker
        self._importer = importer
        self._core = core
        self._registry = registry
        self._presence = presence
        self._runtimes = runtimes
        self._pass = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._join_again: dict[DeploymentId, datetime] = {}

    # --- life --------------------------------------------------------------------

    def start(self) -> None:
        """Announce this worker, and follow the log.  Twice is harmless.

        Loading has a thread of its own: a rotated key or a Disconnect that another
        process has recorded must not wait for a large model.  Importing has one too.
        """
        if self._threads:
            return
        self._presence.announce(self.worker)
        works = {
            "follower": self.follow,
            "loader": self.reconcile,
            "importer": self._importer.reconcile,
        }
        for name, work in works.items():
            thread = threading.Thread(
                target=self._again_and_again,
                args=(work,),
                name=f"arena-{name}",
                daemon=True,
            )
            self._threads.append(thread)
            thread.start()

    def stop(self, reason: str = "The process that served it was stopped.") -> None:
        """Cease to serve, and say so in the log.  Safe to call twice."""
        self._stopping.set()
        self._importer.stop()
        if not self._threads:
            return
        for thread in self._threads:
            thread.join()
        self._threads = []
        try:
            self._say_goodbye(reason)
        except ArenaError:
            # The next start finds out by the presence that this worker has gone.
            log.exception("The log does not say that this worker has stopped")
        finally:
            self._presence.withdraw(self.worker)
            self._registry.close()

    def _say_goodbye(self, reason: str) -> None:
        for row in self._deployments():
            if row.state.server == self.worker:
                self._lose(row, self.worker, reason)

    def _again_and_again(self, work: Callable[[], None]) -> None:
        """Do `work` now, whenever the log grows, and once in a while."""
        seen = -1
        while not self._stopping.is_set():
            try:
                work()
                seen = self._grown(seen)
            except ArenaError:
                log.exception("The supervisor could not look; it tries again.")
                self._stopping.wait(LOOK_AGAIN_S)
            except Exception:
                log.exception("The supervisor met a defect; it goes on.")
                self._stopping.wait(LOOK_AGAIN_S)

    def _grown(self, seen: int) -> int:
        """Return the head once it is beyond `seen`, or after a while."""
        deadline = time.monotonic() + LOOK_AGAIN_S
        head = seen
        while head <= seen and time.monotonic() < deadline:
            if self._stopping.is_set():
                break
            head = self._core.store.head(beyond=seen, timeout_s=STOP_S)
        return head

    # --- one pass ------------------------------------------------------------------

    def follow(self) -> None:
        """Serve, or cease to serve, as the log has it now.  Quick: loads nothing."""
        for row in self._deployments():
            self._registry.follow(row)

    def reconcile(self) -> None:
        """Look at every deployment once, and do what is outstanding."""
        with self._pass:
            for row in self._deployments():
                if self._stopping.is_set():
                    return
                self._attend(row)

    def _deployments(self) -> list[Row]:
        self._core.views.catch_up()
        query = Query(deployment.KIND, organisation=None, deleted=True)
        rows = list(self._core.views.rows.find(query))
        if self._core.views.halted is None:
            return rows
        # The read model has stopped: what is served must be true all the same.
        return [true for row in rows if (true := self._truth(row)) is not None]

    def _truth(self, row: Row) -> Row | None:
        """Return the row as the log has it; None, and nothing served, if unreadable.

        What cannot be read may be the rotation of a key, or a Disconnect.
        """
        try:
            return self._core.views.present(row.id)
        except Corrupt:
            log.exception("The log of deployment %s cannot be read", row.id)
            self._registry.release(DeploymentId(row.id))
            return None

    def _attend(self, row: Row) -> None:
        state: Deployment = row.state
        self._registry.follow(row)
        lost = self._lost_worker(state)
        if lost is not None:
            self._lose(row, lost, "The process that served it has ended.")
        elif deployment.react(state, self._core.clock()) is not None:
            self._start_serving(row)
        elif self._is_to_join(state):
            self._join(row)

    def _is_to_join(self, state: Deployment) -> bool:
        if state.status is not Status.DEPLOYED or self._registry.has(
            state.id, state.digest
        ):
            return False
        return self._core.clock() >= self._join_again.get(state.id, BEGINNING)

    def _lost_worker(self, state: Deployment) -> WorkerId | None:
        """Return the worker that holds the deployment and is not alive any more."""
        holder = state.server or (state.claim.worker if state.claim else None)
        if holder is None:
            return None
        if holder != self.worker:
            return None if self._presence.is_alive(holder) else holder
        # Passes are serialised, so a claim of our own is one that we gave up; and a
        # server without its model is one whose model was dropped.
        serves = state.server is not None and self._registry.has(state.id, state.digest)
        return None if serves else holder

    def _lose(self, row: Row, worker: WorkerId, reason: str) -> None:
        self._record(row, deployment.LoseConnection(worker, reason))

    def _join(self, row: Row) -> None:
        """Serve what another worker has put live already: nothing to record."""
        self._join_again[row.state.id] = self._core.clock() + JOIN_AGAIN
        try:
            loaded = self._load(row.state)
        except Exception:
            # Not even a defect may keep this worker from the other deployments.
            log.exception("This worker cannot serve %s", row.id)
            return
        if loaded.parity.verdict is Verdict.FAILED:
            log.error("This worker cannot serve %s: it answers otherwise", row.id)
            loaded.model.close()
            return
        self._registry.hold(row.state.id, row.state.digest, loaded.model)
        self._follow_latest(row)

    def _start_serving(self, row: Row) -> None:
        claim = deployment.ClaimConnect(self.worker, self._core.clock() + LEASE)
        claimed = self._record(row, claim)
        if claimed is None:
            return
        if claimed.attempt > MOST_ATTEMPTS:
            reason = f"Gave up: {MOST_ATTEMPTS} attempts to load it did not end."
            self._fail(row, claimed, reason)
            return
        try:
            loaded = self._load(claimed)
        except (Rejected, Corrupt, NotFound, Unavailable) as error:
            self._registry.release(claimed.id)
            self._fail(row, claimed, str(error))
            return
        self._finish(row, claimed, loaded)

    def _finish(self, row: Row, claimed: Deployment, loaded: Loaded) -> None:
        checked = deployment.RecordParity(self.worker, claimed.claims, loaded.parity)
        if loaded.parity.verdict is Verdict.FAILED:
            self._registry.release(claimed.id)
            loaded.model.close()
            self._fail(row, claimed, parity.sentence(loaded.parity), checked)
            return
        self._registry.hold(claimed.id, claimed.digest, loaded.model)
        done = deployment.ConfirmConnected(
            self.worker,
            claimed.claims,
            loaded.model.runtime,
            loaded.model.device,
            round(loaded.load_ms, 3),
        )
        if self._record(row, checked, done) is None:
            self._registry.release(claimed.id)

    def _fail(
        self, row: Row, claimed: Deployment, reason: str, *before: object
    ) -> None:
        why = deployment.FailConnect(self.worker, claimed.claims, reason)
        self._record(row, *before, why)

    def _load(self, state: Deployment) -> Loaded:
        held = self._registry.loaded(state.id, state.digest)
        return load(self._core.blobs, self._runtimes, state.digest, held)

    def _record(self, row: Row, *commands: object) -> Deployment | None:
        """Record the commands and serve accordingly; None if they come too late."""
        changes = [Change(deployment, row.id, command) for command in commands]
        command_id = self._core.new_id()
        context = Context(
            row.organisation, system("supervisor"), command_id, command_id
        )
        try:
            handled = self._core.handler.handle(context, *changes)
        except (Conflict, NotFound):
            log.info("Deployment %s has moved on meanwhile", row.id)
            return None
        self._follow_latest(row)
        state: Deployment = handled.states[row.id]
        return state

    def _follow_latest(self, row: Row) -> None:
        self._core.views.catch_up()
        self._registry.follow(self._truth(row))
