"""What is printed of a pipeline that is watched where nothing can be drawn anew."""

import io
import re
from types import SimpleNamespace

import pytest
from attrs import evolve
from rich.console import Console

from arena_core.application.pipeline_views import StaleCause, Why
from arena_core.domain.stage_run import Seen, Status
from arena_core.entrypoints.cli import pipeline_watching
from arena_core.entrypoints.cli.pipeline_watching import Screen
from arena_core.entrypoints.pipeline_tree import tree
from arena_core.entrypoints.training_progress import Progress
from unit.stage_scenes import NOW, product, run, stage, view

ONE = stage(1, status=Status.RUNNING, run=run())
TWO = stage(2)
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  "


def far(step):
    known = dict.fromkeys(("queue_position", "steps_per_s", "left_s"))
    known |= {"step": step, "max_steps": 100}
    return Progress(SimpleNamespace(training=SimpleNamespace(**known)), {})


@pytest.fixture
def told(capsys):
    """Return a function that gives what was printed since, without the times."""

    def told():
        lines = capsys.readouterr().out.splitlines()
        assert all(re.match(TIME, line) for line in lines)
        return [re.sub(TIME, "", line) for line in lines]

    return told


def test_each_change_is_a_line_with_its_time_and_how_far_the_training_is(told):
    screen = Screen()
    screen.show(view(ONE, TWO), {})
    assert told() == ["1 experiment 1: Running"]
    asked = evolve(ONE, status=Status.STOPPING)
    screen.show(view(asked, TWO), {ONE.id: far(25)})
    assert told() == ["1 experiment 1: Stopping; step 25 of 100"]
    ended = evolve(ONE, status=Status.SUCCEEDED, run=run(produced=product("a")))
    screen.show(view(ended, evolve(TWO, status=Status.RUNNING, run=run())), {})
    assert told() == [
        "1 experiment 1: Succeeded; left aaaaaaaaaaaa at step 40",
        "2 experiment 2: Running",
    ]
    screen.show(view(ended, evolve(TWO, status=Status.RUNNING, run=run())), {})
    screen.end(view(ended, evolve(TWO, status=Status.RUNNING, run=run())))
    assert told() == []


def test_what_becomes_stale_says_so_with_all_causes(told):
    screen = Screen()
    done = evolve(ONE, status=Status.SUCCEEDED)
    screen.show(view(done), {})
    told()
    causes = [
        StaleCause(Why.PRODUCED, "Another is there.", None, None, None, [4, 9]),
        StaleCause(Why.PRODUCED, "And more.", None, None, None, []),
    ]
    screen.show(view(evolve(done, stale=True, stale_because=causes)), {})
    (line,) = told()
    assert line == (
        "1 experiment 1: Succeeded; stale: Another is there. (events 4, 9); "
        "stale: And more."
    )


def test_how_far_a_training_is_comes_now_and_then_while_nothing_else_changes(
    told, monkeypatch
):
    screen, clock = Screen(), iter([0.0, 9.0, 10.5, 19.0, 21.0])
    monkeypatch.setattr(pipeline_watching.time, "monotonic", lambda: next(clock))
    lines = []
    for step in range(5):
        screen.show(view(ONE), {ONE.id: far(step)})
        lines.append(told())
    assert lines == [
        ["1 experiment 1: Running; step 0 of 100"],
        [],
        ["1 experiment 1: Running; step 2 of 100"],
        [],
        ["1 experiment 1: Running; step 4 of 100"],
    ]


def test_what_trains_nothing_is_told_once_however_long_it_takes(told, monkeypatch):
    clock = iter([0.0, 100.0, 200.0])
    monkeypatch.setattr(pipeline_watching.time, "monotonic", lambda: next(clock))
    screen = Screen()
    for _ in range(3):
        screen.show(view(ONE), {})
    assert told() == ["1 experiment 1: Running"]


def test_what_has_ended_says_nothing_of_how_far_it_was(told):
    screen = Screen()
    screen.show(view(evolve(ONE, status=Status.FAILED)), {ONE.id: far(25)})
    assert told() == ["1 experiment 1: Failed"]


def test_what_asks_for_approval_is_followed_by_what_is_typed(capsys):
    asks = run(awaits_approval=True, to_approve=Seen(product("c"), None))
    shown = view(evolve(ONE, status=Status.PENDING, run=asks))
    screen = Screen()
    screen.show(shown, {})
    screen.show(shown, {})
    first, second = capsys.readouterr().out.splitlines()
    assert "waits until somebody approves or rejects: cccccccccccc" in first
    assert second.startswith("  arena-core pipeline approve chain 1 --digest cccc")


def test_a_terminal_is_drawn_on_only_when_something_looks_otherwise():
    drawn = []
    live = SimpleNamespace(update=lambda shown, **_: drawn.append(shown))
    screen = Screen(console=Console(file=io.StringIO(), width=80))
    for looks in (view(ONE), view(ONE), view(evolve(ONE, status=Status.FAILED))):
        screen._draw(live, tree(looks, {}, NOW))
    assert len(drawn) == 2
