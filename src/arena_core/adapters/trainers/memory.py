"""Trainings that are functions of this process, for tests and for trying things out.

They keep the promises of the port, but are gone with the process.  A plain function
runs in a thread; one that yields is taken a step further by each `look`, so that
what happens, happens in the same order every time.
"""

import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from arena_core.adapters import disk
from arena_core.adapters.trainers import run_folder, run_pace, run_records
from arena_core.adapters.trainers.endings import NEVER_STARTED, Ending
from arena_core.adapters.trainers.removal import remove
from arena_core.adapters.trainers.run_folder import CONTENTS, RunFolder
from arena_core.adapters.trainers.scripted import Report, Script, ScriptedRun
from arena_core.application.trainer import (
    LayOut,
    News,
    Order,
    Pace,
    Resumable,
    RunState,
    Sighting,
)
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import RunId


@frozen
class Effect:
    """Something that was done to a run, in the order in which it was done."""

    what: str
    """`start`, `start again` for one that changed nothing, `stop`, `lose`,
    `acknowledge`, `tidy` or `discard`."""
    run_id: RunId


class MemoryTrainer:
    """One place of runs.  Safe to use from several threads.

    Whoever dies and comes back, in a test, finds its runs in the same object.
    """

    def __init__(self, scripts: Mapping[str, Script], *, grace_s: float = 1.0) -> None:
        """`scripts`: by what an order names as `script` in its config, or its recipe.

        `grace_s`: how long a plain function has to end after a stop.
        """
        self._scripts = scripts
        self._grace_s = grace_s
        self.home = Path(tempfile.mkdtemp(prefix="arena-trainings-"))
        """The folder of all runs' folders."""
        # Gone with the object too, whether it was closed or not.
        self._remove = weakref.finalize(
            self, shutil.rmtree, self.home, ignore_errors=True
        )
        self._runs: dict[RunId, ScriptedRun | Ending] = {}
        self._lock = threading.RLock()
        self.ledger: list[Effect] = []
        """Every effect, for tests to look at."""

    def start(self, order: Order, lay_out: LayOut) -> None:
        with self._lock, disk.translated(CONTENTS):
            if order.run_id in self._runs:
                self._note("start again", order.run_id)
                return
            script = self._script(order)
            folder = self._folder(order.run_id)
            folder.prepare(order, lay_out)
            resumed = order.resume_of and self._folder(order.resume_of)
            report = Report(
                folder.variables(order, resumed or None), folder.path / run_records.LOG
            )
            self._note("start", order.run_id)
            self._runs[order.run_id] = ScriptedRun(script, report)

    def look(self, run_id: RunId) -> Sighting:
        with self._lock:
            life = self._runs.get(run_id)
            if life is None:
                return Sighting(RunState.ABSENT)
            if isinstance(life, Ending):
                return life.sighting()
            life.go_on()
            return life.seen()

    def stop(self, run_id: RunId) -> None:
        with self._lock:
            life = self._runs.setdefault(run_id, NEVER_STARTED)
            if isinstance(life, ScriptedRun) and life.stop(self._grace_s):
                self._note("stop", run_id)

    def lose(self, run_id: RunId) -> None:
        """Let the run be gone without a trace, as when the machine went down."""
        with self._lock:
            life = self._runs[run_id]
            assert isinstance(life, ScriptedRun), "only what was started is lost"  # noqa: S101
            life.lose()
            self._note("lose", run_id)

    def news(self, run_id: RunId) -> News:
        with disk.translated(CONTENTS):
            return self._folder(run_id).news()

    def acknowledge(self, run_id: RunId, mark: str) -> None:
        with self._lock, disk.translated(CONTENTS):
            self._folder(run_id).acknowledge(mark)
            self._note("acknowledge", run_id)

    def log(self, run_id: RunId, lines: int) -> Sequence[str]:
        return self._folder(run_id).log(lines)

    def pace(self, run_id: RunId) -> Pace | None:
        life = self._runs.get(run_id)
        if not isinstance(life, ScriptedRun):
            return None
        if life.seen().state is not RunState.RUNNING:
            return None
        life.moments.look()
        folder = self._folder(run_id).path
        return run_pace.of(folder, life.started_at, life.report.max_steps)

    def tidy(self, run_ids: Sequence[RunId], resumable: Resumable | None) -> None:
        with self._lock, disk.translated(CONTENTS):
            run_folder.tidy(self.home, run_ids, resumable)
            self._note("tidy", run_ids[0])

    def discard(self, run_id: RunId) -> None:
        with self._lock:
            life = self._runs.get(run_id)
            if isinstance(life, ScriptedRun):
                life.kill()
            self._runs[run_id] = NEVER_STARTED
            remove(self._folder(run_id).path)
            self._note("discard", run_id)

    def close(self) -> None:
        """End every run, for nobody could find it again."""
        with self._lock:
            for life in self._runs.values():
                if isinstance(life, ScriptedRun):
                    life.kill()
            self._remove()

    def _script(self, order: Order) -> Script:
        name = str(order.config.get("script", order.recipe))
        if name not in self._scripts:
            known = ", ".join(self._scripts)
            raise Rejected(
                f"There is no script of that name: use one of {known}.",
                field="config.script",
            )
        return self._scripts[name]

    def _folder(self, run_id: RunId) -> RunFolder:
        return run_folder.of(self.home, run_id)

    def _note(self, what: str, run_id: RunId) -> None:
        self.ledger.append(Effect(what, run_id))
