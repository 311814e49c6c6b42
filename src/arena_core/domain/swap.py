"""Swap: other weights for a deployment that goes on answering.

Requested --claimed by a worker--> swapped, or failed and the old ones go on.
A guard makes it bake: for a time the new weights are watched beside the old ones,
which come back if a limit is crossed.  A shadow only compares: nothing is replaced.

The functions return what `deployment.decide` decides about swaps.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeAlias

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain.agent import Cause, Frozen
from arena_core.domain.errors import IllegalTransition, Rejected
from arena_core.domain.guards import LONGEST_BAKE_S, Figures, Guard, Limit
from arena_core.domain.ids import Digest, WorkerId
from arena_core.domain.parity import Parity
from arena_core.domain.values import Claim, finite, said, sha256


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


# --- commands ----------------------------------------------------------------------


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


# --- decisions ---------------------------------------------------------------------


def request(command: RequestSwap, swap: Swap | None, live: Digest) -> Sequence[Event]:
    """Return what to record where `live` answers.

    To ask for what answers already ends a shadow, and does nothing else.
    """
    if swap is not None and _is_the_same(command, swap):
        return []
    if swap is not None and swap.phase is Phase.LOADING:
        raise IllegalTransition(
            "Another swap is under way: wait until it has ended, or disconnect."
        )
    if command.checkpoint.digest == live:
        shadowed = swap is not None and swap.mode is Mode.SHADOW
        return [BakingStopped(swap.digest)] if swap is not None and shadowed else []
    stopped = [] if swap is None else [BakingStopped(swap.digest)]
    asked = SwapRequested(
        command.checkpoint, command.cause, command.guard, command.shadow
    )
    return [*stopped, asked]


def _is_the_same(command: RequestSwap, swap: Swap) -> bool:
    return (command.checkpoint.digest, command.guard, command.shadow) == (
        swap.digest,
        swap.guard,
        swap.shadow,
    )


def is_claimable(swap: Swap | None, now: datetime) -> bool:
    """Say whether it waits for somebody to load it."""
    if swap is None or swap.phase is not Phase.LOADING:
        return False
    return swap.claim is None or now >= swap.claim.lease_until


def claim(
    command: ClaimSwap, swap: Swap | None, claims: int, now: datetime
) -> Sequence[Event]:
    """Return the claim; `claims`: how many the deployment has seen."""
    if swap is None or not is_claimable(swap, now):
        raise IllegalTransition("There is no swap to claim, or it is claimed.")
    if command.lease_until <= now:
        raise Rejected("A lease must end in the future.", field="lease_until")
    attempt = swap.attempt + 1
    return [SwapClaimed(command.worker, command.lease_until, claims + 1, attempt)]


def is_held(swap: Swap | None, worker: WorkerId, number: int) -> bool:
    """Say whether a claim on the swap is `worker`'s, and is the present one."""
    held = None if swap is None else swap.claim
    return held is not None and (held.worker, held.number) == (worker, number)


def _claimed(swap: Swap | None, worker: WorkerId, number: int) -> Swap:
    if swap is None or not is_held(swap, worker, number):
        raise IllegalTransition("The claim on this swap is not, or no longer, yours.")
    return swap


def confirm(
    command: ConfirmSwap, swap: Swap | None, live: Digest, now: datetime
) -> Sequence[Event]:
    """Pass the parity gate, as every Connect does."""
    swap = _claimed(swap, command.worker, command.claim)
    if swap.parity is None or not swap.parity.allows_serving:
        raise IllegalTransition("Its parity with training has not been established.")
    ready = (command.runtime, command.device, command.load_ms)
    if swap.shadow is not None:
        until = now + timedelta(seconds=swap.shadow.bake_s)
        return [ShadowStarted(command.worker, swap.digest, *ready, until)]
    baking = None if swap.guard is None else timedelta(seconds=swap.guard.bake_s)
    until_or_none = None if baking is None else now + baking
    return [CheckpointSwapped(command.worker, live, swap.digest, *ready, until_or_none)]


def fail(command: FailSwap, swap: Swap | None) -> Sequence[Event]:
    swap = _claimed(swap, command.worker, command.claim)
    return [SwapFailed(command.worker, swap.digest, command.reason)]


def lose(command: LoseSwap, swap: Swap | None) -> Sequence[Event]:
    held = None if swap is None else swap.claim
    if held is None or held.worker != command.worker:
        return []
    return [SwapInterrupted(command.worker, command.reason)]


def end_baking(
    command: EndBaking, swap: Swap | None, server: WorkerId | None, now: datetime
) -> Sequence[Event]:
    """Record the figures of the worker that has put live what answers."""
    if swap is None or swap.until is None or command.worker != server:
        raise IllegalTransition("Nothing that this worker serves is baking.")
    if now < swap.until:
        raise IllegalTransition("The time of baking is not over.")
    if swap.shadow is not None:
        return [ShadowCompared(command.worker, swap.digest, command.figures)]
    return [SwapPassed(command.worker, swap.digest, command.figures)]


def revert(command: RevertSwap, swap: Swap | None) -> Sequence[Event]:
    if swap is None or swap.before is None or swap.digest != command.digest:
        raise IllegalTransition("No guarded swap to it is baking.")
    return [
        SwapReverted(
            command.worker, swap.digest, swap.before, command.limit, command.figures
        )
    ]


# --- states ------------------------------------------------------------------------


def requested(event: SwapRequested) -> Swap:
    return Swap(event.checkpoint, event.cause, event.guard, event.shadow)


def claimed(swap: Swap | None, event: SwapClaimed) -> Swap | None:
    if swap is None:
        return None
    held = Claim(event.worker, event.lease_until, event.claim)
    return replace(swap, claim=held, attempt=event.attempt, parity=None)


def unclaimed(swap: Swap | None) -> Swap | None:
    """Return what is left of a swap when whoever had claimed it is gone."""
    return None if swap is None else replace(swap, claim=None)


def checked(swap: Swap | None, digest: Digest, parity: Parity) -> Swap | None:
    if swap is None or swap.digest != digest:
        return swap
    return replace(swap, parity=parity)


def guarded(
    swap: Swap | None, event: CheckpointSwapped, parity: Parity | None
) -> Swap | None:
    """Return the swap as it bakes; None if it does not, for then it has ended.

    `parity`: of what answered before.
    """
    if swap is None or event.baking_until is None:
        return None
    return replace(
        swap,
        claim=None,
        before=event.before,
        until=event.baking_until,
        parity=parity,
    )


def shadowed(swap: Swap | None, event: ShadowStarted) -> Swap | None:
    if swap is None:
        return None
    return replace(swap, claim=None, until=event.baking_until)


def ended(event: Event) -> Ended | None:
    """Return how an event has ended a swap; None if it has not."""
    match event:
        case SwapFailed():
            return Ended(event.digest, Outcome.FAILED, event.reason)
        case CheckpointSwapped(baking_until=None):
            return Ended(event.digest, Outcome.SWAPPED)
        case SwapPassed():
            return Ended(event.digest, Outcome.PASSED, figures=event.figures)
        case SwapReverted():
            return Ended(
                event.before,
                Outcome.REVERTED,
                limit=event.limit,
                figures=event.figures,
            )
        case ShadowCompared():
            return Ended(event.digest, Outcome.COMPARED, figures=event.figures)
        case BakingStopped():
            return Ended(event.digest, Outcome.STOPPED)
        case _:
            return None
