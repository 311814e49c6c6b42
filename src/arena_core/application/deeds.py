"""Who has done what to a run of a stage, or to a training, and when.

Their states are made of events, which say nothing of that: it is in the envelopes.  It
is kept of the latest run of each stage, and of the latest training of each experiment.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from attrs import frozen

from arena_core.domain.stage_events import (
    NOT_APPROVED,
    NOT_BEGUN,
    NOT_RETRIED,
    StageApproved,
    StageStopped,
    StageStopRequested,
    StageTriggered,
)
from arena_core.domain.training import (
    StopRequested,
    TrainingFailed,
    TrainingRequested,
    TrainingStarted,
    TrainingStopped,
    TrainingSucceeded,
)


class What(Enum):
    """What is done to a run or a training."""

    ASKED = "asked"
    """It was asked for."""
    APPROVED = "approved"
    REJECTED = "rejected"
    STOPPED = "stopped"
    """Its end was asked for."""
    BEGUN = "begun"
    ENDED = "ended"


@frozen
class Hand:
    """Who did something, when, and why if they said so."""

    actor: str
    at: datetime
    reason: str | None


@frozen
class Deed:
    what: What
    hand: Hand
    position: int
    """Of its event in the log."""


def deeds_after(
    deeds: tuple[Deed, ...], event: object, hand: Hand, position: int
) -> tuple[Deed, ...]:
    """Return what was done to the latest run or training, after one more event."""
    what = _what(event)
    if what is None:
        return deeds
    done = Deed(what, hand, position)
    return (done,) if what is What.ASKED else (*deeds, done)


def hand_of(deeds: Sequence[Deed], what: What) -> Hand | None:
    """Return by whose hand it was done; None: it was not."""
    return next((deed.hand for deed in deeds if deed.what is what), None)


def moment(deeds: Sequence[Deed], what: What) -> datetime | None:
    """Return when it was done; None: it was not."""
    hand = hand_of(deeds, what)
    return None if hand is None else hand.at


def _what(event: object) -> What | None:
    match event:
        case StageTriggered() | TrainingRequested():
            return What.ASKED
        case StageApproved():
            return What.APPROVED
        case StageStopped(reason=reason) if reason == NOT_APPROVED:
            return What.REJECTED
        case StageStopped(reason=reason) if reason in (NOT_BEGUN, NOT_RETRIED):
            return What.STOPPED
        case StageStopRequested(timed_out=False) | StopRequested():
            return What.STOPPED
        case TrainingStarted():
            return What.BEGUN
        case TrainingSucceeded() | TrainingFailed() | TrainingStopped():
            return What.ENDED
        case _:
            return None
