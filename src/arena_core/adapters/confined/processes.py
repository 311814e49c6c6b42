"""Doing a task in a process of its own that can harm nothing.

The child is a fresh interpreter that has nothing of this process but a pipe on each
side: no environment, no open file, no network.  What else it gives up before it begins
is in `confinement`.
"""

import errno
import json
import logging
import os
import re
import selectors
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from attrs import asdict, frozen

from arena_core.adapters.confined.confinement import WALLS, Limits
from arena_core.adapters.confined.messages import (
    Ended,
    Message,
    broken_off,
    plain,
    raised,
    size,
)
from arena_core.domain.errors import Unavailable

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""How often the caller, the clock and the folder are asked."""
_CHUNK_BYTES = 1 << 16
_LONGEST_LINE = 1 << 16
_LONGEST_WORDS = 200
_KEPT_BYTES = 1 << 13
"""Of what the child writes to standard error."""
_MOST_FILES = 1_000
_MOST_THREADS = 1_000
_OWN_MEMORY = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)
_THREADS = re.compile(r"^Threads:\s+(\d+)$", re.MULTILINE)
_BLOCK_BYTES = 512
"""What `st_blocks` counts in, on every system."""
_SAID = "said"
"""Marks the pipe for messages."""
_CODE = Path(__file__).parents[2]
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from arena_core.adapters.confined.child import main; main()"
)
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    # Libraries of mathematics start a thread for each processor when they are
    # imported, before anything could be forbidden to it.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

_FOLDERS = ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR")
"""Variables with a folder that is there: torch makes the second when it first runs a
program, and no folder can be made then."""


@frozen
class Task:
    """What the child is to do: it calls `function(arguments, report)`."""

    function: str
    """Its module and its name, such as `package.module:function`."""
    arguments: Mapping[str, Any]
    """Anything that JSON can hold; to be seen in the machine's list of processes."""
    folder: Path
    """Its working directory, and the only one that it may write in."""
    readable: Sequence[Path] = ()
    """Files and folders that it may read, beside modules and libraries."""
    importable: Sequence[Path] = ()
    """Where it finds modules, beside those that are installed."""


def run(task: Task, limits: Limits, report: Callable[[str], None]) -> None:
    """Do `task` in a confined child, which is dead when this returns or raises.

    `report` is given the child's last words again and again, at least once a second;
    what it raises ends the child.  Raises the `Rejected`, `TooLarge` and `StorageFull`
    that the function raised, `Ended` if it raised anything else or went over a limit,
    and `Unavailable` if the child could not be started.
    """
    with _started(task, limits) as child:
        _attend(child, task, limits, report)
    _check_folder(
        task.folder, limits
    )  # it may have written since it was last looked at


def _attend(
    child: "_Child", task: Task, limits: Limits, report: Callable[[str], None]
) -> None:
    """Listen to the child until it is done, or raise why it is to be ended."""
    deadline = time.monotonic() + limits.wall_s
    words, walls = "starting", None
    while True:
        report(words)
        for message in child.heard(TICK_S):
            if message.done:
                return
            if message.error is not None:
                raise raised(message, limits)
            if walls is None and message.walls is not None:
                walls = message.walls
                _tell_missing(walls)
            words = plain(message.doing or words, _LONGEST_WORDS)
        _check_folder(task.folder, limits)
        _check_use(child.status(), limits)
        if child.has_gone and walls is None:
            raise Unavailable("No confined process could be started: see the log.")
        if child.has_gone:
            raise broken_off(child.returncode, limits)
        if time.monotonic() > deadline:
            raise Ended(f"took more than {limits.wall_s:g} seconds")


def _tell_missing(walls: Sequence[str]) -> None:
    missing = [wall for wall in WALLS if wall not in walls]
    if missing and sys.platform == "linux":
        logger.warning(
            "This system does not confine processes fully, for want of %s; what it "
            "reads for you should come from people you trust.",
            ", ".join(missing),
        )


class _Child:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._pipes = [
            pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe
        ]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipes[1], selectors.EVENT_READ, _SAID)
        self._selector.register(self._pipes[2], selectors.EVENT_READ)
        self._line = b""
        self._printed = b""

    @property
    def has_gone(self) -> bool:
        """Whether it has ended, and all that it has said was heard."""
        return not self._selector.get_map() and self._process.poll() is not None

    @property
    def returncode(self) -> int:
        return self._process.returncode

    def status(self) -> str:
        """Return what the kernel says of it.

        Nothing if it has ended, and where the system does not say it.
        """
        try:
            return Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        except OSError:
            return ""

    @property
    def printed(self) -> str:
        """The end of what it wrote to standard error, once it is closed."""
        text = self._printed.decode(errors="replace")
        return "\n".join(plain(line, _KEPT_BYTES) for line in text.splitlines())

    def heard(self, timeout_s: float) -> Iterator[Message]:
        """Yield what it says, if it says anything in time."""
        for key, _ in self._selector.select(timeout_s):
            data = os.read(key.fd, _CHUNK_BYTES)
            if not data:
                self._selector.unregister(key.fileobj)
            elif key.data == _SAID:
                yield from self._messages(data)
            else:
                self._keep(data)

    def _keep(self, printed: bytes) -> None:
        self._printed = (self._printed + printed)[-_KEPT_BYTES:]

    def _messages(self, data: bytes) -> Iterator[Message]:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            try:
                yield msgspec.json.decode(line, type=Message)
            except msgspec.DecodeError as error:
                raise Ended("said what it should not") from error
        if len(self._line) > _LONGEST_LINE:
            raise Ended("said more than it should")

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
        self._process.wait()
        self._selector.close()
        printed = self._pipes[2]
        os.set_blocking(printed.fileno(), False)
        self._keep(printed.read() or b"")
        for pipe in self._pipes:
            pipe.close()


@contextmanager
def _started(task: Task, limits: Limits) -> Iterator[_Child]:
    """Give a child at its work; end it, and log what it printed if it failed."""
    order = {
        "task": task.function,
        "arguments": task.arguments,
        "folder": os.path.realpath(task.folder),
        "readable": [str(path) for path in (*task.readable, *task.importable, _CODE)],
        "limits": asdict(limits),
        "parent": os.getpid(),
    }
    child = _Child(_popen([json.dumps(order), json.dumps(_path(task))], task.folder))
    try:
        with closing(child):
            yield child
    except (Ended, Unavailable) as error:
        logger.warning("A confined process: %s\n%s", error, child.printed)
        raise


def _path(task: Task) -> list[str]:
    """Return where the child looks for modules: where this process does."""
    own = [entry for entry in sys.path if Path(entry).is_absolute()]
    return [*own, str(_CODE.parent), *map(str, task.importable)]


def _popen(arguments: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603 -- nothing of it comes from outside
            [sys.executable, "-I", "-B", "-c", _START, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=folder,
            env=_ENVIRONMENT | dict.fromkeys(_FOLDERS, os.path.realpath(folder)),
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(
            "No process could be started: see that this machine is not out of memory."
        ) from error


def _check_use(status: str, limits: Limits) -> None:
    """Raise `Ended` for too much memory that is of no file, shared memory too."""
    if sum(int(kib) << 10 for kib in _OWN_MEMORY.findall(status)) > limits.memory_bytes:
        raise Ended(f"needed more than {size(limits.memory_bytes)} of memory")
    if sum(map(int, _THREADS.findall(status))) > _MOST_THREADS:
        raise Ended(f"started more than {_MOST_THREADS} threads")


@contextmanager
def _still_there() -> Iterator[None]:
    """Pass over what was there a moment ago, and is gone now."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Ended("nested folders too deep") from error


def _check_folder(folder: Path, limits: Limits) -> None:
    count, written, pending = 0, 0, [os.fspath(folder)]
    while pending:
        with _still_there(), os.scandir(pending.pop()) as entries:
            for entry in entries:
                count += 1
                found = entry.stat(follow_symlinks=False)
                # Blocks can be reserved behind the end; a file with holes has few.
                written += max(found.st_size, found.st_blocks * _BLOCK_BYTES)
                if entry.is_dir(follow_symlinks=False):
                    if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                        raise Ended("made a folder that nobody can look into")
                    pending.append(entry.path)
                if count > _MOST_FILES or written > limits.folder_bytes:
                    raise Ended(
                        f"wrote more than {_MOST_FILES} files or "
                        f"{size(limits.folder_bytes)}"
                    )
