"""Setting aside that with which something is wrong: the others do not wait for it.

It is shown, and tried again after longer and longer.  What will not pass by itself is
counted apart, for however long something is waited for, that is no reason to give up.
"""

from datetime import datetime, timedelta

from attrs import frozen

MOST_DEFECTS = 5
"""How often something is tried with which something is wrong that will not pass."""
_MOST_DOUBLINGS = 20


@frozen
class SetAside:
    """A stage or a training with which this process could not go on just now."""

    reason: str
    failures: int
    not_before: datetime
    """When it is tried again, unless it is hopeless."""
    defects: int = 0
    """How many of the failures will not pass by themselves."""
    seen: object = None
    """How it stood then, where something else that happens to it may help."""

    @property
    def is_hopeless(self) -> bool:
        """Whether to try it once more would help nothing."""
        return self.defects >= MOST_DEFECTS


def after_failure(
    before: SetAside | None,
    reason: str,
    now: datetime,
    longest: timedelta,
    *,
    is_defect: bool = False,
) -> SetAside:
    """Return how something is set aside that has failed once more, `longest` at most.

    `is_defect`: what is wrong will not pass by itself.
    """
    failures = 1 if before is None else before.failures + 1
    defects = is_defect + (0 if before is None else before.defects)
    pause = min(timedelta(seconds=2 ** min(failures, _MOST_DOUBLINGS)) / 2, longest)
    return SetAside(reason, failures, now + pause, defects)
