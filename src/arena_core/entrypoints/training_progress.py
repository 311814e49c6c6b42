"""How far a training is, in a line: for a terminal that is drawn anew, or in words."""

from collections.abc import Mapping, Sequence

from attrs import frozen
from rich.text import Text

from arena_core.application.keeping import FITNESS, SCORE
from arena_core.application.ports import MetricPoint
from arena_core.application.resources import ExperimentView
from arena_core.application.use_cases import UseCases
from arena_core.domain.experiment import AT_WORK
from arena_core.entrypoints.stage_words import span, turn
from arena_core.entrypoints.visible import visible

BAR = 24
"""Characters of a progress bar."""
COLOURS: Mapping[str, str] = {
    "Succeeded": "green",
    "Failed": "red",
    "Stopped": "yellow",
    "Stopping": "yellow",
    "Pending": "yellow",
    "Running": "cyan",
}
"""Of statuses; what has none here stays as it is."""
_SPARKS = "▁▂▃▄▅▆▇█"


@frozen
class Progress:
    """An experiment, and what was measured last."""

    view: ExperimentView
    latest: Mapping[str, float]

    @classmethod
    def of(cls, use: UseCases, view: ExperimentView) -> "Progress":
        points = use.training.latest(view.id)
        return cls(view, {point.name: point.value for point in points})

    @property
    def is_at_work(self) -> bool:
        return self.view.status in AT_WORK


def words(progress: Progress) -> list[str]:
    """Return what it waits for, or steps, rate, time left and scores, if known."""
    training, told = progress.view.training, []
    if training is not None and training.queue_position is not None:
        return [turn(training.queue_position)]
    if training is not None and training.step is not None:
        most = "" if training.max_steps is None else f" of {training.max_steps:,}"
        told.append(f"step {training.step:,}{most}")
        if training.steps_per_s is not None:
            told.append(f"{training.steps_per_s:,.3g} steps/s")
        if training.left_s is not None:
            told.append(f"{span(training.left_s)} left")
    told += [
        f"{name} {progress.latest[name]:.4g}"
        for name in (SCORE, FITNESS)
        if name in progress.latest
    ]
    return told


def share(progress: Progress) -> float | None:
    """Return how much of the steps is done, from 0 to 1; None: nobody knows."""
    training = progress.view.training
    if training is None or training.step is None or not training.max_steps:
        return None
    return min(training.step / training.max_steps, 1.0)


def bar(done: float) -> Text:
    full = round(done * BAR)
    text = Text("━" * full, style="cyan").append("━" * (BAR - full), style="dim")
    return text.append(f" {done:4.0%}")


def line(progress: Progress) -> Text:
    """Return the experiment on a line: name, status, bar, numbers, reason."""
    view = progress.view
    text = (
        Text(visible(view.name), style="bold")
        .append("  ")
        .append(status(view.status.value))
    )
    done = share(progress) if progress.is_at_work else None
    if done is not None:
        text.append("  ").append(bar(done))
    for word in words(progress):
        text.append(f"  {word}")
    if view.reason and not progress.is_at_work:
        text.append(f"\n{visible(view.reason)}", style="dim")
    return text


def status(word: str) -> Text:
    return Text(word, style=COLOURS.get(word, ""))


def sparkline(points: Sequence[MetricPoint], most: int = 32) -> str:
    """Return the course of one metric in at most so many characters."""
    values = [point.value for point in points]
    if len(values) > most:
        values = [values[i * (len(values) - 1) // (most - 1)] for i in range(most)]
    low, high = min(values), max(values)
    if high == low:
        return _SPARKS[0] * len(values)
    # Scaled first: the difference of two numbers may be beyond all numbers.
    top = len(_SPARKS) - 1
    scale = high / 2 - low / 2
    return "".join(_SPARKS[round((v / 2 - low / 2) / scale * top)] for v in values)
