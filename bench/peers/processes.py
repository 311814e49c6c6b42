"""What a server's processes use, all of them together, from /proc (Linux)."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
ENDS_WITHIN_S = 15.0
_PROC = Path("/proc")


def family(root: int) -> set[int]:
    """Return the processes that `root` has started, itself included.

    Those whose parent has ended are found by their session, which is `root`'s.
    """
    found = {root}
    rows = list(_rows())
    found |= {process for process, _, session in rows if session == root}
    while born := {p for p, parent, _ in rows if parent in found} - found:
        found |= born
    return found


def _rows() -> Iterator[tuple[int, int, int]]:
    """Yield every process with its parent and its session."""
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (fields := _fields(int(folder.name))):
            yield int(folder.name), int(fields[1]), int(fields[3])


def _fields(process: int) -> list[str]:
    """Return what follows the name in the process's stat; nothing if it has ended."""
    try:
        return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(root: int) -> dict[int, float]:
    """Return the user and system time of each process of the family."""
    times = ((process, _fields(process)) for process in family(root))
    return {
        process: (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
        for process, fields in times
        if fields
    }


def used(before: dict[int, float], after: dict[int, float]) -> float:
    return sum(time - before.get(process, 0.0) for process, time in after.items())


def memory_mb(root: int) -> tuple[float, int]:
    """Return the family's proportional set size, and how many processes it has."""
    sizes = [size for process in family(root) if (size := _pss_kb(process)) is not None]
    return sum(sizes) / 1024, len(sizes)


def _pss_kb(process: int) -> int | None:
    try:
        lines = (_PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def end(server: "subprocess.Popen[bytes]") -> None:
    """End a server that was started in a session of its own, and all it has started."""
    members = _begun(family(server.pid))
    server.terminate()
    try:
        server.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    left = members.items() & _begun(family(server.pid) | set(members)).items()
    for process, _ in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _begun(processes: set[int]) -> dict[int, str]:
    """Return when each of them began: a number that is used again is told by it."""
    known = ((process, _fields(process)) for process in processes)
    return {process: fields[19] for process, fields in known if fields}
