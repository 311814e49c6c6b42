"""What a caller may be answered, by what it has been told before and what is asked."""

import time

from attrs import define, field


@define
class Swaps:
    """Which weights may answer: those acknowledged last, or asked for since.

    A request that began when swap `a` was the latest that had been acknowledged, and
    was answered when `b` was the latest that had been asked for, may be answered by
    the weights of any of `a` to `b`, and by no others.
    """

    digests: list[str]
    """Put live by the first Connect, and then by each swap that was asked for."""
    acknowledged: int = 0
    acknowledged_at: float = field(factory=time.monotonic)

    @property
    def newest(self) -> str:
        return self.digests[-1]

    def ask(self, digest: str) -> int:
        """Note that a swap is asked for; return its number."""
        self.digests.append(digest)
        return len(self.digests) - 1

    def acknowledge(self, number: int) -> None:
        self.acknowledged = max(self.acknowledged, number)
        self.acknowledged_at = time.monotonic()

    def place(self, digest: str, *, since: int) -> int | None:
        """Return the first swap from `since` on that put `digest` live, if any did."""
        try:
            return self.digests.index(digest, since)
        except ValueError:
            return None


@define
class Keys:
    """Which keys are good: key `n` came with rotation `n`, and dies in the next."""

    known: list[str]
    asked: int = 0
    """How many rotations were asked for."""
    acknowledged: int = 0

    @property
    def newest(self) -> int:
        return len(self.known) - 1

    def learn(self, key: str) -> None:
        self.known.append(key)

    def is_dead(self, number: int) -> bool:
        """Say whether a request that begins now with that key must be refused."""
        return number < self.acknowledged

    def may_be_dead(self, number: int) -> bool:
        """Say whether a request that ends now may have been refused."""
        return number < self.asked
