"""The supervisor: makes what runs agree with what the log says should run.

A Pending deployment is an order that anybody may take: claim it with a lease, load
and check the model, record the outcome.  The same pass serves after a start, after a
crash and in between, for it looks at states and not at news.  A worker that has died
is known by its presence, so nobody waits for its lease to run out.
"""

import logging
import threading
import time
from datetime import timedelta

from attrs import frozen

from arena_core.application import golden, parity
from arena_core.application.bundles import GOLDEN_FILE, MANIFEST_FILE, manifest
from arena_core.application.handling import Change
from arena_core.application.inference import Model
from arena_core.application.ports import (
    Context,
    Presence,
    Query,
    Row,
    RuntimeLoader,
)
from arena_core.application.serving import Registry
from arena_core.application.session import Core
from arena_core.domain import deployment
from arena_core.domain.deployment import Deployment, Parity, Status, Verdict
from arena_core.domain.errors import (
    ArenaError,
    Conflict,
    Corrupt,
    NotFound,
    Rejected,
    Unavailable,
)
from arena_core.domain.ids import WorkerId
from arena_core.domain.values import system

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
MOST_ATTEMPTS = 5
LOOK_AGAIN_S = 1.0
"""How often presences and leases are looked at while the log is quiet."""


@frozen
class Loaded:
    model: Model
    parity: Parity
    load_ms: float


class Supervisor:
    """Serves, in this process, what the log says is to be served."""

    def __init__(
        self,
        core: Core,
        registry: Registry,
        presence: Presence,
        loader: RuntimeLoader,
        worker: WorkerId,
    ) -> None:
        self.worker = worker
        self._core = core
        self._registry = registry
        self._presence = presence
        self._load_runtime = loader
        self._pass = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # --- life --------------------------------------------------------------------

    def start(self) -> None:
        """Announce this worker and follow the log in a thread.  Twice is harmless."""
        if self._thread is not None:
            return
        self._presence.announce(self.worker)
        self._thread = threading.Thread(
            target=self._follow, name="arena-supervisor", daemon=True
        )
        self._thread.start()

    def stop(self, reason: str = "The process that served it was stopped.") -> None:
        """Cease to serve, and say so in the log.  Safe to call twice."""
        self._stopping.set()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        for row in self._deployments():
            if row.state.server == self.worker:
                self._lose(row, self.worker, reason)
        self._presence.withdraw(self.worker)
        self._registry.close()

    def _follow(self) -> None:
        seen = -1
        while not self._stopping.is_set():
            try:
                self.reconcile()
                seen = self._core.store.head(beyond=seen, timeout_s=LOOK_AGAIN_S)
            except ArenaError:
                log.exception("The supervisor could not look; it tries again.")
                self._stopping.wait(LOOK_AGAIN_S)
            except Exception:
                log.exception("The supervisor met a defect; it goes on.")
                self._stopping.wait(LOOK_AGAIN_S)

    # --- one pass ------------------------------------------------------------------

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
        return list(self._core.views.rows.find(query))

    def _attend(self, row: Row) -> None:
        state: Deployment = row.state
        self._registry.follow(row)
        lost = self._lost_worker(state)
        if lost is not None:
            self._lose(row, lost, "The process that served it has ended.")
        elif deployment.react(state, self._core.clock()) is not None:
            self._start_serving(row)
        elif state.status is Status.DEPLOYED and not self._registry.has(
            state.id, state.digest
        ):
            self._join(row)

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
            self._fail(row, claimed, str(error))
            return
        self._finish(row, claimed, loaded)

    def _finish(self, row: Row, claimed: Deployment, loaded: Loaded) -> None:
        checked = deployment.RecordParity(self.worker, claimed.claims, loaded.parity)
        if loaded.parity.verdict is Verdict.FAILED:
            loaded.model.close()
            self._fail(row, claimed, parity.sentence(loaded.parity), checked)
            return
        runtime = loaded.model.runtime
        self._registry.hold(claimed.id, claimed.digest, loaded.model)
        done = deployment.ConfirmConnected(
            self.worker,
            claimed.claims,
            runtime.name,
            runtime.device,
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
        begun = time.perf_counter()
        blobs, digest = self._core.blobs, state.digest
        has_golden = GOLDEN_FILE in blobs.sizes(digest)
        described = manifest(blobs.read(digest, MANIFEST_FILE), golden=has_golden)
        weights = blobs.read(digest, described.weights)
        model = Model.of(described, self._load_runtime(described, weights))
        try:
            trace = golden.read(blobs.read(digest, GOLDEN_FILE)) if has_golden else None
            verdict = parity.check(model, trace)
        except BaseException:
            model.close()
            raise
        return Loaded(model, verdict, (time.perf_counter() - begun) * 1000)

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
        self._registry.follow(self._core.views.rows.get(row.id))
