"""How a training has ended, in the sentences that its user reads."""

import signal
from datetime import datetime

from attrs import frozen

from arena_core.application.trainer import RunState, Sighting


@frozen
class Ending:
    """What is known of the end of a run."""

    code: int | None = None
    signal: int | None = None
    """What has ended it instead of an exit code."""
    reason: str | None = None
    """Which limit it went over, or why it could not run: a sentence."""
    stopped: bool = False
    """Whether it had been asked to end before it did."""

    def sighting(self, started_at: datetime | None = None) -> Sighting:
        """Return how the run stands.  A stop outweighs how the program took it."""
        if self.stopped:
            return Sighting(RunState.ENDED, started_at, self.code, stopped=True)
        reason = self.reason or _by_signal(self.signal) or _by_code(self.code)
        code = None if self.reason else self.code
        return Sighting(RunState.ENDED, started_at, code, reason)


NEVER_STARTED = Ending(stopped=True)
"""Of a run that was stopped before it was started, and is never started."""

LOST = Sighting(
    RunState.LOST,
    reason="The training is gone without a trace: it was killed together with what "
    "watched it, or the machine went down. Resume it, or train a copy.",
)

UNREADABLE = (
    "What was recorded of the training is damaged, so that it cannot be followed: it "
    "must not write outside of its own folder. Resume it, or train a copy."
)
DAMAGED = Sighting(RunState.LOST, reason=UNREADABLE)


def _by_code(code: int | None) -> str | None:
    if code in (0, None):
        return None
    return f"The training ended with exit code {code}: see the end of its log."


def _by_signal(number: int | None) -> str | None:
    if number is None:
        return None
    return (
        f"The training was ended by the signal {_name(number)}: see the end of its "
        "log, and whether the machine ran out of memory."
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
