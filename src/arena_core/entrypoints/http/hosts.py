"""By which hosts callers may address this server, and which web pages may call it.

A web page can make a name of its own lead to a server of its visitor's network (DNS
rebinding), and can send requests to anywhere.  It shows in two headers that no page
can forge: Host says by which name, Origin for which page.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus

from attrs import frozen

from arena_core.entrypoints.addresses import ANY_HOST, HOST, ORIGIN
from arena_core.entrypoints.settings import Settings

HEADERS = Iterable[tuple[bytes, bytes]]
SAFE = frozenset({"GET", "HEAD"})
API = "/api/"
_AUTHORITY = re.compile(rf"({HOST.pattern})(?::([0-9]{{1,5}}))?")
_USUAL_PORTS = {"http": "80", "https": "443"}


@frozen
class Objection:
    """Why a request is not even looked at."""

    status: HTTPStatus
    code: str
    detail: str


MALFORMED = Objection(
    HTTPStatus.BAD_REQUEST,
    "BAD_HOST",
    "The request must have one header Host: a name or an address, and a port.",
)
FOREIGN_HOST = Objection(
    HTTPStatus.MISDIRECTED_REQUEST,
    "FOREIGN_HOST",
    "This server is not known by that name: address it by another, or add the name "
    "to its setting ARENA_ALLOWED_HOSTS.",
)
FOREIGN_ORIGIN = Objection(
    HTTPStatus.FORBIDDEN,
    "FOREIGN_ORIGIN",
    "Web pages of that origin may not call this server, unless its setting "
    "ARENA_ALLOWED_ORIGINS names it.",
)


@frozen
class Hosts:
    """Which hosts are ours, and which origins may call."""

    allowed: frozenset[str] | None = None
    """None: any that is well-formed."""
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> "Hosts":
        public = ORIGIN.fullmatch(_origin((settings.public_url or "").lower()))
        hosts = frozenset(settings.allowed_hosts or {ANY_HOST})
        origins = frozenset(settings.allowed_origins or ())
        if public is not None:
            hosts, origins = hosts | {public[2]}, origins | {public[0]}
        return cls(
            None if ANY_HOST in hosts else hosts,
            frozenset(_usual(origin) for origin in origins),
        )

    def objection(self, method: str, path: str, headers: HEADERS) -> Objection | None:
        """Return why not to answer; None: there is nothing against it.

        `headers`: their names in lower case.
        """
        hosts, origins = [], []
        for name, value in headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
        host = _AUTHORITY.fullmatch(_text(hosts))
        if host is None:
            return MALFORMED
        if self.allowed is not None and host[1] not in self.allowed:
            return FOREIGN_HOST
        changes_nothing = method in SAFE and not path.startswith(API)
        if not origins or changes_nothing or self._is_ours(_text(origins), host[0]):
            return None
        return FOREIGN_ORIGIN

    def _is_ours(self, origin: str, host: str) -> bool:
        found = ORIGIN.fullmatch(origin)
        if found is None:
            return False  # such as null, which any page can bring about
        origin = _usual(origin)
        return origin in self.origins or origin == _usual(f"{found[1]}://{host}")


def _text(values: list[bytes]) -> str:
    """Return the value of a header that must be there once, or what fits nothing."""
    return values[0].decode("latin-1").lower() if len(values) == 1 else ""


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _usual(origin: str) -> str:
    """Return an origin without the port that its scheme has anyway."""
    scheme = origin.partition(":")[0]
    return origin.removesuffix(f":{_USUAL_PORTS[scheme]}")
