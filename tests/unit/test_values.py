import math
from uuid import UUID

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.domain.errors import ArenaError, Rejected, TooLarge
from arena_core.domain.ids import TokenId
from arena_core.domain.values import (
    LIBRARY,
    LONGEST_DESCRIPTION,
    LONGEST_NAME,
    Actor,
    ActorKind,
    CheckpointChoice,
    CheckpointType,
    ProjectKind,
    Role,
    Scores,
    Source,
    SourceKind,
    choose,
    described,
    one_of,
    system,
    trimmed,
)


@frozen
class Row:
    step: int
    scores: Scores


def row(step, evaluation=None):
    return Row(step, Scores(training=0.0, evaluation=evaluation))


BEST = CheckpointChoice(CheckpointType.BEST)
FINAL = CheckpointChoice(CheckpointType.FINAL)
ROWS = st.lists(
    st.builds(row, st.integers(0, 50), st.none() | st.integers(0, 3).map(float)),
    min_size=1,
    unique_by=lambda r: r.step,
)


def specific(step):
    return CheckpointChoice(CheckpointType.SPECIFIC, step)


def test_rule_18_a_name_is_trimmed_and_must_not_be_blank():
    assert trimmed("\t balancer \n") == "balancer"
    assert trimmed("two words") == "two words"
    with pytest.raises(Rejected, match="name is missing") as caught:
        trimmed(" \n")
    assert caught.value.field == "name"
    with pytest.raises(Rejected, match="user is missing") as caught:
        trimmed("", field="user")
    assert caught.value.field == "user"


def test_a_name_may_be_so_long_and_no_longer():
    assert trimmed(" " + "x" * LONGEST_NAME + " ") == "x" * LONGEST_NAME
    with pytest.raises(Rejected, match=r"name has 201 .* at most 200") as caught:
        trimmed("x" * (LONGEST_NAME + 1))
    assert caught.value.field == "name"


def test_a_description_may_be_empty_and_so_long_and_no_longer():
    assert described("  ") == ""
    assert described(" it balances ") == "it balances"
    text = "x" * LONGEST_DESCRIPTION
    assert described(f" {text} ") == text
    with pytest.raises(Rejected, match=r"10001 .* at most 10000") as caught:
        described(text + "x")
    assert caught.value.field == "description"


def test_a_source_has_a_trimmed_name():
    assert Source(SourceKind.GYM, " CartPole-v1 ").name == "CartPole-v1"
    with pytest.raises(Rejected, match="source is missing"):
        Source(SourceKind.DATASET, " ")


def test_rule_11_scores_that_no_metric_gives_are_null():
    assert (Scores().training, Scores().evaluation) == (None, None)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_is_a_finite_number(score):
    with pytest.raises(Rejected, match="training must be finite"):
        Scores(training=score)
    with pytest.raises(Rejected, match="evaluation must be finite"):
        Scores(evaluation=score)


def test_rule_22_the_choices_have_the_names_that_clients_know():
    assert [kind.value for kind in CheckpointType] == ["best", "final", "specific"]


def test_rule_22_best_is_the_highest_evaluation_score():
    rows = [row(10, 1.0), row(20, 3.0), row(30, 2.0)]
    assert choose(BEST, rows).step == 20


def test_rule_22_best_looks_at_no_training_score():
    rows = [Row(10, Scores(9.0, 1.0)), Row(20, Scores(1.0, 2.0))]
    assert choose(BEST, rows).step == 20


def test_rule_22_final_is_the_largest_step_in_whatever_order_they_come():
    assert choose(FINAL, [row(10, 1.0), row(30), row(20, 3.0)]).step == 30


def test_rule_22_specific_is_the_step_that_was_named():
    assert choose(specific(20), [row(30, 3.0), row(20), row(10, 1.0)]).step == 20


def test_rule_23_a_pick_is_ignored_for_best_and_final():
    rows = [row(10, 1.0), row(20, 3.0), row(30, 2.0)]
    assert choose(CheckpointChoice(CheckpointType.BEST, 10), rows).step == 20
    assert choose(CheckpointChoice(CheckpointType.FINAL, 10), rows).step == 30


def test_rule_23_specific_needs_a_pick():
    with pytest.raises(Rejected, match="needs its step") as caught:
        choose(CheckpointChoice(CheckpointType.SPECIFIC), [row(10)])
    assert caught.value.field == "checkpoint.step"


def test_rule_23_a_pick_must_be_one_of_the_steps():
    with pytest.raises(Rejected, match="step 15: choose one of 10, 20") as caught:
        choose(specific(15), [row(20), row(10)])
    assert caught.value.field == "checkpoint.step"


def test_a_checkpoint_at_step_zero_can_be_picked():
    assert choose(specific(0), [row(0), row(10)]).step == 0


@pytest.mark.parametrize("choice", [BEST, FINAL, specific(10)])
def test_rule_19_an_experiment_without_checkpoints_offers_none(choice):
    with pytest.raises(Rejected, match="no checkpoints") as caught:
        choose(choice, [])
    assert caught.value.field == "experiment_id"


@pytest.mark.parametrize("steps", [(10, 20), (20, 10)])
def test_rule_25_ties_of_best_go_to_the_larger_step(steps):
    assert choose(BEST, [row(step, 1.0) for step in steps]).step == 20


@pytest.mark.parametrize("score", [0.0, -100.0])
def test_rule_25_no_score_never_beats_a_score(score):
    assert choose(BEST, [row(20), row(10, score), row(30)]).step == 10


def test_rule_25_without_any_evaluation_score_none_is_the_best():
    with pytest.raises(Rejected, match="choose final or specific") as caught:
        choose(BEST, [row(10), row(20)])
    assert caught.value.field == "checkpoint"


@given(ROWS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_rule_25_the_order_of_the_rows_decides_nothing(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert choose(FINAL, rows) == choose(FINAL, shuffled)
    if any(r.scores.evaluation is not None for r in rows):
        best = choose(BEST, rows)
        assert best == choose(BEST, shuffled)
        rivals = [r for r in rows if r.scores.evaluation is not None]
        assert all(
            (r.scores.evaluation, r.step) <= (best.scores.evaluation, best.step)
            for r in rivals
        )


def test_rule_01_the_kinds_of_project_have_the_titles_that_users_know():
    assert ProjectKind.CLASSIC.title == "Classic RL"
    assert ProjectKind.ADVANCED.title == "Advanced Training"


def test_a_role_covers_itself_and_what_is_below_it():
    viewer, member, manager = Role.VIEWER, Role.MEMBER, Role.MANAGER
    covered = {(a, b) for a in Role for b in Role if a.covers(b)}
    assert covered == {
        (viewer, viewer),
        (member, viewer), (member, member),
        (manager, viewer), (manager, member), (manager, manager),
    }  # fmt: skip


def test_an_actor_says_by_whose_hand():
    assert str(LIBRARY) == "library"
    assert str(system("recovery")) == "system:recovery"
    token = TokenId(UUID(int=1))
    assert str(Actor(ActorKind.USER, "ada", token)) == "user:ada"


def test_a_refusal_reads_as_its_sentence_and_names_the_field():
    error = TooLarge("The bundle is too large.", field="body")
    assert isinstance(error, Rejected)
    assert isinstance(error, ArenaError)
    assert str(error) == "The bundle is too large."
    assert error.field == "body"
    assert Rejected("It is wrong.").field is None


def test_one_of_takes_a_member_or_the_name_that_clients_give_it():
    assert one_of(Role, Role.MEMBER, field="role") is Role.MEMBER
    assert one_of(Role, "member", field="role") is Role.MEMBER


@pytest.mark.parametrize("unknown", ["MEMBER", "", "owner" * 100])
def test_one_of_refuses_another_name_and_says_which_there_are(unknown):
    with pytest.raises(Rejected, match="use one of viewer, member, manager") as caught:
        one_of(Role, unknown, field="role")
    assert caught.value.field == "role"
    assert len(str(caught.value)) < 150
