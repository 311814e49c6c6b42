"""What a converter does into which a stranger's code has come: run confined only.

Each function takes what `Task.function` takes.  Those that try something write into
`outcome.json` what came of each attempt: the name of an error, or what they got.
"""

import ctypes
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from arena_core.domain.errors import Rejected, StorageFull, TooLarge

NUMBERS = {
    "x86_64": {
        "open": 2, "socket": 41, "fork": 57, "execve": 59, "kill": 62, "chmod": 90,
        "symlink": 88, "setrlimit": 160, "prctl": 157, "io_uring_setup": 425,
        "clone": 56, "clone3": 435, "memfd_create": 319, "fallocate": 285,
        "shmctl": 31, "msgctl": 71, "semctl": 66, "inotify_init1": 294,
        "openat2": 437,
    },
    "aarch64": {
        "socket": 198, "execve": 221, "kill": 129, "prctl": 167,
        "io_uring_setup": 425, "clone": 220, "clone3": 435, "memfd_create": 279,
        "fallocate": 47, "shmctl": 195, "msgctl": 187, "semctl": 191,
        "inotify_init1": 26, "openat2": 437,
    },
}[os.uname().machine]  # fmt: skip


def call(name, *arguments):
    """Make a system call without Python's knowledge."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(NUMBERS[name], *arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return "done"


def attempt(outcomes, name, action):
    try:
        outcomes[name] = repr(action())
    except BaseException as error:  # noqa: BLE001 -- what came of it
        outcomes[name] = type(error).__name__


def tell(**actions):
    outcomes = {}
    for name, action in actions.items():
        attempt(outcomes, name, action)
    Path("outcome.json").write_text(json.dumps(outcomes))


# --- attempts --------------------------------------------------------------------


def find_folders(arguments, report):
    """Do what libraries do when they are imported, or first used."""
    del arguments, report
    cache = os.environ["TORCHINDUCTOR_CACHE_DIR"]
    tell(
        temporary=lambda: Path(tempfile.gettempdir()).samefile("."),
        cache=lambda: Path(cache).mkdir(parents=True, exist_ok=True),
        file=lambda: tempfile.mkstemp()[1] != "",
    )


def reach_out(arguments, report):
    del report
    address = ("127.0.0.1", arguments["port"])
    tell(
        python=lambda: socket.create_connection(address),
        kernel=lambda: call("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
        unix=lambda: call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
        ring=lambda: call("io_uring_setup", 1, None),
    )


def start_programs(arguments, report):
    del arguments, report
    actions = {
        "popen": lambda: subprocess.run(["true"], check=False),
        "system": lambda: os.system("true"),  # noqa: S605 -- it is refused
        "fork": os.fork,
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "kernel_exec": lambda: call("execve", b"/bin/true", None, None),
        "kernel_clone": lambda: call("clone", signal.SIGCHLD, 0, 0, 0, 0),
        "kernel_clone3": lambda: call("clone3", None, 0),
    }
    if "fork" in NUMBERS:
        actions["kernel_fork"] = lambda: call("fork")
    tell(**actions)


def look_around(arguments, report):
    del report
    secret = Path(arguments["secret"])
    tell(
        environment=lambda: sorted(os.environ),
        parents=lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        secret=secret.read_text,
        folder=lambda: list(secret.parent.iterdir()),
        users=Path("/etc/passwd").read_text,
        readable=(Path(arguments["order"]) / "model").read_text,
        descriptors=open_descriptors,
    )


def open_descriptors():
    kinds = []
    for number in range(64):
        try:
            kinds.append(
                str(Path(f"/proc/self/fd/{number}").readlink()).partition(":")[0]
            )
        except OSError:
            continue
    return kinds


def write_elsewhere(arguments, report):
    del report
    elsewhere = Path(arguments["elsewhere"])
    link = str(elsewhere / "model").encode()
    actions = {
        "new": lambda: (elsewhere / "new").write_text("x"),
        "over": lambda: (elsewhere / "model").write_text("x"),
        "delete": (elsewhere / "model").unlink,
        "chmod": lambda: (elsewhere / "model").chmod(0o777),
        "times": lambda: os.utime(elsewhere / "model", (0, 0)),
        "here": lambda: Path("here").write_text("x"),
        "folder_here": Path("folder").mkdir,
        "hard_link": lambda: Path("link").hardlink_to(elsewhere / "model"),
        "link": lambda: Path("link").symlink_to(elsewhere / "model"),
        "pipe": lambda: os.mkfifo("pipe"),
    }
    if "open" in NUMBERS:
        path = str(elsewhere / "kernel").encode()
        actions["kernel_new"] = lambda: call("open", path, os.O_CREAT | os.O_RDWR)
        actions["kernel_link"] = lambda: call("symlink", link, b"link")
    tell(**actions)


def harm_others(arguments, report):
    del arguments, report
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    tell(
        kill=lambda: os.kill(os.getppid(), 0),
        kernel_kill=lambda: call("kill", os.getppid(), 0),
        kill_group=lambda: call("kill", 0, 0),
        kill_itself=lambda: call("kill", os.getpid(), 0),
        limit=lambda: resource.setrlimit(resource.RLIMIT_AS, unlimited),
        limit_of_parent=lambda: resource.prlimit(
            os.getppid(), resource.RLIMIT_AS, (0, 0)
        ),
        survive=lambda: call("prctl", 1, 0, 0, 0, 0),
        priority=lambda: os.nice(-1),
        affinity=lambda: os.sched_setaffinity(os.getppid(), {0}),
    )


def hoard(arguments, report):
    """Take memory and room on the disk that no limit counts."""
    del arguments, report
    path = Path("file")
    path.write_text("x")
    with path.open("r+b") as file:
        number = file.fileno()
        reserved = struct.pack("=hh4xqqi4x16x", 0, 0, 0, 1 << 20, 0)
        tell(
            memory=lambda: call("memfd_create", b"file", 0),
            nameless=lambda: os.open(".", os.O_TMPFILE | os.O_RDWR),
            nameless_too=lambda: call("openat2", -100, b".", None, 0),
            removed=path.unlink,
            replaced=lambda: path.rename("other"),
            removed_folder=lambda: Path("folder").rmdir(),
            reserved=lambda: call("fallocate", number, 1, 0, 1 << 20),
            reserved_too=lambda: fcntl.ioctl(number, 0x4030_582A, reserved),
        )


def reach_by_other_ways(arguments, report):
    """Have signals sent, and meddle with what is shared without files."""
    del arguments, report
    tell(
        owner=lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()),
        signal=lambda: fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL),
        lease=lambda: fcntl.fcntl(0, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        memory=lambda: call("shmctl", 0, 0, None),
        messages=lambda: call("msgctl", 0, 0, None),
        semaphores=lambda: call("semctl", 0, 0, 0, None),
        watch=lambda: call("inotify_init1", 0),
    )


def write_at_the_end(arguments, report):
    del report
    Path("large").write_bytes(bytes(arguments["size"]))


def start_threads(arguments, report):
    del arguments, report
    threading.stack_size(1 << 15)
    for _ in range(5_000):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(60)


def work_as_usual(arguments, report):
    """Do what converters do, in threads too."""
    del arguments
    report("importing")
    import numpy as np  # noqa: PLC0415 -- when it is confined
    import onnx  # noqa: F401, PLC0415
    import onnxruntime  # noqa: F401, PLC0415

    answers = []
    thread = threading.Thread(target=lambda: answers.append(np.ones((99, 99)).sum()))
    thread.start()
    thread.join()
    tell(thread=lambda: answers[0] == 99 * 99)


# --- what goes on for ever, or takes too much ------------------------------------


def sleep(arguments, report):
    del arguments
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(f"sleeping as {os.getpid()}")
    while True:
        time.sleep(1)


def compute(arguments, report):
    del arguments, report
    while True:
        pass


def eat_memory(arguments, report):
    del arguments, report
    eaten = []
    while True:
        eaten.append(bytearray(1 << 24))


def eat_memory_at_once(arguments, report):
    """Ask for more than there may be, and do not even touch it."""
    del arguments, report
    mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def eat_shared_memory(arguments, report):
    del arguments, report
    eaten = []
    while True:
        eaten.append(mmap.mmap(-1, 1 << 22))
        eaten[-1].write(b"x" * (1 << 22))
        time.sleep(0.005)


def crash(arguments, report):
    del arguments, report
    ctypes.string_at(0)


def fill_a_file(arguments, report):
    del report
    with Path("large").open("wb") as file:
        while True:
            file.write(bytes(arguments["chunk"]))


def fill_the_folder(arguments, report):
    del report
    for number in range(100_000):
        Path(str(number)).write_bytes(bytes(arguments["chunk"]))
    time.sleep(60)


# --- what it says ----------------------------------------------------------------


def print_much(arguments, report):
    del arguments, report
    print(json.dumps({"error": "rejected", "detail": "printed"}) * 1000)  # noqa: T201
    print("noise " * 100_000, file=sys.stderr)  # noqa: T201


def say_to_all(arguments, report):
    del report
    for number in range(3, 64):
        try:
            os.write(number, arguments["said"].encode())
        except OSError:
            continue
    time.sleep(60)


def reject(arguments, report):
    report("about to")
    raise {"rejected": Rejected, "too large": TooLarge}[arguments["kind"]](
        arguments["detail"], field=arguments["field"]
    )


def run_out_of_space(arguments, report):
    del arguments, report
    raise StorageFull("none is left")


def fail(arguments, report):
    del report
    raise RuntimeError(arguments["detail"])


def leave(arguments, report):
    del arguments, report
    os._exit(3)
