"""A pipeline in words and as a tree, and the progress of what trains."""

import io
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from arena_core.application.pipeline_views import StaleCause, Why
from arena_core.application.ports import MetricPoint
from arena_core.domain.stage_run import Seen, Status
from arena_core.domain.stage_settings import (
    AutoAdd,
    Condition,
    Retries,
    StageType,
)
from arena_core.entrypoints.cli.pipeline_watching import is_well
from arena_core.entrypoints.pipeline_tree import tree
from arena_core.entrypoints.stage_words import note, plan, span
from arena_core.entrypoints.stage_words import product as told
from arena_core.entrypoints.training_progress import Progress, sparkline, words
from unit.stage_scenes import LATER, NOW, product, run, stage, view


def drawn(pipeline, trainings=None):
    out = io.StringIO()
    Console(file=out, width=200).print(tree(pipeline, trainings or {}, NOW))
    return out.getvalue()


def training(**said):
    known = {"step": None, "max_steps": None, "steps_per_s": None, "left_s": None}
    return Progress(
        SimpleNamespace(training=SimpleNamespace(**known | said)), {"score": 1.5}
    )


def test_the_tree_has_each_stage_with_its_status_and_what_it_left():
    shown = drawn(
        view(
            stage(1, status=Status.SUCCEEDED, run=run(produced=product("a", 0.9))),
            stage(2, experiment_name="[red]x[/red]"),
        )
    )
    assert "✔ experiment 1  Succeeded" in shown
    assert "left aaaaaaaaaaaa at step 40, fitness 0.9" in shown
    assert "2 ○ [red]x[/red]  NotStarted" in shown


def test_the_tree_says_why_a_stage_is_stale():
    cause = StaleCause(Why.PRODUCED, "Another is there.", None, None, None, [4, 9])
    shown = drawn(view(stage(1, stale=True, stale_because=[cause])))
    assert "stale: Another is there. (events 4, 9)" in shown


def test_the_tree_draws_how_far_a_training_is_while_it_is_at_work():
    one = stage(1, status=Status.RUNNING, run=run())
    far = training(step=25, max_steps=100, steps_per_s=12.5, left_s=6.0)
    shown = drawn(view(one), {one.id: far})
    assert " 25%" in shown
    assert "step 25 of 100  12.5 steps/s  6 s left  score 1.5" in shown
    ended = stage(1, status=Status.SUCCEEDED, run=run())
    assert " 25%" not in drawn(view(ended), {ended.id: far})


def test_a_training_that_has_said_nothing_yet_has_no_branch():
    one = stage(1, status=Status.RUNNING, run=run())
    silent = Progress(training().view, {})
    assert len(drawn(view(one), {one.id: silent}).splitlines()) == 2


def test_an_empty_tree_says_so():
    assert "no stages yet" in drawn(view())


def test_what_waits_counts_down_and_says_why():
    waiting = stage(
        1,
        status=Status.PENDING,
        run=run(retry_at=LATER, reason="It was killed.", attempt=2),
    )
    assert note(waiting, NOW) == "attempt 3 in 9 s, after: It was killed."


def test_what_asks_says_about_what_and_what_is_live():
    seen = Seen(product("a", 0.5), product("b", 0.25))
    asks = stage(
        1, status=Status.PENDING, run=run(awaits_approval=True, to_approve=seen)
    )
    assert note(asks, NOW) == (
        "waits until somebody approves or rejects: aaaaaaaaaaaa at step 40, fitness "
        "0.5; live is bbbbbbbbbbbb at step 40, fitness 0.25"
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"run": None}, None),
        ({"run": run(), "status": Status.RUNNING}, None),
        ({"run": run(reason="no"), "status": Status.FAILED}, "no"),
        ({"run": run(), "status": Status.PENDING}, None),
    ],
)
def test_what_has_nothing_to_say_says_nothing(said, expected):
    assert note(stage(1, **said), NOW) == expected


@pytest.mark.parametrize(
    ("status", "expected"), [(Status.SUCCEEDED, "serves"), (Status.RUNNING, "takes")]
)
def test_a_deployment_serves_only_what_is_live(status, expected):
    live = stage(
        1, type=StageType.DEPLOYMENT, status=status, run=run(consumed=product("a"))
    )
    assert note(live, NOW) == f"{expected} {told(product('a'))}"


def test_settings_are_told_if_they_are_not_those_of_every_stage():
    assert plan(stage(1)) == ""
    set_up = stage(
        1,
        auto_add=AutoAdd.BEST,
        condition=Condition(0.5, better_than_live=True),
        approval=True,
        retries=Retries(2),
        time_limit_s=90.0,
    )
    assert plan(set_up) == (
        "adds its best; only if fitness >= 0.5 and better than what is live; needs an "
        "approval; 2 retries; at most 1 min 30 s"
    )
    assert plan(stage(1, retries=Retries(1))) == "1 retry"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-3, "0 s"), (0.4, "0 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min")],
)
def test_spans_are_told_as_people_say_them(seconds, expected):
    assert span(seconds) == expected


def test_progress_tells_only_what_is_known():
    assert words(training()) == ["score 1.5"]
    assert words(training(step=1234)) == ["step 1,234", "score 1.5"]


def test_what_ended_last_says_whether_all_is_well():
    good = stage(1, status=Status.SUCCEEDED, run=run(ended_at=LATER))
    old = stage(2, status=Status.FAILED, run=run(ended_at=NOW))
    assert is_well(view(good, old))
    assert is_well(view(stage(1)))
    new = stage(2, status=Status.STOPPED, run=run(ended_at=LATER))
    assert not is_well(view(good, new))


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1, max_size=100), st.integers(2, 40))
def test_a_sparkline_fits_and_has_its_ends_where_the_values_have(values, most):
    points = [MetricPoint(step, "score", it) for step, it in enumerate(values)]
    drawn = sparkline(points, most)
    assert len(drawn) == min(len(values), most)
    if len(values) <= most and len(set(values)) > 1 and max(values) - min(values) > 1:
        assert drawn[values.index(min(values))] == "▁"
        assert drawn[values.index(max(values))] == "█"


def test_a_course_that_rises_is_drawn_rising():
    points = [MetricPoint(step, "score", float(step)) for step in range(8)]
    assert sparkline(points) == "▁▂▃▄▅▆▇█"
