"""A reader of Server-Sent Events over a plain socket, which tells how a stream ends."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from attrs import field, frozen

PATIENCE_S = 30.0


@frozen
class Sent:
    """One event, or a comment where only `comment` is there."""

    id: str | None = None
    event: str | None = None
    data: str | None = None
    retry: str | None = None
    comment: str | None = None

    @property
    def body(self) -> Any:
        assert self.data is not None
        return json.loads(self.data)


@frozen(eq=False)
class Stream:
    """An open stream.  Iterating ends with it; a broken end raises."""

    response: HTTPResponse
    _connection: HTTPConnection = field(repr=False)

    @property
    def status(self) -> int:
        return self.response.status

    def __iter__(self) -> Iterator[Sent]:
        fields: dict[str, str] = {}
        while line := self._line():
            text = line.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(": ")
                fields[name or "comment"] = value
            elif fields:
                yield Sent(**fields)
                fields = {}
        assert not fields, "the stream ends within an event"

    def _line(self) -> bytes:
        # `readline` takes a connection that breaks for the end: so read byte by byte
        # what is there, which does not.
        line = b""
        while not line.endswith(b"\n"):
            one = self.response.read(1)
            if not one:
                break
            line += one
        return line

    def events(self) -> Iterator[Sent]:
        """Yield the events, without comments and without what begins the stream."""
        return (sent for sent in self if sent.event is not None)

    def ids(self) -> Iterator[int]:
        return (int(sent.id) for sent in self.events() if sent.id is not None)

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def streaming(
    address: str,
    token: str,
    query: str = "",
    *,
    path: str = "/api/v1/events",
    method: str = "GET",
    **headers: str,
) -> Stream:
    """Return the stream at `address`, of the log if no path is given, as it begins."""
    connection = HTTPConnection(address, timeout=PATIENCE_S)
    said = {
        "Authorization": f"Bearer {token}",
        "Accept": "text/event-stream",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connection.request(method, f"{path}{query}", headers=said)
    return Stream(connection.getresponse(), connection)
