"""The process that watches one training, whatever becomes of the server.

It is started once for each run, in a session of its own.  It holds the run's lock for
as long as it lives, keeps what the training prints, ends it when it should, and ends
what it leaves behind.  It needs the standard library only, to be there at once.
"""

import errno
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from arena_core.adapters.trainers import process_tree, run_records
from arena_core.adapters.trainers.shim_child import Child, adopt_orphans, start
from arena_core.adapters.trainers.shim_family import Family
from arena_core.adapters.trainers.shim_limits import Log, Usage
from arena_core.adapters.trainers.shim_pace import Moments

BEGUN, FULL, FAILED = b"begun", b"full", b"failed"
"""What it answers to whoever has started it: is it under way, by whomever?"""
TICK_S = 0.05
LOCK_PATIENCE_S = 5.0
"""Somebody who only looks has the lock for a moment."""
END_PATIENCE_S = 10.0
METRICS = "metrics.jsonl"
_ALIVE, _ANSWER, _ERRORS = 0, 1, 2
_CHUNK_BYTES = 1 << 16
_FULL = (errno.ENOSPC, errno.EDQUOT)
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """`sys.argv[1]`: the run's folder."""
    folder = Path(sys.argv[1])
    # Whatever the server has open, such as the socket that it serves, is not ours.
    os.closerange(_ERRORS + 1, os.sysconf("SC_OPEN_MAX"))
    os.setsid()
    os.umask(0o077)
    os.chdir(folder)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        program = run_records.read(folder / run_records.PROGRAM)
        is_ours = program is not None and _begin(folder)
    except OSError as error:
        _answer(FULL if error.errno in _FULL else FAILED)
        raise
    if program is not None and is_ours:
        _Watch(folder, program).keep()
    _answer(BEGUN)


def _begin(folder: Path) -> bool:
    """Take the lock and pass the point of no return; say whether it was this one."""
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while not (folder / run_records.STARTED).exists():
        if run_records.lock(folder) is not None:
            run_records.reserve(folder)
            return run_records.claim(folder / run_records.STARTED, _of_this_shim())
        if time.monotonic() > deadline:
            raise TimeoutError("the lock of the run is held by somebody")
        time.sleep(TICK_S)
    return False


def _of_this_shim() -> Mapping[str, Any]:
    own = process_tree.process(os.getpid())
    return {
        "at": time.time(),
        "boot": process_tree.boot_id(),
        "shim": [os.getpid(), own.started if own else 0],
    }


def _answer(word: bytes) -> None:
    """Say the word to whoever waits for it, and be silent from then on."""
    with suppress(OSError):
        os.write(_ANSWER, word)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _ANSWER)
    os.close(null)


class _Watch:
    """Over one training, from its start to its end."""

    def __init__(self, folder: Path, program: Mapping[str, Any]) -> None:
        self._folder = folder
        self._program = program
        self._limits = program["limits"]
        self._log = Log(folder, self._limits["log_bytes"])
        self._usage = Usage(folder / run_records.WORK, self._limits)
        self._family = Family(folder)
        self._moments = Moments(
            folder / run_records.WORK / METRICS, folder / run_records.PACE
        )
        self._ending: dict[str, Any] = {}
        self._kill_at = float("inf")
        self._looked_at = 0.0
        self._is_tied = program["tied"]

    def keep(self) -> None:
        """Let the training run, and record how it ends."""
        adopt_orphans()
        try:
            child = start(self._folder, self._program)
        except OSError as error:
            self._ending["reason"] = (
                "The program could not be started: check that it is there and can be "
                f"run ({os.strerror(error.errno or 0)})."
            )
        else:
            _answer(BEGUN)
            self._attend(child)
            self._ending |= child.ending()
        self._end()

    def _attend(self, child: Child) -> None:
        while not child.has_ended():
            self._hear(child.output)
            if time.monotonic() - self._looked_at >= TICK_S:
                self._looked_at = time.monotonic()
                self._look(child)
        child.end_all(within_s=END_PATIENCE_S)
        child.end_group()
        self._log.drain(child.output)

    def _hear(self, output: int) -> None:
        sources = [output] if self._log.is_open else []
        if self._is_tied:
            sources.append(_ALIVE)
        ready, _, _ = select.select(sources, [], [], TICK_S)
        if output in ready:
            self._log.take(output)
        if _ALIVE in ready:
            # Nobody writes to it: whoever had the other end is gone.
            self._is_tied, self._kill_at = False, 0.0

    def _look(self, child: Child) -> None:
        """Do what is asked for by now, or is due."""
        self._family.look()
        self._moments.look()
        if (self._folder / run_records.STOP).exists() and "stopped" not in self._ending:
            self._ending["stopped"] = True
            self._kill_at = time.monotonic() + self._limits["grace_s"]
            child.ask_to_stop()
        if (self._folder / run_records.KILL).exists():
            self._kill_at = 0.0
        reason = self._usage.over(lambda: process_tree.memory_bytes(_below_us()))
        if reason is not None and "reason" not in self._ending:
            self._ending["reason"] = reason
            self._kill_at = 0.0
        if time.monotonic() >= self._kill_at:
            child.kill_group()

    def _end(self) -> None:
        self._log.close()
        while True:
            try:
                run_records.end(self._folder, self._ending)
            except OSError:
                time.sleep(1)  # for as long as the disk does not take it
                if not self._folder.exists():
                    return
            else:
                return


def _below_us() -> list[process_tree.Process]:
    return list(process_tree.descendants(os.getpid()))
