"""Trainings in processes of their own, which outlive the server.

Each run has a folder, named by its id.  A small process, the shim, watches it and
records in that folder how it goes; the kernel says whether the shim is alive, by a
lock.  So any number of servers, now or later, know the same of every run.  On Linux
nothing of a run outlives it; other systems end its process group only.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import asdict

from arena_core.adapters import disk
from arena_core.adapters.trainers import (
    process_tree,
    run_folder,
    run_pace,
    run_records,
    shim,
)
from arena_core.adapters.trainers.endings import DAMAGED, LOST, NEVER_STARTED, Ending
from arena_core.adapters.trainers.programs import Limits, Program, environment
from arena_core.adapters.trainers.removal import remove_some
from arena_core.adapters.trainers.run_folder import CONTENTS, RunFolder
from arena_core.application.trainer import (
    LayOut,
    News,
    Order,
    Pace,
    RunState,
    Sighting,
)
from arena_core.domain.errors import StorageFull, Unavailable
from arena_core.domain.ids import RunId

__all__ = ["Limits", "ProcessTrainer", "Program"]

START_PATIENCE_S = 30.0
END_PATIENCE_S = 15.0
_PAUSE_S = 0.01
_CODE = Path(__file__).parents[3]
_START = (
    "import sys; sys.path.insert(0, sys.argv[2]); "
    "from arena_core.adapters.trainers.shim import main; main()"
)
_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that an interpreter ignores, and whom it starts would too."""
_ABSENT = Sighting(RunState.ABSENT)


class ProcessTrainer:
    """One folder of runs.  Safe to use from several threads and processes."""

    def __init__(
        self,
        folder: Path,
        program: Callable[[Order], Program],
        limits: Limits,
        *,
        ends_with_us: bool = False,
    ) -> None:
        """`folder` is made if it is missing.  It must be on a local disk.

        `ends_with_us`: whether runs end when this is closed, or its process dies.
        """
        self._folder = folder.absolute()
        self._program = program
        self._limits = limits
        self._ends_with_us = ends_with_us
        self._lock = threading.Lock()
        self._shims: set[int] = set()
        self._ties: list[int] = []
        self._ended: dict[RunId, Sighting] = {}
        with disk.translated(CONTENTS):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(self, order: Order, lay_out: LayOut) -> None:
        run = self._of(order.run_id)
        with disk.translated(CONTENTS):
            if _was_begun(run.path):
                return
            program = self._program(order)
            run.prepare(order, lay_out)
            resumed = order.resume_of and self._of(order.resume_of)
            variables = run.variables(order, resumed or None)
            run.write(run_records.PROGRAM, self._written(program, variables))
        answer = self._started(run.path)
        if answer == shim.FULL:
            raise StorageFull(
                "No space is left for trainings: free some and try again."
            )
        if answer != shim.BEGUN:
            raise Unavailable(
                "The training could not be started: see the file shim.log in the "
                "run's folder, and that this machine is not out of memory."
            )

    def look(self, run_id: RunId) -> Sighting:
        if run_id in self._ended:
            return self._ended[run_id]
        self._reap()
        with disk.translated(CONTENTS):
            seen = _seen(self._of(run_id).path)
            if seen.state is RunState.RUNNING and self._is_overdue(run_id):
                _kill_shim(self._of(run_id).path)
        if seen.state is RunState.LOST:
            self._clear(run_id)
        if seen.state in (RunState.ENDED, RunState.LOST):
            self._ended[run_id] = seen
        return seen

    def stop(self, run_id: RunId) -> None:
        with disk.translated(CONTENTS):
            folder = self._of(run_id).path
            if (folder / run_records.STOP).exists() and _was_begun(folder):
                return
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / run_records.STOP).touch()
            # Whoever makes this file decides: it, or a shim that begins just now.
            run_records.claim(folder / run_records.STARTED, {run_records.NEVER: True})

    def news(self, run_id: RunId) -> News:
        with disk.translated(CONTENTS):
            return self._of(run_id).news()

    def acknowledge(self, run_id: RunId, mark: str) -> None:
        with disk.translated(CONTENTS):
            self._of(run_id).acknowledge(mark)

    def log(self, run_id: RunId, lines: int) -> Sequence[str]:
        return self._of(run_id).log(lines)

    def pace(self, run_id: RunId) -> Pace | None:
        try:
            seen = self.look(run_id)
        except Unavailable:  # whatever else there is to be read can be read still
            return None
        if seen.state is not RunState.RUNNING or seen.started_at is None:
            return None
        run = self._of(run_id)
        order = run.order()
        if order is None:
            return None
        first = order.resume_step or 0
        return run_pace.of(run.work, seen.started_at, first, order.max_steps)

    def tidy(self, run_id: RunId) -> None:
        with disk.translated(CONTENTS):
            self._of(run_id).tidy()

    def discard(self, run_id: RunId) -> None:
        """See `Trainer`.  What stays is a mark that keeps it from being started."""
        self.stop(run_id)
        with disk.translated(CONTENTS):
            folder = self._of(run_id).path
            (folder / run_records.KILL).touch()
            self._wait_for_end(folder)
            self._clear(run_id)
            never = json.dumps({run_records.NEVER: True}).encode()
            run_records.write(folder / run_records.STARTED, never)
            remove_some(folder, unless=lambda name: name == run_records.STARTED)
        self._ended.pop(run_id, None)

    def close(self) -> None:
        with self._lock:
            ties, self._ties = self._ties, []
        for tie in ties:
            os.close(tie)
        deadline = time.monotonic() + END_PATIENCE_S
        while ties and self._shims and time.monotonic() < deadline:
            self._reap()
            time.sleep(_PAUSE_S)
        self._reap()

    def _of(self, run_id: RunId) -> RunFolder:
        return run_folder.of(self._folder, run_id)

    def _written(self, program: Program, variables: Mapping[str, str]) -> bytes:
        record = {
            "argv": list(program.argv),
            "environment": environment(program, variables, self._limits),
            "limits": asdict(self._limits),
            "tied": self._ends_with_us,
        }
        return json.dumps(record).encode()

    def _started(self, folder: Path) -> bytes:
        """Start a shim; return what it answers, nothing if it died."""
        heard, said = os.pipe()
        alive, tie = os.pipe()
        try:
            pid = _spawn(folder, alive, said)
        except OSError as error:
            os.close(heard)
            os.close(tie)
            raise Unavailable(
                "No process could be started: see that this machine is not out of "
                "memory."
            ) from error
        finally:
            os.close(alive)
            os.close(said)
        with self._lock:
            self._shims.add(pid)
            if self._ends_with_us:
                self._ties.append(tie)
            else:
                os.close(tie)
        with os.fdopen(heard, "rb", buffering=0) as pipe:
            ready, _, _ = select.select([pipe], [], [], START_PATIENCE_S)
            return pipe.read(16) if ready else b""

    def _reap(self) -> None:
        """Take note of shims that have ended, which would stay as zombies."""
        with self._lock:
            self._shims = {pid for pid in self._shims if not _has_ended(pid)}

    def _wait_for_end(self, folder: Path) -> None:
        begun = time.monotonic()
        while run_records.is_held(folder):
            waited_s = time.monotonic() - begun
            if waited_s > END_PATIENCE_S:
                _kill_shim(folder)
            if waited_s > 2 * END_PATIENCE_S:
                raise Unavailable("The training does not end: try again.")
            self._reap()
            time.sleep(_PAUSE_S)

    def _is_overdue(self, run_id: RunId) -> bool:
        """Say whether a shim that was asked to end its run must hang itself."""
        try:
            asked = (self._of(run_id).path / run_records.STOP).stat().st_mtime
        except FileNotFoundError:
            return False
        return time.time() > asked + self._limits.grace_s + 2 * END_PATIENCE_S

    def _clear(self, run_id: RunId) -> None:
        """Kill what a shim that was killed has left running."""
        leader = _leader(self._of(run_id).path)
        process_tree.end_all(
            lambda: process_tree.left_over(str(run_id), leader),
            within_s=END_PATIENCE_S,
        )


def _spawn(folder: Path, alive: int, said: int) -> int:
    """Start a shim over the run in `folder`; return its pid."""
    log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    arguments = [sys.executable, "-I", "-S", "-c", _START, str(folder), str(_CODE)]
    return os.posix_spawn(
        sys.executable,
        arguments,
        {"LANG": "C.UTF-8"},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, alive, 0),
            (os.POSIX_SPAWN_DUP2, said, 1),
            (os.POSIX_SPAWN_OPEN, 2, str(folder / "shim.log"), log, 0o600),
        ],
        setsigmask=[],
        setsigdef=_DEFAULT,
    )


def _leader(folder: Path) -> tuple[int, int] | None:
    """Return the pid and the start of the training; None if they are not known."""
    try:
        record = run_records.read(folder / run_records.PROCESS) or {}
    except run_records.Damaged:
        return None
    pid, started = record.get("pid"), record.get("started")
    if not isinstance(pid, int) or not isinstance(started, int):
        return None
    return pid, started


def _was_begun(folder: Path) -> bool:
    return (folder / run_records.STARTED).exists()


def _seen(folder: Path) -> Sighting:
    try:
        return _recorded(folder)
    except run_records.Damaged:
        if not run_records.is_held(folder):
            return DAMAGED
        (folder / run_records.KILL).touch()
        return Sighting(RunState.RUNNING)


def _recorded(folder: Path) -> Sighting:
    started = run_records.read(folder / run_records.STARTED)
    if started is None:
        return _ABSENT
    if run_records.NEVER in started:
        return NEVER_STARTED.sighting()
    at = _moment(started)
    # The lock is asked before the record is read: it is let go of after it was written.
    is_held = run_records.is_held(folder)
    ending = run_records.read(folder / run_records.EXIT)
    if ending is not None:
        return _ending(ending).sighting(at)
    return Sighting(RunState.RUNNING, at) if is_held else LOST


def _moment(started: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromtimestamp(started["at"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise run_records.Damaged(run_records.STARTED) from error


def _ending(record: Mapping[str, Any]) -> Ending:
    code, number, reason = map(record.get, ("code", "signal", "reason"))
    are_numbers = all(isinstance(n, int | None) for n in (code, number))
    if not are_numbers or not isinstance(reason, str | None):
        raise run_records.Damaged(run_records.EXIT)
    return Ending(code, number, reason, record.get("stopped") is True)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _kill_shim(folder: Path) -> None:
    """Kill a shim that does not do what it is asked to, unless its pid is another's."""
    try:
        record = run_records.read(folder / run_records.STARTED) or {}
        pid, started = map(int, record.get("shim", (0, 0)))
    except (run_records.Damaged, TypeError, ValueError):
        return
    found = process_tree.process(pid) if pid else None
    if found is not None and found.started == started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
