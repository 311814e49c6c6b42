"""A cursor goes on with the list that it came from, and with no other."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arena_core.domain.errors import InvalidCursor
from arena_core.domain.values import LONGEST_NAME
from arena_core.entrypoints.http.cursors import Cursors

KEY = bytes(32)
LIST = (KEY, "/api/v1/agents", "default", {"kind": "classic", "name": None})
POSITIONS = st.integers(0, 2**63 - 1)
PLACES = POSITIONS.map(str) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=LONGEST_NAME
)
ANOTHER = {
    "key": (b"x" * 32, *LIST[1:]),
    "path": (KEY, "/api/v1/projects", *LIST[2:]),
    "organisation": (*LIST[:2], "rivals", LIST[3]),
    "filter": (*LIST[:3], {"kind": "advanced", "name": None}),
    "further filter": (*LIST[:3], {"kind": "classic", "name": "a"}),
    "no filter": (*LIST[:3], {}),
    "parts that run together": (KEY, "/api/v1/agentsd", "efault", LIST[3]),
}


@given(PLACES, POSITIONS | st.none())
def test_a_cursor_gives_back_where_to_go_on_and_as_of_when(after, as_of):
    cursor = Cursors.of(*LIST).seal(after, as_of)
    assert re.fullmatch(r"[A-Za-z0-9_-]{32,2000}", cursor)
    assert Cursors.of(*LIST).open(cursor) == (after, as_of)


@pytest.mark.parametrize("other", ANOTHER.values(), ids=ANOTHER)
def test_another_list_does_not_take_it(other):
    cursor = Cursors.of(*LIST).seal("7", None)
    with pytest.raises(InvalidCursor, match="same filters") as refused:
        Cursors.of(*other).open(cursor)
    assert refused.value.field == "cursor"


@given(st.integers(0, 42), st.sampled_from("AQgw_-0z"))
def test_no_character_of_it_can_be_changed(place, character):
    cursor = Cursors.of(*LIST).seal("7", 9)
    altered = cursor[:place] + character + cursor[place + 1 :]
    if altered != cursor:
        with pytest.raises(InvalidCursor):
            Cursors.of(*LIST).open(altered)


@given(st.text(max_size=50) | st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True))
@example("")
@example("7")
@example("\x80" * 43)
@example("!" * 43)
@example("A" * 43)
@example("A" * 41)
@example("A" * 44)
@example("A" * 42 + "\n")
def test_what_is_none_is_refused(text):
    with pytest.raises(InvalidCursor):
        Cursors.of(*LIST).open(text)


def test_the_end_of_a_place_is_not_taken_for_the_beginning_of_a_list():
    sealed = Cursors(KEY, b"b").seal("7a", None)
    held = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    forged = urlsafe_b64encode(held[:9] + held[10:]).decode().rstrip("=")
    with pytest.raises(InvalidCursor):
        Cursors(KEY, b"ab").open(forged)


def test_the_key_is_not_shown():
    assert "\\x00" not in repr(Cursors.of(*LIST))
