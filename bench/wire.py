"""A keep-alive HTTP connection of one request at a time, for programs that watch."""

import asyncio
import time
from typing import Any, cast

import msgspec
from attrs import frozen

from load import HEAD_END, content_length, raw_request

HOST = "127.0.0.1"


class Lost(ConnectionError):  # noqa: N818 -- reads as what happened
    """The connection ended before the answer came."""


@frozen
class Answer:
    status: int
    head: bytes
    body: bytes
    seconds: float
    """Since the request was written."""

    def header(self, name: str) -> str | None:
        wanted = name.lower().encode()
        for line in self.head.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.lower() == wanted:
                return value.strip().decode("latin-1")
        return None

    @property
    def json(self) -> Any:  # noqa: ANN401 -- whatever the server says
        return msgspec.json.decode(self.body)


class Connection(asyncio.Protocol):
    """Answers must carry a Content-Length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun = 0.0
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect.  Raises `Lost` if nobody listens."""
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(cls, HOST, port)
        except OSError as error:
            raise Lost(f"No connection: {error}.") from error
        return connection

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Answer:
        """Return the answer.  Raises `Lost`."""
        if self._transport is None or not self.is_open:
            raise Lost("The server has closed the connection.")
        self._answer = asyncio.get_running_loop().create_future()
        self._begun = time.perf_counter()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost(f"The connection has ended: {error}."))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = bytes(self._buffer).partition(HEAD_END)
        if not separator or len(rest) < content_length(head):
            return
        self._buffer.clear()
        seconds = time.perf_counter() - self._begun
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(int(head[9:12]), head, rest, seconds))


def post(path: str, key: str, body: bytes, **headers: str) -> bytes:
    """Return the bytes of a call of the data plane; `_` in a header's name is `-`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    bearing = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return raw_request(path, bearing | given, body)
