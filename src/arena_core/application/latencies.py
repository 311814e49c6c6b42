"""How long requests took: a histogram, and how many were slow, second by second."""

import math
from collections.abc import Sequence

RATIO = 1.05
"""Of the bounds of a bucket, hence what a quantile is good to."""
LEAST_S, GREATEST_S = 1e-6, 1e3
BUCKETS = math.ceil(math.log(GREATEST_S / LEAST_S, RATIO))


class Latencies:
    """Bounded memory; to be used under a lock.  `slow_s`: what is longer is slow."""

    def __init__(self, slow_s: float = math.inf) -> None:
        self._slow_s = slow_s
        self._buckets = [0] * BUCKETS
        self.count = 0
        self.seconds = 0
        """That are over, and in which there was a request."""
        self.slow_seconds = 0.0
        """The sum of the shares of these seconds that were slow."""
        self._second = 0
        self._in_second = 0
        self._slow_in_second = 0

    def add(self, latencies_s: Sequence[float], now_s: float) -> None:
        self.pass_to(now_s)
        for latency_s in latencies_s:
            self._buckets[_bucket(latency_s)] += 1
            self._slow_in_second += latency_s > self._slow_s
        self._in_second += len(latencies_s)
        self.count += len(latencies_s)

    def pass_to(self, now_s: float) -> None:
        """Close the second that requests were counted in, if it is over."""
        second = math.floor(now_s)
        if second == self._second:
            return
        if self._in_second:
            self.seconds += 1
            self.slow_seconds += self._slow_in_second / self._in_second
        self._second, self._in_second, self._slow_in_second = second, 0, 0

    def quantile(self, share: float) -> float | None:
        """Return what `share` of the latencies do not exceed, in seconds, nearly."""
        wanted, seen = math.ceil(share * self.count), 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if seen >= wanted > 0:
                return LEAST_S * math.pow(RATIO, bucket + 0.5)
        return None


def _bucket(latency_s: float) -> int:
    if latency_s <= LEAST_S:
        return 0
    return min(BUCKETS - 1, int(math.log(latency_s / LEAST_S, RATIO)))
