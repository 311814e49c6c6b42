"""Trainings in processes of their own, which outlive the server.

Each run has a folder, named by its id.  A small process, the shim, watches it and
records in that folder how it goes; the kernel says whether the shim is alive, by a
lock.  So any number of servers, now or later, know the same of every run.  On Linux
nothing of a run outlives it; other systems end its process group only.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import asdict

from arena_core.adapters import disk
from arena_core.adapters.trainers import (
    process_tree,
    run_folder,
    run_pace,
    run_records,
    shim,
    shim_family,
)
from arena_core.adapters.trainers.programs import Limits, Program, environment
from arena_core.adapters.trainers.removal import remove_some
from arena_core.adapters.trainers.run_folder import CONTENTS, RunFolder
from arena_core.adapters.trainers.run_sightings import leader_of, sighting_of, was_begun
from arena_core.adapters.trainers.shims import Shims, kill
from arena_core.application.trainer import (
    LayOut,
    News,
    Order,
    Pace,
    Resumable,
    RunState,
    Sighting,
)
from arena_core.domain.errors import StorageFull, Unavailable
from arena_core.domain.ids import RunId

__all__ = ["Limits", "ProcessTrainer", "Program"]

END_PATIENCE_S = 15.0
_PAUSE_S = 0.01


class ProcessTrainer:
    """One folder of runs.  Safe to use from several threads and processes."""

    def __init__(
        self,
        folder: Path,
        program: Callable[[Order], Program],
        limits: Limits,
        *,
        ends_with_us: bool = False,
    ) -> None:
        """`folder` is made if it is missing.  It must be on a local disk.

        `ends_with_us`: whether runs end when this is closed, or its process dies.
        """
        self._folder = folder.absolute()
        self._program = program
        self._limits = limits
        self._ends_with_us = ends_with_us
        self._shims = Shims(end_with_us=ends_with_us)
        self._ended: dict[RunId, Sighting] = {}
        with disk.translated(CONTENTS):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(self, order: Order, lay_out: LayOut) -> None:
        run = self._of(order.run_id)
        with disk.translated(CONTENTS):
            if was_begun(run.path):
                return
            program = self._program(order)
            run.prepare(order, lay_out)
            resumed = order.resume_of and self._of(order.resume_of)
            variables = run.variables(order, resumed or None)
            run.write(run_records.PROGRAM, self._written(program, variables))
        answer = self._shims.start(run.path)
        if answer == shim.FULL:
            raise StorageFull(
                "No space is left for trainings: free some and try again."
            )
        if answer != shim.BEGUN:
            raise Unavailable(
                "The training could not be started: see the file shim.log in the "
                "run's folder, and that this machine is not out of memory."
            )

    def look(self, run_id: RunId) -> Sighting:
        if (known := self._ended.get(run_id)) is not None:
            return known
        self._shims.reap()
        with disk.translated(CONTENTS):
            seen = sighting_of(self._of(run_id).path)
            if seen.state is RunState.RUNNING and self._is_overdue(run_id):
                kill(self._of(run_id).path)
        if seen.state is RunState.LOST:
            self._clear(run_id)
        if seen.state in (RunState.ENDED, RunState.LOST):
            self._ended[run_id] = seen
        return seen

    def stop(self, run_id: RunId) -> None:
        with disk.translated(CONTENTS):
            folder = self._of(run_id).path
            if (folder / run_records.STOP).exists() and was_begun(folder):
                return
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / run_records.STOP).touch()
            # Whoever makes this file decides: it, or a shim that begins just now.
            run_records.claim(folder / run_records.STARTED, {run_records.NEVER: True})

    def news(self, run_id: RunId) -> News:
        with disk.translated(CONTENTS):
            return self._of(run_id).news()

    def acknowledge(self, run_id: RunId, mark: str) -> None:
        with disk.translated(CONTENTS):
            self._of(run_id).acknowledge(mark)

    def log(self, run_id: RunId, lines: int) -> Sequence[str]:
        return self._of(run_id).log(lines)

    def pace(self, run_id: RunId) -> Pace | None:
        try:
            with disk.translated(CONTENTS):
                seen = sighting_of(self._of(run_id).path)  # and nothing is done to it
        except Unavailable:  # whatever else there is to be read can be read still
            return None
        if seen.state is not RunState.RUNNING or seen.started_at is None:
            return None
        run = self._of(run_id)
        order = run.order()
        most = None if order is None else order.max_steps
        return run_pace.of(run.path, seen.started_at, most)

    def tidy(self, run_ids: Sequence[RunId], resumable: Resumable | None) -> None:
        with disk.translated(CONTENTS):
            run_folder.tidy(self._folder, run_ids, resumable)
        for run_id in run_ids:
            self._ended.pop(run_id, None)

    def discard(self, run_id: RunId) -> None:
        """See `Trainer`.  What stays is a mark that keeps it from being started."""
        if self._is_discarded(run_id):
            self._ended.pop(run_id, None)
            return
        self.stop(run_id)
        with disk.translated(CONTENTS):
            folder = self._of(run_id).path
            (folder / run_records.KILL).touch()
            self._wait_for_end(folder)
            self._clear(run_id)
            never = json.dumps({run_records.NEVER: True}).encode()
            run_records.write(folder / run_records.STARTED, never)
            remove_some(folder, unless=lambda name: name == run_records.STARTED)
        self._ended.pop(run_id, None)

    def _is_discarded(self, run_id: RunId) -> bool:
        """Say whether nothing but the mark is left, so that nothing is to be done."""
        folder = self._of(run_id).path
        try:
            left = [each.name for each in folder.iterdir()]
            started = run_records.read(folder / run_records.STARTED) or {}
        except (OSError, run_records.Damaged):
            return False
        return left == [run_records.STARTED] and run_records.NEVER in started

    def close(self) -> None:
        self._shims.close(END_PATIENCE_S)

    def _of(self, run_id: RunId) -> RunFolder:
        return run_folder.of(self._folder, run_id)

    def _written(self, program: Program, variables: Mapping[str, str]) -> bytes:
        record = {
            "argv": list(program.argv),
            "environment": environment(program, variables, self._limits),
            "limits": asdict(self._limits),
            "tied": self._ends_with_us,
        }
        return json.dumps(record).encode()

    def _wait_for_end(self, folder: Path) -> None:
        begun = time.monotonic()
        while run_records.is_held(folder):
            waited_s = time.monotonic() - begun
            if waited_s > END_PATIENCE_S:
                kill(folder)
            if waited_s > 2 * END_PATIENCE_S:
                raise Unavailable("The training does not end: try again.")
            self._shims.reap()
            time.sleep(_PAUSE_S)

    def _is_overdue(self, run_id: RunId) -> bool:
        """Say whether a shim that was asked to end its run must hang itself."""
        try:
            asked = (self._of(run_id).path / run_records.STOP).stat().st_mtime
        except FileNotFoundError:
            return False
        return time.time() > asked + self._limits.grace_s + 2 * END_PATIENCE_S

    def _clear(self, run_id: RunId) -> None:
        """Kill what a shim that was killed has left running."""
        folder = self._of(run_id).path
        leader = leader_of(folder)
        process_tree.end_all(
            lambda: [
                *process_tree.left_over(str(run_id), leader),
                *shim_family.remembered(folder),
            ],
            within_s=END_PATIENCE_S,
        )
