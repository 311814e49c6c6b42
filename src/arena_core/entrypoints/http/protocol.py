"""HTTP for the data plane without ASGI, on the connections that uvicorn serves.

Two thirds of the time of a small policy are socket calls, and most of the rest was
making a scope, a task and two messages for each request.  So a request that is usual
in every respect (see `known_heads`) goes from the socket to its lane and back.
Every other is uvicorn's, on the same connection: nothing is parsed here that could be
parsed otherwise there.
"""

import asyncio
import time
from enum import Enum, auto
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)

from arena_core.application.batching import Job
from arena_core.application.inference import Answer
from arena_core.domain.errors import ArenaError, TooSlow
from arena_core.entrypoints.http import bodies
from arena_core.entrypoints.http.hosts import Hosts
from arena_core.entrypoints.http.inference import (
    JSON,
    DataPlane,
    Reply,
    refusal,
    reply_of,
)
from arena_core.entrypoints.http.known_heads import KnownHeads
from arena_core.entrypoints.http.lanes import Lane, Lanes

MOST_BODY_BYTES = 1 << 20
"""Of a body that is gathered here; longer ones are uvicorn's."""
MOST_HELD_BYTES = 1 << 16
"""Of what comes before the request that is under way is answered."""
HEAD_END = b"\r\n\r\n"
MOST_HEAD_BYTES = 1 << 16
"""Of a head that comes in parts, beyond the first of them."""
DEAF_S = 1.0
"""How long a server that ends waits for who reads nothing, or does not hang up."""
LOOK_S = 0.1
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_CLOSE = (b"connection", b"close")
_SLOW = refusal(TooSlow("The request took too long to come: send it at once."))
_LONG = Reply(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    b'{"detail":"The head of the request is too long: send fewer headers."}',
    (JSON, _CLOSE),
)


class _State(Enum):
    BETWEEN = auto()
    """Nothing of a request has come."""
    GATHERING = auto()
    """Of a usual request some is still to come."""
    ANSWERING = auto()
    SKIPPING = auto()
    """The body of a request that is answered already is still to come."""
    UVICORN = auto()
    """Whatever comes is uvicorn's."""
    STALLED = auto()
    """The other side does not read what it is answered."""


class Protocol(HttpToolsProtocol):
    """One connection.  Made by `protocol_of`."""

    plane: DataPlane
    heads: KnownHeads
    body_timeout_s: float
    most_body_bytes: int
    date = b""
    """The header that every answer has; of all connections."""

    _state = _State.BETWEEN
    _gathered: list[bytes]
    _missing = 0
    _held = b""
    _since = 0.0
    """When what the state says began."""
    _heard = 0.0
    """When the last part of what is gathered came."""
    _unread_since: float | None = None
    """When it was noticed that the other side does not read."""
    _lanes: Lanes
    _lane: Lane
    _job: Job | None = None
    _is_admitted = False
    """Whether it was before its body came."""
    _is_last = False
    """Whether the connection ends with the answer that is due."""
    _messages = 0
    """How many requests uvicorn has begun to parse, and not ended."""
    _is_in_head = False
    _head_bytes = 0

    # --- what comes ------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is _State.BETWEEN:
            self._begin(data)
        elif state is _State.UVICORN:
            self._pass_on(data)
        elif state is _State.GATHERING:
            self._gather(data)
        elif state is _State.SKIPPING:
            self._skip(data)
        else:
            self._hold(data)

    def _begin(self, data: bytes) -> None:
        if self.flow.write_paused:
            self._state = _State.STALLED
            self._hold(data)
            return
        end = data.find(HEAD_END)
        asking = self.heads.read(data[:end]) if end > 0 else None
        lane = None if asking is None else self.plane.lane(asking, self._lanes)
        if asking is None or lane is None:
            self._hand_over(data)
            return
        missing = asking.length - (len(data) - end - len(HEAD_END))
        if missing < 0 or asking.length > self.most_body_bytes:
            self._hand_over(data)
            return
        self._unset_keepalive_if_required()
        now = time.perf_counter()
        if not self._is_admitted:
            self._since = now
        asked = now if asking.timeout_s is None else self._since
        deadline = lane.deadline(asking, asked)
        self._lane = lane
        try:
            if missing or not self._is_admitted:
                self._lanes.limit(asking, now)
                lane.batcher.admit(now, deadline)
            else:
                lane.batcher.promise()
        except ArenaError as error:
            self._refuse(error, missing)
            return
        if missing:
            self._state, self._missing = _State.GATHERING, missing
            self._gathered, self._heard = [data], now
            return
        self._state = _State.ANSWERING
        self._job = Job(self._answered, deadline)
        lane.begin(self._job, asking, data[end + len(HEAD_END) :])

    def _hand_over(self, data: bytes) -> None:
        self._state = _State.UVICORN
        self._since = time.perf_counter()
        super().data_received(data)
        if self._is_last:
            super().shutdown()

    def _pass_on(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head:
            # The parser itself has no limit, and joins the parts again and again.
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._give_up(_LONG)

    def _gather(self, data: bytes) -> None:
        self._gathered.append(data[: self._missing])
        rest = data[self._missing :]
        self._missing -= len(data)
        self._heard = time.perf_counter()
        if self._missing <= 0:
            self._begin_again(b"".join(self._gathered))
            if rest:
                self.data_received(rest)

    def _begin_again(self, whole: bytes) -> None:
        """Begin with what has come whole: the key may have been rotated meanwhile."""
        self._lane.batcher.withdraw()
        self._gathered = []
        self._state, self._is_admitted = _State.BETWEEN, True
        self._begin(whole)
        self._is_admitted = False

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > MOST_HELD_BYTES or self._state is _State.STALLED:
            self.flow.pause_reading()

    def _go_on(self) -> None:
        """Begin with what has come meanwhile."""
        self._state = _State.BETWEEN
        if self._held:
            held, self._held = self._held, b""
            self.flow.resume_reading()
            self._begin(held)

    def _skip(self, data: bytes) -> None:
        rest = data[self._missing :]
        self._missing -= len(data)
        if self._missing <= 0:
            self._state = _State.BETWEEN
            if rest:
                self._begin(rest)

    # --- what goes -------------------------------------------------------------------

    def _answered(self, answer: Answer) -> None:
        lane, self._job = self._lane, None
        now = time.perf_counter()
        lane.answered(answer, now - self._since)
        if self.transport.is_closing():
            return
        self._since = now
        if type(answer) is bytes and not self._is_last:
            self.transport.write(
                b"%b%b%bcontent-length: %d\r\n\r\n%b"
                % (_OK, self.date, lane.head, len(answer), answer)
            )
        else:
            self._write(reply_of(answer, lane.headers))
        if self._is_last:
            self.transport.close()
        else:
            self._go_on()

    def _refuse(self, error: ArenaError, missing: int) -> None:
        """Answer at once; the body is not even looked at."""
        self._lane.answered(error, 0.0)
        self._write(reply_of(error, self._lane.headers))
        self._missing = missing
        self._state = _State.SKIPPING if missing else _State.BETWEEN

    def _write(self, reply: Reply) -> None:
        status = HTTPStatus(reply.status)
        headers = (*reply.headers, _CLOSE) if self._is_last else reply.headers
        head = [
            b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()),
            *(b"%b: %b\r\n" % header for header in headers),
            self.date,
            b"content-length: %d\r\n\r\n" % len(reply.body),
            reply.body,
        ]
        self.transport.write(b"".join(head))

    # --- the life of the connection --------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._lanes = self.plane.lanes()
        self._since = time.perf_counter()

    def sweep(self, now: float) -> None:
        """End the connection if the other side takes too long: called now and then.

        One timer for all costs nothing; one for each request would.
        """
        if self.flow.write_paused or self.transport.is_closing():
            self._sweep_unread(now)
        elif self._state is _State.GATHERING:
            if now > self._due():
                slow = TooSlow(bodies.SLOW)
                self._lane.answered(slow, now - self._since)
                self._give_up(reply_of(slow, self._lane.headers))
        elif self._state is _State.UVICORN and self._is_in_head:
            # What was asked before it is answered first.
            if self._is_uvicorn_idle() and now - self._since > self.body_timeout_s:
                self._give_up(_SLOW)
        elif self._is_waiting() and now - self._since > self.timeout_keep_alive:
            self.transport.close()

    def _sweep_unread(self, now: float) -> None:
        """End it for good if nothing is read of what was sent."""
        if self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > self.timeout_keep_alive:
            self.transport.abort()  # to close it would wait for the other side

    def _due(self) -> float:
        """Return until when the next part of a body must come; see `bodies`."""
        earned_s = sum(map(len, self._gathered)) / bodies.LEAST_BYTES_PER_S
        return self.body_timeout_s + min(self._heard, self._since + earned_s)

    def _is_waiting(self) -> bool:
        """Say whether all is answered, though of a body some may be missing."""
        if self._state is _State.UVICORN:
            return self._is_uvicorn_idle()
        return self._state in (_State.BETWEEN, _State.SKIPPING)

    def _give_up(self, reply: Reply) -> None:
        """Answer and end the connection; what is being answered has no answer then."""
        if self._state is _State.GATHERING or self._is_uvicorn_idle():
            self._write(reply)
        self.transport.close()

    def shutdown(self) -> None:
        if self._state is _State.UVICORN:
            super().shutdown()
        elif self._state in (_State.ANSWERING, _State.GATHERING):
            self._is_last = True
        else:
            self.transport.close()
        self._see_off()

    def _see_off(self, unread: int = -1, since: float = 0.0) -> None:
        """End it for good once the other side has done nothing for a while.

        `unread`: bytes that were not on their way `since` then.  With none left too it
        has to answer that it hangs up, over TLS.
        """
        if self not in self.connections:
            return
        now, left = self.loop.time(), self.transport.get_write_buffer_size()
        is_its_turn = self.flow.write_paused or self.transport.is_closing()
        if left != unread or not is_its_turn:
            unread, since = left, now
        elif now - since > DEAF_S:
            self.transport.abort()
            return
        self.loop.call_later(LOOK_S, self._see_off, unread, since)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since = None
        if self._state is _State.STALLED:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._job is not None:
            self._job.is_wanted = False
        elif self._state is _State.GATHERING:
            self._lane.batcher.withdraw()
            self._state = _State.SKIPPING
        super().connection_lost(exc)

    # --- what uvicorn is doing -------------------------------------------------------

    def on_message_begin(self) -> None:
        # The request before may have been answered before it was whole.
        self._state = _State.UVICORN
        self._messages += 1
        self._is_in_head, self._head_bytes = True, 0
        self._since = time.perf_counter()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._messages -= 1
        self._take_back()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_in_head:
            self._since = time.perf_counter()
        self._take_back()

    def _take_back(self) -> None:
        """Be between two requests again, if uvicorn is."""
        if not self._messages and self._is_uvicorn_idle():
            self._state, self._since = _State.BETWEEN, time.perf_counter()

    def _is_uvicorn_idle(self) -> bool:
        # None before the first request, whatever its annotation says.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete  # it is the newest of all


def protocol_of(plane: DataPlane, hosts: Hosts) -> type[Protocol]:
    """Return the class of a server's connections."""

    class Connection(Protocol):
        pass

    Connection.plane = plane
    Connection.heads = KnownHeads(hosts)
    Connection.body_timeout_s = plane.settings.body_timeout_s
    Connection.most_body_bytes = min(MOST_BODY_BYTES, plane.settings.max_body_bytes)
    return Connection
