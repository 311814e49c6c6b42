"""A training's side of the run protocol, for programs in Python.

    with Run() as run:
        for step in range(run.first_step, 1_000):
            run.log(step, loss=train_a_little())
            if step % 100 == 0:
                run.checkpoint(step, write_bundle)
            if run.should_stop:
                break

It imports the standard library only, and needs no server: whoever sets
`ARENA_RUN_FOLDER` can try a program by hand.  The protocol is in docs/run-protocol.md.
"""

import json
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeAlias

Writer: TypeAlias = Callable[[Path], object]
"""Writes the files of a bundle, or of a state, into the folder that it is given."""
Trace: TypeAlias = Sequence[Sequence[Mapping[str, Any]]]
"""Of each case the calls in their order: arrays by `obs`, `inputs`, `action`..."""

CHECKPOINTS, STATES = "checkpoints", "states"
METRICS, PROGRESS = "metrics.jsonl", "progress.json"
KEPT_STATES = 2
"""Of the newest: the checkpoint of the last may not have been seen yet."""


@dataclass(frozen=True)
class Resume:
    """What a training goes on from."""

    step: int
    bundle: Path
    """The folder of the checkpoint."""
    state: Path | None
    """What the run that wrote it had kept beside it; None if that is gone."""


class OutsideOfARun(RuntimeError):  # noqa: N818 -- where one is, not what went wrong
    """There is no run: nobody has said into which folder to write."""

    def __init__(self) -> None:
        super().__init__(
            "This is no run of arena-core, for ARENA_RUN_FOLDER is not set. To try the "
            "program by hand, name an empty folder, as in "
            "`ARENA_RUN_FOLDER=/tmp/try python train.py`; to have it trained, make it "
            "the program of an experiment with the recipe command."
        )


class Run:
    """One training, as the program that trains sees it.  Not for several threads."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Raise `OutsideOfARun` if `ARENA_RUN_FOLDER` is not set."""
        self._environ = os.environ if environ is None else environ
        if not self._environ.get("ARENA_RUN_FOLDER"):
            raise OutsideOfARun
        self.folder = Path(self._environ["ARENA_RUN_FOLDER"])
        self.folder.mkdir(parents=True, exist_ok=True)
        self.order: Mapping[str, Any] = self._read_order()
        """All that was ordered: recipe, algorithm, family, source, config..."""
        self.start = self._path("ARENA_START_CHECKPOINT")
        """The folder of the bundle whose weights are trained further."""
        self.decoder = self._path("ARENA_DECODER_CHECKPOINT")
        """The folder of the bundle over whose latent space a policy is trained."""
        self.resume = self._read_resume()
        self._asked_to_stop = threading.Event()
        self._before: Any = None

    def __enter__(self) -> Self:
        """From now on the signal SIGTERM sets `should_stop`, and does no more."""
        self._before = signal.signal(signal.SIGTERM, self._note_stop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @property
    def config(self) -> Mapping[str, Any]:
        """The recipe's own settings."""
        config: Mapping[str, Any] = self.order.get("config", {})
        return config

    @property
    def seed(self) -> int:
        return int(self._environ.get("ARENA_SEED", "0"))

    @property
    def max_steps(self) -> int | None:
        """Up to which step to train, if that was said."""
        most = self._environ.get("ARENA_MAX_STEPS")
        return None if most is None else int(most)

    @property
    def first_step(self) -> int:
        """How many steps were made before: 0, or the step that is resumed from."""
        return 0 if self.resume is None else self.resume.step

    @property
    def should_stop(self) -> bool:
        """Whether to write a last checkpoint and end, with exit code 0."""
        return self._asked_to_stop.is_set()

    def total(self, step: int) -> None:
        """Say up to which step it will train, for those who look how far it is.

        Raises `ValueError` if the step is no whole number from 1.
        """
        if _whole(step) < 1:
            raise ValueError(f"A training ends at step 1 or later, and not at {step}.")
        # Seen as a whole or not at all.
        unseen = self.folder / f".{PROGRESS}"
        unseen.write_text(json.dumps({"total": int(step)}) + "\n")
        unseen.replace(self.folder / PROGRESS)

    def log(
        self,
        step: int,
        *,
        score: float | None = None,
        fitness: float | None = None,
        **values: float,
    ) -> None:
        """Record numbers at a step; those that are not finite are left out.

        `score` is the training score, `fitness` the evaluation score.  Raises
        `ValueError` if the step is no whole number from 0.
        """
        named = {"score": score, "fitness": fitness, **values}
        finite = {
            name: float(value)
            for name, value in named.items()
            if value is not None and math.isfinite(value)
        }
        line = json.dumps({"step": _whole(step), **finite}) + "\n"
        # One write, so that two processes of one training do not mix their lines.
        with (self.folder / METRICS).open("ab", buffering=0) as file:
            file.write(line.encode())

    def checkpoint(
        self,
        step: int,
        bundle: Path | str | Writer,
        *,
        state: Path | str | Writer | None = None,
        golden: Trace | None = None,
    ) -> None:
        """Hand over a checkpoint: a folder, which is copied, or what writes one.

        It is seen as a whole or not at all.  `state`: what it takes to go on exactly
        here, for a run that resumes.  `golden`: recorded calls, as `golden.npz`.
        Raises `ValueError` if the step is no whole number from 0.
        """
        step = _whole(step)
        if state is not None:
            # First, for whoever sees the checkpoint may resume from it.
            self._publish(STATES, step, state, None)
        self._publish(CHECKPOINTS, step, bundle, golden)
        self._forget_states()

    def _publish(
        self, kind: str, step: int, source: Path | str | Writer, trace: Trace | None
    ) -> None:
        place = self.folder / kind / str(step)
        unseen = place.with_name(f".{place.name}")
        shutil.rmtree(unseen, ignore_errors=True)
        unseen.mkdir(parents=True)
        if callable(source):
            source(unseen)
        else:
            shutil.copytree(source, unseen, dirs_exist_ok=True)
        if trace is not None:
            (unseen / "golden.npz").write_bytes(_golden(trace))
        # What is replaced is taken out of sight as a whole, too.
        before = place.with_name(f".{place.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        with suppress(FileNotFoundError):  # or whoever has read it has removed it
            place.rename(before)
        unseen.rename(place)
        shutil.rmtree(before, ignore_errors=True)

    def _forget_states(self) -> None:
        states = self.folder / STATES
        if states.is_dir():
            steps = sorted(int(p.name) for p in states.iterdir() if p.name.isdigit())
            for step in steps[:-KEPT_STATES]:
                shutil.rmtree(states / str(step))

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked_to_stop.set()

    def _path(self, variable: str) -> Path | None:
        path = self._environ.get(variable)
        return None if path is None else Path(path)

    def _read_order(self) -> Mapping[str, Any]:
        path = self._path("ARENA_ORDER")
        order: Mapping[str, Any] = {} if path is None else json.loads(path.read_bytes())
        return order

    def _read_resume(self) -> Resume | None:
        bundle = self._path("ARENA_RESUME_CHECKPOINT")
        if bundle is None:
            return None
        step = int(self._environ.get("ARENA_RESUME_STEP", "0"))
        return Resume(step, bundle, self._path("ARENA_RESUME_STATE"))


def _whole(step: int) -> int:
    """Return the step as it is written: here who said it can still be seen."""
    whole = int(step)
    if whole != step or whole < 0:
        raise ValueError(f"A step is a whole number from 0, and not {step}.")
    return whole


def _golden(trace: Trace) -> bytes:
    from arena_core.application import golden  # noqa: PLC0415 -- it needs NumPy

    cases = tuple(
        golden.Case(f"case{number}", tuple(golden.Step(dict(step)) for step in steps))
        for number, steps in enumerate(trace)
    )
    return golden.write(golden.GoldenTrace(cases))
