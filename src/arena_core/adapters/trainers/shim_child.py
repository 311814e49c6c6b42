"""Starting the training below the shim, so that it cannot outlive it unseen."""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from arena_core.adapters.trainers import process_tree, run_records

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GO = b"g"
_DEFAULT = ("SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE", "SIGXFSZ")
_CANNOT_RUN = 127
_PAUSE_S = 0.002


def adopt_orphans() -> None:
    """Become the parent of whatever the training leaves alone."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Child:
    """The training itself, which leads a session of its own."""

    def __init__(self, pid: int, output: int) -> None:
        self._pid = pid
        self._status: int | None = None
        self.output = output
        """What it prints can be read here, without waiting."""

    def has_ended(self) -> bool:
        self.is_anything_left()
        return self._status is not None

    def is_anything_left(self) -> bool:
        """Take note of what has ended below this process; say whether that was all.

        On Linux orphans become our children, so nothing runs where there is no child.
        """
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._pid:
                    self._status = status
        return False

    def end_all(self, *, within_s: float) -> None:
        """Kill what is left.  Whoever forks all the time is hit between two forks."""
        deadline, before = time.monotonic() + within_s, None
        while self.is_anything_left() and time.monotonic() < deadline:
            found = process_tree.own_children()
            process_tree.kill_with_groups(found)
            if found == before:
                time.sleep(_PAUSE_S)  # they need a moment to die
            before = found

    def ask_to_stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill_group(self) -> None:
        self._signal(signal.SIGKILL)

    def end_group(self) -> None:
        """End what is left where nobody could be found by the tree of processes.

        On Linux nothing is, and its number may be another group's by now.
        """
        if sys.platform != "linux":
            self.kill_group()
        self.is_anything_left()

    def ending(self) -> Mapping[str, Any]:
        if self._status is None:
            return {}
        code = os.waitstatus_to_exitcode(self._status)
        return {"code": code} if code >= 0 else {"signal": -code}

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)


def start(folder: Path, program: Mapping[str, Any]) -> Child:
    """Start the training.  Raises the `OSError` for which it cannot be run."""
    heard, printed = os.pipe()
    gate, opener = os.pipe()
    failure, failing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(opener)
        _become(folder, program, parent, (printed, gate, failing))
    for descriptor in (printed, gate, failing):
        os.close(descriptor)
    # Only what was recorded may begin: if this process is killed before, the gate is
    # closed with it, and the child ends.
    found = process_tree.process(pid)
    record = {"pid": pid, "started": found.started if found else 0}
    run_records.write(folder / run_records.PROCESS, json.dumps(record).encode())
    os.write(opener, _GO)
    os.close(opener)
    _check(failure, pid)
    os.set_blocking(heard, False)
    return Child(pid, heard)


def _check(failure: int, pid: int) -> None:
    """Raise what the child has run into; what it wrote to is closed when it runs."""
    with os.fdopen(failure, "rb") as pipe:
        told = pipe.read()
    if told:
        os.waitpid(pid, 0)
        raise OSError(int(told), "the program cannot be run")


def _become(
    folder: Path, program: Mapping[str, Any], parent: int, pipes: tuple[int, int, int]
) -> NoReturn:
    printed, gate, failing = pipes
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.read(gate, 1) != _GO or os.getppid() != parent:
            os._exit(_CANNOT_RUN)
        null = os.open(os.devnull, os.O_RDONLY)
        for here, there in ((null, 0), (printed, 1), (printed, 2)):
            os.dup2(here, there)
        for name in _DEFAULT:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        _limit(program["limits"])
        os.chdir(folder / run_records.WORK)
        argv = program["argv"]
        os.execvpe(argv[0], argv, program["environment"])  # noqa: S606 -- as ordered
    except OSError as error:
        os.write(failing, str(error.errno).encode())
    finally:
        os._exit(_CANNOT_RUN)


def _limit(limits: Mapping[str, Any]) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, limits["file_bytes"])
    _lower(resource.RLIMIT_NOFILE, limits["open_files"])


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    highest = value if hard == resource.RLIM_INFINITY else min(hard, value)
    with suppress(OSError, ValueError):
        resource.setrlimit(which, (highest, highest))
