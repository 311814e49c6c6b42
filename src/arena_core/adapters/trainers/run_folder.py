"""The folder of one run: which file is what, and what is ready before it starts.

    order.json      what was ordered
    inputs/         the bundles that it begins with: start/, decoder/, resume/
    run/            all that belongs to the training: ARENA_RUN_FOLDER
    seen.json       how far its news have been recorded
    output.log      what it has printed

The other files are those of whoever watches it, see `run_records`.
"""

import os
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex

import msgspec
from attrs import frozen

from arena_core.adapters import codec, disk
from arena_core.adapters.trainers import run_news, run_records
from arena_core.adapters.trainers.endings import UNREADABLE
from arena_core.adapters.trainers.removal import remove_some
from arena_core.adapters.trainers.run_news import Mark
from arena_core.application.trainer import (
    DECODER,
    RESUME,
    START,
    LayOut,
    News,
    Order,
    Resumable,
)
from arena_core.domain.ids import RunId
from arena_core.domain.values import UNPRINTABLE

CONTENTS = "trainings"
"""What the folder holds, in messages."""
STATES = "states"
_ORDER = "order.json"
_NOT_NEEDED = (
    "inputs", ".", run_records.PROGRAM, run_records.FAMILY,
    run_records.PACE,
)  # fmt: skip
"""How the names of files begin that are of no use once a run has ended."""
_FOR_EVER = (run_records.STARTED, run_records.EXIT)
MOST_LOG_LINES = 10_000
LONGEST_LOG_LINE = 2_000
_TAIL_BYTES = 1 << 20
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
"""What moves the cursor of a terminal, colours it, or sets its title."""


@frozen
class RunFolder:
    """Of one run, whether it is there or not."""

    path: Path

    @property
    def work(self) -> Path:
        """The only part that the training is told of."""
        return self.path / run_records.WORK

    @property
    def _inputs(self) -> Path:
        return self.path / "inputs"

    @property
    def _seen(self) -> Path:
        return self.path / "seen.json"

    def prepare(self, order: Order, lay_out: LayOut) -> None:
        """Make everything ready for a start; several may do so at once."""
        for folder in (self.path, self.work, self.work / "tmp"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.write(_ORDER, codec.to_json(order))
        staging = self.path / f"inputs.{token_hex(8)}"
        try:
            staging.mkdir(mode=0o700)
            lay_out(staging)
            if not self._inputs.exists():
                staging.rename(self._inputs)
        except FileExistsError:
            pass  # somebody was faster, with the same
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def write(self, name: str, data: bytes) -> None:
        """Put a file in the place of the one before, as a whole or not at all."""
        run_records.write(self.path / name, data)

    def order(self) -> Order | None:
        """Return what was ordered; None if that cannot be read any more."""
        try:
            return msgspec.json.decode((self.path / _ORDER).read_bytes(), type=Order)
        except (OSError, msgspec.DecodeError, RecursionError):
            return None

    def variables(self, order: Order, resumed: "RunFolder | None") -> Mapping[str, str]:
        """Return the variables of the run protocol."""
        found = {
            "ARENA_RUN_ID": str(order.run_id),
            "ARENA_RUN_FOLDER": str(self.work),
            "ARENA_ORDER": str(self.path / _ORDER),
            "ARENA_SEED": str(order.seed),
            "TMPDIR": str(self.work / "tmp"),
        }
        for name in (START, DECODER, RESUME):
            if (self._inputs / name).is_dir():
                found[f"ARENA_{name.upper()}_CHECKPOINT"] = str(self._inputs / name)
        if order.max_steps is not None:
            found["ARENA_MAX_STEPS"] = str(order.max_steps)
        if order.resume_step is not None:
            found["ARENA_RESUME_STEP"] = str(order.resume_step)
            state = resumed and resumed.work / STATES / str(order.resume_step)
            if state and state.is_dir():
                found["ARENA_RESUME_STATE"] = str(state)
        return found

    def news(self) -> News:
        try:
            mark = self._mark()
        except msgspec.DecodeError:
            return News(fault=UNREADABLE)
        return run_news.read(self.work, mark)

    def acknowledge(self, mark: str) -> None:
        told = run_news.decoded(mark)
        if told.offset >= self._mark().offset and self.path.is_dir():
            self.write("seen.json", run_news.encoded(told).encode())
            run_news.forget(self.work, told)

    def _mark(self) -> Mark:
        try:
            return run_news.decoded(self._seen.read_bytes())
        except FileNotFoundError:
            return run_news.NOTHING

    def log(self, lines: int) -> Sequence[str]:
        """Return the last lines that were printed, without control characters."""
        data = _tail(self.path / run_records.LOG)
        if len(data) < _TAIL_BYTES:
            data = _tail(self.path / run_records.EARLIER_LOG) + data
        text = data[-_TAIL_BYTES:].decode(errors="replace")
        kept = text.splitlines()[-max(0, min(lines, MOST_LOG_LINES)) :] if lines else []
        return [_plain(line) for line in kept]

    def tidy(self, state: int | None) -> None:
        """Remove what nobody needs of a run that has ended.

        `state`: the step of the state that stays; None: none does.
        """
        work, kept = run_records.WORK, "" if state is None else str(state)
        remove_some(self.path, work, unless=lambda name: name == STATES)
        remove_some(self.path, work, STATES, unless=lambda name: name == kept)
        remove_some(self.path, unless=lambda name: not name.startswith(_NOT_NEEDED))

    def reduce(self, state: int | None) -> None:
        """Do the same of a run that others have followed.

        That it was started stays known, for it must never be started again.
        """
        self.tidy(state)
        stays = _FOR_EVER if state is None else (*_FOR_EVER, run_records.WORK)
        remove_some(self.path, unless=lambda name: name in stays)


def of(folder: Path, run_id: RunId) -> RunFolder:
    return RunFolder(folder / str(run_id))


def tidy(folder: Path, run_ids: Sequence[RunId], resumable: Resumable | None) -> None:
    """Do as `Trainer.tidy` does, for the runs in `folder`."""
    for number, run_id in enumerate(run_ids):
        state = None
        if resumable is not None and resumable.run_id == run_id:
            state = resumable.step
        run = of(folder, run_id)
        if number == 0:
            run.tidy(state)
        elif not run_records.is_held(run.path):
            run.reduce(state)


def _tail(path: Path) -> bytes:
    try:
        with disk.opened(path, disk.FILE) as descriptor:
            size = os.fstat(descriptor).st_size
            start = max(0, size - _TAIL_BYTES)
            return os.pread(descriptor, _TAIL_BYTES, start)
    except OSError:
        return b""


def _plain(line: str) -> str:
    shown = _ESCAPES.sub("", line.replace("\t", " "))
    kept = "".join(c for c in shown if unicodedata.category(c) not in UNPRINTABLE)
    return kept[:LONGEST_LOG_LINE]
