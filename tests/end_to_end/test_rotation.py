"""A rotated credential is dead from the moment that its rotation is answered.

Real processes are called without a pause, in every way that a request can come, with
every version that a credential ever had, while others rotate it.  Whatever was still
on its way when the rotation was answered has to fail with the old version.
"""

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from itertools import count
from uuid import UUID

import numpy as np
import pytest
from attrs import define, field, frozen

import bundles
from end_to_end.event_streams import streaming
from end_to_end.http_world import wire
from end_to_end.processes import (
    PATIENCE_S,
    Place,
    an_agent,
    an_experiment,
    connect,
    endpoint,
    eventually,
    serving,
    tar_of,
    upload,
)

ROTATIONS = 25
BETWEEN_S = 0.3
"""The most time between two of them: some slow calls come in between."""
PAUSE_S = 0.02
"""Of slow callers, on average."""
USER = {"X-External-User-Id": "ann"}
clock = time.perf_counter
pytestmark = pytest.mark.slow


@define(eq=False)
class Chain:
    """One credential with all the versions that it ever had."""

    name: str
    versions: list[str]
    rotate: Callable[[str], Callable[[], str]]
    """Rotates the newest version, and returns what gives the next."""
    known: list[float] = field(factory=lambda: [clock()])
    """Since when each version has been good for sure."""
    asked: list[float] = field(factory=list)
    """When its rotation was asked for."""
    dead: list[float] = field(factory=list)
    """When that was answered."""

    def turn(self) -> None:
        self.asked.append(clock())
        next_version = self.rotate(self.versions[-1])
        self.dead.append(clock())
        self.versions.append(next_version())
        self.known.append(clock())

    def pick(self, number: int) -> tuple[int, str]:
        """Return a version: mostly the newest, or the one before it."""
        newest = len(self.known) - 1
        version = (newest, max(0, newest - 1), random.randint(0, newest))[number % 3]  # noqa: S311 -- guards nothing
        return version, self.versions[version]

    def verdict(self, call: "Called") -> str:
        """Return what is wrong with how a call was answered; or that nothing is."""
        is_dead = call.version < len(self.dead) and call.begun > self.dead[call.version]
        asked = [*self.asked, float("inf")][call.version]
        is_good = call.begun > self.known[call.version] and call.ended < asked
        if is_dead and call.status != 401:
            return f"{call.way}: {call.status} with a dead version"
        if is_good and call.status != 200:
            return f"{call.way}: {call.status} with a good version"
        return "refused" if is_dead else "answered" if is_good else "between"


@frozen
class Called:
    way: str
    version: int
    begun: float
    """Just before the last byte of it was sent."""
    ended: float
    status: int


@frozen(eq=False)
class Server:
    """Where it is, and whose credentials are used and rotated there."""

    address: str
    path: str
    agent_id: str
    chains: dict[str, Chain]


# --- the ways in which a request can come --------------------------------------------

OBS = bundles.observations(64, 4)
ONE = json.dumps({"obs": wire(OBS[:1])}).encode()
MANY = json.dumps({"obs": wire(OBS), "batch_size": 64}).encode()
LARGE = json.dumps({"obs": wire(np.repeat(OBS, 100, axis=0))}).encode()


def head_of(method: str, path: str, token: str, *fields: str) -> bytes:
    said = (f"{method} {path} HTTP/1.1", "Host: localhost",
            f"Authorization: Bearer {token}", *fields)  # fmt: skip
    named = [f"{name}: {value}" for name, value in USER.items()]
    return "\r\n".join((*said, *named)).encode() + b"\r\n\r\n"


def at_once(path: str, token: str, body: bytes) -> list[bytes]:
    length = f"Content-Length: {len(body)}"
    return [head_of("POST", f"{path}/get_action", token, length) + body]


def slowly(path: str, token: str, body: bytes) -> list[bytes]:
    (whole,) = at_once(path, token, body)
    return [whole[:-20], whole[-20:-3], whole[-3:]]


def in_chunks(path: str, token: str, body: bytes) -> list[bytes]:
    head = head_of("POST", f"{path}/get_action", token, "Transfer-Encoding: chunked")
    half = len(body) // 2
    chunks = [b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:half], body[half:])]
    return [head, *chunks, b"0\r\n\r\n"]


def of_the_control_plane(path: str, token: str, body: bytes) -> list[bytes]:
    del path, body
    return [head_of("GET", "/api/v1/projects?limit=1", token)]


WAYS = {
    "one row": (at_once, ONE),
    "a batch": (at_once, MANY),
    "a large body": (at_once, LARGE),
    "a slow body": (slowly, ONE),
    "chunks": (in_chunks, ONE),
}


@define(eq=False)
class Caller:
    """Calls in one way over one connection, which is kept as long as it is."""

    address: str
    _socket: socket.socket | None = None
    _rest: bytes = b""

    def status(self, parts: list[bytes]) -> tuple[float, int]:
        """Return just when the last part was sent, and the status of the answer."""
        if self._socket is None:
            host, port = self.address.split(":")
            self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts[:-1]:
            self._socket.sendall(part)
            time.sleep(random.uniform(0, 2 * PAUSE_S))  # noqa: S311 -- guards nothing
        begun = clock()
        self._socket.sendall(parts[-1])
        return begun, self._answer()

    def _answer(self) -> int:
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        said = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(said[b"content-length"])
        while len(self._rest) < size:
            self._receive()
        self._rest = self._rest[size:]
        if said.get(b"connection") == b"close":
            self.close()
        return int(head.split(b" ")[1])

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(1 << 16)
        assert data, "the connection was closed without an answer"
        self._rest += data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""


# --- what happens at the same time ---------------------------------------------------


@define(eq=False)
class Siege:
    server: Server
    over: threading.Event = field(factory=threading.Event)
    calls: list[tuple[Chain, Called]] = field(factory=list)
    failures: list[BaseException] = field(factory=list)

    def run(self) -> None:
        """Call in every way until all has been rotated often enough."""
        rotating = [self._started(self._rotate, c) for c in self.server.chains.values()]
        calling = [
            self._started(self._call, chain, way, parts_of, body)
            for chain, way, parts_of, body in self._ways()
        ]
        for thread in rotating:
            thread.join()
        self.over.set()
        for thread in calling:
            thread.join()
        assert self.failures == []

    def _ways(self) -> Iterator[tuple[Chain, str, Callable, bytes]]:
        chains = self.server.chains
        for way, (parts_of, body) in WAYS.items():
            yield chains["key"], way, parts_of, body
        for name in ("pat", "org"):
            yield chains[name], f"{name} on the data plane", slowly, ONE
            yield (
                chains[name],
                f"{name} on the control plane",
                of_the_control_plane,
                b"",
            )

    def _started(self, do: Callable, *given: object) -> threading.Thread:
        def run() -> None:
            try:
                do(*given)
            except BaseException as error:  # noqa: BLE001 -- the test raises it
                self.failures.append(error)
                self.over.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def _rotate(self, chain: Chain) -> None:
        for _ in range(ROTATIONS):
            if self.over.wait(random.uniform(0, BETWEEN_S)):  # noqa: S311 -- guards nothing
                return
            chain.turn()

    def _call(self, chain: Chain, way: str, parts_of: Callable, body: bytes) -> None:
        caller = Caller(self.server.address)
        for number in count():
            if self.over.is_set():
                break
            version, token = chain.pick(number)
            parts = parts_of(self.server.path, token, body)
            begun, status = caller.status(parts)
            self.calls.append((chain, Called(way, version, begun, clock(), status)))
        caller.close()


def asked(address: str, method: str, path: str, token: str, body: object = None):
    connection = HTTPConnection(address, timeout=PATIENCE_S)
    headers = {"Authorization": f"Bearer {token}", **USER}
    payload = None if body is None else json.dumps(body)
    connection.request(method, path, payload, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status in (200, 201), answer
    return answer


@pytest.fixture(name="server", params=[1, 2], ids=lambda n: f"{n} workers")
def _server(request, tmp_path):
    place = Place(tmp_path)
    options = ("--token-file", place.token_file, "--workers", request.param)
    environ = {"ARENA_FAILED_AUTH_RATE": "0"}
    with serving(place, *options, environ=environ) as process:
        yield prepared(process, tmp_path)


def prepared(process, folder) -> Server:
    client, address = process.client(), process.address
    experiment = an_experiment(client)
    bundle = tar_of(bundles.cartpole(folder / "bundle"))
    upload(client, experiment, 1, bundle).expect(201)
    agent_id = an_agent(client, experiment)
    connect(client, agent_id)
    live = endpoint(client, agent_id)
    made = [
        client.post("/api/v1/tokens", {"name": "x", "kind": "org", "role": role})
        for role in ("manager", "member")
    ]
    manager, member = made[0]["token"], made[1]
    (mine,) = (
        token
        for token in client.get("/api/v1/tokens")["items"]
        if token["kind"] == "pat"
    )

    def key(_: str) -> Callable[[], str]:
        path = f"/api/v1/agents/{agent_id}"
        asked(address, "POST", f"{path}/rotate-key", manager)
        return lambda: asked(address, "GET", f"{path}/access", manager)["api_key"]

    def pat(token: str) -> Callable[[], str]:
        return rotated(address, mine["id"], token)

    def org(_: str) -> Callable[[], str]:
        return rotated(address, member["id"], manager)

    chains = (
        Chain("key", [live.key], key),
        Chain("pat", [process.place.token], pat),
        Chain("org", [member["token"]], org),
    )
    return Server(address, live.path, agent_id, {chain.name: chain for chain in chains})


def rotated(address: str, token_id: str, by: str) -> Callable[[], str]:
    answer = asked(address, "POST", f"/api/v1/tokens/{token_id}/rotate", by)
    return lambda: answer["token"]


# --- what must be so -----------------------------------------------------------------


def test_nothing_that_is_sent_after_a_rotation_is_answered_for_an_old_version(server):
    siege = Siege(server)
    siege.run()
    found = Counter((call.way, chain.verdict(call)) for chain, call in siege.calls)
    wrong = {said: n for (_, said), n in found.items() if ":" in said}
    assert wrong == {}
    for way in {way for way, _ in found}:
        assert found[way, "refused"] > 0, found
        assert found[way, "answered"] > 0, found


def test_a_stream_sends_nothing_from_beyond_the_end_of_its_token(server):
    pat, org = server.chains["pat"], server.chains["org"]
    streams, over = [], threading.Event()

    def write() -> None:
        body = {"name": "p", "kind": "classic"}
        while not over.is_set():
            asked(server.address, "POST", "/api/v1/projects", org.versions[0], body)

    writing = threading.Thread(target=write)
    writing.start()
    for version in range(8):
        opened = [Following(server.address, pat.versions[version]) for _ in range(3)]
        for stream in opened:
            stream.start()
        eventually(lambda: all(s.seen for s in opened), what="each has seen something")  # noqa: B023 -- asked at once
        pat.turn()
        streams.append(opened)
    over.set()
    writing.join()
    newest = pat.versions[-1]
    of_token = f"/api/v1/events?stream={UUID(newest.split('_')[2])}"
    log = asked(server.address, "GET", of_token, newest)["items"]
    ends = [e["position"] for e in log if e["name"].endswith("access_token_rotated")]
    for opened, end in zip(streams, ends, strict=True):
        for stream in opened:
            stream.join(PATIENCE_S)
            assert not stream.is_alive(), "it goes on without a good token"
            assert max(stream.seen) < end


class Following(threading.Thread):
    """Follows the log for as long as it is let."""

    def __init__(self, address: str, token: str) -> None:
        super().__init__()
        self.seen: list[int] = []
        self._stream = streaming(address, token)

    def run(self) -> None:
        for position in self._stream.ids():
            self.seen.append(position)
        self._stream.close()
