"""How users of the command line name a checkpoint."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core import best, final, specific
from arena_core.application.freezing import named
from arena_core.application.resources import CheckpointView
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import Digest
from unit.spec import assert_plain

A, B, C = (Digest(letter * 64) for letter in "abc")


def checkpoint(step, digest=A, fitness=None):
    return CheckpointView(
        step, digest, 1, None, fitness, datetime(2026, 9, 1, tzinfo=UTC)
    )


THERE = [checkpoint(10), checkpoint(20, B, 0.5), checkpoint(30, A)]


def test_rule_25_no_name_means_the_best():
    assert named(None, THERE) == best()


def test_rule_25_no_name_means_the_final_one_where_nothing_is_scored():
    assert named(None, [checkpoint(10), checkpoint(20)]) == final()


@pytest.mark.parametrize("text", ["best", " Best "])
def test_rule_25_the_best_by_name_is_never_another(text):
    assert named(text, [checkpoint(10)]) == best()


def test_rule_22_the_final_one_has_its_name():
    assert named("final", THERE) == final()


@given(
    st.integers(0, 10**19 - 1),
    st.sampled_from(["", "step_", "step-", "STEP_"]),
    st.sampled_from(["", " "]),
)
def test_rule_22_a_step_is_named_by_its_number(step, before, around):
    assert named(f"{around}{before}{step}{around}", []) == specific(step)


def test_rule_22_a_digest_means_the_largest_step_that_has_it():
    assert named(A, THERE) == specific(30)
    assert named(B.upper(), THERE) == specific(20)


@pytest.mark.parametrize(
    "text",
    ["", " ", "worst", "step_", "step 10", "10.0", "-1", "1" * 20, "a" * 63, "[10]", C],
)
def test_any_other_name_is_refused_with_those_that_there_are(text):
    with pytest.raises(Rejected, match=r"use best, final") as caught:
        named(text, THERE)
    assert caught.value.field == "checkpoint"
    assert_plain(caught.value)
