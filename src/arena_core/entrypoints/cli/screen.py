"""Where what is watched is shown: drawn anew on a terminal, or printed as JSON."""

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field
from rich.console import Console, RenderableType
from rich.live import Live

from arena_core.entrypoints.cli.output import print_json_lines


@define
class Screen:
    """What is neither drawn nor JSON, its subclasses tell in lines."""

    as_json: bool = False
    _console: Console = field(factory=lambda: Console(highlight=False))
    _live: Live | None = None
    _printed: object = None
    _drawn: object = None

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw while this lasts, if somebody looks."""
        if self.as_json or not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            self._live = live
            yield
        self._live = None

    def _draw(self, live: Live, drawn: RenderableType) -> None:
        """Draw it, unless it looks as what was drawn last."""
        looks = self._console.render_lines(drawn, self._console.options)
        if looks != self._drawn:
            live.update(drawn, refresh=True)
        self._drawn = looks

    def _json(self, view: object) -> None:
        """Print it, unless that is what was printed last."""
        if view != self._printed:
            print_json_lines([view])
        self._printed = view
