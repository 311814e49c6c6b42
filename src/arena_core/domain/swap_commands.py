"""What can be asked of a swap, and what whoever carries it out has to say."""

from datetime import datetime
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain.agent import Cause, Frozen
from arena_core.domain.errors import Rejected
from arena_core.domain.guards import Figures, Guard, Limit
from arena_core.domain.ids import Digest, WorkerId
from arena_core.domain.swap import Shadow
from arena_core.domain.values import finite, said, sha256


@frozen
class RequestSwap:
    checkpoint: Frozen
    cause: Cause
    guard: Guard | None = None
    shadow: Shadow | None = None

    def __attrs_post_init__(self) -> None:
        if self.guard is not None and self.shadow is not None:
            raise Rejected(
                "A shadow replaces nothing that a guard could bring back: give one "
                "of guard and shadow.",
                field="shadow",
            )


@frozen
class ClaimSwap:
    worker: WorkerId
    lease_until: datetime


@frozen
class ConfirmSwap:
    """The new weights are ready: they answer from now on, or bake as a shadow."""

    worker: WorkerId
    claim: int
    runtime: str
    device: str
    load_ms: float = field(validator=finite)


@frozen
class FailSwap:
    worker: WorkerId
    claim: int
    reason: str = field(validator=said)


@frozen
class LoseSwap:
    """Whoever had claimed it is gone, or has given up.  No news of another's claim."""

    worker: WorkerId
    reason: str = field(validator=said)


@frozen
class EndBaking:
    worker: WorkerId
    figures: Figures


@frozen
class RevertSwap:
    """A limit of the guard is crossed: what answered before comes back."""

    worker: WorkerId
    digest: Digest = field(validator=sha256)
    """What crossed it."""
    limit: Limit
    figures: Figures


Command: TypeAlias = (
    RequestSwap | ClaimSwap | ConfirmSwap | FailSwap | LoseSwap | EndBaking | RevertSwap
)
