"""What may follow what in the life of a swap: the part of `deployment` that decides it.

`decide` and the functions beside it return events or refuse; those at the end return
the swap after an event.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import evolve as replace

from arena_core.domain.errors import IllegalTransition, Rejected
from arena_core.domain.ids import Digest, WorkerId
from arena_core.domain.parity import Parity
from arena_core.domain.swap import (
    BakingStopped,
    CheckpointSwapped,
    Ended,
    Event,
    Mode,
    Outcome,
    Phase,
    ShadowCompared,
    ShadowStarted,
    Swap,
    SwapClaimed,
    SwapFailed,
    SwapInterrupted,
    SwapPassed,
    SwapRequested,
    SwapReverted,
)
from arena_core.domain.swap_commands import (
    ClaimSwap,
    ConfirmSwap,
    EndBaking,
    FailSwap,
    LoseSwap,
    RequestSwap,
    RevertSwap,
)
from arena_core.domain.values import Claim

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
