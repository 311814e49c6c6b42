"""Which models this process has loaded, for which deployment, and for how long."""

import math

from attrs import define

from arena_core.application.models import Model
from arena_core.domain.ids import DeploymentId, Digest

LEAST_WARM_S = 60.0
"""Whatever is set: requests may still be in the hands of a model just replaced."""
LONGEST_PIN_S = 3600.0
"""After its time is over: so many swaps never leave ever more models loaded."""


@define
class _Held:
    model: Model
    until_s: float = math.inf
    """When it may be closed, by the clock of whoever asks."""
    pinned_until_s: float = -math.inf
    """Until when somebody has asked for it to stay nonetheless."""

    def is_over(self, now_s: float) -> bool:
        pinned_until_s = min(self.pinned_until_s, self.until_s + LONGEST_PIN_S)
        return max(self.until_s, pinned_until_s) <= now_s


class Holdings:
    """Models by deployment and digest.  Not safe to use from several threads.

    What is taken out is the caller's to close.
    """

    def __init__(self, keep_warm_s: float) -> None:
        self._warm_s = max(LEAST_WARM_S, keep_warm_s)
        self._held: dict[DeploymentId, dict[Digest, _Held]] = {}

    def get(self, deployment_id: DeploymentId, digest: Digest) -> Model | None:
        held = self._held.get(deployment_id, {}).get(digest)
        return None if held is None else held.model

    def put(
        self, deployment_id: DeploymentId, digest: Digest, model: Model
    ) -> list[Model]:
        """Keep a model; return another of the same weights whose place it takes."""
        of_deployment = self._held.setdefault(deployment_id, {})
        before = of_deployment.get(digest)
        of_deployment[digest] = _Held(model)
        return [] if before is None or before.model is model else [before.model]

    def need(
        self, deployment_id: DeploymentId, digests: tuple[Digest, ...], now_s: float
    ) -> None:
        """Let the time run of whatever is not among `digests`."""
        for digest, held in self._held.get(deployment_id, {}).items():
            if digest in digests:
                held.until_s = math.inf
            elif held.until_s == math.inf:
                held.until_s = now_s + self._warm_s

    def pin(
        self, deployment_id: DeploymentId, digest: Digest, model: Model, until_s: float
    ) -> bool:
        """Let `model` stay so long at least, needed or not; say whether it is here."""
        held = self._held.get(deployment_id, {}).get(digest)
        if held is None or held.model is not model:
            return False
        held.pinned_until_s = max(held.pinned_until_s, until_s)
        return True

    def take(
        self, deployment_id: DeploymentId, digest: Digest | None = None
    ) -> dict[Digest, Model]:
        """Take out the model of `digest`; None: all that the deployment has."""
        of_deployment = self._held.get(deployment_id, {})
        digests = list(of_deployment) if digest is None else [digest]
        taken = {d: of_deployment.pop(d).model for d in digests if d in of_deployment}
        if not of_deployment:
            self._held.pop(deployment_id, None)
        return taken

    def over(self, now_s: float) -> list[tuple[DeploymentId, Digest]]:
        """Return what has been warm for long enough."""
        return [
            (deployment_id, digest)
            for deployment_id, of_deployment in self._held.items()
            for digest, held in of_deployment.items()
            if held.is_over(now_s)
        ]

    def deployments(self) -> list[DeploymentId]:
        return list(self._held)
