"""A training's side of the run protocol, and the examples of its page."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from arena_core.application import golden
from arena_core.training import OutsideOfARun, Run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "run-protocol.md").read_text()
SHELL, PYTHON = (
    re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    for language in ("sh", "python")
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def a_run(folder, **variables):
    return Run({"ARENA_RUN_FOLDER": str(folder), **variables})


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def checkpoints(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir())


def test_without_a_folder_it_says_what_to_do():
    with pytest.raises(
        OutsideOfARun, match=r"`ARENA_RUN_FOLDER=/tmp/try python train\.py`"
    ):
        Run({})


def test_a_program_that_is_started_by_hand_is_told_how_to_start_it():
    said = subprocess.run(
        [sys.executable, "-c", "from arena_core.training import Run; Run()"],
        check=False,
        capture_output=True,
        env={"PATH": os.defpath},
        text=True,
    )
    assert said.returncode
    assert "ARENA_RUN_FOLDER=/tmp/try python train.py" in said.stderr.splitlines()[-1]


def test_by_hand_the_folder_is_made(tmp_path):
    run = a_run(tmp_path / "new" / "try")
    run.log(1, score=2.0)
    assert lines(run.folder) == [{"step": 1, "score": 2.0}]


def test_it_says_up_to_which_step_it_trains(folder):
    run = a_run(folder)
    run.total(60)
    run.total(np.int64(90))
    assert json.loads((folder / "progress.json").read_text()) == {"total": 90}
    assert [p.name for p in folder.iterdir()] == ["progress.json"]
    for step in (0, -1, 1.5):
        with pytest.raises(ValueError, match="step"):
            run.total(step)
    assert json.loads((folder / "progress.json").read_text()) == {"total": 90}


def test_by_hand_everything_else_may_be_absent(folder):
    run = a_run(folder)
    assert (run.order, run.config, run.seed, run.max_steps) == ({}, {}, 0, None)
    assert (run.start, run.decoder, run.resume, run.first_step) == (None, None, None, 0)
    assert not run.should_stop


def test_it_is_told_what_was_ordered(folder, tmp_path):
    order = tmp_path / "order.json"
    order.write_text('{"algorithm": "PPO", "config": {"layers": 2}}')
    run = a_run(
        folder,
        ARENA_ORDER=str(order),
        ARENA_SEED="7",
        ARENA_MAX_STEPS="90",
        ARENA_START_CHECKPOINT="/a",
        ARENA_DECODER_CHECKPOINT="/b",
        ARENA_RESUME_CHECKPOINT="/c",
        ARENA_RESUME_STEP="40",
        ARENA_RESUME_STATE="/d",
    )
    assert (run.order["algorithm"], run.config) == ("PPO", {"layers": 2})
    assert (run.seed, run.max_steps, run.first_step) == (7, 90, 40)
    assert (run.start, run.decoder) == (Path("/a"), Path("/b"))
    assert (run.resume.bundle, run.resume.state) == (Path("/c"), Path("/d"))


def test_a_line_holds_what_is_finite(folder):
    run = a_run(folder)
    run.log(1, score=1, fitness=None, loss=float("nan"), rate=np.float32(0.5))
    run.log(np.int64(2), fitness=float("inf"))
    assert lines(folder) == [{"step": 1, "score": 1.0, "rate": 0.5}, {"step": 2}]


@pytest.mark.parametrize("step", [-1, 1.5])
def test_a_step_that_is_none_is_refused_where_it_is_said(folder, step):
    run = a_run(folder)
    with pytest.raises(ValueError, match=f"whole number from 0, and not {step}"):
        run.log(step, loss=1.0)
    with pytest.raises(ValueError, match=f"whole number from 0, and not {step}"):
        run.checkpoint(step, folder)
    assert not list(folder.iterdir())


def test_a_step_may_be_a_number_of_numpy(folder):
    a_run(folder).log(np.int64(4), loss=np.float32(0.5))
    assert lines(folder) == [{"step": 4, "loss": 0.5}]


def test_a_checkpoint_is_never_seen_in_parts(folder):
    run = a_run(folder)

    def write(place):
        (place / "weights").write_text("w")
        assert [p.name for p in (folder / "checkpoints").iterdir()] == [".5"]

    run.checkpoint(5, write)
    assert (folder / "checkpoints/5/weights").read_text() == "w"
    assert checkpoints(folder) == [5]


def test_a_writer_that_fails_leaves_nothing_to_be_seen_and_may_try_again(folder):
    run = a_run(folder)

    def fail(place):
        (place / "half").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        run.checkpoint(5, fail)
    assert not (folder / "checkpoints/5").exists()
    run.checkpoint(5, lambda place: (place / "whole").touch())
    assert [p.name for p in (folder / "checkpoints/5").iterdir()] == ["whole"]


def test_a_checkpoint_may_be_a_folder_and_takes_the_place_of_the_one_before(
    folder, tmp_path
):
    run = a_run(folder)
    for text in ("one", "two"):
        source = tmp_path / text
        source.mkdir()
        (source / text).write_text(text)
        run.checkpoint(5, source)
        assert (source / text).exists(), "it is copied"
    assert [p.name for p in (folder / "checkpoints/5").iterdir()] == ["two"]


def test_what_is_written_again_is_never_seen_in_parts(folder, monkeypatch):
    run, place = a_run(folder), folder / "checkpoints/5"

    def write(unseen):
        (unseen / "weights").touch()

    def removed(path, **said):
        assert path != place, "others see it"
        of_shutil(path, **said)

    of_shutil = shutil.rmtree
    run.checkpoint(5, write)
    monkeypatch.setattr(shutil, "rmtree", removed)
    run.checkpoint(5, write)
    assert checkpoints(folder) == [5]


def test_what_was_read_and_removed_meanwhile_may_be_written_again(folder, monkeypatch):
    run, place = a_run(folder), folder / "checkpoints/5"

    def rename(path, target):
        if path == place:
            shutil.rmtree(place)
        return of_path(path, target)

    of_path = Path.rename
    run.checkpoint(5, lambda unseen: (unseen / "one").touch())
    monkeypatch.setattr(Path, "rename", rename)
    run.checkpoint(5, lambda unseen: (unseen / "two").touch())
    assert [p.name for p in place.iterdir()] == ["two"]


def test_the_state_is_there_before_the_checkpoint_and_the_last_two_are_kept(folder):
    run = a_run(folder)

    def after_the_state(place):
        assert (folder / "states" / place.name.removeprefix(".") / "s").exists()

    for step in (8, 9, 10, 11):
        run.checkpoint(step, after_the_state, state=lambda p: (p / "s").touch())
    states = {p.name for p in (folder / "states").iterdir()}
    assert states == {"10", "11"}
    assert checkpoints(folder) == [8, 9, 10, 11]


def test_recorded_calls_become_a_golden_trace(folder):
    obs, action = np.zeros((2, 4), np.float32), np.array([1, 0])
    a_run(folder).checkpoint(
        1, lambda _: None, golden=[[{"obs": obs, "action": action}] * 2]
    )
    trace = golden.read((folder / "checkpoints/1/golden.npz").read_bytes())
    assert [len(case.steps) for case in trace.cases] == [2]
    assert trace.cases[0].steps[1].recorded["action"].tolist() == [1, 0]


def test_within_the_block_sigterm_asks_it_to_stop_and_no_more(folder):
    before = signal.getsignal(signal.SIGTERM)
    with a_run(folder) as run:
        assert not run.should_stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert run.should_stop
    assert signal.getsignal(signal.SIGTERM) is before


def test_importing_it_imports_neither_the_library_nor_any_other():
    code = (
        "import sys; before = set(sys.modules); import arena_core.training; "
        "new = set(sys.modules) - before; print(*sorted(new))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert tops - set(sys.stdlib_module_names) <= {"arena_core"}
    ours = {n for n in done.stdout.split() if n.startswith("arena_core")}
    assert ours == {
        "arena_core",
        "arena_core.domain",
        "arena_core.domain.release",
        "arena_core.training",
    }


# --- the examples of the page ------------------------------------------------------


@pytest.fixture
def example(request, tmp_path):
    """Return what starts the program of an example."""
    if request.param == "sh":
        program = tmp_path / "train.sh"
        program.write_text(SHELL)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return [str(program)]
    (tmp_path / "train.py").write_text(PYTHON)
    return [sys.executable, str(tmp_path / "train.py")]


both = pytest.mark.parametrize("example", ["sh", "python"], indirect=True)


def started(example, folder, **variables):
    return subprocess.Popen(
        example,
        env={
            "PATH": os.environ["PATH"],
            "ARENA_RUN_FOLDER": str(folder),
            "ARENA_SEED": "3",
            **variables,
        },
    )


@both
@pytest.mark.slow
def test_the_example_trains_and_resumes_where_it_was(example, folder, tmp_path):
    with started(example, folder, ARENA_MAX_STEPS="25") as program:
        assert program.wait(timeout=60) == 0
    assert [line["step"] for line in lines(folder)] == list(range(1, 26))
    assert checkpoints(folder) == [10, 20, 25]
    again = tmp_path / "again"
    again.mkdir()
    with started(
        example,
        again,
        ARENA_MAX_STEPS="32",
        ARENA_RESUME_STEP="20",
        ARENA_RESUME_CHECKPOINT=str(folder / "checkpoints/20"),
        ARENA_RESUME_STATE=str(folder / "states/20"),
    ) as program:
        assert program.wait(timeout=60) == 0
    assert [line["step"] for line in lines(again)] == list(range(21, 33))
    assert lines(again)[0]["score"] in (42, 10.5)
    assert checkpoints(again) == [30, 32]


@both
@pytest.mark.slow
def test_the_example_ends_well_when_it_is_asked_to_stop(example, folder):
    most = "100000000"
    with started(example, folder, ARENA_MAX_STEPS=most) as program:
        while not (folder / "checkpoints/10").exists():
            assert program.poll() is None
        program.terminate()
        assert program.wait(timeout=60) == 0
    assert checkpoints(folder)[-1] == lines(folder)[-1]["step"]
