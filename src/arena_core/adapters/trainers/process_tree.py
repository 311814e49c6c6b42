"""Which processes belong to a run, by what the kernel says of them.

On Linux.  Elsewhere nothing is found, and only a process group can be ended.
It needs the standard library only, for the shim uses it too.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_OWN_MEMORY = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)
_ZOMBIE = "Z"
_PAUSE_S = 0.005


class Process(NamedTuple):
    pid: int
    parent: int
    session: int
    started: int
    """In ticks since the machine came up: tells it from another one with its pid."""
    state: str

    @property
    def is_alive(self) -> bool:
        return self.state != _ZOMBIE


def process(pid: int) -> Process | None:
    """Return what is known of a process; None if there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # Its name is between parentheses, and may hold some itself.
    fields = text.rpartition(")")[2].split()
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0])


def boot_id() -> str:
    """Return what tells this run of the machine from others; "" if nothing does."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def descendants(pid: int) -> Sequence[Process]:
    """Return the living children of a process, theirs, and so on."""
    children: dict[int, list[Process]] = {}
    for found in _all():
        children.setdefault(found.parent, []).append(found)
    below, pending = [], [pid]
    while pending:
        for child in children.get(pending.pop(), ()):
            below.append(child)
            pending.append(child.pid)
    return [p for p in below if p.is_alive]


def below(pid: int) -> Sequence[Process]:
    """Return what `descendants` does, at a cost that does not grow with the machine."""
    if not (_PROC / f"{pid}/task/{pid}/children").exists():
        return descendants(pid)  # not every kernel tells it
    found, pending = [], [pid]
    while pending:
        for child in _children(pending.pop()):
            known = process(child)
            if known is not None:
                found.append(known)
                pending.append(child)
    return [p for p in found if p.is_alive]


def _children(pid: int) -> Iterator[int]:
    """Yield the children of all threads of a process."""
    tasks = _PROC / str(pid) / "task"
    with suppress(OSError):
        for thread in os.listdir(tasks):  # noqa: PTH208 -- asked often, only for names
            with suppress(OSError):
                yield from map(int, (tasks / thread / "children").read_text().split())


def own_children() -> Sequence[int]:
    """Return the children of this process, which has one thread only.

    It is quick: who only lives until it has forked is seen at all.
    """
    own = os.getpid()
    try:
        return list(
            map(int, (_PROC / f"{own}/task/{own}/children").read_text().split())
        )
    except OSError:  # not every kernel tells it
        return [p.pid for p in descendants(own)]


def kill_with_groups(pids: Sequence[int]) -> None:
    """Kill our children and all of their process groups, at once, as forks cannot."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(pid)
            if group != os.getpgrp():
                os.killpg(group, signal.SIGKILL)


def left_over(run_id: str, leader: tuple[int, int] | None) -> Sequence[Process]:
    """Return what is left of a run whose shim is gone.

    `leader`: the pid and the start of the training itself.  Found are those of its
    session, and those that have the run's id in their environment.
    """
    session = None if leader is None else _session(leader)
    return [
        p
        for p in _all()
        if p.is_alive and (p.session == session or is_marked(p.pid, run_id))
    ]


def is_marked(pid: int, run_id: str) -> bool:
    """Say whether the process was started with the run's id in its environment."""
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return f"ARENA_RUN_ID={run_id}".encode() in environment.split(b"\0")


def memory_bytes(processes: Sequence[Process]) -> int:
    """Return the memory of all of them that is of no file."""
    return sum(_memory(p.pid) for p in processes)


def end_all(find: Callable[[], Sequence[Process]], *, within_s: float) -> bool:
    """Kill what `find` finds until it finds nothing; say whether it came to that."""
    deadline = time.monotonic() + within_s
    while found := find():
        for each in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each.pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _session(leader: tuple[int, int]) -> int | None:
    """Return the training's session, unless its pid is another process's by now."""
    pid, started = leader
    found = process(pid)
    return pid if found is None or found.started == started else None


def _memory(pid: int) -> int:
    try:
        status = (_PROC / str(pid) / "status").read_bytes()
    except OSError:
        return 0
    return sum(int(kib) << 10 for kib in _OWN_MEMORY.findall(status))


def _all() -> Iterator[Process]:
    try:
        names = os.listdir(_PROC)  # noqa: PTH208 -- asked often, and only for names
    except OSError:
        return
    for name in names:
        if name.isdecimal():
            found = process(int(name))
            if found is not None:
                yield found
