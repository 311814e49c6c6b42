"""Swapping in this process: other weights for what goes on answering.

One worker claims a swap; all load the new weights, so that none has to fall silent
when the log says that they answer.  The claimer waits for the others, for a while,
and then records the swap together with the agent's new checkpoint.  While something
bakes every worker looks at what it has seen itself, and the first that finds a limit
crossed brings the old weights back, which it still holds.
"""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from arena_core.application import parity
from arena_core.application.handling import Change
from arena_core.application.loading import Loaded
from arena_core.application.ports import Presence, Row
from arena_core.application.recording import Recording
from arena_core.application.serving import Registry
from arena_core.application.session import Core
from arena_core.domain import agent, deployment, swap_commands
from arena_core.domain.deployment import Bake, Deployment, StartSwap
from arena_core.domain.errors import Corrupt, NotFound, Rejected, Unavailable
from arena_core.domain.guards import Figures, crossed
from arena_core.domain.ids import DeploymentId, Digest, WorkerId
from arena_core.domain.parity import Verdict
from arena_core.domain.swap import Swap, SwapRequested

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
MOST_ATTEMPTS = 5
TRY_AGAIN = timedelta(seconds=30)
"""How long a worker waits that could not load what another has."""
PREPARE_S = 30.0
"""How long a swap waits for workers that load its weights still."""
LOOK_AGAIN_S = 0.05
BEGINNING = datetime.min.replace(tzinfo=UTC)


class Swapper:
    """Carries out swaps.  `attend` is called by one thread, `judge` by another."""

    def __init__(  # noqa: PLR0913 -- what it works with
        self,
        core: Core,
        registry: Registry,
        presence: Presence,
        recording: Recording,
        worker: WorkerId,
        *,
        load: Callable[[DeploymentId, Digest], Loaded],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._core = core
        self._registry = registry
        self._presence = presence
        self._recording = recording
        self._worker = worker
        self._load = load
        self._is_stopping = is_stopping
        self._try_again: dict[tuple[DeploymentId, Digest], datetime] = {}

    # --- loading -------------------------------------------------------------------

    def attend(self, row: Row) -> None:
        """Do what is outstanding for a deployment that answers here."""
        state: Deployment = row.state
        gone = self._lost_claimer(state)
        if gone is not None:
            why = "The process that was to swap it has ended, or met a defect."
            self._record(row, swap_commands.LoseSwap(gone, why))
        elif isinstance(deployment.react(state, self._core.clock()), StartSwap):
            self._swap(row)
        else:
            self._prepare(row)

    def _lost_claimer(self, state: Deployment) -> WorkerId | None:
        claim = None if state.swap is None else state.swap.claim
        if claim is None:
            return None
        # Passes are serialised, so a claim of our own is one that we gave up.
        gone = claim.worker == self._worker or not self._presence.is_alive(claim.worker)
        return claim.worker if gone else None

    def _swap(self, row: Row) -> None:
        lease_until = self._core.clock() + LEASE
        claimed = self._record(row, swap_commands.ClaimSwap(self._worker, lease_until))
        if claimed is None or claimed.swap is None:
            return
        if claimed.swap.attempt > MOST_ATTEMPTS:
            reason = f"Gave up: {MOST_ATTEMPTS} attempts to load it did not end."
            self._fail(row, claimed, reason)
            return
        digest = claimed.swap.digest
        try:
            loaded = self._load(claimed.id, digest)
        except (Rejected, Corrupt, NotFound, Unavailable) as error:
            self._registry.discard(claimed.id, digest)
            self._fail(row, claimed, str(error))
            return
        self._finish(row, claimed, claimed.swap, loaded)

    def _finish(
        self, row: Row, claimed: Deployment, order: Swap, loaded: Loaded
    ) -> None:
        checked = deployment.RecordParity(self._worker, claimed.claims, loaded.parity)
        if loaded.parity.verdict is Verdict.FAILED:
            self._registry.discard(claimed.id, order.digest)
            loaded.model.close()
            self._fail(row, claimed, parity.sentence(loaded.parity), checked)
            return
        self._registry.hold(claimed.id, order.digest, loaded.model)
        self._await_others(claimed.id, order.digest)
        done = swap_commands.ConfirmSwap(
            self._worker,
            claimed.claims,
            loaded.model.runtime,
            loaded.model.device,
            round(loaded.load_ms, 3),
        )
        replaced = agent.ReplaceCheckpoint(order.checkpoint, order.cause)
        of_agent = [replaced] if order.shadow is None else []
        self._record(row, checked, done, of_agent=of_agent)

    def _fail(
        self, row: Row, claimed: Deployment, reason: str, *before: object
    ) -> None:
        why = swap_commands.FailSwap(self._worker, claimed.claims, reason)
        self._record(row, *before, why)

    def _await_others(self, deployment_id: DeploymentId, digest: Digest) -> None:
        """Wait until all workers have the weights; load meanwhile what they wait for.

        One that is too late falls silent at the swap, and joins when it has them.
        """
        deadline = time.monotonic() + PREPARE_S
        agreement = self._core.agreement
        while not agreement.all_prepared(deployment_id, digest, LOOK_AGAIN_S):
            if self._is_stopping() or time.monotonic() >= deadline:
                log.warning("Not every worker has the weights %s yet", digest)
                return
            for row in self._recording.rows():
                if self._registry.live(str(row.id)) is not None:
                    self._prepare(row)

    def _prepare(self, row: Row) -> None:
        """Load what is needed beside the weights that answer: nothing to record."""
        state: Deployment = row.state
        for digest in state.digests:
            missing = not self._registry.has(state.id, digest)
            if missing and self._may_try(state, digest):
                self._hold(row, digest)

    def _may_try(self, state: Deployment, digest: Digest) -> bool:
        now = self._core.clock()
        if now < self._try_again.get((state.id, digest), BEGINNING):
            return False
        self._try_again[state.id, digest] = now + TRY_AGAIN
        return True

    def _hold(self, row: Row, digest: Digest) -> None:
        deployment_id = row.state.id
        try:
            loaded = self._load(deployment_id, digest)
        except Exception:
            # Not even a defect may keep this worker from the other deployments.
            log.exception("This worker cannot load %s for %s", digest, row.id)
            return
        if loaded.parity.verdict is Verdict.FAILED:
            log.error("This worker cannot serve %s: it answers otherwise", digest)
            loaded.model.close()
            return
        del self._try_again[deployment_id, digest]
        self._registry.hold(deployment_id, digest, loaded.model)
        self._recording.follow(row)

    # --- baking ----------------------------------------------------------------------

    def judge(self, row: Row) -> None:
        """Bring the old weights back if a limit is crossed, or end what has baked."""
        state: Deployment = row.state
        work = deployment.react(state, self._core.clock())
        if state.swap is None or not isinstance(work, Bake):
            return
        figures = self._figures(state)
        guard, before = state.swap.guard, state.swap.before
        limit = None if guard is None else crossed(guard, figures)
        if limit is not None and before is not None:
            back = swap_commands.RevertSwap(self._worker, work.digest, limit, figures)
            replaced = agent.RevertCheckpoint(before)
            self._record(row, back, of_agent=[replaced])
        elif self._core.clock() >= work.until and state.server == self._worker:
            self._record(row, swap_commands.EndBaking(self._worker, figures))

    def _figures(self, state: Deployment) -> Figures:
        """Return what this worker has seen of what bakes, since it holds both."""
        live = self._registry.live(str(state.id))
        if live is None or live.mirror is None or live.digest != state.digest:
            return Figures()
        return live.mirror.figures()

    # --- inside ----------------------------------------------------------------------

    def _record(
        self, row: Row, *commands: object, of_agent: Sequence[object] = ()
    ) -> Deployment | None:
        """Record them as caused by the order to swap; None if they come too late."""
        changes = [Change(deployment, row.id, command) for command in commands]
        agent_id = row.state.agent_id
        changes += [Change(agent, agent_id, command) for command in of_agent]
        order = self._recording.last(row, SwapRequested)
        return self._recording.change(row, changes, order)
