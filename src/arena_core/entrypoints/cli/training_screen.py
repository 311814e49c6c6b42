"""Where a training is shown: drawn anew on a terminal, told in lines, or as JSON."""

import time
from collections.abc import Sequence

from attrs import define

from arena_core.entrypoints.cli import screen
from arena_core.entrypoints.cli.output import say
from arena_core.entrypoints.training_progress import Progress, line, words
from arena_core.entrypoints.visible import visible

SAID_AGAIN_S = 10.0
"""How often progress is told where nothing is drawn anew."""


@define
class Screen(screen.Screen):
    """`follows`: whether what the training prints is shown, and its progress less."""

    follows: bool = False
    _told: object = None
    _told_at: float = 0.0

    def lines(self, printed: Sequence[str]) -> None:
        for each in printed:
            # It is the text of a program, never markup.
            self._console.out(visible(each), highlight=False)

    def show(self, progress: Progress) -> None:
        if self._live is not None:
            self._draw(self._live, line(progress))
        elif self.as_json:
            self._json(progress.view)
        elif not self.follows:
            self._plain(progress)

    def end(self, progress: Progress) -> None:
        if self.as_json:
            self._json(progress.view)
        else:
            self._console.print(line(progress), soft_wrap=True)

    def _plain(self, progress: Progress) -> None:
        """Tell each new status, and from time to time how far it is."""
        view = progress.view
        is_due = time.monotonic() - self._told_at >= SAID_AGAIN_S
        if view.status == self._told and not is_due:
            return
        self._told, self._told_at = view.status, time.monotonic()
        say(", ".join([f"{view.name}: {view.status.value}", *words(progress)]))
