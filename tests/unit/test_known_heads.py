"""Which heads the quicker protocol takes, and what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application.inference import GREEDY, Mode
from arena_core.entrypoints.http import known_heads
from arena_core.entrypoints.http.hosts import Hosts
from arena_core.entrypoints.http.known_heads import LONGEST_HEAD, KnownHeads

DEPLOYMENT = "0198f3c2-7d1e-7005-8a4b-5c6d7e8f9a0b"
ANY = Hosts()
FIELDS = (
    b"Host: here",
    b"Authorization: Bearer a key",
    b"Content-Length: 12",
)


def head(*more, target=None, start=b"POST %b HTTP/1.1", fields=FIELDS):
    target = target or f"/inference/{DEPLOYMENT}/get_action".encode()
    return b"\r\n".join([start % target, *fields, *more])


def read(*more, hosts=ANY, **said):
    return KnownHeads(hosts).read(head(*more, **said))


def test_what_a_usual_head_says():
    asking = read(
        b"Content-Type: application/x-npy; x=y",
        b"ARENA-ARRAYS: obs, action_mask",
        b"arena-timeout-ms: 1500",
        b"Connection: Keep-Alive",
        b"X: y",
        target=f"/inference/{DEPLOYMENT}/get_action?mode=sample&seed=7".encode(),
    )
    assert asking.deployment_id == DEPLOYMENT
    assert asking.verb.name == "get_action"
    assert (asking.choice.mode, asking.choice.seed) == (Mode.SAMPLE, 7)
    assert asking.names == ("obs", "action_mask")
    assert asking.timeout_s == 1.5
    assert asking.length == 12
    assert asking.bearer == b"Bearer a key"
    assert asking.credential == "a key"
    assert not asking.is_plain


def test_what_a_head_does_not_say():
    asking = read()
    assert (asking.choice, asking.names, asking.timeout_s) == (GREEDY, None, None)
    assert asking.is_plain
    assert read(fields=FIELDS[::2]).credential == ""


@pytest.mark.parametrize(
    ("verb", "names"), [("get_action", ("obs",)), ("predict", ("inputs",))]
)
def test_the_one_array_of_a_raw_body_needs_no_name(verb, names):
    target = f"/inference/{DEPLOYMENT}/{verb}".encode()
    assert read(b"Content-Type: application/x-npy", target=target).names == names


def test_no_key_is_shown_where_a_head_is():
    assert "a key" not in repr(read())


UNUSUAL = [
    b"Content-Encoding: gzip",
    b"Content-Length: 12",
    b"Connection: close",
    b"Connection: upgrade",
    b"Expect: 100-continue",
    b"Host: there",
    b"Proxy-Connection: close",
    b"TE: trailers",
    b"Trailer: X",
    b"Transfer-Encoding: chunked",
    b"Upgrade: websocket",
    b"X: 1\r\nx: 2",
    b"X: 1\r\n folded",
    b"X: 1\nY: 2",
    b"X: \x00",
    b"no colon",
    b"Arena-Timeout-Ms: 0",
    b"Content-Type: application/x-npy\r\nArena-Arrays: obs,obs",
]


@pytest.mark.parametrize("line", UNUSUAL, ids=lambda line: repr(line)[2:-1])
@pytest.mark.parametrize("place", range(4))
def test_whatever_is_unusual_is_left_to_others(line, place):
    lines = [*FIELDS[:place], line, *FIELDS[place:]]
    assert read(fields=lines) is None


@pytest.mark.parametrize("missing", [0, 2])
def test_a_head_without_a_host_or_a_length_is_left_to_others(missing):
    assert read(fields=[f for n, f in enumerate(FIELDS) if n != missing]) is None


HOSTS = [b"here?", b"here#", b"here/skip", b"x/y?z", b"me@here", b"he re", b"here:"]


@pytest.mark.parametrize(
    "host", [*HOSTS, b"", b"here, here", b"here:123456", b"[here]"]
)
def test_a_malformed_host_is_left_to_others(host):
    assert read(fields=[b"Host: " + host, *FIELDS[1:]]) is None


def test_a_host_or_an_origin_that_is_not_ours_is_left_to_others():
    ours = Hosts(frozenset({"here"}), frozenset({"https://page.example"}))
    assert read(hosts=ours) is not None
    assert read(hosts=ours, fields=[b"Host: HERE:8400", *FIELDS[1:]]) is not None
    assert read(hosts=ours, fields=[b"Host: there", *FIELDS[1:]]) is None
    assert read(b"Origin: http://here", hosts=ours) is not None
    assert read(b"Origin: https://page.example", hosts=ours) is not None
    for origin in (b"http://there", b"null", b"http://here:8401", b""):
        assert read(b"Origin: " + origin, hosts=ours) is None


@pytest.mark.parametrize("length", [b"", b"012", b"+1", b"1 ", b"1, 1", b"9" * 10])
def test_a_length_in_another_spelling_is_left_to_others(length):
    assert read(fields=[*FIELDS[:2], b"Content-Length: " + length]) is None


@pytest.mark.parametrize(
    "start",
    [
        b"GET %b HTTP/1.1",
        b"PUT %b HTTP/1.1",
        b"POST %b HTTP/1.0",
        b"POST %b HTTP/2.0",
        b"POST %b",
        b"POST http://here%b HTTP/1.1",
        b"POST /%b HTTP/1.1",
        b"POST %b/ HTTP/1.1",
        b"POST %bs HTTP/1.1",
        b"POST %b#x HTTP/1.1",
        b"POST %b?x#&mode=sample HTTP/1.1",
        b"POST %b?mode=best HTTP/1.1",
        b"POST %b?seed=1 HTTP/1.1",
    ],
    ids=repr,
)
def test_an_unusual_first_line_is_left_to_others(start):
    assert read(start=start) is None


@pytest.mark.parametrize(
    "name", [DEPLOYMENT.upper(), DEPLOYMENT.replace("-", ""), "%61" + DEPLOYMENT[1:]]
)
def test_an_id_in_another_spelling_is_left_to_others(name):
    assert read(target=f"/inference/{name}/get_action".encode()) is None


@pytest.mark.parametrize("verb", ["status", "generate", "get_%61ction", ""])
def test_other_calls_are_left_to_others(verb):
    assert read(target=f"/inference/{DEPLOYMENT}/{verb}".encode()) is None


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_read_or_left_to_others(noise, place):
    usual = head()
    place %= len(usual)
    KnownHeads(ANY).read(usual[:place] + noise + usual[place:])
    KnownHeads(ANY).read(noise)


def test_a_head_is_parsed_once(monkeypatch):
    heads, parsed = KnownHeads(ANY), []
    parse = known_heads._parsed
    monkeypatch.setattr(
        known_heads, "_parsed", lambda *given: parsed.append(given) or parse(*given)
    )
    first, again = heads.read(head()), heads.read(bytes(bytearray(head())))
    assert first is again is not None
    assert heads.read(b"GET / HTTP/1.1") is heads.read(b"GET / HTTP/1.1") is None
    assert len(parsed) == 2


def test_as_many_heads_are_known_as_is_said(monkeypatch):
    monkeypatch.setattr(known_heads, "MOST_HEADS", 50)
    heads = KnownHeads(ANY)
    for number in range(1000):
        assert heads.read(head(b"X: %d" % number)).length == 12
        assert len(heads._known) <= 50


def test_long_heads_are_left_to_others_and_forgotten():
    heads = KnownHeads(ANY)
    padding = b"X: " + b"x" * (LONGEST_HEAD - len(head()) - 5)
    assert heads.read(head(padding)) is not None
    assert heads.read(head(padding + b"x")) is None
    assert len(heads._known) == 1
