"""What a process gives up before it reads what a stranger has made.

Several walls, each of its own: limits on what it uses; its rights; files and system
calls, which the kernel watches; and a hook of the interpreter, which also stands where
there is no such kernel, but which native code could climb over.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from arena_core.adapters.confined import landlock, seccomp

WALLS = (
    "limits", "no new privileges", "no capabilities", "ends with its parent", "files",
    "system calls", "audit hook",
)  # fmt: skip
"""What there is on Linux; elsewhere only the first and the last."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITY_VERSION_3 = 0x2008_0522
_CAPABILITY_SETS_BYTES = 24
"""Two of each of three sets of 32 bits."""
_MAPPED_BYTES = 16 << 30
"""Of address space for libraries: torch for CUDA alone takes several GiB."""
_CPU_GRACE_S = 5
"""After which a process that has outlived its SIGXCPU is killed."""

_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo",
    "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/sys/devices/system", "/sys/fs/cgroup",
)  # fmt: skip
"""What the C library, NumPy and torch read of the machine."""

_INSTALLED = ("site-packages", "dist-packages")
_REFUSED_EVENTS = (
    "ftplib.", "http.client.", "os.exec", "os.fork", "os.kill", "os.link",
    "os.posix_spawn", "os.spawn", "os.symlink", "os.system", "pickle.", "pty.",
    "smtplib.", "socket.", "subprocess.", "urllib.", "webbrowser.",
)  # fmt: skip
"""Beginnings of the names of events of the interpreter."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@frozen
class Limits:
    """What a confined process may use before it is ended."""

    wall_s: float = 120
    cpu_s: int = 120
    memory_bytes: int = 4 << 30
    """Of its own, where the system counts it; not libraries, which are files."""
    file_bytes: int = 2 << 30
    """Of one file that it writes."""
    folder_bytes: int = 4 << 30
    """Of all files that it writes."""
    open_files: int = 256


def confine(
    limits: Limits, readable: Sequence[Path], writable: Path, parent: int
) -> Sequence[str]:
    """Confine this process for ever; return the names of the walls that stand.

    `readable`: files and folders that it may open beside the interpreter's own;
    `writable`: the only folder that it may write in.  It ends when the process
    `parent` does.  Call it before any other thread is started.
    """
    os.umask(0o077)
    _limit(limits)
    walls = ["limits"]
    if sys.platform == "linux":
        walls += _linux_walls([*_interpreter(), *readable], writable, parent)
    sys.addaudithook(_Refusal(writable))
    return [*walls, "audit hook"]


def _limit(limits: Limits) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_CPU, limits.cpu_s, grace=_CPU_GRACE_S)
    _lower(resource.RLIMIT_DATA, limits.memory_bytes)
    _lower(resource.RLIMIT_AS, limits.memory_bytes + _MAPPED_BYTES)
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    _lower(resource.RLIMIT_NOFILE, limits.open_files)
    if sys.platform != "linux":
        # Where system calls can't be forbidden; Linux would count threads too.
        _lower(resource.RLIMIT_NPROC, 0)


def _lower(which: int, value: int, *, grace: int = 0) -> None:
    """Set a limit, if it is lower; some systems don't let some be set."""
    _, hard = resource.getrlimit(which)
    highest = value + grace
    if hard != resource.RLIM_INFINITY:
        highest = min(hard, highest)
    with suppress(OSError, ValueError):
        resource.setrlimit(which, (min(value, highest), highest))


def _linux_walls(
    readable: Sequence[Path], writable: Path, parent: int
) -> Iterator[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        yield "no new privileges"
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if libc.capset(header, bytes(_CAPABILITY_SETS_BYTES)) == 0:
        yield "no capabilities"
    # After the capabilities, for a change of rights would cancel it.
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
        yield "ends with its parent"
    if os.getppid() != parent:
        raise SystemExit("the parent has ended already")
    if landlock.forbid_files(readable, writable):
        yield "files"
    if seccomp.forbid_system_calls():
        yield "system calls"


def _interpreter() -> Iterator[Path]:
    """Yield where modules and the libraries that they need are read from."""
    yield from map(Path, _SYSTEM)
    yield from map(Path, (sys.prefix, sys.exec_prefix, sys.base_prefix))
    yield from (Path(entry) for entry in sys.path if entry.endswith(_INSTALLED))


@frozen
class _Refusal:
    """A hook of the interpreter that raises for what a confined process has to do."""

    writable: Path

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(_REFUSED_EVENTS):
            raise PermissionError(f"{event} is refused to a confined process")
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                self._check_written(path)

    def _check_written(self, path: object) -> None:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str) or path == os.devnull:
            return  # a descriptor, which was opened before
        if not Path(os.path.realpath(path)).is_relative_to(self.writable):
            raise PermissionError("a confined process writes in its own folder only")
