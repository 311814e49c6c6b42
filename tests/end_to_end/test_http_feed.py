"""Following the log over HTTP: Server-Sent Events, and pages that are waited for."""

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from itertools import islice, takewhile

import hypothesis.strategies as st
import pytest
from attrs import field, frozen
from hypothesis import HealthCheck, given, settings

from arena_core.domain.errors import Unavailable, UnknownEvent
from arena_core.entrypoints.http import event_stream, server_sent
from arena_core.entrypoints.http.feed import MOST_THREADS
from arena_core.entrypoints.http.server import Server, listen

from end_to_end.event_streams import Stream, streaming
from end_to_end.http_world import bearing, opened
from end_to_end.processes import eventually

EVENTS = "/api/v1/events"
CLOUD_EVENTS = {"Accept": "application/cloudevents-batch+json"}


@frozen(eq=False)
class Served:
    """A world behind a real server, and managers of two of its organisations."""

    world: object
    address: str
    tokens: dict[str, str]
    opened: list[Stream] = field(factory=list)

    @property
    def client(self):
        return self.world.client(self.tokens["default"])

    @property
    def feed(self):
        return self.world.app.feed

    @property
    def store(self):
        return self.world.arena.application.core.store

    def stream(self, query="", token=None, **headers):
        token = self.tokens["default"] if token is None else token
        stream = streaming(self.address, token, query, **headers)
        self.opened.append(stream)
        return stream

    def from_now(self, token=None):
        return self.stream(f"?after={self.world.head()}", token)

    def create(self, count=1, *, organisation="default"):
        """Append so many events, by creating so many projects."""
        client = self.world.client(self.tokens[organisation])
        for number in range(count):
            body = {"name": f"project {number}", "kind": "classic"}
            client.post("/api/v1/projects", json=body).raise_for_status()

    def page(self, **query):
        answer = self.client.get(EVENTS, params={"limit": 1000, **query})
        return answer.json()["items"]

    def positions(self, **query):
        return [event["position"] for event in self.page(**query)]


@contextmanager
def served(tokens=None, **settings):
    with opened(**settings) as world:
        names = ("default", "elsewhere")
        tokens = tokens or {name: world.token(organisation=name) for name in names}
        server = Server(world.app, listen("127.0.0.1", 0))
        with server.in_background() as url:
            here = Served(world, url.removeprefix("http://"), tokens)
            try:
                yield here
            finally:
                for stream in here.opened:
                    stream.close()


@pytest.fixture(name="here")
def _here():
    with served() as here:
        yield here


# --- what comes --------------------------------------------------------------------


def test_a_stream_says_what_the_pages_say_and_then_what_is_new(here):
    here.create(3)
    stream = here.stream()
    assert stream.status == 200
    assert stream.response.headers["Content-Type"].startswith("text/event-stream")
    assert stream.response.headers["Cache-Control"] == "no-store"
    assert stream.response.headers["X-Accel-Buffering"] == "no"
    sent = iter(stream)
    assert next(sent).retry == "1000"
    page = here.page()
    assert len(page) > 3
    for event in page:
        found = next(sent)
        assert (found.id, found.event) == (str(event["position"]), event["name"])
        assert found.body == event
    here.create()
    assert next(sent).id == str(here.world.head())


def test_a_stream_goes_on_after_what_was_seen_last(here):
    here.create(4)
    first, seen, following, *_ = here.positions()
    for stream in (
        here.stream(f"?after={seen}"),
        here.stream(Last_Event_ID=str(seen)),
        here.stream(f"?after={first}", Last_Event_ID=str(seen)),
        here.stream(f"?after={seen}", Last_Event_ID=""),
    ):
        assert next(stream.ids()) == following


@pytest.mark.parametrize("seen", ["x", "-1", "1.5", "1 2", "9" * 19, "\xb2"])
def test_what_was_seen_last_is_the_id_of_an_event(here, seen):
    stream = here.stream(Last_Event_ID=seen)
    assert stream.status == 422
    assert b"Last-Event-ID" in stream.response.read()
    assert not here.feed._followers


def test_who_has_seen_more_than_there_is_is_told_where_the_log_ends(here):
    head = here.world.head()
    for stream, pointer in (
        (here.stream(Last_Event_ID=str(head + 1)), "Last-Event-ID"),
        (here.stream(f"?after={head + 1}"), "after"),
    ):
        assert stream.status == 422
        told = json.loads(stream.response.read())
        assert f"ends at position {head}" in told["detail"]
        assert pointer in told["errors"][0]["pointer"]
    waiting = here.client.get(EVENTS, params={"after": head + 1, "wait": 30})
    assert waiting.status_code == 422
    assert here.page(after=head + 1) == []
    assert not here.feed._followers
    last = here.stream(Last_Event_ID=str(head)).events()
    here.create()
    assert next(last).id == str(here.world.head())


def test_nobody_sees_what_is_another_organisations(here):
    streams = {
        name: here.stream(token=token).events() for name, token in here.tokens.items()
    }
    for _ in range(3):
        here.create(2, organisation="elsewhere")
        here.create(2)
    for organisation, events in streams.items():
        found = list(islice(events, 8))
        assert {sent.body["organisation"] for sent in found} == {organisation}


def test_who_has_which_token_is_for_managers(here):
    viewer = here.stream(token=here.world.token("viewer")).events()
    manager = here.stream().events()
    here.create()
    for events, sees in ((manager, True), (viewer, False)):
        before = takewhile(lambda sent: sent.event != "project.created", events)
        assert ("credential.access_token_issued" in [s.event for s in before]) is sees


def test_a_stream_may_be_of_one_aggregate(here):
    here.create(3)
    wanted = [e for e in here.page() if e["name"] == "project.created"][1]
    events = here.stream(f"?stream={wanted['stream']}").events()
    assert next(events).body == wanted
    path = f"/api/v1/projects/{wanted['stream']}"
    here.client.patch(path, json={"name": "another"}).raise_for_status()
    assert next(events).event == "project.renamed"


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.integers(1, 7), max_size=6))
def test_who_comes_back_again_and_again_misses_nothing_and_sees_nothing_twice(
    here, cuts
):
    begin = here.world.head()
    writers = [
        threading.Thread(target=here.create, args=(21,), kwargs={"organisation": name})
        for name in ("default", "elsewhere", "default")
    ]
    for writer in writers:
        writer.start()
    seen = [begin]
    for cut in cuts:  # together not more than is written
        stream = here.stream(Last_Event_ID=str(seen[-1]))
        seen += islice(stream.ids(), cut)
        stream.close()
    for writer in writers:
        writer.join()
    expected = here.positions(after=begin)
    stream = here.stream(Last_Event_ID=str(seen[-1]))
    seen += islice(stream.ids(), len(expected) + 1 - len(seen))
    assert seen == [begin, *expected]


def test_a_quiet_stream_has_a_heartbeat(here, monkeypatch):
    monkeypatch.setattr(server_sent, "HEARTBEAT_S", 0.05)
    sent = iter(here.from_now())
    assert next(sent).retry == "1000"
    assert [next(sent).comment for _ in range(3)] == ["hb"] * 3
    here.create()
    assert next(s for s in sent if s.comment is None).event == "project.created"


def test_a_head_has_no_stream(here):
    stream = here.stream(method="HEAD")
    assert stream.status == 200
    assert stream.response.read() == b""
    eventually(lambda: not here.feed._followers, what="nobody follows")


@pytest.mark.parametrize("headers", [{"Accept": "text/event-stream"}, {}])
def test_the_past_does_not_grow(here, headers):
    query = {"as_of": "1", "wait": "1"}
    answer = here.client.get(EVENTS, params=query, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/as_of"


# --- how it ends -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["revoke", "rotate"])
def test_a_token_that_dies_ends_its_stream_before_anything_later_is_sent(here, how):
    issued = here.world.issued()
    ids = here.from_now(issued.token).ids()
    here.create(3)
    *_, last = islice(ids, 3)
    getattr(here.world.arena.tokens, how)(issued.view.id)
    died = here.world.head()
    here.create(3)
    assert list(ids) == []
    assert last < died
    assert here.stream(token=issued.token).status == 401
    eventually(lambda: not here.feed._followers, what="nobody follows")


def test_a_stream_is_ended_too_by_what_its_caller_may_not_see(here):
    issued = here.world.issued("viewer")
    stream = here.from_now(issued.token)
    here.world.arena.tokens.revoke(issued.view.id)
    assert list(stream.events()) == []


def test_a_stream_ends_when_its_caller_acts_in_another_organisation(here):
    """It has passed over what was there before: to go on would be to leave that out."""
    issued = here.world.issued()
    client = here.world.client(issued.token)
    ids = here.from_now(issued.token).ids()
    here.create(1)
    seen = next(ids)
    made = client.post("/api/v1/organisations", json={"name": "side"}).json()
    chosen = {"current_organisation": made["id"]}
    client.patch("/api/v1/users/me", json=chosen).raise_for_status()
    client.post("/api/v1/projects", json={"name": "there"}).raise_for_status()
    eventually(lambda: not here.feed._followers, what="nobody follows")
    left = {event["position"]: event["name"] for event in here.page(after=seen)}
    assert set(ids) <= left.keys(), "of where it was, and nothing of where it is"


def test_a_caller_who_leaves_is_forgotten(here):
    streams = [here.stream() for _ in range(3)]
    assert len(here.feed._followers) == 3
    for stream in streams:
        stream.close()
    eventually(lambda: not here.feed._followers, what="nobody follows")
    eventually(lambda: not here.feed._is_looking, what="nobody looks")


def test_streams_end_when_the_server_drains_and_can_be_gone_on_with(tmp_path):
    with served(store=tmp_path / "arena.db") as here:
        here.create(2)
        tokens = here.tokens
        stream = streaming(here.address, tokens["default"])
        ids = stream.ids()
        seen = [next(ids), next(ids)]
    # No chunk is missing: it has not been cut off.
    seen += ids
    stream.close()
    with served(tokens, store=tmp_path / "arena.db") as here:
        here.create()
        expected = here.positions()
        again = here.stream(Last_Event_ID=str(seen[-1]))
        seen += islice(again.ids(), len(expected) - len(seen))
        assert seen == expected


def broken_from(position, read_all):
    """Return a `read_all` of a log of which only what is before can be understood."""

    def read(*, after=0, limit=500, up_to=None):
        if after + 1 >= position:
            raise UnknownEvent("A newer release has written it.")
        events = read_all(after=after, limit=limit, up_to=up_to)
        return [event for event in events if event.position < position]

    return read


def test_an_event_that_cannot_be_understood_ends_the_stream_and_is_not_skipped(
    here, monkeypatch
):
    here.create(4)
    *known, broken = here.positions()
    read = broken_from(broken, here.store.read_all)
    monkeypatch.setattr(here.store, "read_all", read)
    for last, expected in (({}, known), ({"Last_Event_ID": str(broken - 1)}, [])):
        *before, error = here.stream(**last).events()
        assert [int(sent.id) for sent in before] == expected
        assert (error.event, error.id) == ("error", None)
        assert error.body["code"] == "UNKNOWN_EVENT"
        assert "newer" not in error.data


def test_who_may_not_see_the_log_is_not_told_that_it_is_broken(here, monkeypatch):
    issued, revoked = here.world.issued(), threading.Event()

    def read(_):
        revoked.wait()
        return UnknownEvent("A newer release has written it.")

    monkeypatch.setattr(event_stream.EventStream, "_read", read)
    streams = here.from_now(issued.token), here.from_now()
    here.world.arena.tokens.revoke(issued.view.id)
    revoked.set()
    assert [[s.event for s in each.events()] for each in streams] == [[], ["error"]]


def test_a_store_that_cannot_be_read_ends_the_stream(here, monkeypatch):
    stream = here.from_now()

    def fail(**_):
        raise Unavailable("The database is locked.")

    for name in ("read_all", "head"):
        monkeypatch.setattr(here.store, name, fail)
    assert list(stream.events()) == []


# --- how much it may take ------------------------------------------------------------


def test_there_are_so_many_streams_and_no_more():
    with served(max_streams=2) as here:
        first, _ = here.stream(), here.stream()
        third = here.stream()
        assert third.status == 503
        assert int(third.response.headers["Retry-After"]) > 0
        waits = {"wait": "1", "after": str(here.world.head())}
        waiting = here.client.get(EVENTS, params=waits)
        assert waiting.status_code == 503
        assert waiting.json()["code"] == "OVERLOADED"
        assert here.client.get(EVENTS).status_code == 200
        first.close()
        eventually(lambda: len(here.feed._followers) == 1, what="a place is free")
        assert here.stream().status == 200


def test_streams_take_no_thread_from_anybody(here):
    streams = [here.stream() for _ in range(60)]
    looking = [t for t in threading.enumerate() if t.name == "arena-feed"]
    assert len(looking) == 1
    here.create()
    for stream in streams:
        assert here.world.head() in stream.ids()


def test_streams_take_few_threads_however_many_they_are(here, monkeypatch):
    read, most, lock = event_stream.EventStream._read, [0], threading.Lock()
    reading = set()

    def counted(stream):
        with lock:
            reading.add(stream)
            most.append(len(reading))
        time.sleep(0.005)
        with lock:
            reading.remove(stream)
        return read(stream)

    monkeypatch.setattr(event_stream.EventStream, "_read", counted)
    streams = [here.stream() for _ in range(20)]
    here.create()
    for stream in streams:
        assert here.world.head() in stream.ids()
    assert max(most) == MOST_THREADS


def test_who_never_reads_does_not_hold_up_the_end_of_the_server(caplog):
    with opened() as world:
        for number in range(900):
            world.arena.projects.create(f"p{number}", description="x" * 9000)
        server = Server(world.app, listen("127.0.0.1", 0))
        with server.in_background() as url:
            stream = streaming(url.removeprefix("http://"), world.token())
            (protocol,) = server.server_state.connections
            eventually(lambda: protocol.flow.write_paused, what="nothing goes out")
        stream.close()
    assert not caplog.records, "it was waited for as long as for an answer"


def test_nothing_is_read_for_who_does_not_read(here, monkeypatch):
    read, reads = event_stream.EventStream._read, []

    def reading(stream):
        reads.append(stream._after)
        return read(stream)

    def rests():
        before = len(reads)
        time.sleep(0.3)
        return before > 3 and len(reads) == before

    monkeypatch.setattr(event_stream.EventStream, "_read", reading)
    for number in range(900):
        here.world.arena.projects.create(f"p{number}", description="x" * 9000)
    # That is more than goes into the buffers of two sockets.
    stream = here.stream()
    eventually(rests, what="nothing is read any more")
    assert reads[-1] < here.world.head() - 100
    expected = here.positions(limit=1000)
    assert list(islice(stream.ids(), len(expected))) == expected


class Blocked:
    """The server's side of a connection on which nothing goes out for a while."""

    def __init__(self):
        self.free = asyncio.Event()
        self.free.set()
        self.waiting = 0
        self.body = b""
        self.ended = False

    async def send(self, message):
        self.waiting += 1
        await self.free.wait()
        self.waiting -= 1
        self.body += message.get("body", b"")
        is_body = message["type"] == "http.response.body"
        self.ended = is_body and not message.get("more_body", False)

    async def receive(self):
        if not self.body:
            return {"type": "http.request"}
        return await asyncio.Event().wait()


async def until(look):
    async with asyncio.timeout(30):
        while not look():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.01)


def test_who_is_refused_while_nothing_goes_out_is_sent_nothing_more(here):
    issued = here.world.issued()
    fields = {**bearing(issued.token), "accept": "text/event-stream", "host": "here"}
    scope = {
        "type": "http",
        "method": "GET",
        "path": EVENTS,
        "raw_path": b"",
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "client": None,
        "query_string": b"after=%d" % here.world.head(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in fields.items()],
    }

    async def follow():
        side = Blocked()
        stream = asyncio.ensure_future(here.world.app(scope, side.receive, side.send))
        await until(lambda: b"retry" in side.body)
        await asyncio.to_thread(here.create)
        await until(lambda: b"project.created" in side.body)
        side.free.clear()
        await asyncio.to_thread(here.create)
        await until(lambda: side.waiting)
        await asyncio.to_thread(here.world.arena.tokens.revoke, issued.view.id)
        side.free.set()
        await stream
        assert side.ended
        return side.body

    assert asyncio.run(follow()).count(b"event: project.created") == 1


# --- pages that are waited for -------------------------------------------------------


def test_a_page_is_waited_for(here):
    after = here.world.head()
    late = threading.Timer(0.2, here.create)
    late.start()
    assert here.positions(after=after, wait=30) == [after + 1]
    late.join()
    page = here.client.get(EVENTS, params={"after": after + 1, "wait": "0.2"})
    assert page.json() == {"items": [], "next_after": None}


def test_what_is_there_is_not_waited_for(here):
    here.create(3)
    assert here.page(wait=60, limit=2) == here.page(limit=2)


def test_who_waits_is_not_shown_what_is_another_organisations(here):
    after = here.world.head()
    late = threading.Timer(0.1, here.create, (3,), {"organisation": "elsewhere"})
    late.start()
    assert here.page(after=after, wait=0.5) == []
    late.join()
    assert here.world.head() == after + 3


def test_who_loses_its_token_while_it_waits_is_refused(here):
    issued = here.world.issued()
    late = threading.Timer(0.2, here.world.arena.tokens.revoke, (issued.view.id,))
    late.start()
    client = here.world.client(issued.token)
    params = {"after": here.world.head(), "wait": 30}
    assert client.get(EVENTS, params=params).status_code == 401
    late.join()


def test_those_who_wait_are_answered_when_the_server_drains():
    answers = []
    with served() as here:
        wait = {"after": here.world.head(), "wait": 60}
        waiting = threading.Thread(target=lambda: answers.append(here.page(**wait)))
        waiting.start()
        eventually(lambda: here.feed._followers, what="it waits")
    waiting.join()
    assert answers == [[]]


# --- as CloudEvents ------------------------------------------------------------------


def batches(here, address):
    """Yield the events of all batches, going from one to the next."""
    while address:
        answer = here.client.get(address, headers=CLOUD_EVENTS)
        assert answer.headers["content-type"] == CLOUD_EVENTS["Accept"]
        yield from answer.json()
        address = answer.links.get("next", {}).get("url")


def test_a_page_may_be_a_batch_of_cloud_events(here):
    here.create(3)
    page = here.page()
    found = list(batches(here, f"{EVENTS}?limit=2"))
    for event, stored in zip(found, page, strict=True):
        assert event["specversion"] == "1.0"
        assert event["source"] == f"http://testserver{EVENTS}"
        assert (event["id"], event["type"]) == (stored["event_id"], stored["name"])
        assert event["subject"] == stored["stream"]
        assert event["time"] == stored["recorded_at"]
        assert event["sequence"] == str(stored["position"])
        assert event["data"] == stored["data"]
        assert all(name.isalnum() and name.islower() for name in event)


def test_a_batch_of_one_stream_goes_on_with_that_stream(here):
    body = {"name": "a", "kind": "classic"}
    made = here.client.post("/api/v1/projects", json=body).json()
    for name in "bc":
        path = f"/api/v1/projects/{made['id']}"
        here.client.patch(path, json={"name": name}).raise_for_status()
    here.create(2)
    found = batches(here, f"{EVENTS}?limit=1&stream={made['id']}")
    assert [event["type"] for event in found] == [
        "project.created",
        "project.renamed",
        "project.renamed",
    ]
