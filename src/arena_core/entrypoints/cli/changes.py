"""What became of an agent's checkpoint, in words: for tables of events."""

from arena_core.domain.agent import CheckpointReplaced, Frozen
from arena_core.domain.deployment import CheckpointAssigned
from arena_core.domain.guards import Figures, Guard, Limit
from arena_core.domain.swap import (
    BakingStopped,
    CheckpointSwapped,
    ShadowCompared,
    ShadowStarted,
    SwapFailed,
    SwapInterrupted,
    SwapPassed,
    SwapRequested,
    SwapReverted,
)

SHOWN = 12
"""Of a digest."""


def told(event: object) -> str | None:
    """Return what an event of a swap says; None for any other event."""
    match event:
        case SwapRequested():
            return f"{event.cause.value} to {_checkpoint(event.checkpoint)}" + (
                _conditions(event)
            )
        case CheckpointReplaced():
            return f"{event.cause.value} to {_checkpoint(event.checkpoint)}"
        case CheckpointAssigned() | BakingStopped():
            return event.digest[:SHOWN]
        case CheckpointSwapped():
            return f"from {event.before[:SHOWN]} to {event.digest[:SHOWN]}"
        case SwapReverted():
            return (
                f"back from {event.before[:SHOWN]} to {event.digest[:SHOWN]}, "
                f"{event.limit.value} was {_figure(event.figures, event.limit)}"
            )
        case ShadowStarted():
            return f"{event.digest[:SHOWN]} until {event.baking_until:%H:%M:%S}"
        case SwapPassed() | ShadowCompared():
            return f"{event.digest[:SHOWN]}: {_seen(event.figures)}"
        case SwapFailed():
            return f"{event.digest[:SHOWN]}: {event.reason}"
        case SwapInterrupted():
            return event.reason
        case _:
            return None


def _checkpoint(frozen: Frozen) -> str:
    digest = frozen.digest[:SHOWN]
    return f"{frozen.type.value} at step {frozen.step} ({digest})"


def _conditions(event: SwapRequested) -> str:
    if event.shadow is not None:
        return f", as a shadow for {event.shadow.bake_s:g} s"
    if event.guard is not None:
        return f", guarded for {event.guard.bake_s:g} s: {_limits(event.guard)}"
    return ""


def _limits(guard: Guard) -> str:
    named = ((limit.value, guard.of(limit)) for limit in Limit)
    return ", ".join(f"{name} <= {most:g}" for name, most in named if most is not None)


def _seen(figures: Figures) -> str:
    named = [
        f"{limit.value} {_figure(figures, limit)}"
        for limit in Limit
        if figures.of(limit) is not None
    ]
    return ", ".join([f"{figures.requests} requests", *named])


def _figure(figures: Figures, limit: Limit) -> str:
    value = figures.of(limit)
    return "unknown" if value is None else f"{value:.4g}"
