"""The shims that this process has started, each over one run."""

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from arena_core.adapters.trainers import process_tree, run_records
from arena_core.domain.errors import Unavailable

START_PATIENCE_S = 30.0
_PAUSE_S = 0.01
_CODE = Path(__file__).parents[3]
START = (
    "import sys; sys.path.insert(0, sys.argv[2]); "
    "from arena_core.adapters.trainers.shim import main; main()"
)
_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that an interpreter ignores, and whom it starts would too."""


class Shims:
    """Safe to use from several threads."""

    def __init__(self, *, end_with_us: bool) -> None:
        """`end_with_us`: whether they end when this is closed, or its process dies."""
        self._end_with_us = end_with_us
        self._lock = threading.Lock()
        self._ties: dict[int, int | None] = {}
        """By pid, of those that have not ended: what each holds on to, if it does."""

    def start(self, folder: Path) -> bytes:
        """Start one over the run in `folder`; return its answer, nothing if it died."""
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
            self._ties[pid] = tie if self._end_with_us else None
            if not self._end_with_us:
                os.close(tie)
        with os.fdopen(heard, "rb", buffering=0) as pipe:
            ready, _, _ = select.select([pipe], [], [], START_PATIENCE_S)
            return pipe.read(16) if ready else b""

    def reap(self) -> None:
        """Take note of shims that have ended, which would stay as zombies."""
        with self._lock:
            for pid in [pid for pid in self._ties if _has_ended(pid)]:
                self._let_go(self._ties.pop(pid))

    def close(self, within_s: float) -> None:
        """End those that end with us, and wait for that.  Safe to call twice."""
        with self._lock:
            for pid, tie in self._ties.items():
                self._let_go(tie)
                self._ties[pid] = None
        deadline = time.monotonic() + within_s
        while self._end_with_us and self._ties and time.monotonic() < deadline:
            self.reap()
            time.sleep(_PAUSE_S)
        self.reap()

    def _let_go(self, tie: int | None) -> None:
        if tie is not None:
            os.close(tie)


def kill(folder: Path) -> None:
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


def _spawn(folder: Path, alive: int, said: int) -> int:
    """Start a shim over the run in `folder`; return its pid."""
    log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    arguments = [sys.executable, "-I", "-S", "-c", START, str(folder), str(_CODE)]
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


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True
