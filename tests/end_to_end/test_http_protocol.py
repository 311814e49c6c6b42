"""The quicker protocol says what uvicorn and ASGI say, and sees the same requests."""

import json
import socket
from itertools import pairwise
from uuid import uuid4

import hypothesis.strategies as st
import numpy as np
import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings

import arena_core
from arena_core.application import npy
from arena_core.entrypoints.http import protocol

import bundles
from end_to_end.connections import Side, answers_in, looping
from end_to_end.http_world import opened, wire

LIMIT = 3000
OBS = bundles.observations(2, 4)
PLAIN = json.dumps({"obs": wire(OBS), "batch_size": 2}).encode()
RIGHT = bundles.CARTPOLE(OBS).argmax(axis=1)
NOWHERE = uuid4()
CONTRACT = {"arena-agent", "arena-checkpoint", "arena-log-position"}
RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@frozen(eq=False)
class Sides:
    """The same world behind both: `ours` has the protocol, `plain` is uvicorn's."""

    world: object
    ours: Side
    plain: Side
    live: object
    predicting: object
    words: dict[bytes, bytes]
    """What stands in angle brackets in the requests below."""

    def filled(self, text):
        for name, value in self.words.items():
            text = text.replace(b"<%b>" % name, value)
        return text

    def settle(self):
        self.ours.settle()
        self.plain.settle()


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    with opened(max_body_bytes=LIMIT) as world, looping() as loop:
        live = world.live(bundles.cartpole(tmp_path_factory.mktemp("pole")))
        predicting = world.live(
            bundles.regressor(tmp_path_factory.mktemp("regressor")),
            algorithm="Supervised",
        )
        words = {
            b"pole": live.path.encode(),
            b"regressor": predicting.path.encode(),
            b"nowhere": b"/inference/%b" % str(NOWHERE).encode(),
            b"key": live.key.encode(),
            b"other": predicting.key.encode(),
            b"member": world.token("member").encode(),
        }
        ours, plain = (
            Side(world.arena.asgi(), loop, is_ours=is_ours) for is_ours in (True, False)
        )
        yield Sides(world, ours, plain, live, predicting, words)


def post(
    *fields,
    target=b"<pole>/get_action",
    body=PLAIN,
    length=None,
    authorization=b"<key>",
):
    """Return a request as most callers write it, and what is put in between."""
    size = len(body) if length is None else length
    lines = [
        b"POST %b HTTP/1.1" % target,
        b"Host: here",
        b"Authorization: Bearer %b" % authorization,
        *fields,
        b"Content-Length: %d" % size,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


RAW = b"Content-Type: application/x-npy"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PLAIN), PLAIN)
HOST = b" HTTP/1.1\r\nHost: here\r\n"
WHOLE = {
    "plain": post(),
    "with a mask": post(
        body=json.dumps(
            {"obs": wire(OBS), "action_mask": wire(RIGHT[:, None] != np.arange(2))}
        ).encode()
    ),
    "raw": post(RAW, body=npy.encode(OBS)),
    "raw with a name": post(RAW, b"Arena-Arrays: obs", body=npy.encode(OBS)),
    "raw with a wrong name": post(RAW, b"Arena-Arrays: x", body=npy.encode(OBS)),
    "raw with no name": post(RAW, b"Arena-Arrays: ,", body=npy.encode(OBS)),
    "sampled": post(target=b"<pole>/get_action?mode=sample&seed=5"),
    "of no mode": post(target=b"<pole>/get_action?mode=best"),
    "with a fragment": post(target=b"<pole>/get_action?x=1#&mode=sample&seed=5"),
    "a prediction": post(
        target=b"<regressor>/predict",
        authorization=b"<other>",
        body=json.dumps({"inputs": wire(np.ones((1, 3)))}).encode(),
    ),
    "the wrong verb": post(target=b"<pole>/predict"),
    "not finite": post(body=json.dumps({"obs": wire([[np.nan] * 4])}).encode()),
    "no JSON": post(body=b"{"),
    "empty": post(body=b""),
    "too large": post(body=b" " * (LIMIT + 1)),
    "patient": post(b"Arena-Timeout-Ms: 30000"),
    "of no time": post(b"Arena-Timeout-Ms: 0"),
    "of half a millisecond": post(b"Arena-Timeout-Ms: 0.5"),
    "of a member": post(authorization=b"<member>"),
    "of a stranger": post(authorization=b"<key>x"),
    "of another key": post(authorization=b"<other>"),
    "nowhere": post(target=b"<nowhere>/get_action"),
    "chunked": b"POST <pole>/get_action"
    + HOST
    + b"Authorization: Bearer <key>\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKED,
    "expecting": post(b"Expect: 100-continue"),
    "in capitals": post().replace(b"Content-Length", b"CONTENT-LENGTH"),
    "with a long header": post(b"X-Long: " + b"x" * 5000),
    "a wrong method": b"GET <pole>/get_action" + HOST + b"\r\n",
    "the status": b"GET <pole>/status" + HOST + b"\r\n",
    "nothing at all": b"GET /nothing" + HOST + b"\r\n",
    "after empty lines": b"\r\n\r\n" + post(),
}
LAST = b"GET <pole>/status" + HOST + b"Connection: close\r\n\r\n"
"""Closes the connection, so that everybody knows what has been answered."""


def cut(data, places):
    """Return the parts of `data` between `places`."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in pairwise(edges)]


PLACES = st.lists(st.integers(0, 10**9), max_size=6)


def assert_alike(sides, data, places):
    """Assert that both sides answer alike, however it comes; return the answers."""
    data = sides.filled(data)
    expected = sides.plain.told([data])
    assert sides.ours.told(cut(data, places)) == expected
    sides.settle()
    return expected


@RELAXED
@given(st.lists(st.sampled_from(list(WHOLE)), min_size=1, max_size=4), PLACES)
def test_whole_requests_are_answered_alike_however_they_come(sides, names, places):
    data = b"".join(WHOLE[name] for name in names) + LAST
    assert len(assert_alike(sides, data, places)) == len(names) + 1


@pytest.mark.parametrize("name", WHOLE)
def test_each_request_is_answered_alike_in_one_segment_and_in_two(sides, name):
    data = sides.filled(WHOLE[name] + LAST)
    expected = sides.plain.told([data])
    end = len(sides.filled(WHOLE[name]))
    for place in (end, end - 1, data.find(b"\r\n\r\n") + 4, 10):
        assert sides.ours.told(cut(data, [place])) == expected, place
        assert sides.ours.told(cut(data, [place, end])) == expected, place
    sides.settle()


def test_what_is_usual_does_not_go_through_asgi(sides, monkeypatch):
    async def fail(*_):
        raise AssertionError

    for name in ("plain", "with a mask", "raw", "sampled", "patient", "not finite"):
        connection = sides.ours.connect()
        with monkeypatch.context() as patched:
            patched.setattr(sides.ours.config, "loaded_app", fail)
            connection.protocol.app = fail
            request = sides.filled(WHOLE[name])
            for parts in (cut(request, []), cut(request, [300, len(request) - 1])):
                for part in parts:
                    connection.send(part)
                expected = 400 if name == "not finite" else 200
                assert connection.answer().status == expected
    sides.settle()


def test_the_answers_are_right_and_say_exactly_what_the_contract_says(sides):
    plain, raw, predicted = (
        sides.ours.connect().ask(sides.filled(WHOLE[name]))
        for name in ("plain", "raw", "a prediction")
    )
    body = json.loads(plain.body)
    assert body.keys() == {"action"}
    assert npy.from_base64(body["action"], field="action").tolist() == RIGHT.tolist()
    assert raw.head["content-type"] == "application/x-npy"
    assert raw.head["arena-arrays"] == "action"
    assert npy.decode(raw.body, field="action").tolist() == RIGHT.tolist()
    assert b'"results"' in predicted.body
    sides.settle()


LIVE = [name for name in WHOLE if name not in {"nowhere", "nothing at all"}]


@pytest.mark.parametrize("name", LIVE)
def test_every_answer_of_what_is_live_says_whose_it_is(sides, name):
    for side in (sides.ours, sides.plain):
        (answer, _) = side.told([sides.filled(WHOLE[name] + LAST)])
        live = sides.predicting if name == "a prediction" else sides.live
        assert answer.head.keys() >= CONTRACT
        assert answer.head["arena-agent"] == str(live.agent_id)
        assert len(answer.head["arena-checkpoint"]) >= 64
        assert 0 < int(answer.head["arena-log-position"]) <= sides.world.head()
    sides.settle()


def test_nothing_says_who_answers_where_nothing_is_live(sides):
    for side in (sides.ours, sides.plain):
        answer, _ = side.told([sides.filled(WHOLE["nowhere"] + LAST)])
        assert answer.status == 404
        assert not answer.head.keys() & CONTRACT
    sides.settle()


# --- odd heads -----------------------------------------------------------------------

ODD_LINES = [
    b"Content-Length: %d" % len(PLAIN),
    b"Content-Length: %d" % (len(PLAIN) + 40),
    b"Content-Length: %d" % (len(PLAIN) - 40),
    b"Content-Length: +%d" % len(PLAIN),
    b"Content-Length: 0%d" % len(PLAIN),
    b"Content-Length: %d " % len(PLAIN),
    b"Content-Length:\t%d" % len(PLAIN),
    b"Content-Length : %d" % len(PLAIN),
    b"Content-Length: %d, %d" % (len(PLAIN), len(PLAIN)),
    b"Content-Length: 0x10",
    b"Content-Length: -1",
    b"Content-Length:",
    b"Content_Length: 0",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: gzip, chunked",
    b"X: y\r\n Transfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: \x00",
    b"X: \xff\xfe",
    b"X:",
    b"\xff: x",
    b": x",
    b" folded",
    b"no colon",
    b"Host: there",
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Connection: keep-alive, close",
    b"Connection: x",
    b"Proxy-Connection: close",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Expect: something",
    b"TE: trailers",
    b"Trailer: X",
    b"Content-Encoding: gzip",
    b"Authorization: Bearer x",
    b"authorization: Bearer <key>",
    b"AUTHORIZATION:Bearer <key>",
    b"Arena-Timeout-Ms: 50000",
    b"Arena-Timeout-Ms: 1e3",
    b"Content-Type: application/x-npy; x=y",
    b"Content-Type: Application/JSON",
    b"Arena-Arrays: obs, obs",
    b"X-External-User-Id: someone",
    b"X: " + b"y" * 9000,
]
TARGETS = [
    b"<pole>/get_action",
    b"<pole>/get_action?",
    b"<pole>/get_action?mode=greedy",
    b"<pole>/get_action?mode=sample&seed=1&seed=2",
    b"<pole>/get_action?mode=sample;seed=1",
    b"<pole>/get_action?mode=%73ample&seed=3",
    b"<pole>/get_action?mode=sample&seed=+3",
    b"<pole>/get_action#x",
    b"<pole>/get_action/",
    b"<pole>/get%5faction",
    b"<pole>/%2e/get_action",
    b"<pole>/../x/get_action",
    b"<pole>//get_action",
    b"/<pole>/get_action",
    b"http://here<pole>/get_action",
    b"//here<pole>/get_action",
    b"<pole>\\get_action",
    b"*",
]
STARTS = [b"POST %b HTTP/1.1"] * 5 + [
    b"POST %b HTTP/1.0",
    b"POST %b HTTP/1.2",
    b"POST %b HTTP/2.0",
    b"POST %b",
    b"POST  %b  HTTP/1.1",
    b"POST\t%b\tHTTP/1.1",
    b"PUT %b HTTP/1.1",
    b"post %b HTTP/1.1",
    b"DELETE %b HTTP/1.1",
    b"\r\nPOST %b HTTP/1.1",
    b"\nPOST %b HTTP/1.1",
    b" POST %b HTTP/1.1",
]
ENDS = [b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n"]


@st.composite
def odd_requests(draw):
    """Draw a request of which much is as it should be."""
    lines = [
        draw(st.sampled_from(STARTS)) % draw(st.sampled_from(TARGETS)),
        b"Host: here",
        b"Authorization: Bearer <key>",
        b"Content-Length: %d" % len(PLAIN),
    ]
    if draw(st.booleans()):
        del lines[draw(st.integers(1, 3))]
    for odd in draw(st.lists(st.sampled_from(ODD_LINES), max_size=3)):
        lines.insert(draw(st.integers(1, len(lines))), odd)
    head = b"".join(line + draw(st.sampled_from(ENDS)) for line in lines)
    body = draw(st.sampled_from([PLAIN, CHUNKED, b""]))
    return head + draw(st.sampled_from(ENDS)) + body


SMUGGLED = post(body=b"{}")


def seen(answers):
    """Return what must be alike: what is malformed ends what is answered meanwhile.

    Uvicorn answers it before requests that it has only just begun with.
    """
    last = answers[-1]
    return [last] if last.body == b"Invalid HTTP request received." else answers


@RELAXED
@given(odd_requests(), PLACES)
def test_odd_requests_end_where_uvicorn_sees_their_end(sides, odd, places):
    # Whoever took another end for the right one would see another second request.
    data = sides.filled(odd + SMUGGLED + LAST)
    expected = seen(sides.plain.told([data]))
    assert seen(sides.ours.told([data])) == expected
    assert seen(sides.ours.told(cut(data, places))) == expected
    sides.settle()


@pytest.mark.parametrize("line", ODD_LINES, ids=lambda line: repr(line)[2:40])
@pytest.mark.parametrize("first", [True, False])
def test_no_odd_line_is_read_otherwise(sides, line, first):
    fields = [b"Host: here", b"Authorization: Bearer <key>"]
    fields.append(b"Content-Length: %d" % len(PLAIN))
    fields.insert(1 if first else 3, line)
    start = b"POST <pole>/get_action HTTP/1.1\r\n"
    data = start + b"\r\n".join(fields) + b"\r\n\r\n" + PLAIN + SMUGGLED + LAST
    data = sides.filled(data)
    expected = seen(sides.plain.told([data]))
    edge = data.find(PLAIN) + len(PLAIN)
    for places in ([], [edge], [edge - 1], [edge - len(PLAIN)]):
        assert seen(sides.ours.told(cut(data, places))) == expected
    sides.settle()


@pytest.mark.parametrize("half", [b"GET /nothing" + HOST + b"X: ", b"GET /nothing?"])
def test_a_head_that_begins_with_the_end_of_a_refused_body_is_one_head(sides, half):
    # What is in it, and begins a segment, must not be taken for a request.
    refused = post(authorization=b"x", body=b"", length=10)

    def told(side):
        connection = side.connect()
        first = connection.ask(sides.filled(refused))
        connection.send(b"0123456789" + half)
        connection.send(sides.filled(post()))
        connection.send(sides.filled(LAST))
        return [first, *seen(answers_in(connection.rest()))]

    answers = told(sides.plain)
    assert [first.status for first in answers][:2] in ([401, 404], [401, 400])
    assert told(sides.ours) == answers
    sides.settle()


# --- what changes meanwhile ----------------------------------------------------------


@pytest.fixture
def living(tmp_path):
    with opened() as world, looping() as loop:
        other = bundles.CARTPOLE.swapped()
        folders = [
            bundles.cartpole(tmp_path / "10"),
            bundles.cartpole(tmp_path / "20", network=other),
        ]
        experiment = world.experiment(*folders)
        agent = world.arena.agents.create(
            "an agent", experiment.id, checkpoint=arena_core.specific(10)
        )
        connected = world.arena.agents.connect(agent.id)
        side = Side(world.arena.asgi(), loop)
        yield Living(world, side, agent.id, connected.deployment.id)
        side.settle()


@frozen(eq=False)
class Living:
    world: object
    side: Side
    agent_id: object
    deployment_id: object

    def request(self):
        access = self.world.arena.agents.access(self.agent_id)
        return post(
            target=f"/inference/{self.deployment_id}/get_action".encode(),
            authorization=access.api_key.encode(),
        )

    def change(self, name):
        agents = self.world.arena.agents
        if name == "swap":
            agents.redeploy(self.agent_id, checkpoint=arena_core.specific(20))
        elif name != "nothing":
            getattr(agents, name)(self.agent_id)


CHANGES = [
    ("nothing", 200),
    ("swap", 200),
    ("rotate_key", 401),
    ("disconnect", 404),
    ("delete", 404),
]


@pytest.mark.parametrize(("change", "status"), CHANGES)
def test_what_changes_is_obeyed_although_the_head_is_known(living, change, status):
    connection, request = living.side.connect(), living.request()
    before = connection.ask(request)
    assert connection.ask(request) == before
    living.change(change)
    after = connection.ask(request)
    assert after.status == status
    assert (after == before) == (change == "nothing")
    if change == "swap":
        acted = npy.from_base64(json.loads(after.body)["action"], field="action")
        assert acted.tolist() == (1 - RIGHT).tolist()
        names = ("arena-checkpoint", "arena-log-position")
        assert all(after.head[name] != before.head[name] for name in names)


@pytest.mark.parametrize(("change", "status"), CHANGES)
@pytest.mark.parametrize("more", [b"", b"GET /livez" + HOST + b"\r\n"])
def test_what_changes_while_the_body_comes_is_obeyed(living, change, status, more):
    connection, request = living.side.connect(), living.request()
    before = connection.ask(request)
    connection.send(request[:-5])
    assert connection.protocol._state is protocol._State.GATHERING
    living.change(change)
    connection.send(request[-5:] + more)
    after = connection.answer()
    assert after.status == status
    if change == "swap":
        assert after.head["arena-checkpoint"] != before.head["arena-checkpoint"]
    if more:
        assert connection.answer().status == 200


# --- leaving -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["plain", "raw", "chunked", "of a member", "expecting"]
)
def test_whoever_leaves_in_the_middle_leaves_nothing_behind(sides, name, caplog):
    request = sides.filled(WHOLE[name])
    head = request.find(b"\r\n\r\n") + 4
    for place in (0, 1, 20, head - 1, head, head + 1, len(request) - 1, len(request)):
        for abort in (True, False):
            connection = sides.ours.connect()
            connection.send(request[:place])
            if abort:
                connection.leave()
            else:
                connection.socket.shutdown(socket.SHUT_WR)
                connection.rest()
            sides.settle()
    assert not caplog.records
    assert sides.ours.told([request + sides.filled(LAST)])[0].status == 200


# --- many bytes ----------------------------------------------------------------------


def test_whoever_never_reads_what_it_is_answered_is_not_read_any_more(sides):
    connection = sides.ours.connect()
    ours, request = connection.protocol, sides.filled(WHOLE["plain"])
    connection.ask_unread(request)
    for _ in range(2000):
        connection.send(request)
    assert connection._outgoing, "it went on reading"
    assert len(ours._held) <= len(request)
    assert ours.transport.get_write_buffer_size() < 200_000
    sides.settle()


def test_a_server_that_ends_does_not_wait_for_who_never_reads(sides):
    connection = sides.ours.connect()
    ours = connection.protocol
    connection.ask_unread(sides.filled(WHOLE["plain"]))
    ours.shutdown()
    connection.until(lambda: ours not in sides.ours.state.connections)


def test_a_server_that_ends_lets_who_reads_at_last_read_what_was_answered(sides):
    connection = sides.ours.connect()
    asked = connection.ask_unread(sides.filled(WHOLE["plain"]))
    connection.protocol.shutdown()
    answers = answers_in(connection.rest())
    assert len(answers) >= asked - 1
    assert {answer.status for answer in answers} == {200}
    sides.settle()


def test_whoever_reads_at_last_is_answered_everything(sides):
    connection = sides.ours.connect()
    request = sides.filled(WHOLE["plain"])
    asked = connection.ask_unread(request)
    connection.send(request * 3 + sides.filled(LAST))
    assert connection.rest().count(b"HTTP/1.1 200 OK") == asked + 4
    sides.settle()


def test_what_comes_while_a_request_is_answered_is_held_up_to_a_bound(sides):
    connection = sides.ours.connect()
    ours, request = connection.protocol, sides.filled(WHOLE["plain"])
    ours._state = protocol._State.ANSWERING
    connection.send(request * (protocol.MOST_HELD_BYTES // len(request) + 1))
    assert ours.flow.read_paused
    ours._go_on()
    connection.send(sides.filled(LAST))
    answers = connection.rest()
    count = protocol.MOST_HELD_BYTES // len(request) + 2
    assert answers.count(b"HTTP/1.1 200 OK") == count
    assert not ours.flow.read_paused
    sides.settle()


def test_a_head_without_end_is_refused(sides):
    connection = sides.ours.connect()
    connection.send(b"GET / HTTP/1.1\r\nX: ")
    while not connection.protocol.transport.is_closing():
        connection.send(b"x" * 1000)
        assert connection.sent < 2 * protocol.MOST_HEAD_BYTES
    answer = connection.answer()
    assert (answer.status, answer.head["connection"]) == (431, "close")
    assert json.loads(answer.body).keys() == {"detail"}
    sides.settle()


def test_a_long_body_beside_a_head_is_no_long_head(sides):
    longest = post(target=b"/nothing", body=b" " * (4 * protocol.MOST_HEAD_BYTES))
    connection = sides.ours.connect()
    for begin in range(0, len(longest), 10_000):
        connection.send(longest[begin : begin + 10_000])
    assert connection.answer().status == 404
    assert connection.ask(b"GET /livez" + HOST + b"\r\n").status == 200
    sides.settle()


def test_of_a_body_beyond_the_limit_nothing_is_gathered(sides):
    for size, state in ((LIMIT, "GATHERING"), (LIMIT + 1, "UVICORN")):
        connection = sides.ours.connect()
        connection.send(sides.filled(post(body=b"", length=size)))
        assert connection.protocol._state.name == state
    assert connection.answer().status == 413
    sides.settle()
