"""Looking at what is under way, from the command line, until it has ended.

The event log says when something has changed; in between it is looked at again only for
what no event tells: how far a training is, and how long it still takes.
"""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import TypeVar

import click
from attrs import define, field

from arena_core.entrypoints.cli.options import administration, settings
from arena_core.entrypoints.library import Arena

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT."""
TIMED_OUT = 124
"""The exit status when the time of --timeout is over, as timeout(1) has it."""
LOOK_AGAIN_S = 0.5
T = TypeVar("T")


def opened(
    store: str | None, blobs: Path | None, *, works: bool
) -> AbstractContextManager[Arena]:
    """Open the store.

    `works`: what is asked for there is done while it is open: by this process, which
    says so, if no server does it.
    """
    from arena_core.entrypoints.wiring import is_served, open_arena  # noqa: PLC0415 -- --help needs no adapters

    found = settings(store, blobs)
    there = found.store_path is not None and found.store_path.exists()
    if not works or not there or is_served(found):
        return administration(store, blobs)
    click.echo(
        "No server runs on this store: this command does the work while it runs.",
        err=True,
    )
    return open_arena(found)


def say_if_unserved(arena: Arena, kind: str, name: str) -> None:
    """Tell what to do for what was asked for, if nobody is there to do it.

    `kind`: what `name` names, an experiment or a pipeline.
    """
    from arena_core.entrypoints.wiring import is_served  # noqa: PLC0415 -- --help needs no adapters

    if not is_served(arena.settings):
        click.echo(
            "No server does it yet: start one on this store with arena-core serve, or "
            f"have it done by arena-core {kind} watch {quote(name)} --serve.",
            err=True,
        )


def say_if_it_serves(arena: Arena) -> None:
    """Tell what serves from now on what this very process has put live."""
    if arena.application.registry.all_live():
        click.echo(
            "It is recorded as Deployed, and is served no longer when this command "
            "ends: arena-core serve serves it.",
            err=True,
        )


class TimeIsOver(Exception):  # noqa: N818 -- it is no error of anybody
    """Somebody has waited as long as they wanted to."""


@define
class Watcher:
    """Whoever looks on, and whether they have asked to leave."""

    leaves: bool = False


def looks(
    arena: Arena,
    watcher: Watcher,
    look: Callable[[], T | None],
    *,
    timeout_s: float | None = None,
) -> Iterator[T]:
    """Yield what `look` finds, again and again, until it finds nothing more to see.

    It is called when something has happened, and every half second.  Raises
    `TimeIsOver` if there is still something after `timeout_s`, `KeyboardInterrupt`
    if the watcher leaves.
    """
    store = arena.application.core.store
    until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while True:
        seen = store.head()
        found = look()
        if found is None:
            return
        yield found
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeIsOver
        if not watcher.leaves:
            store.head(beyond=seen, timeout_s=min(LOOK_AGAIN_S, left_s))
        if watcher.leaves:
            raise KeyboardInterrupt


@contextmanager
def detachable(goes_on: str) -> Iterator[Watcher]:
    """Say that what is under way goes on, on Ctrl-C and when the time is over.

    The status is 130 then, or 124.  The first Ctrl-C ends the watching between two
    looks, for this process may do the work as well; a second one interrupts it.
    """
    watcher, before = Watcher(), signal.getsignal(signal.SIGINT)

    def interrupted(number: int, frame: FrameType | None) -> None:
        if watcher.leaves:
            signal.default_int_handler(number, frame)
        watcher.leaves = True

    if before is signal.default_int_handler:  # and not ignored, as of a job of a shell
        signal.signal(signal.SIGINT, interrupted)
    try:
        yield watcher
    except KeyboardInterrupt:
        click.echo(f"\n{goes_on}", err=True)
        sys.exit(INTERRUPTED)
    except TimeIsOver:
        click.echo(f"The time is over. {goes_on}", err=True)
        sys.exit(TIMED_OUT)
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


@define
class LogTail:
    """What a training has printed, told once: from the last lines, seen repeatedly."""

    _told: list[str] = field(factory=list)
    _last: str | None = None

    def new(self, lines: Sequence[str], *, ended: bool) -> list[str]:
        """Return those of `lines` that were not told yet.

        The last line may still grow: it is told when it has not for one look.
        """
        last = lines[-1] if lines else None
        is_whole = ended or last == self._last
        self._last = last
        seen = list(lines if is_whole else lines[:-1])
        new = behind(self._told, seen)
        self._told = seen
        return new


def behind(told: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return what of `lines` comes after `told`, whose beginning may be gone.

    If the last line of `told` has grown, it is among them.
    """
    for lost in range(len(told)):
        last = len(told) - lost - 1
        if list(lines[:last]) != list(told[lost:-1]) or len(lines) <= last:
            continue
        if lines[last].startswith(told[-1]):
            return list(lines[last + (lines[last] == told[-1]) :])
    return list(lines)
