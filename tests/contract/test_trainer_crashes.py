"""Whatever is killed, and when: a run starts once, and nothing is left of it."""

import errno
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from arena_core.adapters import codec
from arena_core.adapters.trainers import process, run_records, shim, shims
from arena_core.application.trainer import RunState
from arena_core.domain.errors import StorageFull, Unavailable

from contract import dying
from contract.run_processes import (
    a_script,
    kill,
    left,
    nothing_left,
    shell,
    zombies,
)
from contract.trainer import ended, nothing, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of all"),
]

COUNTED = 'echo started >> "{}"; sleep 0.05'
BEGINS_WHOLE = '; test "$(cat "$ARENA_START_CHECKPOINT/weights")" = w'
FOREVER = "echo ready; while :; do sleep 0.01; done"


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger"


@pytest.fixture
def trainer(runs):
    trainer = shell(runs)
    yield trainer
    trainer.close()


def counted(ledger):
    return a_script(COUNTED.format(ledger))


def starts(ledger):
    return ledger.read_text().count("started") if ledger.exists() else 0


def starter(runs, order, nth, *more):
    return subprocess.Popen(
        [sys.executable, dying.__file__, runs, codec.to_json(order), str(nth), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def started_forever(trainer):
    """Start a training that goes on for ever; return its order and its pids."""
    order = a_script(f"(setsid sleep 1234 &); {FOREVER}")
    trainer.start(order, nothing)
    until(lambda: trainer.log(order.run_id, 1))
    return order


def record(runs, run_id, name):
    return json.loads((runs / str(run_id) / name).read_text())


def is_at_rest(trainer, run_id):
    return trainer.look(run_id).state is not RunState.RUNNING


def shim_of(runs, run_id):
    return record(runs, run_id, run_records.STARTED)["shim"][0]


# --- whoever starts it is killed -------------------------------------------------


def test_a_starter_that_is_killed_at_any_step_leaves_a_run_that_starts_once(
    runs, ledger, trainer
):
    def lay_out(place):
        """Do as `dying` does."""
        (place / "start").mkdir()
        (place / "start" / "weights").write_text("w")

    nth, steps = 1, 0
    while not steps:
        order = a_script(COUNTED.format(ledger) + BEGINS_WHOLE)
        ledger.unlink(missing_ok=True)
        with starter(runs, order, nth) as dead:
            told = dead.communicate(timeout=60)[0]
        if told:
            steps = int(told)
            continue
        assert dead.returncode == -signal.SIGKILL
        trainer.start(order, lay_out)
        assert ended(trainer, order.run_id).succeeded, nth
        assert starts(ledger) == 1, nth
        nothing_left(order.run_id)
        nth += 1
    assert nth == steps + 1 > 10


class Died(BaseException):
    """The process is gone in the midst of something."""


def test_who_dies_while_acknowledging_leaves_what_is_told_again(trainer, monkeypatch):
    order = a_script(
        "mkdir -p checkpoints/.1; echo w > checkpoints/.1/weights; "
        "mv checkpoints/.1 checkpoints/1"
    )
    trainer.start(order, nothing)
    ended(trainer, order.run_id)
    first = trainer.news(order.run_id)
    (found,) = first.checkpoints

    def dies(*_):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(run_records, "write", dies)
        with pytest.raises(Died):
            trainer.acknowledge(order.run_id, first.mark)
    assert trainer.news(order.run_id) == first
    assert (found.folder / "weights").read_text() == "w\n"
    trainer.acknowledge(order.run_id, first.mark)
    assert not trainer.news(order.run_id).checkpoints


def test_a_training_goes_on_when_its_starter_is_killed(runs, trainer):
    order = a_script(FOREVER)
    with starter(runs, order, 0, "stay") as server:
        assert int(server.stdout.readline()) > 0
        kill(server.pid)
        server.communicate(timeout=60)
    assert trainer.look(order.run_id).state is RunState.RUNNING
    trainer.stop(order.run_id)
    assert ended(trainer, order.run_id).stopped
    nothing_left(order.run_id)


def test_of_several_processes_that_start_it_at_once_one_does(runs, ledger, trainer):
    order = counted(ledger)
    together = [starter(runs, order, 0) for _ in range(5)]
    for each in together:
        assert each.communicate(timeout=60)[0]
        assert each.returncode == 0
    assert ended(trainer, order.run_id).succeeded
    assert starts(ledger) == 1
    nothing_left(order.run_id)


def test_trainings_go_on_when_their_trainer_is_closed(runs, trainer):
    order = a_script(FOREVER)
    other = shell(runs)
    other.start(order, nothing)
    other.close()
    assert trainer.look(order.run_id).state is RunState.RUNNING
    trainer.discard(order.run_id)
    nothing_left(order.run_id)


def test_what_ends_with_its_trainer_ends_when_that_is_closed(runs, trainer):
    tied = shell(runs, ends_with_us=True)
    order = started_forever(tied)
    tied.close()
    assert left(order.run_id) == []
    seen = ended(trainer, order.run_id)
    assert (seen.state, seen.stopped) == (RunState.ENDED, False)
    assert "SIGKILL" in seen.reason


def test_what_ended_by_itself_holds_no_descriptor_of_its_trainer(runs):
    tied = shell(runs, ends_with_us=True)
    before = descriptors()
    for _ in range(4):
        order = a_script("exit 0")
        tied.start(order, nothing)
        ended(tied, order.run_id)
        nothing_left(order.run_id)
    # A look at any run takes note of the shims that have ended meanwhile.
    until(lambda: tied.look(uuid4()) and descriptors() == before)
    tied.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_ends_with_its_trainer_ends_when_that_is_killed(runs, trainer):
    order = a_script(FOREVER)
    with starter(runs, order, 0, "stay", "tied") as server:
        assert int(server.stdout.readline()) > 0
        assert trainer.look(order.run_id).state is RunState.RUNNING
        kill(server.pid)
        server.communicate(timeout=60)
    assert "SIGKILL" in ended(trainer, order.run_id).reason
    nothing_left(order.run_id)


def test_a_stop_between_the_last_look_and_the_start_keeps_it_from_starting(
    tmp_path, monkeypatch
):
    lock = run_records.lock

    def stopped_just_then(folder):
        run_records.claim(folder / run_records.STARTED, {run_records.NEVER: True})
        return lock(folder)

    monkeypatch.setattr(run_records, "lock", stopped_just_then)
    assert not shim._begin(tmp_path)
    assert run_records.read(tmp_path / run_records.STARTED) == {"never": True}


# --- what watches it is killed ---------------------------------------------------


def test_a_shim_that_is_killed_at_any_step_starts_it_at_most_once(
    ledger, trainer, monkeypatch
):
    plain, nth, ends = shims.START, 1, []
    while not (ends and ends[-1] is RunState.ENDED and nth > 60):
        order = counted(ledger)
        ledger.unlink(missing_ok=True)
        monkeypatch.setattr(
            shims, "START", dying.KILLER.replace("{nth}", str(nth)) + plain
        )
        try:
            trainer.start(order, nothing)
        except Unavailable:
            # Whom it has forked may hold the lock for a moment longer.
            until(partial(is_at_rest, trainer, order.run_id))
        first = ended(trainer, order.run_id)
        nothing_left(order.run_id)
        monkeypatch.setattr(shims, "START", plain)
        trainer.start(order, nothing)
        last = ended(trainer, order.run_id)
        if first.state is RunState.ABSENT:
            assert last.succeeded, nth
            assert starts(ledger) == 1
        else:
            assert last == first, nth
            assert starts(ledger) <= 1
        nothing_left(order.run_id)
        ends.append(first.state)
        nth += 3
    assert set(ends) == {RunState.ABSENT, RunState.LOST, RunState.ENDED}


def test_a_run_whose_shim_is_killed_is_lost_and_nothing_is_left_of_it(runs, trainer):
    order = a_script(f"(setsid sleep 1235 &); (env -i sleep 123456789 &); {FOREVER}")
    trainer.start(order, nothing)
    until(lambda: trainer.log(order.run_id, 1))
    until(lambda: left("123456789"))
    kill(shim_of(runs, order.run_id))
    seen = ended(trainer, order.run_id)
    assert (seen.state, seen.code, seen.succeeded) == (RunState.LOST, None, False)
    assert "killed" in seen.reason
    assert left(order.run_id) == left("123456789") == []
    trainer.start(order, nothing)
    assert trainer.look(order.run_id) == shell(runs).look(order.run_id) == seen
    assert trainer.pace(order.run_id) is None


def test_a_training_does_not_outlive_its_shim_even_if_nobody_looks(runs, trainer):
    order = a_script("echo ready; exec sleep 1236")
    trainer.start(order, nothing)
    until(lambda: trainer.log(order.run_id, 1))
    kill(shim_of(runs, order.run_id))
    nothing_left(order.run_id)


def test_a_lost_run_can_be_stopped_and_discarded(runs, trainer):
    order = started_forever(trainer)
    kill(shim_of(runs, order.run_id))
    trainer.stop(order.run_id)
    assert ended(trainer, order.run_id).state is RunState.LOST
    trainer.discard(order.run_id)
    assert left(order.run_id) == []
    assert [p.name for p in (runs / str(order.run_id)).iterdir()] == ["started.json"]


def test_what_is_discarded_already_is_not_looked_for_again(runs, trainer, monkeypatch):
    order = started_forever(trainer)
    trainer.discard(order.run_id)

    def looked_for(*_):
        raise AssertionError

    monkeypatch.setattr(process.process_tree, "left_over", looked_for)
    trainer.discard(order.run_id)
    shell(runs).discard(order.run_id)


def test_asking_how_far_it_is_does_nothing_to_it(trainer, monkeypatch):
    order = started_forever(trainer)

    def looked(_):
        raise AssertionError

    # For who looks also ends what is overdue, and what a dead shim has left.
    monkeypatch.setattr(trainer, "look", looked)
    trainer.pace(order.run_id)


def test_a_shim_cannot_be_ended_by_the_usual_signals(runs, trainer):
    order = started_forever(trainer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(shim_of(runs, order.run_id), number)
    trainer.stop(order.run_id)
    assert ended(trainer, order.run_id).stopped
    nothing_left(order.run_id)


def test_a_shim_that_hangs_is_killed_by_a_discard(runs, trainer, monkeypatch):
    monkeypatch.setattr(process, "END_PATIENCE_S", 0.2)
    order = started_forever(trainer)
    os.kill(shim_of(runs, order.run_id), signal.SIGSTOP)
    trainer.discard(order.run_id)
    nothing_left(order.run_id)


def test_a_shim_that_hangs_is_killed_when_a_stop_is_overdue(runs, trainer, monkeypatch):
    monkeypatch.setattr(process, "END_PATIENCE_S", 0.2)
    order = started_forever(trainer)
    os.kill(shim_of(runs, order.run_id), signal.SIGSTOP)
    trainer.stop(order.run_id)
    assert ended(trainer, order.run_id).state is RunState.LOST
    nothing_left(order.run_id)


def test_nobody_is_killed_for_having_the_pid_of_one_that_was(runs, trainer):
    """A bystander has the pid of the training by now, and that of its shim."""
    order = started_forever(trainer)
    folder = runs / str(order.run_id)
    kill(shim_of(runs, order.run_id))
    with subprocess.Popen(["sleep", "99"], start_new_session=True) as bystander:
        try:
            theirs = json.dumps({"pid": bystander.pid, "started": 1}).encode()
            run_records.write(folder / run_records.PROCESS, theirs)
            began = record(runs, order.run_id, run_records.STARTED)
            began["shim"] = [bystander.pid, 1]
            run_records.write(folder / run_records.STARTED, json.dumps(began).encode())
            assert ended(trainer, order.run_id).state is RunState.LOST
            shims.kill(folder)
            assert bystander.poll() is None
            assert left(order.run_id) == []
        finally:
            bystander.kill()


# --- the training itself is killed -----------------------------------------------


def test_a_training_that_is_killed_takes_its_children_along(runs, trainer):
    order = started_forever(trainer)
    kill(record(runs, order.run_id, run_records.PROCESS)["pid"])
    seen = ended(trainer, order.run_id)
    assert (seen.state, seen.stopped) == (RunState.ENDED, False)
    assert "SIGKILL" in seen.reason
    nothing_left(order.run_id)


def test_no_zombies_stay(trainer):
    before = zombies()
    orders = [a_script("exit 0") for _ in range(5)]
    for order in orders:
        trainer.start(order, nothing)
    for order in orders:
        ended(trainer, order.run_id)
    trainer.look(orders[0].run_id)
    until(lambda: trainer.look(a_script("").run_id) and zombies() == before)


# --- the disk is full ------------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_without_room_for_the_order_nothing_starts_and_it_can_be_tried_again(
    ledger, trainer, monkeypatch, nth
):
    order = counted(ledger)
    sync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, "full")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull, match="No space is left for trainings"):
            trainer.start(order, nothing)
    assert trainer.look(order.run_id).state is RunState.ABSENT
    trainer.start(order, nothing)
    assert ended(trainer, order.run_id).succeeded
    assert starts(ledger) == 1


FULL_FOR_THE_SHIM = """
import errno, os
def _full(descriptor):
    raise OSError(errno.{error}, "full")
os.fsync = _full
"""


@pytest.mark.parametrize(
    ("error", "expected"), [("ENOSPC", StorageFull), ("EIO", Unavailable)]
)
def test_without_room_for_the_shim_nothing_starts_and_it_can_be_tried_again(
    ledger, trainer, monkeypatch, error, expected
):
    order = counted(ledger)
    with monkeypatch.context() as patch:
        code = FULL_FOR_THE_SHIM.replace("{error}", error) + shims.START
        patch.setattr(shims, "START", code)
        with pytest.raises(expected):
            trainer.start(order, nothing)
    assert trainer.look(order.run_id).state is RunState.ABSENT
    trainer.start(order, nothing)
    assert ended(trainer, order.run_id).succeeded
    assert starts(ledger) == 1


def test_how_it_ended_is_recorded_in_the_room_that_was_kept_for_it(tmp_path):
    run_records.reserve(tmp_path)
    kept = (tmp_path / run_records.RESERVED).stat()
    run_records.end(tmp_path, {"code": 3, "reason": "x" * 100})
    found = (tmp_path / run_records.EXIT).stat()
    assert (found.st_ino, found.st_blocks) == (kept.st_ino, kept.st_blocks)
    assert run_records.read(tmp_path / run_records.EXIT)["code"] == 3


def test_a_machine_without_room_for_a_process_is_unavailable(
    trainer, ledger, monkeypatch
):
    order = counted(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(shims.sys, "executable", "/there/is/no/such")
        with pytest.raises(Unavailable, match="No process could be started"):
            trainer.start(order, nothing)
    assert trainer.look(order.run_id).state is RunState.ABSENT


def test_a_folder_that_cannot_be_is_unavailable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="trainings cannot be used"):
        shell(Path(tmp_path / "file" / "runs"))
