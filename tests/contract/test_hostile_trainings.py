"""A training can be any program: whatever it does, nothing is left of it."""

import os
import sys
import time
from uuid import uuid4

import pytest

from arena_core.adapters.trainers.process import Limits, ProcessTrainer, Program
from arena_core.application.trainer import Resumable, RunState

from contract.run_processes import a_script, left, nothing_left, shell
from contract.trainer import an_order, ended, nothing, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of all"),
]

MIB = 1 << 20
KILLED = (
    "The training was ended by the signal SIGKILL: see the end of its log, and "
    "whether the machine ran out of memory."
)
EATER = "import time; b = bytearray(400 << 20); time.sleep(99)"


@pytest.fixture
def word():
    """Something that no other process of this machine has in its arguments."""
    return str(uuid4().int)[:15]


def run(folder, text, **limits):
    trainer = shell(folder, **limits)
    order = a_script(text)
    trainer.start(order, nothing)
    seen = ended(trainer, order.run_id)
    nothing_left(order.run_id)
    trainer.close()
    return trainer, order.run_id, seen


@pytest.mark.parametrize(
    "child",
    [
        "sleep {0} &",
        "setsid sleep {0} &",
        "(setsid sleep {0} &)",
        "(env -i setsid sleep {0} &) >/dev/null 2>&1 </dev/null",
        "setsid sh -c 'trap \"\" TERM HUP; sleep {0} & sleep {0}' &",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (setsid sleep {0} &); done",
    ],
)
@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$"])
def test_children_that_are_left_behind_are_killed(tmp_path, word, child, end):
    text = f"{child.format(word)}\nsleep 0.1\n{end}"
    _, _, seen = run(tmp_path, text)
    assert seen.reason in (
        "The training ended with exit code 3: see the end of its log.",
        KILLED,
    )
    assert left(word) == []


COMET = """
import os, sys, time
end = time.monotonic() + 20
while time.monotonic() < end:
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
    if os.fork():
        os._exit(0)
    os.setsid()
"""


def test_who_forks_faster_than_processes_can_be_listed_is_killed_too(tmp_path):
    seen_last = tmp_path / "comet"
    comet = f"env -i {sys.executable} -S -c '{COMET}' {seen_last}"
    _, _, seen = run(tmp_path, f"{comet} </dev/null >/dev/null 2>&1 & sleep 1; exit 3")
    assert seen.code == 3
    # None of them lives long enough to be looked for, but each leaves its number.
    before = seen_last.stat().st_mtime_ns
    time.sleep(0.3)
    assert seen_last.stat().st_mtime_ns == before


def test_a_stop_kills_children_that_ignore_it_too(tmp_path, word):
    trainer = shell(tmp_path)
    order = a_script(
        f"trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep {word}' &); "
        f"echo ready; while :; do sleep {word}; done"
    )
    trainer.start(order, nothing)
    until(lambda: trainer.log(order.run_id, 1))
    until(lambda: len(left(word)) >= 3)
    trainer.stop(order.run_id)
    assert ended(trainer, order.run_id).stopped
    assert left(word) == []
    trainer.close()


def test_a_stop_is_a_signal_that_a_program_can_answer(tmp_path):
    trainer = shell(tmp_path, grace_s=30)
    order = a_script(
        "trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    )
    trainer.start(order, nothing)
    until(lambda: trainer.log(order.run_id, 1))
    trainer.stop(order.run_id)
    seen = ended(trainer, order.run_id)
    assert (seen.stopped, seen.code) == (True, 0)
    log = trainer.log(order.run_id, 9)
    assert (log[0], log[-1]) == ("ready", "stopping")
    trainer.close()


def test_a_million_lines_neither_block_it_nor_fill_the_disk(tmp_path):
    trainer, run_id, seen = run(
        tmp_path,
        "yes 'a line of the log' | head -n 1000000; echo the end",
        log_bytes=MIB,
    )
    assert seen.succeeded
    logs = list((tmp_path / str(run_id)).glob("output.log*"))
    assert len(logs) == 2
    assert sum(p.stat().st_size for p in logs) <= MIB
    assert list(trainer.log(run_id, 2)) == ["a line of the log", "the end"]
    assert len(trainer.log(run_id, 10**9)) == 10_000


def test_a_program_that_closes_its_output_goes_on(tmp_path):
    text = 'exec >&- 2>&-; sleep 0.3; echo \'{"step": 1, "score": 1}\' >> metrics.jsonl'
    trainer, run_id, seen = run(tmp_path, text)
    assert seen.succeeded
    assert [p.step for p in trainer.news(run_id).points] == [1]


@pytest.mark.parametrize(
    ("text", "limits", "reason"),
    [
        ("while :; do :; done", {"wall_s": 0.3}, "took more than 0.3 seconds"),
        (
            "while :; do head -c 1000000 /dev/zero >> big; done",
            {"folder_bytes": 20 * MIB},
            "wrote more than 20 MiB into its folder",
        ),
        (
            "i=0; while :; do i=$((i+1)); : > file$i; done",
            {"files": 500},
            "wrote more than 500 files",
        ),
        (
            "exec head -c 100000000 /dev/zero > big",
            {"file_bytes": MIB},
            "by the signal SIGXFSZ",
        ),
        (
            f"exec {sys.executable} -c '{EATER}'",
            {"memory_bytes": 200 * MIB},
            "needed more than 200 MiB of memory",
        ),
    ],
)
def test_what_uses_too_much_is_ended_and_told_why(tmp_path, text, limits, reason):
    _, run_id, seen = run(tmp_path, text, **limits)
    assert (seen.state, seen.code, seen.stopped) == (RunState.ENDED, None, False)
    assert reason in seen.reason
    written = sum(p.stat().st_blocks * 512 for p in (tmp_path / str(run_id)).rglob("*"))
    assert written < 4000 * MIB


BROKEN = ["junk", "[]", "{}", '{"at": "x"}', '{"at": 1e99}', "[" * 100_000]


@pytest.mark.parametrize("record", BROKEN)
def test_who_writes_over_the_record_of_its_start_is_ended(tmp_path, word, record):
    (tmp_path / "record").write_text(record)
    text = f"cp {tmp_path / 'record'} ../started.json; sleep {word}"
    _, _, seen = run(tmp_path / "runs", text)
    assert seen.reason.startswith("What was recorded of the training is damaged")
    assert left(word) == []


@pytest.mark.parametrize(
    "record", ["junk", "[]", '{"code": "x"}', '{"reason": [1]}', '{"signal": {}}']
)
def test_who_writes_over_the_record_of_its_end_is_ended(tmp_path, word, record):
    (tmp_path / "record").write_text(record)
    text = f"cp {tmp_path / 'record'} ../exit.json; sleep {word}"
    run(tmp_path / "runs", text)
    assert left(word) == []


@pytest.mark.parametrize(
    "name", ["order.json", "pace.json", "process.json", "seen.json"]
)
def test_what_else_is_written_over_does_no_harm(tmp_path, name):
    line = '{"step": 1, "score": 1}'
    text = f"echo '{line}' > metrics.jsonl; echo junk > ../{name}; exec sleep 99"
    trainer = shell(tmp_path)
    order = a_script(text)
    trainer.start(order, nothing)
    place = tmp_path / str(order.run_id) / name
    until(lambda: place.exists() and place.read_text() == "junk\n")
    pace = trainer.pace(order.run_id)
    assert (pace.step, pace.max_steps, pace.steps_per_s) == (1, None, None)
    fault = trainer.news(order.run_id).fault
    assert (fault is None) == (name != "seen.json")
    trainer.stop(order.run_id)
    assert ended(trainer, order.run_id).stopped
    trainer.close()


@pytest.mark.parametrize(
    "making",
    [
        "mkfifo progress.json",
        "mkdir progress.json",
        "ln -s ../secret progress.json",
        "{ head -c 99999 /dev/zero | tr '\\0' ' '; cat ../secret; } > progress.json",
    ],
)
def test_what_says_how_far_it_goes_is_read_with_bounds_and_without_links(
    tmp_path, making
):
    line = '{"step": 1}'
    text = (
        f"echo '{{\"total\": 9}}' > ../secret; {making}; "
        f"echo '{line}' > metrics.jsonl; exec sleep 99"
    )
    trainer = shell(tmp_path)
    order = a_script(text)
    trainer.start(order, nothing)
    pace = until(lambda: trainer.pace(order.run_id))
    assert (pace.step, pace.max_steps) == (1, None)
    trainer.stop(order.run_id)
    ended(trainer, order.run_id)
    trainer.close()


def test_a_step_of_any_length_is_no_pace(tmp_path):
    text = "printf '{\"step\": %0400d}\\n' 1 | tr 0 9 > metrics.jsonl; exec sleep 99"
    trainer = shell(tmp_path)
    order = a_script(text)
    trainer.start(order, nothing)
    until(lambda: trainer.news(order.run_id).fault)
    assert trainer.pace(order.run_id) is None
    trainer.stop(order.run_id)
    ended(trainer, order.run_id)
    trainer.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints"])
def test_what_may_not_be_read_is_a_fault(tmp_path, name):
    make = "echo > metrics.jsonl; mkdir checkpoints"
    trainer, run_id, _ = run(tmp_path, f"{make}; chmod 000 {name}")
    assert trainer.news(run_id).fault == (
        f"{name} cannot be read: leave it the permissions that it was made with."
    )


LINKS = {
    "its folder": "mv ../run ../away; ln -s {0} ../run",
    "its states": "ln -s {0} states",
    "a state": "mkdir states; ln -s {0} states/1; mkdir states/2",
    "its checkpoints": "ln -s {0} checkpoints",
    "all that is recorded of it": "cd ../..; mv $ARENA_RUN_ID away; ln -s {0} "
    "$ARENA_RUN_ID",
    "its inputs": "mv ../inputs ../away; ln -s {0} ../inputs",
}
"""What a training may put a link in the place of."""


@pytest.mark.parametrize("link", LINKS)
def test_what_a_link_leads_to_is_nobody_elses_to_remove(tmp_path, link):
    theirs, runs = tmp_path / "theirs", tmp_path / "runs"
    names = {".hidden", "1", "2", "inputs", "program.json", "run", "checkpoints"}
    for name in names:
        (theirs / name).mkdir(parents=True)
        (theirs / name / "kept").touch()
    trainer = shell(runs)
    order = a_script(LINKS[link].format(theirs))
    trainer.start(order, nothing)
    nothing_left(order.run_id)
    trainer.acknowledge(order.run_id, trainer.news(order.run_id).mark)
    trainer.tidy([order.run_id], Resumable(order.run_id, 1))
    trainer.discard(order.run_id)
    left_there = {p.parent.name for p in theirs.rglob("kept")}
    trainer.close()
    assert left_there == names


def test_a_folder_that_became_a_link_is_a_fault(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trainer, run_id, _ = run(tmp_path, f"mv ../run ../away; ln -s {elsewhere} ../run")
    news = trainer.news(run_id)
    assert news.fault == (
        "ARENA_RUN_FOLDER is no plain folder: write it without links."
    )


def test_metrics_may_be_a_hard_link_but_no_pipe(tmp_path):
    line = '{"step": 1, "score": 1}'
    linked = f"echo '{line}' > plain; ln plain metrics.jsonl"
    trainer, run_id, _ = run(tmp_path / "linked", linked)
    news = trainer.news(run_id)
    assert ([p.value for p in news.points], news.fault) == ([1.0], None)
    trainer, run_id, _ = run(tmp_path / "piped", "mkfifo metrics.jsonl")
    assert "metrics.jsonl is no plain file" in trainer.news(run_id).fault


def test_folders_are_removed_however_deep_they_are(tmp_path):
    deep = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    trainer, run_id, seen = run(tmp_path, f'{sys.executable} -S -c "{deep}"')
    assert seen.succeeded
    trainer.tidy([run_id], None)
    assert list((tmp_path / str(run_id) / "run").iterdir()) == []


def test_no_more_files_can_be_open_than_is_allowed(tmp_path):
    trainer, run_id, seen = run(tmp_path, "ulimit -n; ulimit -c", open_files=99)
    assert seen.succeeded
    assert list(trainer.log(run_id, 2)) == ["99", "0"]


@pytest.mark.parametrize("argv", [["/there/is/no/such"], ["no-such-program"], ["/etc"]])
def test_a_program_that_cannot_be_run_is_a_failure_of_the_run(tmp_path, argv):
    trainer = ProcessTrainer(tmp_path, lambda _: Program(argv), Limits())
    order = an_order("any")
    trainer.start(order, nothing)
    seen = ended(trainer, order.run_id)
    assert (seen.state, seen.code) == (RunState.ENDED, None)
    assert seen.reason.startswith("The program could not be started: check that it is")
    nothing_left(order.run_id)
    trainer.close()


def test_a_crash_by_a_signal_names_it(tmp_path):
    _, _, seen = run(tmp_path, "kill -SEGV $$")
    assert "by the signal SIGSEGV" in seen.reason


def test_its_environment_holds_no_secret_and_what_it_needs(tmp_path, monkeypatch):
    for name in ("ARENA_SECRET_KEY", "ARENA_STORE", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of the server")
    trainer = ProcessTrainer(
        tmp_path / "runs",
        lambda _: Program(["env"], {"OWN": "1", "ARENA_RUN_ID": "of another"}),
        Limits(threads=3),
    )
    order = an_order("any", seed=5)
    trainer.start(order, nothing)
    ended(trainer, order.run_id)
    told = dict(line.split("=", 1) for line in trainer.log(order.run_id, 1000))
    assert "of the server" not in told.values()
    assert set(told) - set(os.environ) <= {
        "ARENA_ORDER", "ARENA_RUN_FOLDER", "ARENA_RUN_ID", "ARENA_SEED", "LANG",
        "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OWN",
        "PYTHONUNBUFFERED", "TMPDIR",
    }  # fmt: skip
    assert (told["ARENA_RUN_ID"], told["ARENA_SEED"]) == (str(order.run_id), "5")
    assert (told["OWN"], told["OMP_NUM_THREADS"]) == ("1", "3")
    assert told["PATH"] == os.environ["PATH"]
    trainer.close()


def test_it_has_nothing_that_the_server_has_open(tmp_path):
    heard, said = os.pipe()
    try:
        os.set_inheritable(said, True)
        trainer, run_id, _ = run(tmp_path, "ls /proc/self/fd")
    finally:
        os.close(heard)
        os.close(said)
    assert list(trainer.log(run_id, 9)) == ["0", "1", "2", "3"]


def test_it_has_an_empty_input_and_a_folder_of_its_own(tmp_path):
    trainer, run_id, seen = run(
        tmp_path, 'cat; pwd; test "$PWD" = "$ARENA_RUN_FOLDER"; ls /proc/self/fd'
    )
    assert seen.succeeded
    log = list(trainer.log(run_id, 9))
    assert log[0] == str(tmp_path / str(run_id) / "run")
    assert log[1:] == ["0", "1", "2", "3"]
    for place in (tmp_path / str(run_id)).iterdir():
        assert place.stat().st_mode & 0o077 == 0
