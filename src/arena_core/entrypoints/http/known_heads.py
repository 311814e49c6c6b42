"""The heads of requests, byte for byte: each is parsed once.

A caller who plays an episode sends the same head with every step.  Whether it is one
that can be answered without further ado, and what it says, is found out by a real
parser the first time; afterwards it is one look-up.
"""

import re

import httptools

from arena_core.domain.errors import ArenaError
from arena_core.entrypoints.http.asking import Asking, read_head
from arena_core.entrypoints.http.hosts import Hosts

LONGEST_HEAD = 4096
MOST_HEADS = 4096
ROOT = "/inference/"
_TARGET = re.compile(
    rb"/inference/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(get_action|predict)"
    rb"(?:\?([!$-~]*))?"
)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,8}")
_OTHERWISE = frozenset(
    {
        b"content-encoding",
        b"expect",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers of requests that are not answered in one go."""


class KnownHeads:
    """Remembers what heads say.  Bounded: what is beyond it is parsed again."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._known: dict[bytes, Asking | None] = {}

    def read(self, head: bytes) -> Asking | None:
        """Return what a head says, without the empty line that ends it.

        None unless it is a whole HTTP/1.1 POST to the data plane, with a body of a
        length that it names, wants the connection to be kept, and has a host and
        an origin that are answered.
        """
        try:
            return self._known[head]
        except KeyError:
            asking = None if len(head) > LONGEST_HEAD else _parsed(head, self._hosts)
        if len(head) <= LONGEST_HEAD:
            if len(self._known) >= MOST_HEADS:
                self._known.clear()
            self._known[head] = asking
        return asking


def _parsed(head: bytes, hosts: Hosts) -> Asking | None:
    found = _Parsing()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(head + b"\r\n\r\n")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    is_usual = found.is_complete and parser.get_http_version() == "1.1"
    if not is_usual or parser.get_method() != b"POST":
        return None
    target = _TARGET.fullmatch(found.target)
    length = found.length()
    if target is None or length is None:
        return None
    if hosts.objection("POST", ROOT, found.headers) is not None:
        return None
    deployment_id, verb, query = target.groups(default=b"")
    try:
        return read_head(
            deployment_id.decode(), verb.decode(), query, found.headers, length
        )
    except ArenaError:
        return None  # whoever reads it again says what is wrong


class _Parsing:
    """What the parser calls back."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_complete = True

    def length(self) -> int | None:
        """Return the length of the body; None if it, or the rest, is out of the usual.

        No header may come twice: others could take the other one.
        """
        said = dict(self.headers)
        if len(said) < len(self.headers) or said.keys() & _OTHERWISE:
            return None
        if said.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return None
        length = said.get(b"content-length", b"")
        return int(length) if _LENGTH.fullmatch(length) else None
