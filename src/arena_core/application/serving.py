"""What this process answers for, deployment by deployment.

The registry is a function of two things: the latest row of each deployment, and the
models that the supervisor has loaded.  Whoever learns of a newer row hands it in
(`follow`); an older one changes nothing.  The data plane reads one dictionary and
takes no lock.
"""

import logging
import threading
from collections.abc import Mapping

from attrs import field, frozen

from arena_core.application import inference
from arena_core.application.keys import DeploymentKeys
from arena_core.application.models import Model
from arena_core.application.ports import Row
from arena_core.domain.deployment import Deployment, Status
from arena_core.domain.ids import DeploymentId, Digest, OrganisationId, WorkerId

log = logging.getLogger(__name__)


@frozen
class Live:
    """A deployment that answers.  Replaced as a whole, never changed."""

    deployment_id: DeploymentId
    version: int
    """Of the deployment's stream, when this was made."""
    organisation: OrganisationId
    key: str = field(repr=False)
    authorization: str = field(repr=False)
    """The header of a request that bears the key."""
    model: Model
    status: bytes
    """The body of its `status` answer."""


class Registry:
    """Safe to use from several threads; what `live` returns is never stale."""

    def __init__(self, keys: DeploymentKeys, worker: WorkerId) -> None:
        self._keys = keys
        self._worker = worker
        self._live: dict[str, Live] = {}
        self._loaded: dict[DeploymentId, tuple[Digest, Model]] = {}
        self._versions: dict[DeploymentId, int] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

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
        loaded = self._loaded.get(deployment_id)
        return loaded[1] if loaded is not None and loaded[0] == digest else None

    def hold(self, deployment_id: DeploymentId, digest: Digest, model: Model) -> None:
        """Keep a loaded model until a row says that it is Deployed, or is not."""
        with self._lock:
            if self.loaded(deployment_id, digest) is not model:
                self._unload(deployment_id)
            self._loaded[deployment_id] = (digest, model)

    def follow(self, row: Row | None) -> None:
        """Serve, or cease to serve, as the deployment's latest row has it."""
        if row is None:
            return
        state: Deployment = row.state
        with self._lock:
            if row.version < self._versions.get(state.id, 0):
                return
            self._versions[state.id] = row.version
            if not self._is_live(state):
                self._live.pop(str(state.id), None)
                if not self._is_coming_back(state):
                    self._unload(state.id)
            elif self._answered_version(state.id) != row.version:
                self._live[str(state.id)] = self._answering(row)
                self._changed.notify_all()

    def release(self, deployment_id: DeploymentId) -> None:
        """Stop serving whatever the log says, and free the model."""
        with self._lock:
            self._live.pop(str(deployment_id), None)
            self._unload(deployment_id)

    def close(self) -> None:
        """Free all models.  Safe to call twice."""
        for deployment_id in list(self._loaded):
            self.release(deployment_id)

    def _is_live(self, state: Deployment) -> bool:
        deployed = state.status is Status.DEPLOYED and not state.deleted
        return deployed and self.has(state.id, state.digest)

    def _is_coming_back(self, state: Deployment) -> bool:
        """Say whether the model that is loaded may be wanted again in a moment."""
        pending = state.status is Status.PENDING and not state.deleted
        return pending and self.has(state.id, state.digest)

    def _answered_version(self, deployment_id: DeploymentId) -> int | None:
        live = self._live.get(str(deployment_id))
        return None if live is None else live.version

    def _answering(self, row: Row) -> Live:
        state: Deployment = row.state
        _, model = self._loaded[state.id]
        key = self._keys.issue(state.id, state.key_version)
        return Live(
            state.id,
            row.version,
            row.organisation,
            key,
            f"Bearer {key}",
            model,
            inference.status(
                model,
                deployment_id=str(state.id),
                instance_id=str(self._worker),
            ),
        )

    def _unload(self, deployment_id: DeploymentId) -> None:
        loaded = self._loaded.pop(deployment_id, None)
        if loaded is not None:
            loaded[1].close()
