"""ETags, and the headers that compare them (RFC 9110)."""

from uuid import UUID

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from arena_core.domain.errors import (
    PreconditionFailed,
    PreconditionRequired,
    Rejected,
)
from arena_core.entrypoints.http.preconditions import (
    Conditions,
    Versioned,
    Versions,
    parsed_tags,
    weak_tag,
)

ONE, OTHER = UUID(int=1 << 96), UUID(int=2)
AGENT = Versions("agent", (ONE, OTHER))
TAG = AGENT.tag((42, 7), b"{}")
OPAQUE = st.text(
    st.characters(
        codec="latin-1", exclude_characters='"\x7f', min_codepoint=0x21
    ).filter(lambda c: not "\x7f" <= c <= "\x9f")
)
TAGS = st.lists(st.tuples(st.booleans(), OPAQUE), min_size=1, max_size=5)


def written(tags, comma=", "):
    return comma.join(f'{"W/" if is_weak else ""}"{tag}"' for is_weak, tag in tags)


# --- tags -----------------------------------------------------------------------------


def test_a_tag_says_what_it_is_of_its_versions_and_its_bytes():
    assert TAG == '"agent-00000001:42.7-44136fa355b3678a"'
    assert AGENT.tag((42, 8), b"{}") != TAG
    assert AGENT.tag((42, 7), b"[]") != TAG
    assert Versions("agent", (OTHER, ONE)).tag((42, 7), b"{}") != TAG
    assert weak_tag(b"{}") == 'W/"44136fa355b3678a"'


@given(st.tuples(st.integers(0, 10**17), st.integers(0, 10**17)), st.binary())
def test_a_tag_gives_back_the_versions_that_it_was_made_of(versions, body):
    conditions = Conditions(if_match=AGENT.tag(versions, body))
    expected = conditions.expected(AGENT)
    assert expected.streams == (ONE, OTHER)
    assert expected.versions == {versions}


@pytest.mark.parametrize(
    "tag",
    [
        TAG.replace("agent", "project"),
        TAG.replace("00000001", "00000002"),
        TAG.replace("42.7", "42"),
        TAG.replace("42.7", "42.7.1"),
        TAG.replace("42.7", "-42.7"),
        TAG.replace("42.7", "٤٢.7".encode().decode("latin-1")),
        TAG.replace("42.7", "4" * 30 + ".7"),
        TAG.replace("-44136fa355b3678a", ""),
        "W/" + TAG,
        '""',
    ],
)
def test_a_tag_of_something_else_never_matches(tag):
    expected = Conditions(if_match=tag).expected(AGENT)
    assert expected.streams == (ONE, OTHER)
    assert expected.versions == frozenset()


def test_any_of_several_tags_may_match():
    other = AGENT.tag((1, 2), b"")
    conditions = Conditions(if_match=f'{TAG}, "x", W/{other}, {other}')
    assert conditions.expected(AGENT).versions == {(42, 7), (1, 2)}


# --- headers --------------------------------------------------------------------------


@given(TAGS, st.sampled_from([",", ", ", " ,", "\t,\t", ", ,", ",,"]))
def test_every_list_of_tags_is_read_as_it_was_written(tags, comma):
    assert parsed_tags(written(tags, comma)) == tags
    assert parsed_tags(f" ,{written(tags, comma)}, ") == tags


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "x",
        '"',
        '"x',
        'x"',
        'w/"x"',
        '"a" "b"',
        '"a"b',
        "*, *",
        '*,"a"',
        "W/*",
        '"\x7f"',
    ],
)
def test_what_is_no_list_of_tags_is_refused_by_name(text):
    with pytest.raises(Rejected, match="If-Match") as refused:
        parsed_tags(text)
    assert refused.value.field == "If-Match"


@given(st.text(max_size=60))
def test_whatever_is_sent_is_read_or_refused(text):
    try:
        tags = parsed_tags(text)
    except Rejected:
        return
    assert tags is None or tags == parsed_tags(written(tags))


def test_a_long_list_is_read_in_time_that_grows_no_faster():
    """Were it slow, this would not end."""
    many = '"x" ,' * 20_000 + "\t" * 20_000 + ","
    assert len(parsed_tags(many)) == 20_000
    with pytest.raises(Rejected):
        parsed_tags(many + ('"x"' + " " * 20_000) * 2)


# --- changes --------------------------------------------------------------------------


def test_a_change_without_conditions_expects_nothing():
    assert Conditions().expected(AGENT) is None
    assert Conditions().expected(None) is None


@pytest.mark.parametrize("versions", [AGENT, None])
def test_a_star_expects_that_there_is_something(versions):
    assert Conditions(if_match=" * ").expected(versions, required=True) is None


def test_where_it_must_be_said_silence_is_refused():
    with pytest.raises(PreconditionRequired, match="If-Match"):
        Conditions().expected(AGENT, required=True)


def test_what_has_no_etag_matches_none():
    with pytest.raises(PreconditionFailed, match="leave If-Match out"):
        Conditions(if_match=TAG).expected(None)


@pytest.mark.parametrize("text", ["*", TAG, "x"])
def test_a_change_if_nothing_is_there_is_refused(text):
    with pytest.raises(PreconditionFailed, match="Idempotency-Key"):
        Conditions(if_none_match=text).expected(AGENT)


# --- reading --------------------------------------------------------------------------


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
def test_what_is_known_is_not_sent_again(known):
    assert Conditions(if_none_match=known).is_known(TAG)
    assert Conditions(if_none_match=known).is_known("W/" + TAG)


@pytest.mark.parametrize("known", [None, '"x"', TAG.replace("42", "43"), "nonsense"])
def test_what_is_not_known_is_sent(known):
    assert not Conditions(if_none_match=known).is_known(TAG)


@pytest.mark.parametrize("wanted", [TAG, f'"x", {TAG}', "*"])
def test_who_reads_may_want_just_this_answer(wanted):
    assert not Conditions(if_match=wanted).is_known(TAG)


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [('"x"', TAG), (f"W/{TAG}", TAG), (f"W/{TAG}", f"W/{TAG}"), (TAG, f"W/{TAG}")],
)
def test_a_weak_tag_is_never_just_this_answer(wanted, tag):
    with pytest.raises(PreconditionFailed):
        Conditions(if_match=wanted).is_known(tag)


# --- what has a tag -------------------------------------------------------------------


@frozen
class Resource:
    id: UUID = ONE


def test_what_has_a_tag_is_named_by_the_path_or_was_just_made():
    agents = Versioned("agent", lambda agent_id: (agent_id, OTHER))
    assert agents.of({"agent_id": ONE}) == AGENT
    assert agents.of({"agent_id": ONE}, Resource(OTHER)) == AGENT
    assert agents.of({}, Resource()) == AGENT
    assert agents.of({"project_id": OTHER}) is None
    assert Versioned("project").of({"project_id": ONE}).streams == (ONE,)
