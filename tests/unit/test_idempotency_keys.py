"""The header Idempotency-Key, in quotes or not."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.domain.errors import Rejected, StillRunning
from arena_core.entrypoints.http.idempotency import Running, parsed_key

PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
KEYS = st.text(PRINTABLE, min_size=1, max_size=255)


def quoted(key):
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_no_header_is_no_key():
    assert parsed_key([]) is None


@given(KEYS)
def test_every_text_can_be_a_key_in_quotes(key):
    assert parsed_key([quoted(key)]) == key


@given(KEYS.filter(lambda key: '"' not in key and " " not in key))
def test_a_key_without_quotes_is_the_same_key(key):
    assert parsed_key([key]) == key
    assert parsed_key([f" {key}\t"]) == key


@pytest.mark.parametrize(
    "given_",
    [
        [""],
        ['""'],
        [" "],
        ["a b"],
        ['"'],
        ['"a'],
        ['a"'],
        ['"a"b"'],
        ['"a";p=1'],
        [r'"\n"'],
        ['"a\\"'],
        ['"\x07"'],
        ['"é"'],
        ["é"],
        ["x" * 256],
        [quoted("x" * 256)],
        ["a", "a"],
    ],
)
def test_what_is_no_key_is_refused_by_name(given_):
    with pytest.raises(Rejected, match="1 to 255") as refused:
        parsed_key(given_)
    assert refused.value.field == "Idempotency-Key"


@given(st.text(max_size=40))
def test_whatever_is_sent_is_read_or_refused(text):
    try:
        key = parsed_key([text])
    except Rejected:
        return
    assert 1 <= len(key) <= 255
    assert key.isascii()


def test_one_thing_is_done_by_one_at_a_time():
    running, one, other = Running(), UUID(int=1), UUID(int=2)
    with running.only(one), running.only(other):
        with pytest.raises(StillRunning), running.only(one):
            pass
        with pytest.raises(StillRunning), running.only(one):
            pass
    with running.only(one):
        pass


def test_what_has_failed_can_be_done_again():
    running = Running()
    with pytest.raises(ValueError, match="x"), running.only(UUID(int=1)):
        raise ValueError("x")
    with running.only(UUID(int=1)):
        pass
