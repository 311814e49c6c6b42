"""Callers whose credentials are not good: counted, and slowed down if they insist.

A good credential is never affected, whoever else tries bad ones from its address.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import Scope

from arena_core.application.rates import TokenBucket
from arena_core.application.telemetry import Telemetry
from arena_core.domain.errors import Flaw, RateLimited, Unauthenticated

log = logging.getLogger(__name__)

BURST_S = 6.0
"""So many seconds' worth of bad credentials may come at once."""
MOST_ADDRESSES = 4096
LOG_AGAIN_S = 60.0
IPV6_NETWORK_BITS = 64
"""One subscriber has so many addresses that only their network tells them apart."""


class FailedAuthentications:
    """What has failed lately, by the address that it came from.

    Bounded: of too many addresses those are forgotten that have been quiet longest.
    """

    def __init__(
        self,
        rate_per_s: float,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rate_per_s`: of each address; 0: without a limit."""
        self._rate_per_s = rate_per_s
        self._telemetry = telemetry
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._logged_at_s: float | None = None
        self._lock = threading.Lock()

    def judge(
        self, error: Unauthenticated, scope: Scope
    ) -> Unauthenticated | RateLimited:
        """Count a credential that was not good; return what to answer its bearer."""
        self._telemetry.refused(error.flaw)
        if not self._rate_per_s or error.flaw is Flaw.MISSING:
            return error
        address = _address(scope)
        with self._lock:
            wait_s = self._bucket(address).take(self._clock())
            if not wait_s:
                return error
            self._log(address)
        return RateLimited(
            "Too many bad credentials have come from this address: use a good one, or "
            "try again later.",
            retry_after_s=wait_s,
        )

    def _bucket(self, address: str) -> TokenBucket:
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            burst = max(1.0, BURST_S * self._rate_per_s)
            bucket = TokenBucket(self._rate_per_s, burst)
        self._buckets[address] = bucket
        if len(self._buckets) > MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket

    def _log(self, address: str) -> None:
        """Say so now and then: whoever insists must not fill the log."""
        now_s = self._clock()
        if self._logged_at_s is None or now_s >= self._logged_at_s + LOG_AGAIN_S:
            self._logged_at_s = now_s
            log.warning("Many bad credentials come from %s, and maybe others.", address)


def _address(scope: Scope) -> str:
    """Return whom a request comes from; of IPv6 the network."""
    client = scope.get("client")
    if client is None:  # over a socket of this machine
        return "here"
    try:
        found = ip_address(client[0])
    except ValueError:
        return str(client[0])
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ip_network((int(found), IPV6_NETWORK_BITS), strict=False))
