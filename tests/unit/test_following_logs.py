"""A log that is followed by its last lines, looked at again and again."""

from hypothesis import given
from hypothesis import strategies as st

from arena_core.entrypoints.cli.following import LogTail, behind

lines = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=30)


@given(lines, st.lists(st.integers(0, 30)))
def test_each_line_is_told_once_however_often_one_looks(whole, looks):
    tail, told = LogTail(), []
    for length in sorted(looks):
        told += tail.new(whole[:length], ended=False)
    told += tail.new(whole, ended=True)
    assert told == whole


@given(st.lists(st.integers(), unique=True, max_size=40), st.integers(1, 10))
def test_lines_that_are_told_apart_are_told_once_also_from_a_moving_window(them, step):
    whole = [f"line {it}" for it in them]
    tail, told = LogTail(), []
    for end in range(0, len(whole), step):
        told += tail.new(whole[max(end - 20, 0) : end], ended=False)
    told += tail.new(whole[-20:], ended=True)
    assert told == whole


def test_a_line_that_is_still_being_written_is_told_when_it_is_whole():
    tail = LogTail()
    assert tail.new(["begins", "half"], ended=False) == ["begins"]
    assert tail.new(["begins", "half of it"], ended=False) == []
    assert tail.new(["begins", "half of it", "next"], ended=False) == ["half of it"]


def test_a_line_that_stays_as_it_is_is_told_though_nothing_follows():
    tail = LogTail()
    assert tail.new(["waiting..."], ended=False) == []
    assert tail.new(["waiting..."], ended=False) == ["waiting..."]
    assert tail.new(["waiting..."], ended=False) == []


def test_a_line_that_grows_after_it_was_told_is_told_again_and_alone():
    assert behind(["one", "two"], ["one", "two and more"]) == ["two and more"]


def test_of_a_log_that_moved_on_too_far_all_is_told_that_is_there():
    assert behind(["a", "b"], ["x", "y"]) == ["x", "y"]
    assert behind([], ["x"]) == ["x"]
