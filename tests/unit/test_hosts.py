"""By which hosts a server is addressed, and which web pages may call it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.entrypoints.http.hosts import (
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    MALFORMED,
    Hosts,
)
from arena_core.entrypoints.settings import Settings

ANY = Hosts()


def of(**settings):
    return Hosts.of(Settings("memory:", **settings))


def says(hosts, *hosts_said, method="POST", path="/x", origin=None):
    """Return what is said against a request with these headers."""
    headers = [(b"host", host.encode("latin-1")) for host in hosts_said]
    origins = [] if origin is None else [origin] if isinstance(origin, str) else origin
    headers += [(b"origin", each.encode("latin-1")) for each in origins]
    return hosts.objection(method, path, [(b"accept", b"*/*"), *headers])


# --- hosts -------------------------------------------------------------------------

WELL_FORMED = ["here", "HERE", "here:1", "here.example:65535", "127.0.0.1", "[::1]",
               "[::1]:8400", "a_b", "xn--bcher-kva.example", "1"]  # fmt: skip
BAD = ["", " ", "x?", "x#", "x/skip", "x/y?z", "x/", "me@here", "me:word@here", "a b",
       "here ", "here:", "here:x", "here:123456", "here,there", "[::1", "::1", "[here]",
       ".", "x.", ".x", "x..y", "h\xe9re", "here\n", "here\0", "*", "http://here",
       "%68ere", "here:8\xb2"]  # fmt: skip


@pytest.mark.parametrize("host", WELL_FORMED)
def test_a_server_without_names_answers_by_every_name(host):
    assert says(ANY, host) is None
    assert says(of(allowed_hosts=["here", "*"]), host) is None


@pytest.mark.parametrize("host", BAD)
@pytest.mark.parametrize("hosts", [ANY, of(allowed_hosts="here")])
def test_what_is_no_host_is_refused(host, hosts):
    assert says(hosts, host, method="GET") is MALFORMED


def test_there_is_one_host():
    assert says(ANY) is MALFORMED
    assert says(ANY, "here", "here") is MALFORMED
    assert says(of(allowed_hosts="here"), "here", "there") is MALFORMED


def test_a_server_with_names_answers_by_no_other():
    hosts = of(allowed_hosts="Here, [::1] ,127.0.0.1,")
    for host in ("here", "HERE:8400", "[::1]:1", "127.0.0.1"):
        assert says(hosts, host) is None
    for host in ("there", "here.there", "127.0.0.2", "0.0.0.0", "[::2]"):  # noqa: S104 -- a name
        assert says(hosts, host) is FOREIGN_HOST
        assert says(hosts, host, method="GET", path="/livez") is FOREIGN_HOST


def test_a_server_is_known_by_its_public_name():
    hosts = of(allowed_hosts="localhost", public_url="https://Arena.Example:8443/x/y")
    assert says(hosts, "arena.example") is None
    assert says(hosts, "localhost") is None
    assert says(hosts, "example") is FOREIGN_HOST


@pytest.mark.parametrize(
    "url", ["https://me@there/x", "there", "ftp://there", "//there"]
)
def test_a_public_url_that_names_no_host_adds_none(url):
    hosts = of(allowed_hosts="here", public_url=url)
    for host in ("me", "there"):
        assert says(hosts, host) is FOREIGN_HOST


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_whatever_the_host_says_only_names_that_are_ours_pass(host):
    found = says(of(allowed_hosts="here"), host)
    name, _, port = host.lower().partition(":")
    if found is None:
        assert name == "here"
        assert port == "" or port.isdigit()


# --- origins -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("here", "http://here"),
        ("here", "https://here"),
        ("here:8400", "http://here:8400"),
        ("HERE", "HTTP://Here:80"),
        ("here:443", "https://here"),
        ("here", "https://here:443"),
        ("[::1]:8400", "http://[::1]:8400"),
        ("elsewhere", "https://page.example"),
        ("elsewhere", "https://page.example:443"),
        ("proxied", "https://arena.example"),
    ],
)
def test_our_own_pages_may_call_and_those_that_are_named(host, origin):
    hosts = of(
        allowed_origins="https://page.example", public_url="https://arena.example/api"
    )
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert says(hosts, host, method=method, path="/api/v1", origin=origin) is None


FOREIGN = ["null", "", "http://there", "http://here.there", "http://here:8401",
           "https://here:80", "file://", "chrome-extension://abc", "http://me@here",
           "here", "http://here/", "http://here, http://there", "http://here http://x",
           ["http://here", "http://here"], "HTTP://HERE.EXAMPLE"]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN, ids=str)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/inference/1/get_action"),
        ("DELETE", "/api/v1/projects/1"),
        ("OPTIONS", "/v2/models"),
        ("PROPFIND", "/"),
        ("GET", "/api/v1/projects"),
        ("HEAD", "/api/users/x"),
    ],
)
def test_pages_of_others_may_change_nothing_and_see_nothing_of_the_api(
    origin, method, path
):
    assert says(ANY, "here", method=method, path=path, origin=origin) is FOREIGN_ORIGIN


@pytest.mark.parametrize("origin", FOREIGN, ids=str)
def test_what_is_no_api_and_changes_nothing_is_shown_to_everybody(origin):
    for path in ("/livez", "/openapi.json", "/"):
        assert says(ANY, "here", method="GET", path=path, origin=origin) is None


def test_whoever_is_no_page_has_no_origin():
    assert says(ANY, "here", path="/api/v1") is None


def test_the_host_is_looked_at_before_the_origin():
    hosts = of(allowed_hosts="here")
    assert says(hosts, "evil", origin="http://evil") is FOREIGN_HOST
