"""The supervisor: makes what runs agree with what the log says should run.

A Pending deployment is an order that anybody may take: claim it with a lease, load
and check the model, record the outcome.  The same pass serves after a start, after a
crash and in between, for it looks at states and not at news.  A worker that has died
is known by its presence, so nobody waits for its lease to run out.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from arena_core.application import parity
from arena_core.application.loading import Loaded, Runtimes, load
from arena_core.application.log_watch import Alarm, LogWatch
from arena_core.application.ports import (
    Presence,
    Row,
)
from arena_core.application.probing import Prober
from arena_core.application.recording import Recording
from arena_core.application.serving import Registry
from arena_core.application.session import Core
from arena_core.application.swapping import Swapper
from arena_core.application.views import DECIDERS
from arena_core.domain import (
    checkpoint_import,
    deployment,
    experiment,
    pipeline,
    stage,
)
from arena_core.domain.deployment import Deployment, StartServing, Status
from arena_core.domain.errors import (
    ArenaError,
    Corrupt,
    NotFound,
    Rejected,
    Unavailable,
)
from arena_core.domain.ids import DeploymentId, Digest, WorkerId
from arena_core.domain.parity import Verdict

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
MOST_ATTEMPTS = 5
SERVED = frozenset({deployment.KIND})
FOLLOWED = frozenset(DECIDERS) - {
    checkpoint_import.KIND,
    experiment.KIND,
    pipeline.KIND,
    stage.KIND,
}
"""Changes that others may wait for until this worker has followed; training is none."""
JOIN_AGAIN = timedelta(seconds=30)
"""How long a worker waits that could not load what another serves."""
BEGINNING = datetime.min.replace(tzinfo=UTC)
LOOK_AGAIN_S = 1.0
"""How often presences and leases are looked at while the log is quiet."""


class Beside(Protocol):
    """Something else that a process does, whose passes look at states, not at news."""

    @property
    def kinds(self) -> frozenset[str]:
        """Of what a change may leave something to be done."""
        ...

    def reconcile(self) -> None:
        """Look at everything once, and do what is outstanding."""
        ...

    def stop(self) -> None:
        """End the present pass early.  Safe to call twice."""
        ...

    def look_again_s(self) -> float:
        """Return after how long to look again though the log is quiet."""
        ...


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
        beside: Mapping[str, Beside],
        prober: Prober | None = None,
    ) -> None:
        self.worker = worker
        self._beside = beside
        self._prober = prober
        self._core = core
        self._registry = registry
        self._presence = presence
        self._runtimes = runtimes
        self._pass = threading.Lock()
        self._stopping = threading.Event()
        self._has_ceased = threading.Event()
        """Whether it does not even follow any more."""
        self._threads: list[threading.Thread] = []
        self._watch = LogWatch(core.store, core.views)
        self._join_again: dict[DeploymentId, datetime] = {}
        self._recording = Recording(core, registry)
        self._swapper = Swapper(
            core,
            registry,
            presence,
            self._recording,
            worker,
            load=self._load,
            is_stopping=self._stopping.is_set,
        )

    # --- life --------------------------------------------------------------------

    def start(self) -> None:
        """Announce this worker, and follow the log.  Twice is harmless.

        Loading has a thread of its own: a rotated key or a Disconnect that another
        process has recorded must not wait for a large model.  So has whatever is done
        beside that.
        """
        if self._threads:
            return
        self._presence.announce(self.worker)
        self._work("follower", self.follow, FOLLOWED, over=self._has_ceased)
        self._run("watcher", self._watch.watch, self._has_ceased)
        self._work("loader", self.reconcile, SERVED)
        if self._prober is not None:
            self._work("prober", self._prober.probe, SERVED)
        for name, other in self._beside.items():
            self._work(name, other.reconcile, other.kinds, other.look_again_s)

    def _work(
        self,
        name: str,
        work: Callable[[], None],
        kinds: frozenset[str],
        pause_s: Callable[[], float] | None = None,
        *,
        over: threading.Event | None = None,
    ) -> None:
        alarm = self._watch.alarm(kinds)
        self._run(
            name,
            self._again_and_again,
            work,
            over or self._stopping,
            pause_s or _usual_pause,
            alarm,
        )

    def _run(self, name: str, target: Callable[..., None], *said: object) -> None:
        thread = threading.Thread(
            target=target, args=said, name=f"arena-{name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop(self, reason: str = "The process that served it was stopped.") -> None:
        """Cease to serve, and say so in the log.  Safe to call twice."""
        self._stopping.set()
        self._core.agreement.leave()
        for other in self._beside.values():
            other.stop()
        if not self._threads:
            return
        # The log is followed to the last: others wait for that, and a model that is
        # being loaded just now may take its time.
        self._watch.ring_all()
        follower_and_watcher, others = self._threads[:2], self._threads[2:]
        for thread in others:
            thread.join()
        self._has_ceased.set()
        self._watch.ring_all()
        for thread in follower_and_watcher:
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
        for row in self._recording.rows():
            state: Deployment = row.state
            if state.server != self.worker:
                continue
            heir = self._core.agreement.other_with(state.id, state.digest)
            if heir is None:
                self._lose(row, self.worker, reason)
            else:
                handed = deployment.TakeOver(heir, self.worker, reason)
                self._recording.record(row, handed)

    def _again_and_again(
        self,
        work: Callable[[], None],
        over: threading.Event,
        pause_s: Callable[[], float],
        alarm: Alarm,
    ) -> None:
        """Do `work` now, whenever something of it changes, and once in a while."""
        while not over.is_set():
            try:
                work()
                alarm.wait(pause_s())
            except ArenaError:
                log.exception("The supervisor could not look; it tries again.")
                over.wait(LOOK_AGAIN_S)
            except Exception:
                log.exception("The supervisor met a defect; it goes on.")
                over.wait(LOOK_AGAIN_S)
            # Before the look whether it is over, which rings after that was said.
            alarm.silence()

    # --- one pass ------------------------------------------------------------------

    def follow(self) -> None:
        """Serve, or cease to serve, as the log has it now.  Quick: loads nothing."""
        position = self._core.store.head()
        rows = self._recording.rows()
        for row in rows:
            self._registry.follow(row)
        self._core.agreement.followed(position)
        for row in rows:
            self._swapper.judge(row)
        self._registry.sweep()

    def reconcile(self) -> None:
        """Look at every deployment once, and do what is outstanding."""
        with self._pass:
            for row in self._recording.rows():
                if self._stopping.is_set():
                    return
                self._attend(row)

    def _attend(self, row: Row) -> None:
        state: Deployment = row.state
        self._registry.follow(row)
        lost = self._lost_worker(state)
        if lost is not None:
            self._succeed(row, lost)
        elif isinstance(deployment.react(state, self._core.clock()), StartServing):
            self._start_serving(row)
        elif self._is_to_join(state):
            self._join(row)
        elif self._registry.live(str(state.id)) is not None:
            self._swapper.attend(row)

    def _is_to_join(self, state: Deployment) -> bool:
        if state.status is not Status.DEPLOYED or self._registry.has(
            state.id, state.digest
        ):
            return False
        if self._prober is not None and self._prober.rests(state.id):
            return False
        return self._core.clock() >= self._join_again.get(state.id, BEGINNING)

    def _lost_worker(self, state: Deployment) -> WorkerId | None:
        """Return the worker that holds the deployment and is not alive any more."""
        holder = state.server or (state.claim.worker if state.claim else None)
        if holder is None:
            return None
        if holder != self.worker:
            return None if self._presence.is_alive(holder) else holder
        if self._prober is not None and self._prober.is_losing(state.id):
            return None
        # Passes are serialised, so a claim of our own is one that we gave up; and a
        # server without its model is one whose model was dropped.
        serves = state.server is not None and self._registry.has(state.id, state.digest)
        return None if serves else holder

    def _succeed(self, row: Row, lost: WorkerId) -> None:
        """Fill the place of a worker that is gone, without a gap where that can be."""
        why = "The process that served it has ended."
        # Were all workers unseen, for somebody has emptied their folder, each would
        # take it from the other for ever.
        self._presence.announce(self.worker)
        heir = self._heir(row.state, lost)
        if heir is None:
            self._lose(row, lost, why)
        else:
            self._recording.record(row, deployment.TakeOver(heir, lost, why))

    def _heir(self, state: Deployment, lost: WorkerId) -> WorkerId | None:
        """Return who can go on in place of `lost`: it need not be this worker.

        One that has just begun must not silence those that answer.
        """
        if state.server is None:
            return None
        if lost != self.worker and self._registry.live(str(state.id)) is not None:
            return self.worker
        return self._core.agreement.other_with(state.id, state.digest)

    def _lose(self, row: Row, worker: WorkerId, reason: str) -> None:
        self._recording.record(row, deployment.LoseConnection(worker, reason))

    def _join(self, row: Row) -> None:
        """Serve what another worker has put live already: nothing to record."""
        self._join_again[row.state.id] = self._core.clock() + JOIN_AGAIN
        try:
            loaded = self._load(row.state.id, row.state.digest)
        except Exception:
            # Not even a defect may keep this worker from the other deployments.
            log.exception("This worker cannot serve %s", row.id)
            return
        if loaded.parity.verdict is Verdict.FAILED:
            log.error("This worker cannot serve %s: it answers otherwise", row.id)
            loaded.model.close()
            return
        del self._join_again[row.state.id]
        self._registry.hold(row.state.id, row.state.digest, loaded.model)
        self._recording.follow(row)

    def _start_serving(self, row: Row) -> None:
        claim = deployment.ClaimConnect(self.worker, self._core.clock() + LEASE)
        claimed = self._carry_out(row, claim)
        if claimed is None:
            return
        if claimed.attempt > MOST_ATTEMPTS:
            reason = f"Gave up: {MOST_ATTEMPTS} attempts to load it did not end."
            self._fail(row, claimed, reason)
            return
        try:
            loaded = self._load(claimed.id, claimed.digest)
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
        if self._carry_out(row, checked, done) is None:
            self._registry.release(claimed.id)

    def _fail(
        self, row: Row, claimed: Deployment, reason: str, *before: object
    ) -> None:
        why = deployment.FailConnect(self.worker, claimed.claims, reason)
        self._carry_out(row, *before, why)

    def _carry_out(self, row: Row, *commands: object) -> Deployment | None:
        """Record them as caused by the order to connect; None if they come too late.

        That is so for whoever takes the order on after another has died, too.
        """
        order = self._recording.last(row, deployment.ConnectRequested)
        return self._recording.record(row, *commands, cause=order)

    def _load(self, deployment_id: DeploymentId, digest: Digest) -> Loaded:
        held = self._registry.loaded(deployment_id, digest)
        return load(self._core.blobs, self._runtimes, digest, held)


def _usual_pause() -> float:
    return LOOK_AGAIN_S
