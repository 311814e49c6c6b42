"""A pipeline as a picture: SVG that needs nothing else and runs nothing.

It has no scripts and no fonts of its own, follows the reader's light or dark colours,
says every status as a word too, and tells the whole to who cannot see it.  The same
pipeline gives the same bytes.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from uuid import UUID
from xml.etree import ElementTree as ET

from attrs import frozen

from arena_core.application.pipeline_views import PipelineView, RunView, StageView
from arena_core.domain.stage_run import Status
from arena_core.domain.stage_settings import StageType
from arena_core.entrypoints.graph_style import ICONS, STYLE
from arena_core.entrypoints.stage_words import (
    by,
    name_of,
    short,
    stale,
    time_of,
    why_ended,
)

BOX = (300, 132)
GAP = (88, 60)
MARGIN = 32
HEAD = 56
MOST_IN_A_ROW = 4
_NARROW, _WIDE = 23, 40
"""Columns of a name, and of what is told below it, that a box has room for."""
_UNSEEN = ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")
"""Unicode categories that XML forbids, or that would turn or hide what follows."""


def svg(
    view: PipelineView,
    endpoints: Mapping[UUID, str] | None = None,
    progress: Mapping[UUID, float] | None = None,
) -> str:
    """Return the picture.

    `endpoints`: of agents that its Deployment stages have put live, what their
    deployments are now, such as `Deployed`.  `progress`: by stage, how much of its
    training is done, from 0 to 1.
    """
    known = Known(endpoints or {}, progress or {})
    places = [_place(index) for index in range(len(view.stages))]
    root = _canvas(view, places)
    for (before, after), stage in zip(pairwise(places), view.stages[1:], strict=True):
        _arrow(root, before, after, stage)
    for place, stage in zip(places, view.stages, strict=True):
        _box(root, place, stage, known)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


@frozen
class Known:
    """What is known besides the pipeline: of agents, and of stages."""

    endpoints: Mapping[UUID, str]
    progress: Mapping[UUID, float]


@frozen
class Place:
    """Where a box is: its upper left corner."""

    x: int
    y: int
    begins_a_row: bool

    @property
    def middle(self) -> int:
        return self.y + BOX[1] // 2

    @property
    def right(self) -> int:
        return self.x + BOX[0]


def _place(index: int) -> Place:
    row, column = divmod(index, MOST_IN_A_ROW)
    x = MARGIN + column * (BOX[0] + GAP[0])
    y = MARGIN + HEAD + row * (BOX[1] + GAP[1])
    return Place(x, y, column == 0)


def _canvas(view: PipelineView, places: Sequence[Place]) -> ET.Element:
    width = max([place.right for place in places], default=BOX[0] * 2) + MARGIN
    bottom = max([place.y + BOX[1] for place in places], default=MARGIN + HEAD * 2)
    height = bottom + MARGIN
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": f"{width}",
            "height": f"{height}",
            "class": "pipeline",
            "role": "img",
            "aria-labelledby": "pipeline-title pipeline-desc",
        },
    )
    title = f"Pipeline {view.name}"
    _add(root, "title", id="pipeline-title").text = _text(title)
    _add(root, "desc", id="pipeline-desc").text = _text(_told(view))
    _add(root, "style").text = STYLE
    _add(root, "rect", "canvas", width=width, height=height, rx=12)
    columns = width // 11
    _write(root, "heading", MARGIN, MARGIN + 14, clipped(view.name, columns))
    said = view.description if view.stages else "No stages yet: add one."
    _write(root, "muted", MARGIN, MARGIN + 36, clipped(said, width // 8))
    return root


def _told(view: PipelineView) -> str:
    """Return the whole picture in words."""
    stages = (
        f"{stage.position}: {stage.type.value} {name_of(stage)}, {stage.status.value}"
        f"{', stale' if stage.stale else ''}"
        for stage in view.stages
    )
    return f"{len(view.stages)} stages. {'; '.join(stages)}"


def _arrow(root: ET.Element, before: Place, after: Place, stage: StageView) -> None:
    """Draw how a stage follows the one before it, and what it takes from it."""
    group = _add(root, "g", f"arrow {stage.trigger.value}")
    end = after.x - 9
    if after.begins_a_row:
        between = after.y - GAP[1] // 2
        line = (
            f"M{before.right} {before.middle}h16V{between}H{after.x - 20}"
            f"V{after.middle}H{end}"
        )
        x, y = (before.right + after.x) // 2, between
    else:
        line = f"M{before.right} {before.middle}H{end}"
        x, y = (before.right + after.x - 6) // 2, before.middle
    _add(group, "path", "line", d=line)
    _add(group, "path", "point", d=f"M{after.x - 2} {after.middle}l-9 -5v10z")
    _label(group, x, y - 10, stage.trigger.value)
    _label(group, x, y + 18, stage.checkpoint.value)


def _label(group: ET.Element, x: int, y: int, text: str) -> None:
    _write(group, "label", x, y, text).set("text-anchor", "middle")


def _box(root: ET.Element, place: Place, stage: StageView, known: Known) -> None:
    status = stage.status.value
    group = _add(root, "g", f"stage {status}", id=f"stage-{stage.id}")
    _add(group, "title").text = _text(_hint(stage))
    # What is in a box cannot leave it, whatever fonts there are.
    width, height = BOX
    box = _add(group, "svg", x=place.x, y=place.y, width=width, height=height)
    _add(box, "rect", "box", x=1, y=1, width=width - 2, height=height - 2, rx=10)
    _add(box, "rect", "bar", x=1, y=14, width=4, height=height - 28, rx=2)
    icon = _add(box, "g", "icon", transform="translate(16 16)")
    _add(icon, "rect", "tile", width=32, height=32, rx=8)
    _add(icon, "path", "glyph", d=ICONS[stage.type])
    name = _write(box, "name", 58, 29, clipped(name_of(stage), _NARROW))
    _add(name, "title").text = _text(name_of(stage))
    kind = stage.type.value.capitalize()
    _write(box, "muted", 58, 45, kind)
    number = _write(box, "muted", width - 14, 28, str(stage.position))
    number.set("text-anchor", "end")
    _badges(box, stage)
    for line, fact in enumerate(_facts(stage, known)):
        _write(box, "fact", 18, 101 + 17 * line, clipped(fact, _WIDE))
    if stage.id in known.progress:
        _bar(box, known.progress[stage.id])


def _bar(box: ET.Element, done: float) -> None:
    width = BOX[0] - 36
    _add(box, "rect", "course", x=18, y=119, width=width, height=4, rx=2)
    _add(box, "rect", "done", x=18, y=119, width=round(width * done), height=4, rx=2)


def _badges(box: ET.Element, stage: StageView) -> None:
    """Say the status, and whether it is stale, by colour and by word."""
    words = stage.status.value
    width = 32 + 8 * len(words)
    _add(box, "rect", "pill", x=16, y=60, width=width, height=22, rx=11)
    if stage.status is Status.STOPPED:
        _add(box, "rect", "dot", x=24, y=67, width=8, height=8)
    else:
        _add(box, "circle", "dot", cx=28, cy=71, r=4)
    _write(box, "status", 38, 75, words)
    if stage.stale:
        left = 16 + width + 8
        _add(box, "rect", "stale", x=left, y=60, width=50, height=22, rx=11)
        word = _write(box, "stale-word", left + 25, 75, "Stale")
        word.set("text-anchor", "middle")


def _hint(stage: StageView) -> str:
    """Return what is told to who points at the box, or hears it read."""
    lines = [f"{stage.position}. {name_of(stage)}: {stage.status.value}"]
    run = stage.run
    if run is not None:
        lines.append(by("Triggered", run.triggered_by))
        if run.approved_by is not None:
            lines.append(by("Approved", run.approved_by))
        lines.append(why_ended(run) or "")
    lines += [f"Stale: {stale(cause)}" for cause in stage.stale_because]
    return "\n".join(filter(None, lines))


def _facts(stage: StageView, known: Known) -> list[str]:
    """Return at most two lines on what the last run has left, or waits for."""
    run = stage.run
    if run is None:
        return ["not run yet"]
    if run.awaits_approval:
        about = None if run.to_approve is None else run.to_approve.candidate
        return ["waits for an approval", "" if about is None else short(about.digest)]
    if stage.status is Status.PENDING and run.retry_at is not None:
        again = f"again at {run.retry_at:%H:%M:%S}Z"
        return [again, run.reason or ""]
    if stage.status in (Status.FAILED, Status.STOPPED):
        return folded(why_ended(run) or "", _WIDE)
    if stage.type is StageType.DEPLOYMENT:
        return _of_deployment(run, known)
    if run.produced is not None:
        score = run.produced.scores.evaluation
        fitness = "not scored" if score is None else f"fitness {score:.4g}"
        return [short(run.produced.digest), f"step {run.produced.step} · {fitness}"]
    return [_since(run.started_at, known.progress.get(stage.id))]


def _since(began: datetime | None, done: float | None) -> str:
    share = "" if done is None else f"{done:.0%} · "
    return "" if began is None else f"{share}since {time_of(began)}"


def _of_deployment(run: RunView, known: Known) -> list[str]:
    if run.consumed is None:
        return []
    state = None if run.agent_id is None else known.endpoints.get(run.agent_id)
    return [short(run.consumed.digest), f"endpoint {state}" if state else ""]


def columns(text: str) -> int:
    """Return how wide `text` is, in Latin letters."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def clipped(text: str, most: int) -> str:
    """Return the beginning of `text`, on one line and at most so many columns wide."""
    text = " ".join(text.split())
    if columns(text) <= most:
        return text
    kept = text[:most]
    while columns(kept) >= most:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def folded(text: str, most: int) -> list[str]:
    """Return `text` on at most two lines, of which the second is clipped."""
    words = text.split()
    taken = 0
    while taken < len(words) and columns(" ".join(words[: taken + 1])) <= most:
        taken += 1
    first = max(taken, 1)
    lines = [clipped(" ".join(part), most) for part in (words[:first], words[first:])]
    return [line for line in lines if line]


def _write(parent: ET.Element, kind: str, x: int, y: int, text: str) -> ET.Element:
    element = _add(parent, "text", kind, x=x, y=y)
    element.text = _text(text)
    return element


def _text(text: str) -> str:
    """Return `text` with what no XML may hold, and no reader can see, shown as such."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(c) in _UNSEEN and c != "\n"
        else c
        for c in text
    )


def _add(
    parent: ET.Element, tag: str, kind: str | None = None, **attributes: object
) -> ET.Element:
    said = {} if kind is None else {"class": kind}
    said |= {name: str(value) for name, value in attributes.items()}
    return ET.SubElement(parent, tag, said)
