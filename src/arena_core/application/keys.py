"""Deployment keys: derived from the master secret, never stored.

key = HMAC-SHA-256(master, "arena-dep/1" || deployment id || key version).  To check
one is to make it again and compare; to rotate it is to record a new version.
"""

import hashlib
import hmac

from attrs import field, frozen

from arena_core.application.secrets import sealed
from arena_core.domain.ids import DeploymentId

PREFIX = "arena_dep_"


@frozen
class MasterSecret:
    """What all keys of ours are derived from.  It is never used itself."""

    _secret: bytes = field(repr=False)

    def key(self, purpose: str) -> bytes:
        """Return 32 bytes that only serve `purpose`, and tell nothing of the others."""
        return hmac.digest(self._secret, b"arena-key/1" + purpose.encode(), "sha256")


@frozen
class DeploymentKeys:
    _master: bytes = field(repr=False)

    def issue(self, deployment_id: DeploymentId, version: int) -> str:
        """Return the key of a deployment at a key version."""
        message = b"arena-dep/1" + deployment_id.bytes + version.to_bytes(8)
        mac = hmac.digest(self._master, message, hashlib.sha256)
        return sealed(f"{PREFIX}{deployment_id.hex}_{version}", mac)
