"""The id of a request, and its place in a trace of the caller's (W3C)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.entrypoints.http import tracing
from arena_core.entrypoints.http.tracing import Request, traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"
HEX = "0123456789abcdef"


def of(*headers):
    scope = {"method": "GET", "path": "/x", "headers": list(headers)}
    return Request.of(scope)


@given(
    st.text(HEX, min_size=32, max_size=32).filter(lambda t: set(t) != {"0"}),
    st.text(HEX, min_size=16, max_size=16).filter(lambda t: set(t) != {"0"}),
    st.text(HEX, min_size=2, max_size=2),
)
def test_what_is_well_formed_is_kept_as_it_is(trace, span, flags):
    text = f"00-{trace}-{span}-{flags}"
    assert traceparent([text.encode()]) == text


@pytest.mark.parametrize(
    "later", [f"01-{GOOD[3:]}", f"fe-{GOOD[3:]}", f"cc-{GOOD[3:]}-x", f"01-{GOOD[3:]}-"]
)
def test_of_a_later_version_what_is_known_is_kept(later):
    assert traceparent([later.encode()]) == GOOD


@pytest.mark.parametrize(
    "bad",
    [
        "",
        GOOD.upper(),
        f"ff-{GOOD[3:]}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{GOOD}-x",
        f"{GOOD}x",
        f"01-{GOOD[3:]}x",
        f" {GOOD}",
        f"{GOOD}\n",
        GOOD[:-1],
        GOOD.replace("-", "_"),
        GOOD.replace("a", "g"),
        f"0-{GOOD[3:]}",
    ],
)
def test_what_is_malformed_or_all_zero_is_ignored(bad):
    assert traceparent([bad.encode()]) is None


@given(st.binary(max_size=80))
def test_whatever_is_sent_is_kept_well_formed_or_not_at_all(sent):
    kept = traceparent([sent])
    assert kept is None or traceparent([kept.encode()]) == kept


def test_of_two_traces_neither_is_believed():
    header = (b"traceparent", GOOD.encode())
    assert of(header).traceparent == GOOD
    assert of(header, header).traceparent is None
    assert of().traceparent is None


@pytest.mark.parametrize("given_", [b"a", b"A.b_c-9", b"x" * 128])
def test_a_well_formed_id_is_the_callers(given_):
    assert of((b"x-request-id", given_)).id == given_.decode()


@pytest.mark.parametrize(
    "given_", [b"", b"x" * 129, b"a b", b"a\r\nb", b"a\n", b'"a"', b"\xff", b"a/b"]
)
def test_any_other_id_is_replaced(given_):
    first, second = (of((b"x-request-id", given_)).id for _ in range(2))
    assert len(first) == 32
    assert first != second


def test_outside_of_a_request_there_is_none():
    assert tracing.current() is None
