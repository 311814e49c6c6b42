"""The picture of a pipeline: well-formed whatever things are called, and complete."""

import re
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application.pipeline_views import StaleCause, Why
from arena_core.domain.stage_run import Seen, Status
from arena_core.domain.stage_settings import HandOver, StageType, Trigger
from arena_core.entrypoints.graph import clipped, columns, folded, svg
from arena_core.entrypoints.graph_style import STYLE
from unit.stage_scenes import AGENT, LATER, hand, product, run, stage, view

SVG = "{http://www.w3.org/2000/svg}"


def parsed(drawn):
    return ET.fromstring(drawn)  # noqa: S314 -- it is our own


def texts(drawn):
    return [element.text or "" for element in parsed(drawn).iter(f"{SVG}text")]


def classes(drawn, tag):
    return [element.get("class") for element in parsed(drawn).iter(f"{SVG}{tag}")]


names = st.text(max_size=200)
stages = st.builds(
    stage,
    st.just(1),
    type=st.sampled_from(StageType),
    trigger=st.sampled_from(Trigger),
    experiment_name=names | st.none(),
    agent_name=names | st.none(),
    status=st.sampled_from(Status),
    stale=st.booleans(),
    run=st.none()
    | st.builds(
        run,
        reason=names | st.none(),
        produced=st.none() | st.just(product("a")),
        consumed=st.none() | st.just(product("b")),
        awaits_approval=st.booleans(),
        retry_at=st.none() | st.just(LATER),
    ),
)


@given(names, names, st.lists(stages, max_size=12))
def test_any_names_make_well_formed_xml_with_each_stage_once(name, said, drawn):
    numbered = [stage(i + 1, **_fields(each)) for i, each in enumerate(drawn)]
    picture = svg(view(*numbered, name=name, description=said), {AGENT: name})
    groups = [g.get("id") for g in parsed(picture).iter(f"{SVG}g") if g.get("id")]
    assert groups == [f"stage-{each.id}" for each in numbered]
    assert picture == svg(view(*numbered, name=name, description=said), {AGENT: name})


def _fields(each):
    return {
        name: getattr(each, name)
        for name in (
            "type", "trigger", "experiment_name", "agent_name", "status", "stale", "run"
        )
    }  # fmt: skip


def test_names_are_text_and_never_markup():
    picture = svg(view(stage(1, experiment_name='<script>"&'), name="</svg>"))
    assert "<script" not in picture
    assert parsed(picture).find(f"{SVG}title").text == "Pipeline </svg>"
    assert '<script>"&' in texts(picture)


@pytest.mark.parametrize("unseen", ["\x00", "\x1b", "\u202e", "\ufffe", "\ud800"])
def test_what_would_break_or_turn_the_text_is_shown_as_such(unseen):
    picture = svg(view(stage(1, experiment_name=f"a{unseen}b")))
    assert unseen not in picture
    assert "a\N{REPLACEMENT CHARACTER}b" in texts(picture)


def test_it_needs_nothing_else_and_runs_nothing():
    picture = svg(view(*(stage(i + 1) for i in range(6))))
    assert re.findall(r"script|href|@import|url\(|\bon\w+=", picture) == []
    assert set(re.findall(r"https?://[^\"]*", picture)) == {
        "http://www.w3.org/2000/svg"
    }
    assert "prefers-color-scheme: dark" in picture


@pytest.mark.parametrize("status", Status)
def test_each_status_is_a_word_and_has_a_colour_of_its_own(status):
    picture = svg(view(stage(1, status=status)))
    assert status.value in texts(picture)
    assert f"stage {status.value}" in classes(picture, "g")
    assert picture.count(f"--{status.value}: #") == 2


def test_arrows_say_the_trigger_and_what_is_handed_over():
    picture = svg(
        view(
            stage(1),
            stage(2, trigger=Trigger.AUTO),
            stage(3, trigger=Trigger.MANUAL, checkpoint=HandOver.FINAL),
        )
    )
    arrows = [
        [text.text for text in group.iter(f"{SVG}text")]
        for group in parsed(picture).iter(f"{SVG}g")
        if (group.get("class") or "").startswith("arrow")
    ]
    assert arrows == [["auto", "best"], ["manual", "final"]]


def test_a_stale_stage_has_a_badge_and_says_why_to_who_points_at_it():
    cause = StaleCause(Why.PRODUCED, "Stage 1 left another.", None, None, None, [4, 9])
    drawn = stage(2, status=Status.SUCCEEDED, stale=True, stale_because=[cause])
    assert "Stale" not in texts(svg(view(stage(1))))
    picture = svg(view(stage(1), drawn))
    assert texts(picture).count("Stale") == 1
    assert "Stale: Stage 1 left another. (events 4, 9)" in picture
    assert ", stale" in parsed(picture).find(f"{SVG}desc").text


def test_it_shows_what_was_left_what_is_served_and_what_is_waited_for():
    trained = stage(1, status=Status.SUCCEEDED, run=run(produced=product("a", 0.5)))
    live = stage(
        2,
        type=StageType.DEPLOYMENT,
        status=Status.SUCCEEDED,
        run=run(consumed=product("b"), agent_id=AGENT),
    )
    asks = stage(
        3,
        status=Status.PENDING,
        run=run(awaits_approval=True, to_approve=Seen(product("c"), None)),
    )
    failed = stage(4, status=Status.FAILED, run=run(reason="It ran out of memory."))
    again = stage(5, status=Status.PENDING, run=run(reason="killed", retry_at=LATER))
    picture = texts(svg(view(trained, live, asks, failed, again), {AGENT: "Deployed"}))
    for told in (
        "a" * 12, "step 40 · fitness 0.5", "b" * 12, "endpoint Deployed",
        "waits for an approval", "c" * 12, "It ran out of memory.",
        "again at 12:00:09Z", "killed",
    ):  # fmt: skip
        assert told in picture


def test_boxes_do_not_overlap_and_lie_within_the_picture():
    drawn = parsed(svg(view(*(stage(i + 1) for i in range(11)))))
    boxes = [
        tuple(float(box.get(name)) for name in ("x", "y", "width", "height"))
        for box in drawn.iter(f"{SVG}svg")
        if box is not drawn
    ]
    _, _, width, height = map(float, drawn.get("viewBox").split())
    assert len(boxes) == 11
    for x, y, w, h in boxes:
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    for i, (x, y, w, h) in enumerate(boxes):
        for a, b, c, d in boxes[:i]:
            assert x >= a + c or a >= x + w or y >= b + d or b >= y + h


def test_an_empty_pipeline_says_what_to_do():
    assert "No stages yet: add one." in texts(svg(view()))


@given(st.text(), st.integers(2, 40))
def test_what_is_clipped_fits_and_begins_as_it_did(text, most):
    short = clipped(text, most)
    whole = " ".join(text.split())
    assert columns(short) <= most
    assert whole == short or (short[-1] == "…" and whole.startswith(short[:-1]))


@given(st.text(), st.integers(8, 40))
def test_what_is_folded_has_two_lines_at_most_which_fit(text, most):
    lines = folded(text, most)
    assert len(lines) <= 2
    assert all(columns(line) <= most for line in lines)


def test_wide_letters_count_twice():
    assert columns("ab北京") == 6
    assert clipped("北京大学", 5) == "北京…"


def test_a_pipeline_that_changes_is_drawn_otherwise():
    before = view(stage(1))
    after = evolve(before, stages=[stage(1, status=Status.RUNNING)])
    assert svg(before) != svg(after)


def test_how_far_a_training_is_is_a_number_and_a_bar():
    one = stage(1, status=Status.RUNNING, run=run())
    far = svg(view(one, stage(2)), None, {one.id: 0.25})
    assert "25% · since 2026-01-31 12:00:00Z" in texts(far)
    course, done = (
        float(bar.get("width"))
        for name in ("course", "done")
        for bar in parsed(far).iter(f"{SVG}rect")
        if bar.get("class") == name
    )
    assert done == course / 4
    assert "done" not in classes(svg(view(one)), "rect")


def test_a_name_that_is_cut_is_told_whole_to_who_points_at_it():
    name = "a name that is longer than any box has room for"
    drawn = parsed(svg(view(stage(1, experiment_name=name))))
    (text,) = (t for t in drawn.iter(f"{SVG}text") if t.get("class") == "name")
    assert text.text.endswith("…")
    assert text.find(f"{SVG}title").text == name


def test_what_was_stopped_looks_otherwise_than_what_was_never_run():
    def mark(status):
        drawn = svg(view(stage(1, status=status)))
        return [tag for tag in ("circle", "rect") if "dot" in classes(drawn, tag)]

    assert mark(Status.STOPPED) == ["rect"]
    assert mark(Status.NOT_STARTED) == ["circle"]
    for mode in re.findall(r"--paper.*?--warn:", STYLE, re.DOTALL):
        colours = dict(re.findall(r"--(\w+): (#\w+)", mode))
        assert colours["Stopped"] != colours["NotStarted"]


def test_who_points_at_a_box_is_told_who_has_triggered_and_rejected():
    rejected = run(reason="It was not approved.", rejected_by=hand("user:eve", "old"))
    picture = svg(view(stage(1, status=Status.STOPPED, run=rejected)))
    told = parsed(picture).find(f"{SVG}g/{SVG}title").text.splitlines()
    assert told == [
        "1. experiment 1: Stopped",
        "Triggered by operator:ann.",
        "It was not approved. Rejected by user:eve: old.",
    ]
    approved = run(approved_by=hand("user:eve"))
    picture = svg(view(stage(1, status=Status.RUNNING, run=approved)))
    assert "Approved by user:eve." in picture
