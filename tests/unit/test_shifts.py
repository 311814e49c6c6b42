"""By how much two checkpoints differ: part by part, for every kind of action."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_core.application.shifts import Shift, tally_of
from arena_core.domain.checkpoint import Box, Discrete, MultiBinary, MultiDiscrete

CHOICES = Discrete(3, start=-1)
PLANE = Box((2,), "float32", (-2.0, 0.0), (2.0, 1.0))


def shift(space, served, other):
    tally = tally_of(space)
    tally.add(np.asarray(served), None if other is None else np.asarray(other))
    return tally.shift()


SPACES = {
    "discrete": (CHOICES, np.array([-1, 0, 1])),
    "many": (Discrete(1000), np.array([0, 500, 999])),
    "multi discrete": (MultiDiscrete((2, 3), (0, 4)), np.array([[0, 4], [1, 6]])),
    "multi binary": (MultiBinary((2, 2)), np.eye(2, dtype="i1")[None]),
    "box": (PLANE, np.array([[-2, 0], [2, 1]], "f4")),
    "results": (None, np.array([[1.0, -3.0]], "f4")),
}


@pytest.mark.parametrize("name", SPACES)
def test_what_is_the_same_has_a_shift_of_exactly_0(name):
    space, actions = SPACES[name]
    assert shift(space, actions, actions)[:2] == (len(actions), 0.0)


@pytest.mark.parametrize("name", SPACES)
def test_no_answer_is_the_greatest_difference(name):
    space, actions = SPACES[name]
    assert shift(space, actions, None)[:2] == (len(actions), 1.0)


@pytest.mark.parametrize("name", SPACES)
def test_no_row_has_no_shift(name):
    assert tally_of(SPACES[name][0]).shift()[:2] == (0, 0.0)


# --- discrete actions ----------------------------------------------------------------


def test_it_is_the_share_of_rows_with_different_choices():
    assert shift(CHOICES, [-1, -1, 0, 1], [-1, 0, 0, 0]) == Shift(4, 0.5, 1)


def test_choices_that_are_exchanged_differ_though_they_are_as_frequent():
    assert shift(CHOICES, [0, 1, 0, 1], [1, 0, 1, 0]).shift == 1


def test_of_several_parts_the_greatest_counts():
    served, other = [[0, 4], [1, 5]], [[0, 6], [1, 6]]
    assert shift(MultiDiscrete((2, 3), (0, 4)), served, other) == Shift(2, 1.0, 2)


def test_each_bit_is_a_part():
    served, other = np.zeros((4, 3, 1), "i1"), np.zeros((4, 3, 1), "i1")
    other[:3, 1] = 1
    assert shift(MultiBinary((3, 1)), served, other) == Shift(4, 0.75, 3)


actions = hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(-1, 1))


@given(actions, st.integers(1, 5))
def test_it_does_not_matter_how_rows_are_put_together(served, pieces):
    other = np.flip(served)
    tally = tally_of(CHOICES)
    pieces = min(pieces, len(served))
    parts = [np.array_split(array, pieces) for array in (served, other)]
    for some, same in zip(*parts, strict=True):
        tally.add(some, same)
    assert tally.shift() == shift(CHOICES, served, other)


# --- continuous actions --------------------------------------------------------------


def test_it_is_the_mean_difference_as_a_share_of_the_range():
    served, other = [[-2.0, 0.5], [0.0, 0.5]], [[2.0, 0.5], [0.0, 0.25]]
    assert shift(PLANE, served, other) == Shift(2, 0.5, 2)
    assert shift(PLANE, np.array(served)[1:], np.array(other)[1:]).shift == 0.25


@pytest.mark.parametrize("bounds", [(None, 1.0), (0.0, None), (2.0, 2.0)])
def test_a_number_without_a_range_is_compared_with_itself(bounds):
    line = Box((1,), "float64", bounds[:1], bounds[1:])
    assert shift(line, [[3.0], [0.0]], [[1.0], [0.0]]).shift == 0.25
    assert shift(line, [[1.0]], [[-1.0]]).shift == 1


def test_the_greatest_numbers_there_are_can_be_compared():
    most = np.finfo("f8").max
    for bounds in [(-most, most), (None, None)]:
        line = Box((1,), "float64", bounds[:1], bounds[1:])
        assert shift(line, [[most]], [[-most]]).shift == 1


def test_an_action_of_no_numbers_has_no_shift():
    nothing = np.zeros((3, 0))
    assert shift(Box((0,), "float32", (), ()), nothing, nothing) == Shift(3, 0.0, 1)


def test_what_rounding_makes_is_no_difference():
    for bounds in [(-2.0, 2.0), (None, None)]:
        line = Box((1,), "float64", bounds[:1], bounds[1:])
        assert shift(line, [[1.0], [0.0]], [[1.00001], [1e-7]]).shift == 0
        assert shift(line, [[1.0]], [[1.01]]).shift > 0


# --- results -------------------------------------------------------------------------


def test_a_result_differs_by_the_mean_over_its_numbers():
    assert shift(None, [[3.0, 5.0]], [[1.0, 5.0]]) == Shift(1, 0.25, 1)


def test_results_of_another_shape_differ_wholly():
    assert shift(None, np.ones((2, 3)), np.ones((2, 4))).shift == 1


def test_results_may_change_their_shape_from_request_to_request():
    tally = tally_of(None)
    tally.add(np.ones((1, 2)), np.ones((1, 2)))
    tally.add(np.ones((1, 4)), -np.ones((1, 4)))
    assert tally.shift() == Shift(2, 0.5, 1)
