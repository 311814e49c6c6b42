"""How often somebody may do something: a token bucket, as exact as its numbers are.

Nothing is added up as time goes by, so that nothing drifts: what a bucket holds is
what it held when it was last full, less what was taken since, and what has come.
"""

import math

from attrs import define, field

from arena_core.domain.errors import Rejected


def _above_zero(_: object, attribute: object, value: float) -> None:
    if not 0 < value < math.inf:
        name = getattr(attribute, "alias", "rate")
        raise Rejected(f"The {name} must be a number above 0.", field=name)


@define(eq=False)
class TokenBucket:
    """Gives at most `burst` at once, and `rate_per_s` in the long run.

    In any time of t seconds it gives burst + rate * t at most.  It has no clock and
    no lock: one thread calls it, with times that never go back.
    """

    _rate_per_s: float = field(validator=_above_zero)
    _burst: float = field(validator=_above_zero)
    _full_at_s: float = field(default=-math.inf, init=False)
    """When it was full, or became so."""
    _taken: int = field(default=0, init=False)
    """How much of it since."""

    def take(self, now_s: float, n: int = 1) -> float:
        """Take `n` and return 0.0; or take nothing and return the seconds to wait.

        After that time, and not before, `n` can be had, if nobody else has taken
        meanwhile.  It is infinite for more than the bucket holds.
        """
        if n > self._burst:
            return math.inf
        if self._full_at_s + self._taken / self._rate_per_s <= now_s:
            self._full_at_s, self._taken = now_s, 0
        lacking = max(0.0, self._taken + n - self._burst)
        due_s = self._full_at_s + lacking / self._rate_per_s
        if due_s <= now_s:
            self._taken += n
            return 0.0
        wait_s = due_s - now_s
        # Rounded down, it would be a moment too short.
        return wait_s if now_s + wait_s >= due_s else math.nextafter(wait_s, math.inf)
