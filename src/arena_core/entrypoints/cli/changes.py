"""What an event says beyond its name, in words: for tables of events."""

from arena_core.domain.agent import CheckpointFrozen, CheckpointReplaced, Frozen
from arena_core.domain.deployment import CheckpointAssigned
from arena_core.domain.experiment import CheckpointDeleted, CheckpointWritten
from arena_core.domain.guards import Figures, Guard, Limit
from arena_core.domain.stage_events import (
    CheckpointConsumed,
    StageStarted,
    StageStopRequested,
    StageTriggered,
)
from arena_core.domain.stage_run import ConditionChecked
from arena_core.domain.swap import (
    BakingStopped,
    CheckpointSwapped,
    ShadowCompared,
    ShadowStarted,
    SwapFailed,
    SwapPassed,
    SwapRequested,
    SwapReverted,
)

SHOWN = 12
"""Of a digest."""


def told(event: object) -> str | None:
    """Return which checkpoint it is about, or why it has come to this, if it says."""
    return _of_a_checkpoint(event) or _of_a_stage(event) or _reason(event)


def _of_a_checkpoint(event: object) -> str | None:
    match event:
        case CheckpointWritten() | CheckpointDeleted():
            return _at(event.step, event.digest)
        case CheckpointFrozen():
            return _checkpoint(event.checkpoint)
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
        case _:
            return None


def _of_a_stage(event: object) -> str | None:
    match event:
        case StageTriggered():
            return f"run {event.number}, {event.cause.value}"
        case CheckpointConsumed(consumed=consumed):
            return _at(consumed.product.step, consumed.product.digest)
        case ConditionChecked():
            return event.finding
        case StageStarted() if event.attempt > 1:
            return f"attempt {event.attempt}"
        case StageStopRequested() if event.timed_out:
            return "the time limit is over"
        case _:
            return None


def _reason(event: object) -> str | None:
    reason: str | None = getattr(event, "reason", None)
    return reason


def _at(step: int, digest: str) -> str:
    return f"step {step} ({digest[:SHOWN]})"


def _checkpoint(frozen: Frozen) -> str:
    return f"{frozen.type.value} at {_at(frozen.step, frozen.digest)}"


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
