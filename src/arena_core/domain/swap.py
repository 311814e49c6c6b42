"""Swap: other weights for a deployment that goes on answering.

Requested --claimed by a worker--> swapped, or failed and the old ones go on.
A guard makes it bake: for a time the new weights are watched beside the old ones,
which come back if a limit is crossed.  A shadow only compares: nothing is replaced.

These are its words and its events; what may follow what is in `swap_rules`.
"""

from datetime import datetime
from enum import Enum
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain.agent import Cause, Frozen
from arena_core.domain.errors import Rejected
from arena_core.domain.guards import LONGEST_BAKE_S, Figures, Guard, Limit
from arena_core.domain.ids import Digest, WorkerId
from arena_core.domain.parity import Parity
from arena_core.domain.values import Claim, finite, sha256


class Mode(Enum):
    PLAIN = "plain"
    GUARDED = "guarded"
    SHADOW = "shadow"


class Phase(Enum):
    """Loading: the old weights answer still.  Baking: see `Mode`."""

    LOADING = "loading"
    BAKING = "baking"


class Outcome(Enum):
    """How a swap has ended."""

    SWAPPED = "swapped"
    PASSED = "passed"
    REVERTED = "reverted"
    COMPARED = "compared"
    STOPPED = "stopped"
    FAILED = "failed"


@frozen
class Shadow:
    """For how long weights are asked beside those that answer."""

    bake_s: float

    def __attrs_post_init__(self) -> None:
        if not 0 < self.bake_s <= LONGEST_BAKE_S:
            raise Rejected(
                "The bake_s must be greater than 0 and at most "
                f"{LONGEST_BAKE_S:.0f}, which is a week.",
                field="bake_s",
            )


@frozen
class Swap:
    """A swap that has not ended."""

    checkpoint: Frozen
    cause: Cause
    guard: Guard | None = None
    shadow: Shadow | None = None
    claim: Claim | None = None
    attempt: int = 0
    """How many claims it has seen."""
    parity: Parity | None = None
    """Of what is loaded beside the weights that answer."""
    before: Digest | None = None
    """What answered before, while a guard makes it bake."""
    until: datetime | None = None
    """When baking ends; None until it begins."""

    @property
    def digest(self) -> Digest:
        return self.checkpoint.digest

    @property
    def mode(self) -> Mode:
        if self.shadow is not None:
            return Mode.SHADOW
        return Mode.PLAIN if self.guard is None else Mode.GUARDED

    @property
    def phase(self) -> Phase:
        return Phase.LOADING if self.until is None else Phase.BAKING

    @property
    def beside(self) -> Digest | None:
        """What is loaded beside the weights that answer."""
        return self.digest if self.before is None else self.before


@frozen
class Ended:
    """How the last swap of a deployment has ended, and what was seen of it."""

    digest: Digest
    outcome: Outcome
    reason: str | None = None
    limit: Limit | None = None
    figures: Figures | None = None


# --- events ------------------------------------------------------------------------


@frozen
class SwapRequested:
    checkpoint: Frozen
    cause: Cause
    guard: Guard | None
    shadow: Shadow | None


@frozen
class SwapClaimed:
    worker: WorkerId
    lease_until: datetime
    claim: int
    attempt: int


@frozen
class SwapInterrupted:
    worker: WorkerId
    reason: str


@frozen
class SwapFailed:
    worker: WorkerId
    digest: Digest = field(validator=sha256)
    reason: str


@frozen
class CheckpointSwapped:
    worker: WorkerId
    before: Digest = field(validator=sha256)
    digest: Digest = field(validator=sha256)
    runtime: str
    device: str
    load_ms: float = field(validator=finite)
    baking_until: datetime | None
    """None: it has no guard, so that nothing can bring the old ones back by itself."""


@frozen
class SwapPassed:
    worker: WorkerId
    digest: Digest = field(validator=sha256)
    figures: Figures


@frozen
class SwapReverted:
    worker: WorkerId
    before: Digest = field(validator=sha256)
    """What crossed the limit."""
    digest: Digest = field(validator=sha256)
    """What answers again."""
    limit: Limit
    figures: Figures


@frozen
class ShadowStarted:
    worker: WorkerId
    digest: Digest = field(validator=sha256)
    runtime: str
    device: str
    load_ms: float = field(validator=finite)
    baking_until: datetime


@frozen
class ShadowCompared:
    worker: WorkerId
    digest: Digest = field(validator=sha256)
    figures: Figures


@frozen
class BakingStopped:
    """By somebody's order, before its time was over."""

    digest: Digest = field(validator=sha256)


Event: TypeAlias = (
    SwapRequested
    | SwapClaimed
    | SwapInterrupted
    | SwapFailed
    | CheckpointSwapped
    | SwapPassed
    | SwapReverted
    | ShadowStarted
    | ShadowCompared
    | BakingStopped
)
