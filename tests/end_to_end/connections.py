"""Connections of one event loop, byte by byte: our protocol and plain uvicorn's.

Both are real, on real sockets; a segment is not sent before the one before was read.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from attrs import define, field, frozen
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from arena_core.entrypoints.http.protocol import protocol_of

PATIENCE_S = 30.0
KEEP_ALIVE_S = 20
MOST_UNREAD_BYTES = 10 << 20
"""What goes into the buffers of two sockets is much less."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOOK = re.compile(rb'"inference_time_ms":[0-9.e-]+')
_REQUEST_ID = re.compile(rb'"request_id":"[0-9a-f-]+"')
OF_ITS_OWN = (b"date", b"content-length", b"x-request-id")
"""Headers that no two answers need to have alike."""


@frozen
class Answered:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """In any order, but for their names."""
    body: bytes

    @property
    def head(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.headers}


def answers_in(data: bytes) -> list[Answered]:
    """Return the answers that came one behind the other, without their dates.

    The answer to a HEAD, which has no body, may only be the last.
    """
    found = []
    while data:
        data = data.removeprefix(CONTINUE)
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        line, *fields = head.split(b"\r\n")
        headers = [tuple(field.split(b": ", 1)) for field in fields]
        said = dict(headers)
        if b"content-length" in said:
            size = int(said[b"content-length"])
            body, data = data[:size], data[size:]
        else:
            body, data = data, b""
        body = _TOOK.sub(b'"inference_time_ms":0', body)
        body = _REQUEST_ID.sub(b'"request_id":""', body)
        alike = sorted(h for h in headers if h[0] not in OF_ITS_OWN)
        found.append(Answered(int(line.split(b" ")[1]), tuple(alike), body))
    return found


@define(eq=False)
class Side:
    """One way of serving an app."""

    app: Any
    loop: asyncio.AbstractEventLoop
    is_ours: bool = True
    state: ServerState = field(factory=ServerState)
    opened: list["Connection"] = field(factory=list)
    config: uvicorn.Config = field(init=False)
    _protocol: type[HttpToolsProtocol] = field(init=False)

    def __attrs_post_init__(self) -> None:
        base = HttpToolsProtocol
        if self.is_ours:
            base = protocol_of(self.app.data_plane, self.app.hosts)
        self.config = uvicorn.Config(
            self.app,
            http=base,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self.config.load()

        class Counted(base):
            received = 0

            def data_received(self, data: bytes) -> None:
                self.received += len(data)
                super().data_received(data)

        self._protocol = Counted

    def connect(self) -> "Connection":
        return self.loop.run_until_complete(self.connected())

    async def connected(self) -> "Connection":
        theirs, ours = socket.socketpair()
        _, protocol = await self.loop.connect_accepted_socket(
            lambda: self._protocol(
                config=self.config,
                server_state=self.state,
                app_state={},
                _loop=self.loop,
            ),
            theirs,
        )
        ours.setblocking(False)
        connection = Connection(self.loop, protocol, ours)
        self.opened.append(connection)
        return connection

    def told(self, segments: Sequence[bytes]) -> list[Answered]:
        """Return what is answered to the segments, until the connection is closed."""
        connection = self.connect()
        for segment in segments:
            connection.send(segment)
        return answers_in(connection.rest())

    def promised(self) -> int:
        """Return how many answers anybody still has a claim to."""
        lanes = self.app.data_plane._lanes
        batchers = [] if lanes is None else list(lanes._batchers.values())
        return sum(batcher._promised + batcher.waiting for batcher in batchers)

    def settle(self) -> None:
        """Close what is open, and see that nothing is left of it."""
        for connection in self.opened:
            connection.leave()
        self.opened.clear()
        self.loop.run_until_complete(_until(self._is_settled))

    def _is_settled(self) -> bool:
        is_busy = self.state.connections or self.state.tasks
        return not is_busy and not self.promised()


@define(eq=False)
class Connection:
    """Somebody who is connected, and reads only what it is told to read."""

    loop: asyncio.AbstractEventLoop
    protocol: Any
    socket: socket.socket
    sent: int = 0
    _outgoing: bytes = b""
    _incoming: bytes = b""

    def send(self, segment: bytes) -> None:
        """Send a segment, and come back when it was read, or is not going to be."""
        self._outgoing += segment
        self.until(self._is_read)

    def _is_read(self) -> bool:
        with suppress(BlockingIOError):
            try:
                size = self.socket.send(self._outgoing)
            except (BrokenPipeError, ConnectionResetError):
                return True
            self.sent += size
            self._outgoing = self._outgoing[size:]
        protocol = self.protocol
        is_over = protocol.transport.is_closing() or protocol.flow.read_paused
        return is_over or (not self._outgoing and protocol.received >= self.sent)

    def answer(self) -> Answered:
        """Return the next answer."""
        while True:
            head, end, rest = self._incoming.partition(b"\r\n\r\n")
            size = re.search(rb"content-length: (\d+)", head)
            if end and (size is None or len(rest) >= int(size[1])):
                body_size = 0 if size is None else int(size[1])
                self._incoming = rest[body_size:]
                (answer,) = answers_in(head + end + rest[:body_size])
                return answer
            assert self._receive(), self._incoming

    def ask(self, request: bytes) -> Answered:
        self.send(request)
        return self.answer()

    def ask_unread(self, request: bytes) -> int:
        """Ask until nothing more is read, and read nothing; return how often."""
        asked = 0
        while not self.protocol.flow.read_paused:
            self.send(request)
            asked += 1
            assert self.sent < MOST_UNREAD_BYTES
        return asked

    def rest(self) -> bytes:
        """Return all that comes until the other side closes the connection."""
        while self._receive():
            pass
        data, self._incoming = self._incoming, b""
        return data

    def _receive(self) -> bool:
        """Take what comes next; say whether anything did."""
        receiving = self.loop.sock_recv(self.socket, 1 << 16)
        try:
            data = self.loop.run_until_complete(asyncio.wait_for(receiving, PATIENCE_S))
        except ConnectionResetError:
            return False
        self._incoming += data
        return bool(data)

    def leave(self) -> None:
        self.socket.close()

    def until(self, look: Callable[[], object]) -> None:
        """Let the loop run until `look` returns something true."""
        self.loop.run_until_complete(_until(look))


async def _until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not look():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0)


@contextmanager
def looping() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
