"""More is asked than can be done, or too slowly: who is refused, how, and who not."""

import json
import signal
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from attrs import define, field, frozen

from arena_core.application.pace import Pace
from arena_core.entrypoints.http import bodies
from arena_core.entrypoints.http.protocol import MOST_HEAD_BYTES, _State
from arena_core.entrypoints.http.server import Server, listen

import bundles
from end_to_end.connections import KEEP_ALIVE_S, Side, answers_in, looping
from end_to_end.http_world import opened, wire
from end_to_end.processes import (
    PATIENCE_S,
    Place,
    an_agent,
    an_experiment,
    connect,
    endpoint,
    serving,
    tar_of,
    upload,
)

OBS = bundles.observations(2, 4)
BODY = json.dumps({"obs": wire(OBS)}).encode()
CONTRACT = {"arena-agent", "arena-checkpoint", "arena-log-position"}
LAST = b"GET /livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
TIMEOUT_S = 5.0


def post(live, *fields, body=BODY, length=None, key=None, verb="get_action"):
    lines = [
        f"POST {live.path}/{verb} HTTP/1.1".encode(),
        b"Host: here",
        f"Authorization: Bearer {key or live.key}".encode(),
        *fields,
    ]
    if CHUNKED in fields:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def detail(answer):
    body = json.loads(answer.body)
    assert body.keys() == {"detail"}
    assert body["detail"].endswith(".")
    return body["detail"]


@define(eq=False)
class Gate:
    """A runtime that answers when it is let, and says how often it was asked."""

    runtime: object
    opened: threading.Event = field(factory=threading.Event)
    begun: threading.Semaphore = field(factory=lambda: threading.Semaphore(0))
    rows: list[int] = field(factory=list)

    @property
    def name(self):
        return self.runtime.name

    @property
    def device(self):
        return self.runtime.device

    def run(self, inputs):
        self.rows.append(len(inputs["obs"]))
        self.begun.release()
        assert self.opened.wait(PATIENCE_S)
        return self.runtime.run(inputs)

    def close(self):
        self.runtime.close()


@frozen(eq=False)
class Busy:
    """A world in which one of two agents takes its time."""

    world: object
    side: Side
    slow: object
    quick: object
    gate: Gate

    def live_too(self, folders):
        return self.world.live(bundles.cartpole(folders.mktemp("other")))

    def begin(self):
        """Return somebody for whom the slow model is running now."""
        connection = self.side.connect()
        connection.send(post(self.slow, b"Arena-Timeout-Ms: 60000"))
        connection.until(lambda: self.gate.begun.acquire(blocking=False))
        return connection

    def be_overdue(self):
        """Let the run that goes on be one that should have ended by now."""
        live = self.world.arena.application.registry.live(str(self.slow.deployment_id))
        self.side.app.data_plane._lanes._batchers[live.model]._busy_until = 0.0


RUN_S = 1000.0
"""What a run of the slow model is expected to take, of two rows at most."""


@contextmanager
def busy(folders, **settings):
    with opened(**settings) as world, looping() as loop:
        slow = world.live(bundles.cartpole(folders.mktemp("slow")))
        quick = world.live(bundles.cartpole(folders.mktemp("quick")))
        registry = world.arena.application.registry
        model = registry.live(str(slow.deployment_id)).model
        gate = Gate(model.single.runtime)
        object.__setattr__(model.single, "runtime", gate)
        object.__setattr__(model, "pace", Pace(RUN_S, 0.0, 2))
        side = Side(world.arena.asgi(), loop)
        try:
            yield Busy(world, side, slow, quick, gate)
        finally:
            gate.opened.set()
            side.settle()


@pytest.fixture
def world(tmp_path_factory):
    with busy(tmp_path_factory) as world:
        yield world


BOTH_WAYS = pytest.mark.parametrize("way", [(), (CHUNKED,)], ids=["ours", "ASGI"])


# --- more than can be done -----------------------------------------------------------


@BOTH_WAYS
def test_who_would_be_answered_too_late_is_refused_before_the_body_comes(world, way):
    first = world.begin()
    second = world.side.connect()
    second.send(post(world.slow, *way))

    third = world.side.connect()
    request = post(world.slow, b"Arena-Timeout-Ms: 60000", *way)
    end = request.index(b"\r\n\r\n") + 4
    answer = third.ask(request[:end])
    assert answer.status == 503
    assert RUN_S < int(answer.head["retry-after"]) <= 2 * RUN_S
    assert answer.head.keys() >= CONTRACT
    assert "longer deadline" in detail(answer)
    third.send(request[end:])
    assert third.protocol._state is _State.BETWEEN
    assert third.ask(post(world.quick)).status == 200, "the connection goes on"

    world.gate.opened.set()
    for waiting in (first, second):
        answer = waiting.answer()
        assert answer.status == 200
        assert answer.body == third.ask(post(world.quick)).body
    assert world.gate.rows == [2, 2]


@BOTH_WAYS
def test_who_is_refused_with_a_whole_body_can_ask_again_at_once(world, way):
    world.begin()
    world.side.connect().send(post(world.slow))
    refused = world.side.connect()
    for _ in range(3):
        again = post(world.slow, b"Arena-Timeout-Ms: 60000", *way)
        assert refused.ask(again).status == 503
    status = f"GET {world.slow.path}/status HTTP/1.1\r\nHost: here\r\n\r\n"
    assert refused.ask(status.encode()).status == 200


def test_no_deadline_is_longer_than_the_longest(world):
    world.begin()
    world.side.connect().send(post(world.slow))
    asking = world.side.connect()
    for milliseconds in (1, 60_000, 999_999_999):
        header = b"Arena-Timeout-Ms: %d" % milliseconds
        assert asking.ask(post(world.slow, header)).status == 503


@BOTH_WAYS
def test_who_has_waited_too_long_is_answered_504_and_not_run(world, way):
    world.begin()
    world.be_overdue()
    late = world.side.connect()
    late.send(post(world.slow, b"Arena-Timeout-Ms: 1", *way))
    pass_s(late, 0.002)
    world.gate.opened.set()
    answer = late.answer()
    assert answer.status == 504
    assert answer.head.keys() >= CONTRACT
    assert "deadline" in detail(answer)
    assert world.gate.rows == [2]
    assert late.ask(post(world.quick, *way)).status == 200


@BOTH_WAYS
@pytest.mark.parametrize(
    ("header", "status"), [((b"Arena-Timeout-Ms: 1",), 504), ((), 200)]
)
def test_the_time_that_a_body_takes_is_of_the_deadline_that_was_asked_for(
    world, way, header, status
):
    asking = world.side.connect()
    request = post(world.quick, *header, *way)
    asking.send(request[:-20])
    pass_s(asking, 0.002)
    asking.protocol._since -= RUN_S  # as if it had taken long
    assert asking.ask(request[-20:]).status == status


def pass_s(connection, seconds):
    over = time.perf_counter() + seconds
    connection.until(lambda: time.perf_counter() > over)


@BOTH_WAYS
@pytest.mark.parametrize(
    "text", [b"0", b"-1", b"1.5", b"x", b"", b"1000000000", b"1, 2"]
)
def test_a_deadline_that_is_none_is_refused(world, way, text):
    answer = world.side.connect().ask(
        post(world.quick, b"Arena-Timeout-Ms: " + text, *way)
    )
    assert answer.status == 400
    assert "Arena-Timeout-Ms" in detail(answer)


def test_what_nobody_waits_for_is_not_run(world):
    first = world.begin()
    leaving = world.side.connect()
    leaving.send(post(world.slow))
    leaving.leave()
    leaving.until(lambda: leaving.protocol not in world.side.state.connections)
    world.gate.opened.set()
    assert first.answer().status == 200
    assert first.ask(post(world.slow)).status == 200
    assert world.gate.rows == [2, 2]


def test_who_leaves_while_being_answered_disturbs_nobody(world, caplog):
    leaving = world.begin()
    staying = world.side.connect()
    staying.send(post(world.slow))
    leaving.leave()
    leaving.until(lambda: leaving.protocol not in world.side.state.connections)
    world.gate.opened.set()
    assert staying.answer().status == 200
    assert not caplog.records


# --- more than one may ask -----------------------------------------------------------


@BOTH_WAYS
def test_each_key_has_a_rate_of_its_own(tmp_path_factory, way):
    with busy(tmp_path_factory, rate_limit=0.001) as world:
        asking = world.side.connect()
        other = world.live_too(tmp_path_factory)
        assert asking.ask(post(world.quick, *way)).status == 200
        answer = asking.ask(post(world.quick, *way))
        assert answer.status == 429
        assert 900 < int(answer.head["retry-after"]) <= 1000
        assert answer.head.keys() >= CONTRACT
        assert "0.001 times a second" in detail(answer)
        assert asking.ask(post(other, *way)).status == 200
        member = world.world.token("member")
        assert asking.ask(post(world.quick, *way, key=member)).status == 200
        assert asking.ask(post(world.quick, *way, key=member)).status == 429
        status = f"GET {world.quick.path}/status HTTP/1.1\r\nHost: here\r\n\r\n"
        assert {asking.ask(status.encode()).status for _ in range(5)} == {200}


@pytest.mark.parametrize(
    "spelled",
    [
        lambda request: request,
        lambda request: request.replace(b"Bearer ", b"bearer "),
        lambda request: request.replace(b"Bearer ", b"Bearer    "),
        lambda request: request.replace(b"Host:", b"Content-Type: x/y\r\nHost:"),
        lambda request: request.replace(b"Content-L", b"Authorization: x\r\nContent-L"),
        lambda request: request.replace(b"Host:", b"Connection: close\r\nHost:"),
        lambda request: request.replace(b"get_action", b"predict"),
    ],
)
def test_no_spelling_of_a_key_has_another_rate(tmp_path_factory, spelled):
    with busy(tmp_path_factory, rate_limit=0.001) as world:
        request = post(world.quick)
        assert world.side.connect().ask(request).status == 200
        assert world.side.connect().ask(spelled(request)).status == 429


def test_a_request_in_parts_is_counted_once_whatever_follows_it(tmp_path_factory):
    with busy(tmp_path_factory, rate_limit=2.0) as world:
        asking, request = world.side.connect(), post(world.quick)
        for part in (request[:-1], request[-1:] + request[:-1], request[-1:]):
            asking.send(part)
        assert [asking.answer().status for _ in range(2)] == [200, 200]
        assert asking.ask(request).status == 429


# --- too slowly ----------------------------------------------------------------------


@pytest.fixture
def hasty(tmp_path_factory):
    with busy(tmp_path_factory, body_timeout_s=TIMEOUT_S) as world:
        yield world


def swept(connection, *, after_s):
    """Sweep as if so much time had passed; return whether it is over."""
    connection.protocol.sweep(time.perf_counter() + after_s)
    return connection.protocol.transport.is_closing()


def assert_slow(connection, what):
    (answer,) = answers_in(connection.rest())
    assert (answer.status, answer.head["connection"]) == (408, "close")
    assert detail(answer) == f"The {what} took too long to come: send it at once."
    return answer


@pytest.mark.parametrize("place", [0, 1])
def test_who_asks_nothing_is_let_go_after_a_while(hasty, place):
    for _ in range(2):
        idle = hasty.side.connect()
        if place:
            assert idle.ask(post(hasty.quick, *(CHUNKED,) * place)).status == 200
        assert not swept(idle, after_s=KEEP_ALIVE_S - 1)
        assert swept(idle, after_s=KEEP_ALIVE_S + 1)
        assert idle.rest() == b""


@pytest.mark.parametrize("size", [1, 30])
def test_half_a_head_is_answered_408(hasty, size):
    slow = hasty.side.connect()
    assert slow.ask(post(hasty.quick)).status == 200
    slow.send(post(hasty.quick)[:size])
    assert not swept(slow, after_s=TIMEOUT_S - 1)
    assert swept(slow, after_s=TIMEOUT_S + 1)
    assert_slow(slow, "request")


def test_half_a_head_behind_a_request_waits_for_its_answer(hasty):
    asking = hasty.side.connect()
    asking.send(post(hasty.slow, CHUNKED))
    asking.until(lambda: hasty.gate.begun.acquire(blocking=False))
    asking.send(LAST[:10])
    assert not swept(asking, after_s=100 * TIMEOUT_S)
    hasty.gate.opened.set()
    assert asking.answer().status == 200
    assert swept(asking, after_s=TIMEOUT_S + 1)
    assert_slow(asking, "request")


def test_a_head_without_end_takes_no_place_of_an_answer(hasty):
    asking = hasty.side.connect()
    asking.send(post(hasty.slow, CHUNKED))
    asking.until(lambda: hasty.gate.begun.acquire(blocking=False))
    asking.send(b"GET / HTTP/1.1\r\nX: ")
    while not asking.protocol.transport.is_closing():
        asking.send(b"x" * 1000)
        assert asking.sent < 2 * MOST_HEAD_BYTES
    assert asking.rest() == b""


def test_half_a_body_is_answered_408_and_promises_nothing(hasty):
    slow = hasty.side.connect()
    slow.send(post(hasty.quick)[:-1])
    assert slow.protocol._state is _State.GATHERING
    assert hasty.side.promised() == 1
    assert not swept(slow, after_s=TIMEOUT_S - 1)
    assert swept(slow, after_s=TIMEOUT_S + 1)
    assert assert_slow(slow, "body").head.keys() >= CONTRACT
    assert not swept_again_answers(slow)


def swept_again_answers(connection):
    connection.protocol.sweep(time.perf_counter() + 2 * TIMEOUT_S)
    return connection.rest()


def test_each_byte_of_a_body_earns_a_little_time_and_a_pause_takes_it(
    hasty,
):
    body = BODY + b" " * 5000
    earned_s = len(body) / bodies.LEAST_BYTES_PER_S
    slow, begun = hasty.side.connect(), time.perf_counter()
    slow.send(post(hasty.quick, body=body[:-1], length=len(body)))
    assert earned_s > TIMEOUT_S
    slow.protocol._heard = begun + 1000.0
    assert not swept(slow, after_s=earned_s + TIMEOUT_S - 1)
    slow.protocol._heard = begun
    assert swept(slow, after_s=TIMEOUT_S + 1)
    assert_slow(slow, "body")


def test_a_trickle_is_not_taken_for_ever(hasty):
    slow = hasty.side.connect()
    slow.send(post(hasty.quick, body=b" ", length=200))
    for _ in range(10):
        slow.send(b" ")
    slow.protocol._heard += 1000.0
    assert swept(slow, after_s=TIMEOUT_S + 2)
    assert_slow(slow, "body")


@BOTH_WAYS
def test_what_is_being_answered_may_take_its_time(hasty, way):
    asking = hasty.side.connect()
    asking.send(post(hasty.slow, *way))
    asking.until(lambda: hasty.gate.begun.acquire(blocking=False))
    assert not swept(asking, after_s=1000 * TIMEOUT_S)
    hasty.gate.opened.set()
    assert asking.answer().status == 200


@pytest.mark.parametrize("key", ["", "wrong"])
def test_the_body_of_what_is_refused_is_not_waited_for_longer_than_a_request(
    hasty, key
):
    hasty.begin()
    hasty.side.connect().send(post(hasty.slow))
    refused = hasty.side.connect()
    request = post(hasty.slow, b"Arena-Timeout-Ms: 1", key=key)
    answer = refused.ask(request[:-1])
    assert answer.status == (401 if key else 503)
    assert not swept(refused, after_s=KEEP_ALIVE_S - 1)
    assert swept(refused, after_s=KEEP_ALIVE_S + 1)
    assert refused.rest() == b""


def test_whoever_does_not_read_is_let_go_after_a_while(hasty):
    deaf = hasty.side.connect()
    deaf.ask_unread(post(hasty.quick))
    assert not swept(deaf, after_s=0)
    assert not swept(deaf, after_s=KEEP_ALIVE_S - 1)
    assert swept(deaf, after_s=KEEP_ALIVE_S + 1)
    deaf.until(lambda: not hasty.side.state.connections)


def test_whoever_reads_a_little_is_not_let_go(hasty):
    asking = hasty.side.connect()
    asking.ask_unread(post(hasty.quick))
    assert not swept(asking, after_s=0)
    while asking.protocol.flow.write_paused:
        asking._receive()
    asking.ask_unread(post(hasty.quick))
    assert not swept(asking, after_s=KEEP_ALIVE_S + 1)


@pytest.mark.slow
def test_a_real_server_looks_after_it_by_itself(tmp_path):
    with opened(body_timeout_s=0.2) as world:
        live = world.live(bundles.cartpole(tmp_path))
        listener = listen("127.0.0.1", 0)
        server = Server(world.app, listener)
        server.config.timeout_keep_alive = 1
        with server.in_background():
            request = post(live)
            for part in (request[:10], request[:-1], b"", request):
                with socket.create_connection(
                    listener.getsockname(), PATIENCE_S
                ) as caller:
                    caller.sendall(part)
                    answered = b"".join(iter(lambda: caller.recv(65536), b""))
                if part in (b"", request):
                    assert answered.count(b" 200 OK") == (part == request)
                else:
                    assert answered.startswith(b"HTTP/1.1 408 Request Timeout")


# --- the end -------------------------------------------------------------------------


def test_who_asks_nothing_is_let_go_when_the_server_ends(world):
    idle = world.side.connect()
    idle.protocol.shutdown()
    assert idle.rest() == b""


@pytest.mark.parametrize("part", [1, len(BODY)])
@pytest.mark.parametrize("is_rotated", [False, True])
def test_what_was_begun_is_answered_when_the_server_ends(world, part, is_rotated):
    asking = world.side.connect()
    request = post(world.quick)
    asking.send(request[:-part])
    asking.protocol.shutdown()
    if is_rotated:
        world.world.arena.agents.rotate_key(world.quick.agent_id)
    asking.send(request[-part:] + post(world.quick))
    (answer,) = answers_in(asking.rest())
    assert answer.status == (401 if is_rotated else 200)
    assert answer.head["connection"] == "close"


@BOTH_WAYS
def test_what_is_being_answered_is_answered_when_the_server_ends(world, way):
    asking = world.side.connect()
    asking.send(post(world.slow, *way))
    asking.until(lambda: world.gate.begun.acquire(blocking=False))
    asking.protocol.shutdown()
    world.gate.opened.set()
    (answer,) = answers_in(asking.rest())
    assert (answer.status, answer.head["connection"]) == (200, "close")


def test_the_body_of_what_is_refused_is_not_waited_for_when_the_server_ends(world):
    world.begin()
    world.side.connect().send(post(world.slow))
    refused = world.side.connect()
    answer = refused.ask(post(world.slow, b"Arena-Timeout-Ms: 1")[:-1])
    assert answer.status == 503
    refused.protocol.shutdown()
    assert refused.rest() == b""


@pytest.mark.slow
def test_a_served_process_answers_what_was_begun_and_exits_0(tmp_path):
    bundle = tar_of(bundles.cartpole(tmp_path / "bundle"))
    environ = {"ARENA_ALLOWED_HOSTS": "here, 127.0.0.1"}
    with serving(Place(tmp_path), environ=environ) as server:
        client = server.client()
        experiment = an_experiment(client)
        upload(client, experiment, 1, bundle).expect(201)
        agent = an_agent(client, experiment)
        connect(client, agent)
        served = endpoint(client, agent)
        client.close()
        host, port = server.address.split(":")
        request = post(served)
        address = (host, int(port))
        with socket.create_connection(address, PATIENCE_S) as caller:
            caller.sendall(request + request[:-1])
            assert caller.recv(65536).startswith(b"HTTP/1.1 200 OK")
            server.signal(signal.SIGTERM)
            await_refusal(address)
            caller.sendall(request[-1:])
            answered = b"".join(iter(lambda: caller.recv(65536), b""))
        (answer,) = answers_in(answered)
        assert (answer.status, answer.head["connection"]) == (200, "close")
        assert server.wait() == 0, server.story()


def await_refusal(address):
    over = time.monotonic() + PATIENCE_S
    while time.monotonic() < over:
        try:
            socket.create_connection(address, PATIENCE_S).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)
    pytest.fail("it still listens")
