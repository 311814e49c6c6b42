"""Who a training has begun is ended with it, though it has left all behind it."""

import json
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from arena_core.adapters.trainers import process_tree, run_records, shim_family
from arena_core.application.trainer import RunState

from contract.run_processes import a_script, kill, shell
from contract.trainer import ended, nothing, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of all"),
]
FOREVER = "while :; do sleep 0.05; done"


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def sleeping(seconds):
    """Return the processes that sleep for so long, and none that only speak of it."""
    return [
        int(place.parent.name)
        for place in Path("/proc").glob("[0-9]*/cmdline")
        if told(place) == f"sleep\0{seconds}\0".encode()
    ]


def told(place):
    try:
        return place.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def the_pid_in(file):
    return [int(pid) for pid in told(file).split()]


@contextmanager
def begun(runs, script, seen):
    """Start a training, wait until some of it were `seen`; give its id, and end it."""
    order = a_script(f"{script} {FOREVER}")
    trainer = shell(runs)
    trainer.start(order, nothing)
    family = runs / str(order.run_id) / run_records.FAMILY

    def are_known():
        members = (run_records.read(family) or {}).get("members", ())
        return seen() and set(seen()) <= {pid for pid, _ in members}

    try:
        until(are_known)
        yield order.run_id
    finally:
        trainer.discard(order.run_id)


def shim_of(runs, run_id):
    return run_records.read(runs / str(run_id) / run_records.STARTED)["shim"][0]


@pytest.mark.parametrize(
    "daemon",
    [
        "env -i setsid sleep {} &",
        "(env -i setsid sleep {} &);",
        "env -i setsid sh -c 'sleep {}; true' &",
    ],
)
def test_who_has_left_session_and_name_behind_is_ended_with_a_shim_that_is_killed(
    runs, daemon
):
    seconds = 123456787
    with begun(runs, daemon.format(seconds), partial(sleeping, seconds)) as run_id:
        kill(shim_of(runs, run_id))
        seen = ended(shell(runs), run_id)
        assert (seen.state, seen.succeeded) == (RunState.LOST, False)
        assert "killed" in seen.reason
        assert sleeping(seconds) == []


def test_who_is_begun_below_one_that_was_seen_is_ended_too(runs, tmp_path):
    go, pid, late = tmp_path / "go", tmp_path / "pid", 123456786
    waiting = f"echo $$ > {pid}; while [ ! -e {go} ]; do sleep 0.05; done; sleep {late}"
    script = f"env -i setsid sh -c '{waiting}; true' &"
    with begun(runs, script, partial(the_pid_in, pid)) as run_id:
        kill(shim_of(runs, run_id))
        go.touch()
        until(lambda: sleeping(late))
        assert ended(shell(runs), run_id).state is RunState.LOST
        assert sleeping(late) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"boot": "another"},
        {"members": [["pid", "started"]]},
        {"members": [[2**70, 1]]},
        {"members": 7},
        {"members": None},
    ],
)
def test_nobody_is_taken_for_one_of_a_family_by_what_is_no_longer_true(tmp_path, wrong):
    with subprocess.Popen(["sleep", "99"]) as bystander:
        try:
            one = process_tree.process(bystander.pid)
            record = {
                "boot": process_tree.boot_id(),
                "members": [[one.pid, one.started]],
            }
            place = tmp_path / run_records.FAMILY
            place.write_text(json.dumps(record))
            remembered = shim_family.remembered(tmp_path)
            assert [(p.pid, p.started) for p in remembered] == [(one.pid, one.started)]
            place.write_text(json.dumps(record | {"members": [[one.pid, 1]]}))
            assert shim_family.remembered(tmp_path) == []
            place.write_text(json.dumps(record | wrong))
            assert shim_family.remembered(tmp_path) == []
            place.write_text("{")
            assert shim_family.remembered(tmp_path) == []
        finally:
            bystander.kill()


def test_what_is_looked_for_below_a_process_is_what_its_descendants_are():
    script = "sh -c 'sleep 98; true' & sleep 98"
    with subprocess.Popen(["sh", "-c", script]) as parent:
        try:
            until(lambda: len(process_tree.descendants(parent.pid)) == 3)
            expected = {p.pid for p in process_tree.descendants(parent.pid)}
            assert {p.pid for p in process_tree.below(parent.pid)} == expected
        finally:
            for each in process_tree.descendants(parent.pid):
                kill(each.pid)
            parent.kill()
