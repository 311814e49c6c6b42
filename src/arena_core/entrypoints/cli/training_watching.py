"""Watching a training to its end: how far it is, and what it prints."""

import sys
from collections.abc import Sequence
from shlex import quote
from uuid import UUID

from attrs import define, evolve, field

from arena_core.application.resources import ExperimentView
from arena_core.application.use_cases import UseCases
from arena_core.domain.experiment import AT_WORK, Status
from arena_core.entrypoints.cli.following import (
    LogTail,
    detachable,
    looks,
    say_if_unserved,
)
from arena_core.entrypoints.cli.options import operator
from arena_core.entrypoints.cli.output import say as say_line
from arena_core.entrypoints.cli.training_screen import Screen
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.training_progress import Progress

FOLLOWED_LINES = 2000
"""Lines of a log that may come between two looks at it."""


def run_of(view: ExperimentView) -> UUID | None:
    return None if view.training is None else view.training.run_id


@define
class Following:
    """What a training prints, each line once, beginning with a new one.

    `earlier`: the run of which nothing is told, for it is not what was asked for.
    """

    earlier: UUID | None
    _run: UUID | None = None
    _tail: LogTail = field(factory=LogTail)

    def told(self, printed: Sequence[str]) -> None:
        """Say that these last lines are known already."""
        self._tail.new(printed, ended=True)

    def new(
        self, use: UseCases, experiment_id: UUID, *, ended: bool = False
    ) -> list[str]:
        run = run_of(use.experiments.get(experiment_id))
        if run in (None, self.earlier):
            return []
        if run != self._run:
            self._run, self._tail = run, LogTail()
        printed = use.training.log(experiment_id, lines=FOLLOWED_LINES)
        return self._tail.new(printed, ended=ended)


def then(
    arena: Arena,
    experiment_id: UUID,
    following: Following,
    *,
    waits: bool,
    follow: bool,
    timeout_s: float | None = None,
) -> None:
    """Watch what was just asked for, or say how it stands."""
    if waits:
        shown = Screen(follows=follow)
        watched(arena, experiment_id, following, shown, timeout_s=timeout_s)
        return
    use = operator(arena)
    say(use, experiment_id)
    say_if_unserved(arena, "experiment", use.experiments.get(experiment_id).name)


def say(use: UseCases, experiment_id: UUID) -> None:
    view = seen(use, experiment_id)
    say_line(f"{view.name}: {view.status.value}")


def seen(use: UseCases, experiment_id: UUID) -> ExperimentView:
    """Return the experiment; Pending if its stage is about to train it again.

    How the training before has ended is not what whoever asks for one wants to know.
    """
    view = use.experiments.get(experiment_id)
    if view.status in AT_WORK or not use.training.is_to_begin(experiment_id):
        return view
    return evolve(view, status=Status.PENDING, training=None, reason=None)


def under_way(use: UseCases, experiment_id: UUID) -> Progress | None:
    if use.training.settled(experiment_id) is not None:
        return None
    return Progress.of(use, seen(use, experiment_id))


def echo(lines: Sequence[str]) -> None:
    for each in lines:
        say_line(each)


def watched(
    arena: Arena,
    experiment_id: UUID,
    following: Following,
    screen: Screen,
    *,
    timeout_s: float | None = None,
) -> None:
    """Show it until it has ended, and end with status 1 unless it has succeeded."""
    use = operator(arena)
    name = use.experiments.get(experiment_id).name
    with detachable(_goes_on(name)) as watcher, screen.drawn():
        for progress in looks(
            arena, watcher, lambda: under_way(use, experiment_id), timeout_s=timeout_s
        ):
            if screen.follows:
                screen.lines(following.new(use, experiment_id))
            screen.show(progress)
        if screen.follows:
            screen.lines(following.new(use, experiment_id, ended=True))
    ended = Progress.of(use, use.experiments.get(experiment_id))
    screen.end(ended)
    if ended.view.status is not Status.SUCCEEDED:
        sys.exit(1)


def _goes_on(name: str) -> str:
    typed = quote(name)
    return (
        f"The training goes on. Watch it with arena-core experiment watch {typed}, end "
        f"it with arena-core experiment stop {typed}; a server records what it does."
    )
