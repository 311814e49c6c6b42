"""Masks: where environments have them, and what they forbid."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from arena_core.domain.errors import Unavailable
from arena_core.entrypoints.play.legality import check, flat, forbids, masked

OBSERVED, MASK = np.ones(3), np.array([1, 0], np.int8)


def test_without_a_mask_the_observation_is_what_it_is():
    assert masked(OBSERVED, {}) == (pytest.approx(OBSERVED), None)
    assert masked({"image": OBSERVED}, {"other": 1}) == ({"image": OBSERVED}, None)


def test_a_mask_in_the_info_is_found():
    seen, mask = masked(OBSERVED, {"action_mask": MASK})
    assert seen is OBSERVED
    assert mask is MASK


def test_a_mask_beside_the_observation_is_taken_from_it():
    seen, mask = masked({"observation": OBSERVED, "action_mask": MASK}, {})
    assert seen is OBSERVED
    assert mask is MASK


def test_a_mask_that_is_one_of_many_things_observed_is_left_to_the_policy():
    observed = {"image": OBSERVED, "action_mask": MASK}
    assert masked(observed, {}) == (observed, None)


def test_a_mask_of_parts_becomes_one_array():
    parts = (np.array([1, 0], np.int8), np.array([0, 1, 1], np.int8))
    assert flat(parts).tolist() == [1, 0, 0, 1, 1]
    assert flat([True, False]).tolist() == [True, False]


@pytest.mark.parametrize(("action", "forbidden"), [(5, False), (6, True), (7, False)])
def test_a_discrete_action_counts_from_where_its_space_begins(action, forbidden):
    mask = np.array([1.0, 0.0, 0.5])
    assert forbids(mask, Discrete(3, start=5), np.int64(action)) is forbidden


@pytest.mark.parametrize(
    ("action", "forbidden"),
    [((0, 11), False), ((1, 11), True), ((0, 10), True), ((0, 12), False)],
)
def test_each_part_of_a_multi_discrete_action_must_be_legal(action, forbidden):
    space = MultiDiscrete([2, 3], start=[0, 10])
    mask = np.array([1, 0, 0, 1, 1])
    assert forbids(mask, space, np.array(action)) is forbidden


def test_a_bit_may_be_set_only_where_the_mask_allows_it():
    mask = np.array([1, 0, 1])
    assert not forbids(mask, MultiBinary(3), np.array([1, 0, 0]))
    assert forbids(mask, MultiBinary(3), np.array([0, 1, 0]))


def test_a_continuous_action_is_never_forbidden():
    assert not forbids(np.array([0]), Box(-1, 1, (1,)), np.array([0.5]))


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (Discrete(2), np.int64(2)),
        (Discrete(2), np.float32(0.5)),
        (Discrete(2), np.array([0])),
        (Discrete(2), None),
        (Box(-1, 1, (2,)), np.zeros(3)),
        (MultiDiscrete([2, 2]), np.int64(0)),
    ],
)
def test_an_action_of_another_space_is_refused(space, action):
    with pytest.raises(Unavailable, match="trained for another"):
        check(action, space)


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (Discrete(2, start=4), np.int64(5)),
        (Box(-1, 1, (2,)), np.array([1.0001, 0.0])),
        (MultiDiscrete([2, 2]), np.zeros(2, np.int64)),
    ],
)
def test_an_action_of_the_space_passes(space, action):
    check(action, space)
