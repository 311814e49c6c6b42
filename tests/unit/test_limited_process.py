"""A confined process can harm nothing: not this machine, not the one that started it.

What runs in it here is `confined_tasks/misbehaving.py`, which tries.
"""

import ctypes
import errno
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from ast import literal_eval
from itertools import pairwise
from pathlib import Path

import pytest
from attrs import evolve

from arena_core.adapters.confined import seccomp
from arena_core.adapters.confined.confinement import WALLS, Limits, _Refusal
from arena_core.adapters.confined.messages import Ended, Failed
from arena_core.adapters.confined.processes import Task, _check_folder, run
from arena_core.adapters.converters.process import _clear
from arena_core.domain.errors import Rejected, StorageFull, TooLarge, Unavailable

TASKS = Path(__file__).parents[1] / "confined_tasks"
LIMITS = Limits(wall_s=30)

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has these walls"
)  # fmt: skip


@pytest.fixture
def task(tmp_path):
    """Return what makes a task of a function in `misbehaving`."""
    work = tmp_path / "work"
    work.mkdir()

    def make(function, *, readable=(), **arguments):
        return Task(
            f"misbehaving:{function}", arguments, work, readable, importable=[TASKS]
        )

    return make


def nothing(words):
    del words


def outcome(task, limits=LIMITS):
    run(task, limits, nothing)
    return json.loads((task.folder / "outcome.json").read_text())


# --- what it can't do ------------------------------------------------------------


def test_what_converters_do_is_still_possible(task):
    assert outcome(task("work_as_usual")) == {"thread": "np.True_"}


@pytest.mark.parametrize("relative", [False, True])
def test_libraries_find_a_folder_for_what_they_keep(
    task, relative, tmp_path, monkeypatch
):
    found = task("find_folders")
    if relative:
        monkeypatch.chdir(tmp_path)
        found = evolve(found, folder=found.folder.relative_to(tmp_path))
    assert outcome(found) == {"temporary": "True", "cache": "None", "file": "True"}


@linux
def test_all_walls_stand_on_this_machine(task, caplog):
    run(task("print_much"), LIMITS, nothing)
    assert caplog.messages == []


@linux
def test_a_missing_wall_is_told_to_the_operator(task, caplog, monkeypatch):
    monkeypatch.setattr(
        "arena_core.adapters.confined.processes.WALLS", (*WALLS, "a moat")
    )
    run(task("print_much"), LIMITS, nothing)
    (message,) = caplog.messages
    assert "for want of a moat" in message


@linux
def test_it_can_reach_nobody(task):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        outcomes = outcome(task("reach_out", port=listener.getsockname()[1]))
        with pytest.raises(TimeoutError):
            listener.accept()
    assert set(outcomes.values()) == {"PermissionError"}


@linux
def test_it_can_start_no_program_and_no_process(task):
    outcomes = outcome(task("start_programs"))
    assert outcomes.pop("kernel_clone3") == "OSError"
    assert set(outcomes.values()) == {"PermissionError"}


@linux
def test_it_sees_nothing_of_whoever_started_it(task, tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_SECRET_KEY", "a secret")
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    order = tmp_path / "order"
    order.mkdir()
    (order / "model").write_text("readable")
    with secret.open() as inherited:
        os.set_inheritable(inherited.fileno(), True)
        outcomes = outcome(
            task(
                "look_around",
                readable=[order],
                secret=str(secret),
                order=str(order),
            )
        )
    environment = outcomes.pop("environment")
    assert "ARENA" not in environment
    assert "HOME" not in environment
    descriptors = outcomes.pop("descriptors")
    assert set(literal_eval(descriptors)) <= {"pipe", "/dev/null"}
    assert outcomes.pop("readable") == "'readable'"
    assert set(outcomes.values()) == {"PermissionError"}


@linux
def test_it_writes_in_its_own_folder_only(task, tmp_path):
    order = tmp_path / "order"
    order.mkdir()
    (order / "model").write_text("as it was")
    outcomes = outcome(task("write_elsewhere", readable=[order], elsewhere=str(order)))
    assert outcomes.pop("here") == "1"
    assert set(outcomes.values()) == {"PermissionError"}
    assert (order / "model").read_text() == "as it was"
    assert len(list(order.iterdir())) == 1


@linux
def test_it_can_harm_no_other_process_and_not_raise_its_limits(task):
    outcomes = outcome(task("harm_others"))
    assert outcomes.pop("kill_itself") == "'done'"
    assert set(outcomes.values()) <= {"PermissionError", "OSError", "ValueError"}


@linux
def test_it_can_take_nothing_that_no_limit_counts(task):
    outcomes = outcome(task("hoard"))
    assert outcomes.pop("nameless_too") == "OSError"
    assert set(outcomes.values()) == {"PermissionError"}


@linux
def test_it_can_reach_nobody_by_other_ways(task):
    outcomes = outcome(task("reach_by_other_ways"))
    assert set(outcomes.values()) == {"PermissionError"}


# --- limits ----------------------------------------------------------------------


@pytest.mark.slow
def test_it_is_ended_after_a_while(task):
    pids = []
    started = time.monotonic()
    with pytest.raises(Ended, match="took more than 2 seconds"):
        run(task("sleep"), Limits(wall_s=2), words_to(pids))
    assert time.monotonic() - started < 4
    assert not is_alive(pids[-1])


def words_to(pids):
    """Return a report that keeps the process number in what a sleeper says."""

    def report(words):
        if words.startswith("sleeping as "):
            pids.append(int(words.split()[-1]))

    return report


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # Where nobody waits for orphans, a dead one is still listed.
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_it_is_ended_when_it_has_computed_for_too_long(task):
    with pytest.raises(Ended, match="more than 1 seconds of processor time"):
        run(task("compute"), evolve(LIMITS, cpu_s=1), nothing)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "memory_at_once", "shared_memory"])
def test_it_is_ended_when_it_needs_too_much_memory(kind, task):
    with pytest.raises(Ended, match="more than 512 MiB of memory"):
        run(task(f"eat_{kind}"), evolve(LIMITS, memory_bytes=1 << 29), nothing)


def test_it_is_ended_when_it_writes_a_file_that_is_too_large(task):
    limits = evolve(LIMITS, file_bytes=1 << 20)
    with pytest.raises(Ended, match="a file of more than 1 MiB"):
        run(task("fill_a_file", chunk=1 << 16), limits, nothing)


def test_it_is_ended_when_it_fills_the_disk(task):
    limits = evolve(LIMITS, folder_bytes=1 << 22)
    with pytest.raises(Ended, match="4 MiB"):
        run(task("fill_the_folder", chunk=1 << 15), limits, nothing)


def test_it_is_ended_when_it_makes_too_many_files(task):
    with pytest.raises(Ended, match="1000 files"):
        run(task("fill_the_folder", chunk=0), LIMITS, nothing)


def test_folders_that_are_too_deep_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1_200):
        os.mkdir("deeper")  # noqa: PTH102 -- where it is now
        os.chdir("deeper")
    with pytest.raises(Ended, match=r"nested folders too deep|1000 files"):
        _check_folder(tmp_path, LIMITS)
    _clear(tmp_path)  # which the tests' own cleaning could not do


def test_a_folder_that_hides_what_is_in_it_is_found(tmp_path):
    (tmp_path / "hidden").mkdir(mode=0o300)
    with pytest.raises(Ended, match="nobody can look into"):
        _check_folder(tmp_path, LIMITS)


@linux
def test_it_is_ended_when_it_starts_too_many_threads(task):
    with pytest.raises(Ended, match="1000 threads"):
        run(task("start_threads"), LIMITS, nothing)


def test_what_it_writes_at_the_very_end_is_counted_too(task):
    limits = evolve(LIMITS, folder_bytes=1 << 20)
    with pytest.raises(Ended, match="1 MiB"):
        run(task("write_at_the_end", size=1 << 21), limits, nothing)


@linux
def test_room_that_is_reserved_is_counted_too(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        keep_size = 1
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.fallocate(file.fileno(), keep_size, *map(ctypes.c_long, (0, 1 << 21))):
            pytest.skip("this file system reserves nothing")
    with pytest.raises(Ended, match="1 MiB"):
        _check_folder(tmp_path, evolve(LIMITS, folder_bytes=1 << 20))


def test_it_may_crash(task):
    with pytest.raises(Failed, match="broke off"):
        run(task("crash"), LIMITS, nothing)


def test_it_may_leave(task):
    with pytest.raises(Failed, match="broke off"):
        run(task("leave"), LIMITS, nothing)


@pytest.mark.parametrize("interpreter", ["/bin/false", "/no/such/program"])
def test_one_that_does_not_even_start_is_no_fault_of_the_task(
    interpreter, task, monkeypatch
):
    monkeypatch.setattr(sys, "executable", interpreter)
    with pytest.raises(Unavailable):
        run(task("sleep"), LIMITS, nothing)


# --- whose life it shares --------------------------------------------------------


def test_whoever_waits_for_it_can_end_it(task):
    pids = []
    keep = words_to(pids)

    def report(words):
        keep(words)
        if pids:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(task("sleep"), LIMITS, report)
    assert not is_alive(pids[0])


@pytest.mark.slow
def test_whoever_waits_for_it_is_asked_often(task):
    times = []
    with pytest.raises(Ended):
        run(
            task("sleep"),
            Limits(wall_s=2),
            lambda words: times.append((time.monotonic(), words)),
        )
    pauses = [b - a for (a, _), (b, _) in pairwise(times)]
    assert max(pauses) < 1
    assert times[0][1] == "starting"
    assert times[-1][1].startswith("sleeping")


PARENT = """
import sys
from ast import literal_eval
from itertools import pairwise
from pathlib import Path
from arena_core.adapters.confined.confinement import Limits
from arena_core.adapters.confined.processes import Task, run

work, tasks = map(Path, sys.argv[1:])
run(
    Task("misbehaving:sleep", {}, work, importable=[tasks]),
    Limits(),
    lambda words: print(words, flush=True),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_the_process_that_started_it(number, tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), str(TASKS)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    with parent:
        words = next(line for line in parent.stdout if line.startswith("sleeping"))
        child = int(words.split()[-1])
        assert is_alive(child)
        parent.send_signal(number)
        parent.wait()
    deadline = time.monotonic() + 5
    while is_alive(child):
        assert time.monotonic() < deadline, "it has outlived its parent"
        time.sleep(0.02)


def test_several_can_run_at_once_and_end_each_by_its_own(task, tmp_path):
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    errors = []

    def reject(number):
        order = {"kind": "rejected", "detail": f"no {number}", "field": None}
        try:
            run(
                evolve(task("reject", **order), folder=folders[number]), LIMITS, nothing
            )
        except Rejected as error:
            errors.append(str(error))

    threads = [threading.Thread(target=reject, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(errors) == ["no 0", "no 1", "no 2"]


# --- what it says ----------------------------------------------------------------


def test_its_words_reach_whoever_waits(task):
    heard = []
    with pytest.raises(Rejected):
        run(
            task("reject", kind="rejected", detail="", field=None), LIMITS, heard.append
        )
    assert heard[0] == "starting"


@pytest.mark.parametrize(
    ("kind", "cls"), [("rejected", Rejected), ("too large", TooLarge)]
)
def test_what_it_rejects_is_rejected(kind, cls, task):
    with pytest.raises(Rejected) as error:
        run(task("reject", kind=kind, detail="Not so.", field="model"), LIMITS, nothing)
    assert type(error.value) is cls
    assert (str(error.value), error.value.field) == ("Not so.", "model")


def test_what_it_says_is_made_plain(task):
    detail = "\x1b[31mred\n" + "x" * 5_000
    with pytest.raises(Rejected) as error:
        run(task("reject", kind="rejected", detail=detail, field=None), LIMITS, nothing)
    assert str(error.value).startswith("??31mred?xxx")
    assert len(str(error.value)) == 1_000


def test_a_full_disk_is_told_as_one(task):
    with pytest.raises(StorageFull):
        run(task("run_out_of_space"), LIMITS, nothing)


def test_an_error_of_its_own_is_told_to_the_operator_alone(task, caplog):
    with pytest.raises(Failed) as error, caplog.at_level(logging.WARNING):
        run(task("fail", detail="a detail"), LIMITS, nothing)
    assert "a detail" not in str(error.value)
    assert "RuntimeError: a detail" in caplog.text


def test_what_it_prints_is_no_message(task):
    run(task("print_much"), LIMITS, nothing)


@pytest.mark.parametrize(
    "said", ["nonsense\n", '{"error": 3}\n', "[]\n", "x" * 100_000]
)
def test_what_it_should_not_say_ends_it(said, task):
    with pytest.raises(Ended, match="said"):
        run(task("say_to_all", said=said), LIMITS, nothing)


# --- the walls themselves --------------------------------------------------------


def verdict(machine, number, *arguments):
    """Run the filter on a system call, as a kernel would; return what it says."""
    data = struct.pack(
        "=IIQ6Q", number, machine.audit, 0, *arguments, *[0] * (6 - len(arguments))
    )
    instructions = list(
        struct.iter_unpack("=HBBI", b"".join(seccomp._filter(machine, os.getpid())))
    )
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        match code:
            case 0x20:
                loaded = int.from_bytes(data[operand : operand + 4], sys.byteorder)
            case 0x06:
                return operand
            case 0x15:
                at += if_true if loaded == operand else if_false
            case 0x35:
                at += if_true if loaded >= operand else if_false
            case 0x45:
                at += if_true if loaded & operand else if_false


ALLOWED, KILLED = 0x7FFF_0000, 0x8000_0000
REFUSED, UNKNOWN = 0x0005_0000 | errno.EPERM, 0x0005_0000 | errno.ENOSYS
THREAD, PROCESS = 0x3D0F00, signal.SIGCHLD
ME, OTHER = os.getpid(), os.getpid() + 1
CALLS = {
    "x86_64": {
        "read": 0, "mmap": 9, "clone": 56, "clone3": 435, "kill": 62, "tgkill": 234,
        "prlimit": 302, "socket": 41, "execve": 59, "openat": 257, "openat2": 437,
        "fcntl": 72, "ioctl": 16,
    },
    "aarch64": {
        "read": 63, "mmap": 222, "clone": 220, "clone3": 435, "kill": 129,
        "tgkill": 131, "prlimit": 261, "socket": 198, "execve": 221, "openat": 56,
        "openat2": 437, "fcntl": 25, "ioctl": 29,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_the_filter_means_what_it_should_on_each_machine(name):
    machine, calls = seccomp._MACHINES[name], CALLS[name]
    assert verdict(machine, calls["read"]) == ALLOWED
    assert verdict(machine, calls["mmap"]) == ALLOWED
    assert verdict(machine, calls["socket"]) == REFUSED
    assert verdict(machine, calls["execve"]) == REFUSED
    assert verdict(machine, calls["clone"], THREAD) == ALLOWED
    assert verdict(machine, calls["clone"], PROCESS) == REFUSED
    assert verdict(machine, calls["clone3"]) == UNKNOWN
    for signalling in ("kill", "tgkill"):
        assert verdict(machine, calls[signalling], ME) == ALLOWED
        assert verdict(machine, calls[signalling], OTHER) == REFUSED
        assert verdict(machine, calls[signalling], 0) == REFUSED
        assert verdict(machine, calls[signalling], 2**64 - 1) == REFUSED
    assert verdict(machine, calls["prlimit"], 0, 9, 0) == ALLOWED
    assert verdict(machine, calls["prlimit"], 0, 9, 1) == REFUSED
    assert verdict(machine, calls["prlimit"], 0, 9, 1 << 32) == REFUSED
    assert verdict(machine, 0x4000_0000 | calls["socket"]) == REFUSED
    assert verdict(machine, calls["openat"], 0, 0, 0o2_200_102) == ALLOWED
    assert verdict(machine, calls["openat"], 0, 0, 0o20_200_002) == REFUSED
    assert verdict(machine, calls["openat2"]) == UNKNOWN
    for harmless in (0, 1, 2, 3, 4, 9, 1030):
        assert verdict(machine, calls["fcntl"], 0, harmless) == ALLOWED
    for signalling in (8, 10, 15, 1024, 1026):
        assert verdict(machine, calls["fcntl"], 0, signalling) == REFUSED
    assert verdict(machine, calls["ioctl"], 0, 0x5401) == ALLOWED
    assert verdict(machine, calls["ioctl"], 0, 0x4030_5828) == REFUSED
    assert verdict(machine, calls["ioctl"], 0, 0x4030_582A) == REFUSED


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_every_forbidden_call_is_refused(name):
    machine = seccomp._MACHINES[name]
    numbers = [numbers[machine.column] for numbers in seccomp._FORBIDDEN.values()]
    forbidden = {number for number in numbers if number is not None}
    assert len(forbidden) == len(numbers) - numbers.count(None)
    assert {verdict(machine, number) for number in forbidden} == {REFUSED}


def test_calls_of_another_machine_end_the_process():
    machine = seccomp._MACHINES["x86_64"]
    foreign = evolve(machine, audit=0x4000_0003)  # of 32 bits, in the same process
    instructions = b"".join(seccomp._filter(machine, ME))
    assert instructions == b"".join(seccomp._filter(machine, ME))
    data_of_foreign = struct.unpack("=HBBI", instructions[8:16])
    assert data_of_foreign == (0x15, 1, 0, machine.audit)
    assert struct.unpack("=HBBI", instructions[16:24]) == (0x06, 0, 0, KILLED)
    assert foreign.audit != machine.audit


@pytest.mark.parametrize(
    "event",
    [
        "socket.__new__", "socket.connect", "socket.getaddrinfo", "subprocess.Popen",
        "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.kill",
        "pty.spawn", "pickle.find_class", "urllib.Request", "os.symlink", "os.link",
    ],
)  # fmt: skip
def test_the_interpreter_refuses_too(event, tmp_path):
    with pytest.raises(PermissionError):
        _Refusal(tmp_path)(event, ())


def test_the_interpreter_lets_files_be_read_and_its_own_be_written(tmp_path):
    refusal = _Refusal(tmp_path.resolve())
    refusal("import", ("os", None))
    refusal("open", ("/etc/passwd", "r", os.O_RDONLY))
    refusal("open", (str(tmp_path / "new"), "w", os.O_WRONLY | os.O_CREAT))
    refusal("open", (os.devnull, "w", os.O_WRONLY))
    refusal("open", (3, "w", os.O_WRONLY))
    for path in ("/etc/passwd", b"/etc/passwd", str(tmp_path / ".." / "new")):
        with pytest.raises(PermissionError):
            refusal("open", (path, "w", os.O_WRONLY))
