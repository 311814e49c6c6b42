"""A pipeline in words and as a tree, and the progress of what trains."""

import io
from types import SimpleNamespace

import pytest
from attrs import asdict
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from arena_core.application.pipeline_views import (
    AttemptView,
    RunHistory,
    StaleCause,
    Why,
)
from arena_core.application.ports import MetricPoint
from arena_core.domain.stage_run import Seen, Status
from arena_core.domain.stage_settings import (
    AutoAdd,
    Condition,
    Retries,
    StageType,
)
from arena_core.entrypoints.cli.pipeline_watching import is_well
from arena_core.entrypoints.cli.run_rows import RUN_COLUMNS, rows_of
from arena_core.entrypoints.pipeline_tree import tree
from arena_core.entrypoints.stage_words import (
    how_to_approve,
    note,
    note_of_run,
    plan,
    span,
)
from arena_core.entrypoints.stage_words import product as told
from arena_core.entrypoints.training_progress import Progress, sparkline, words
from unit.stage_scenes import LATER, NOW, hand, product, run, stage, view


def drawn(pipeline, trainings=None):
    out = io.StringIO()
    Console(file=out, width=200).print(tree(pipeline, trainings or {}, NOW))
    return out.getvalue()


def training(**said):
    known = dict.fromkeys(
        ("queue_position", "step", "max_steps", "steps_per_s", "left_s")
    )
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


@pytest.mark.parametrize(
    ("positions", "where"), [([4, 9], " (events 4, 9)"), ([4], " (event 4)"), ([], "")]
)
def test_the_tree_says_why_a_stage_is_stale(positions, where):
    cause = StaleCause(Why.PRODUCED, "Another is there.", None, None, None, positions)
    shown = drawn(view(stage(1, stale=True, stale_because=[cause])))
    assert shown.rstrip().endswith(f"stale: Another is there.{where}")


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


def test_what_waits_for_its_turn_to_train_says_where_it_stands():
    waiting = stage(1, status=Status.RUNNING, run=run(queue_position=2))
    assert note(waiting, NOW) == "waits for its turn to train: place 2 in the queue"


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
    ("status", "expected"), [(Status.SUCCEEDED, "put live"), (Status.RUNNING, "takes")]
)
def test_a_deployment_has_put_live_only_what_was_live(status, expected):
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


# --- who did what --------------------------------------------------------------------


def test_what_was_rejected_says_by_whom_and_why():
    rejected = run(
        reason="It was not approved.", rejected_by=hand("user:eve", "too old")
    )
    ended = stage(1, status=Status.STOPPED, run=rejected)
    words = "It was not approved. Rejected by user:eve: too old."
    assert note(ended, NOW) == note_of_run(rejected) == words
    assert words in drawn(view(ended))


def test_what_was_stopped_or_approved_says_by_whom():
    stopped = run(reason="It was stopped.", stopped_by=hand("user:sam"))
    assert note_of_run(stopped) == "It was stopped. Stopped by user:sam."
    approved = run(approved_by=hand("user:eve", "fine!"), finding="It is better.")
    assert note_of_run(approved) == "It is better. Approved by user:eve: fine!"
    assert note_of_run(run()) is None


def test_what_asks_says_what_is_typed_to_approve_or_reject():
    seen = Seen(product("a"), None)
    asking = run(awaits_approval=True, to_approve=seen)
    asks = stage(2, status=Status.PENDING, run=asking)
    assert how_to_approve("my chain", asks) == (
        "arena-core pipeline approve 'my chain' 2 --digest aaaaaaaaaaaa, or "
        "arena-core pipeline reject 'my chain' 2"
    )
    assert "arena-core pipeline approve chain 2 --digest a" in drawn(view(asks))
    scratch = run(awaits_approval=True, to_approve=Seen(None, None))
    asks = stage(1, status=Status.PENDING, run=scratch)
    assert how_to_approve("chain", asks).startswith(
        "arena-core pipeline approve chain 1, or"
    )
    assert how_to_approve("chain", stage(1)) is None
    assert how_to_approve("chain", stage(1, run=run())) is None


def test_names_and_reasons_cannot_turn_the_tree():
    failed = stage(
        1, experiment_name="a\u202eb", status=Status.FAILED, run=run(reason="x\x1bc")
    )
    shown = drawn(view(failed, name="n\u2066m"))
    assert "\\u202e" in shown
    assert "x\\x1bc" in shown
    assert "n\\u2066m" in shown


# --- runs ----------------------------------------------------------------------------


def history(*attempts, **said):
    return RunHistory(**asdict(run(**said), recurse=False), attempts=list(attempts))


def attempt(number, **said):
    known = {
        "number": number, "started_at": NOW, "ended_at": LATER, "training": number,
        "training_run_id": None, "agent_id": None, "status": Status.FAILED,
        "reason": "No.",
    }  # fmt: skip
    return AttemptView(**known | said)


def cells(row):
    return dict(zip(RUN_COLUMNS, row, strict=True))


def test_a_run_is_a_row_with_who_when_how_long_and_what_it_took_and_left():
    ended = history(
        status=Status.SUCCEEDED, ended_at=LATER, consumed=product("a"),
        produced=product("b"),
    )  # fmt: skip
    (row,) = rows_of(ended)
    assert cells(row) == {
        "RUN": 1, "STATUS": "Succeeded", "CAUSE": "manual", "BY": "operator:ann",
        "BEGAN": "2026-01-31 12:00:00Z", "ENDED": "2026-01-31 12:00:09Z",
        "LASTED": "9 s", "CONSUMED": told(product("a")), "PRODUCED": told(product("b")),
        "TOLD": None,
    }  # fmt: skip


def test_several_attempts_have_rows_below_that_of_their_run():
    going_on = attempt(2, ended_at=None, status=Status.RUNNING, reason=None)
    run_row, first, second = rows_of(history(attempt(1), going_on))
    assert cells(run_row)["ENDED"] is None
    assert [cells(first)[c] for c in ("RUN", "STATUS", "LASTED", "TOLD")] == [
        "1.1", "Failed", "9 s", "training 1: No.",
    ]  # fmt: skip
    assert [cells(second)[c] for c in ("RUN", "ENDED", "TOLD")] == [
        "1.2", None, "training 2",
    ]  # fmt: skip
    assert len(rows_of(history(attempt(1)))) == 1
