"""Callers that send slowly are not waited for, and those who pause a little are."""

import json
import socket
import threading
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from arena_core.domain.errors import TooSlow
from arena_core.entrypoints.http import bodies
from arena_core.entrypoints.http.server import Server, listen

import bundles
from end_to_end.http_world import opened, packed, wire

TIMEOUT_S = 0.2
LONG_S = 60.0
UPLOAD = "/api/v1/experiments/{}/checkpoints?step=20"


@contextmanager
def served(body_timeout_s):
    with opened(body_timeout_s=body_timeout_s) as world:
        listener = listen("127.0.0.1", 0)
        with Server(world.app, listener).in_background():
            world.arena.address = listener.getsockname()
            yield world


@pytest.fixture
def hasty():
    with served(TIMEOUT_S) as world:
        yield world


@pytest.fixture
def patient():
    with served(LONG_S) as world:
        yield world


class Caller:
    """A connection on which a request is sent by hand."""

    def __init__(self, world, path, token, *, length=None):
        framing = "Transfer-Encoding: chunked"
        if length is not None:
            framing = f"Content-Length: {length}"
        self.socket = socket.create_connection(world.arena.address, timeout=LONG_S)
        self.send(
            f"POST {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {token}\r\n"
            f"{framing}\r\n\r\n".encode()
        )

    def send(self, data):
        self.socket.sendall(data)

    def trickle(self, every_s):
        """Send one byte after the other until there is an answer."""
        answered = threading.Event()

        def send():
            try:
                while not answered.wait(every_s):
                    self.send(b" ")
            except OSError:
                pass  # the connection was closed

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        try:
            return self.answer()
        finally:
            answered.set()
            thread.join(LONG_S)

    def answer(self):
        """Return the status and the body, once the connection is closed."""
        data = b""
        with self.socket:
            while chunk := self._received():
                data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"connection: close" in head.lower()
        return int(head.split(b" ")[1]), json.loads(body)

    def _received(self):
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:  # with bytes of ours that nobody has read
            return b""

    def first_answer(self):
        """Return the status of the answer; the connection stays."""
        with self.socket:
            return int(self.socket.recv(65536).split(b" ")[1])


def is_refused(answer):
    status, body = answer
    assert status == 408
    assert body["detail"] == "The body took too long to come: send it at once."
    return True


def test_who_announces_a_body_and_sends_nothing_is_answered_408(hasty):
    caller = Caller(hasty, "/api/v1/projects", hasty.token(), length=100)
    status, problem = caller.answer()
    assert is_refused((status, problem))
    assert (problem["code"], problem["status"]) == ("TOO_SLOW", 408)
    assert not hasty.arena.projects.list()


def test_who_stops_in_the_middle_of_a_body_is_answered_408(hasty):
    caller = Caller(hasty, "/api/v1/projects", hasty.token())
    caller.send(b"8\r\n" + b'{"name":' + b"\r\n")
    assert is_refused(caller.answer())


def test_who_sends_byte_after_byte_is_answered_408_too(hasty):
    caller = Caller(hasty, "/api/v1/projects", hasty.token(), length=1_000_000)
    assert is_refused(caller.trickle(TIMEOUT_S / 10))


def test_an_upload_that_stops_is_answered_408_and_nothing_is_left_of_it(
    hasty, tmp_path
):
    made = hasty.experiment()
    archive = packed(bundles.cartpole(tmp_path))
    caller = Caller(
        hasty, UPLOAD.format(made.id), hasty.token(), length=len(archive) + 1
    )
    caller.send(archive)
    assert is_refused(caller.answer())
    assert not hasty.arena.experiments.checkpoints(made.id)


def test_an_upload_byte_after_byte_is_answered_408(hasty):
    made = hasty.experiment()
    caller = Caller(hasty, UPLOAD.format(made.id), hasty.token(), length=1_000_000)
    assert is_refused(caller.trickle(TIMEOUT_S / 10))


def test_a_call_of_an_agent_that_stops_is_answered_408(hasty, tmp_path):
    live = hasty.live(bundles.cartpole(tmp_path))
    # Larger than what the quicker protocol gathers by itself.
    caller = Caller(hasty, f"{live.path}/get_action", live.key, length=2_000_000)
    caller.send(b'{"obs":')
    assert is_refused(caller.answer())


def test_who_pauses_a_little_is_waited_for(patient, tmp_path):
    made = patient.experiment()
    archive = packed(bundles.cartpole(tmp_path))
    caller = Caller(
        patient, UPLOAD.format(made.id), patient.token(), length=len(archive)
    )
    middle = len(archive) // 2
    caller.send(archive[:middle])
    threading.Event().wait(0.3)
    caller.send(archive[middle:])
    assert caller.first_answer() == 201
    live = patient.live(bundles.cartpole(tmp_path / "live"))
    body = json.dumps({"obs": wire(np.zeros((1, 4)))}).encode()
    caller = Caller(patient, f"{live.path}/get_action", live.key, length=len(body))
    for byte in body:
        caller.send(bytes([byte]))
    assert caller.first_answer() == 200


# --- how long is waited --------------------------------------------------------------


class Slow:
    """What a body comes from, on a clock of its own."""

    def __init__(self, monkeypatch):
        self.now, self.allowed = 0.0, []
        monkeypatch.setattr(
            bodies, "time", SimpleNamespace(perf_counter=lambda: self.now)
        )
        monkeypatch.setattr(bodies, "asyncio", SimpleNamespace(timeout=self._within))

    @asynccontextmanager
    async def _within(self, seconds):
        self.allowed.append(seconds)
        begun = self.now
        yield
        if self.now - begun > seconds:
            raise TimeoutError

    def of(self, *parts):
        coming = iter(parts)

        async def receive():
            pause_s, size = next(coming)
            self.now += pause_s
            return {"body": b" " * size, "type": "http.request", "more_body": size > 0}

        return receive

    def read(self, *parts):
        reading = bodies.read(self.of(*parts), None, limit_bytes=10**9, timeout_s=10.0)
        with pytest.raises((StopIteration, TooSlow)) as ended:
            reading.send(None)
        return ended.value


@pytest.fixture
def slow(monkeypatch):
    return Slow(monkeypatch)


def test_each_part_may_take_the_time_that_is_set_and_no_more(slow):
    whole = slow.read((10, 10**6), (10, 10**6), (10, 0))
    assert len(whole.value) == 2 * 10**6
    assert slow.allowed == [10, 10, 10]
    assert isinstance(slow.read((0, 10**6), (10.001, 1)), TooSlow)


def test_all_parts_together_may_take_that_time_and_what_their_bytes_earn(slow):
    slow.read((9, 500), (1, 500), (1, 0))
    assert slow.allowed == [10, 2, 2]
    assert isinstance(slow.read(*[(9, 1)] * 3), TooSlow)
