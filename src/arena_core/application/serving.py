"""What this process answers for, deployment by deployment.

The registry is a function of two things: the latest row of each deployment, and the
models that the supervisor has loaded.  Whoever learns of a newer row hands it in
(`follow`); an older one changes nothing.  The data plane reads one dictionary and
takes no lock.
"""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from attrs import field, frozen

from arena_core.application import inference
from arena_core.application.agreement import Agreement
from arena_core.application.holding import LEAST_WARM_S, Holdings
from arena_core.application.keys import DeploymentKeys
from arena_core.application.mirroring import Mirror
from arena_core.application.models import Model
from arena_core.application.ports import Row
from arena_core.domain.deployment import Deployment, Status
from arena_core.domain.ids import (
    AgentId,
    DeploymentId,
    Digest,
    OrganisationId,
    WorkerId,
)


@frozen
class Live:
    """A deployment that answers.  Replaced as a whole, never changed."""

    deployment_id: DeploymentId
    version: int
    """Of the deployment's stream, when this was made."""
    position: int
    """In the log: of the deployment's newest event when this was made."""
    organisation: OrganisationId
    agent_id: AgentId
    digest: Digest
    key: str = field(repr=False)
    authorization: str = field(repr=False)
    """The header of a request that bears the key."""
    model: Model
    status: bytes
    """The body of its `status` answer."""
    mirror: Mirror | None = None
    """What compares these answers with those of other weights, if anything does."""


@frozen
class _Watch:
    """A mirror, and which weights it compares, since when."""

    subject: tuple[Digest, Digest, datetime]
    mirror: Mirror


@frozen
class _Ended:
    """What nobody uses any more.  Closing takes a moment, so no lock is held."""

    mirrors: list[Mirror] = field(factory=list)
    models: list[Model] = field(factory=list)

    def close(self) -> None:
        for mirror in self.mirrors:
            mirror.close()
        for model in self.models:
            model.close()


class Registry:
    """Safe to use from several threads; what `live` returns is never stale.

    Models that were replaced by a swap stay loaded for a while: see `Holdings`.
    """

    def __init__(
        self,
        keys: DeploymentKeys,
        worker: WorkerId,
        *,
        agreement: Agreement | None = None,
        keep_warm_s: float = LEAST_WARM_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`agreement`: where others are told which models are loaded here."""
        self._keys = keys
        self._worker = worker
        self._agreement = agreement or Agreement.alone()
        self._monotonic = monotonic
        self._live: dict[str, Live] = {}
        self._held = Holdings(keep_warm_s)
        self._watches: dict[DeploymentId, _Watch] = {}
        self._rows: dict[DeploymentId, Row] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    # --- asking --------------------------------------------------------------------

    def live(self, deployment_id: str) -> Live | None:
        """Return what answers for a deployment here, if anything does."""
        return self._live.get(deployment_id)

    def wait_for(self, deployment_id: str, timeout_s: float) -> bool:
        """Wait until this process answers for a deployment; say whether it does."""
        with self._changed:
            return self._changed.wait_for(
                lambda: deployment_id in self._live, timeout_s
            )

    def all_live(self) -> Mapping[str, Live]:
        return self._live

    def has(self, deployment_id: DeploymentId, digest: Digest) -> bool:
        """Say whether a model of these weights is loaded for the deployment."""
        return self.loaded(deployment_id, digest) is not None

    def loaded(self, deployment_id: DeploymentId, digest: Digest) -> Model | None:
        """Return the model of these weights that is loaded for the deployment."""
        return self._held.get(deployment_id, digest)

    # --- being told ------------------------------------------------------------------

    def hold(self, deployment_id: DeploymentId, digest: Digest, model: Model) -> None:
        """Keep a loaded model until a row says that it is not wanted.

        It answers when this returns, if that is what the latest row wants.
        """
        with self._lock:
            ended = _Ended(models=self._held.put(deployment_id, digest, model))
            if (row := self._rows.get(deployment_id)) is not None:
                self._follow(row, ended)
            if self.has(deployment_id, digest):
                self._agreement.prepared(deployment_id, digest)
        ended.close()

    def follow(self, row: Row | None) -> None:
        """Serve, or cease to serve, as the deployment's latest row has it."""
        if row is None:
            return
        ended = _Ended()
        with self._lock:
            latest = self._rows.get(row.state.id)
            if latest is not None and row.version < latest.version:
                return
            self._rows[row.state.id] = row
            self._follow(row, ended)
        ended.close()

    def release(self, deployment_id: DeploymentId) -> None:
        """Stop serving whatever the log says, and free all models of it."""
        ended = _Ended()
        with self._lock:
            self._stop(deployment_id, ended)
        ended.close()

    def discard(self, deployment_id: DeploymentId, digest: Digest) -> None:
        """Free the model of weights that do not answer as they should."""
        ended = _Ended()
        with self._lock:
            self._unwatch(deployment_id, ended)
            self._unload(deployment_id, digest, ended)
        ended.close()

    def drop(self, deployment_id: DeploymentId, model: Model) -> bool:
        """Stop serving `model` and free it, if it is what answers now; say whether."""
        ended = _Ended()
        with self._lock:
            live = self._live.get(str(deployment_id))
            if live is None or live.model is not model:
                return False
            del self._live[str(deployment_id)]
            self._unwatch(deployment_id, ended)
            self._unload(deployment_id, live.digest, ended)
        ended.close()
        return True

    def pin(self, live: Live, for_s: float) -> bool:
        """Keep the model of `live` loaded for so long; say whether it still is.

        Swaps leave it alone then; whatever ends the deployment, or finds that the
        model does not answer as it should, does not.
        """
        until_s = self._monotonic() + for_s
        with self._lock:
            return self._held.pin(live.deployment_id, live.digest, live.model, until_s)

    def sweep(self) -> None:
        """Free what has been out of service for long enough."""
        ended = _Ended()
        with self._lock:
            for deployment_id, digest in self._held.over(self._monotonic()):
                self._unload(deployment_id, digest, ended)
        ended.close()

    def close(self) -> None:
        """Free all models.  Safe to call twice."""
        for deployment_id in self._held.deployments():
            self.release(deployment_id)

    # --- inside, under the lock ------------------------------------------------------

    def _follow(self, row: Row, ended: _Ended) -> None:
        state: Deployment = row.state
        if self._is_live(state):
            self._answer(row, ended)
        else:
            self._live.pop(str(state.id), None)
            if not self._is_coming_back(state):
                self._stop(state.id, ended)
                return
            self._unwatch(state.id, ended)
        self._held.need(state.id, state.digests, self._monotonic())

    def _answer(self, row: Row, ended: _Ended) -> None:
        state: Deployment = row.state
        mirror = self._mirror(state, ended)
        live = self._live.get(str(state.id))
        if live is None or (live.version, live.mirror) != (row.version, mirror):
            self._live[str(state.id)] = self._answering(row, mirror)
            self._changed.notify_all()

    def _mirror(self, state: Deployment, ended: _Ended) -> Mirror | None:
        """Return what compares, while something bakes and both models are loaded."""
        subject = _subject(state)
        watch = self._watches.get(state.id)
        if watch is not None and watch.subject == subject:
            return watch.mirror
        self._unwatch(state.id, ended)
        if subject is None:
            return None
        served, other = (self.loaded(state.id, digest) for digest in subject[:2])
        if served is None or other is None:
            return None
        guard = None if state.swap is None else state.swap.guard
        mirror = Mirror(other, served, slow_ms=None if guard is None else guard.p99_ms)
        self._watches[state.id] = _Watch(subject, mirror)
        return mirror

    def _is_live(self, state: Deployment) -> bool:
        deployed = state.status is Status.DEPLOYED and not state.deleted
        return deployed and self.has(state.id, state.digest)

    def _is_coming_back(self, state: Deployment) -> bool:
        """Say whether the models that are loaded may be wanted again in a moment."""
        waits = state.status in {Status.PENDING, Status.DEPLOYED}
        return waits and not state.deleted

    def _answering(self, row: Row, mirror: Mirror | None) -> Live:
        state: Deployment = row.state
        model = self.loaded(state.id, state.digest)
        assert model is not None  # noqa: S101 -- `_is_live`
        key = self._keys.issue(state.id, state.key_version)
        return Live(
            state.id,
            row.version,
            row.position,
            row.organisation,
            state.agent_id,
            state.digest,
            key,
            f"Bearer {key}",
            model,
            inference.status(
                model,
                deployment_id=str(state.id),
                instance_id=str(self._worker),
            ),
            mirror,
        )

    def _stop(self, deployment_id: DeploymentId, ended: _Ended) -> None:
        self._live.pop(str(deployment_id), None)
        self._unwatch(deployment_id, ended)
        self._unload(deployment_id, None, ended)

    def _unwatch(self, deployment_id: DeploymentId, ended: _Ended) -> None:
        watch = self._watches.pop(deployment_id, None)
        if watch is not None:
            ended.mirrors.append(watch.mirror)

    def _unload(
        self, deployment_id: DeploymentId, digest: Digest | None, ended: _Ended
    ) -> None:
        for taken, model in self._held.take(deployment_id, digest).items():
            self._agreement.dropped(deployment_id, taken)
            ended.models.append(model)


def _subject(state: Deployment) -> tuple[Digest, Digest, datetime] | None:
    """Return the weights that answer, those beside them, and until when they bake."""
    swap = state.swap
    if swap is None or swap.until is None or swap.beside is None:
        return None
    return state.digest, swap.beside, swap.until
