"""One training that is a function: what it is told, what it says, how it ends."""

import inspect
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from arena_core import training
from arena_core.adapters.trainers import run_records
from arena_core.adapters.trainers.endings import LOST, Ending
from arena_core.adapters.trainers.shim_pace import Moments
from arena_core.application.trainer import RunState, Sighting

MOST_STEPS_AFTER_STOP = 5
"""Of a function that yields, before it is killed."""


class Killed(BaseException):
    """Raised within a function that is to end at once, wherever it is."""


class Report(training.Run):
    """What a script is told, and what it says: as a program in a process has it."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        super().__init__(environ)
        self._log = log
        self._killed = threading.Event()

    @property
    def should_stop(self) -> bool:
        self.check()
        return super().should_stop

    def print(self, line: str) -> None:
        """Print a line into the log."""
        self.check()
        with self._log.open("a") as file:
            file.write(f"{line}\n")

    def wait(self, timeout_s: float) -> bool:
        """Return as soon as it should stop, or after a time; say which."""
        asked = self._asked_to_stop.wait(timeout_s)
        self.check()
        return asked

    @property
    def is_killed(self) -> bool:
        return self._killed.is_set()

    def check(self) -> None:
        """Raise `Killed` if it is to end at once; everything else does it too."""
        if self._killed.is_set():
            raise Killed

    def ask_to_stop(self) -> None:
        self._asked_to_stop.set()

    def kill(self) -> None:
        self._killed.set()
        self._asked_to_stop.set()


Script: TypeAlias = Callable[[Report], Iterator[None] | None]


class ScriptedRun:
    """From its start to its end.  Not for several threads."""

    def __init__(self, script: Script, report: Report) -> None:
        self.report = report
        self.moments = Moments(
            report.folder / training.METRICS, report.folder.with_name(run_records.PACE)
        )
        self.started_at = datetime.now(UTC)
        self._ending: Ending | None = None
        self._is_lost = False
        self._is_asked = False
        self._deadline = float("inf")
        self._steps: Iterator[None] | None = None
        self._steps_left = MOST_STEPS_AFTER_STOP
        if inspect.isgeneratorfunction(script):
            self._steps = script(report)
        else:
            thread = threading.Thread(target=self._run, args=(script,), daemon=True)
            thread.start()

    def go_on(self) -> None:
        """Take a function that yields one step further; end what does not stop."""
        if self.seen().state is not RunState.RUNNING:
            return
        self.moments.look()
        if self._is_overdue():
            self.kill()
        elif self._steps is not None:
            self._advance(self._steps)

    def seen(self) -> Sighting:
        if self._is_lost:
            return LOST
        if self._ending is None:
            return Sighting(RunState.RUNNING, self.started_at)
        return self._ending.sighting(self.started_at)

    def stop(self, grace_s: float) -> bool:
        """Ask it to end; return whether that was news."""
        if self._is_asked or self.seen().state is not RunState.RUNNING:
            return False
        self._is_asked = True
        self._deadline = time.monotonic() + grace_s
        self.report.ask_to_stop()
        return True

    def kill(self) -> None:
        self.report.kill()
        if self._ending is None:
            self._ending = Ending(stopped=True)

    def lose(self) -> None:
        self._is_lost = True
        self.report.kill()

    def _is_overdue(self) -> bool:
        if not self._is_asked:
            return False
        if self._steps is None:
            return time.monotonic() > self._deadline
        self._steps_left -= 1
        return self._steps_left < 0

    def _run(self, script: Script) -> None:
        self._finish(lambda: script(self.report))

    def _advance(self, steps: Iterator[None]) -> None:
        def one_step() -> bool:
            return next(steps, self) is self

        self._finish(one_step)

    def _finish(self, work: Callable[[], object]) -> None:
        """Do some work; note how all has ended, unless it says False."""
        code = 0
        try:
            if work() is False:
                return
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
        except Killed:
            return
        except Exception:  # noqa: BLE001 -- as an interpreter does: whatever it is
            if self.report.is_killed:
                return  # whatever it fell over, its folder is gone
            code = 1
            self.report.print(traceback.format_exc().rstrip())
        if self._ending is None:
            self._ending = Ending(code=code, stopped=self._is_asked)
