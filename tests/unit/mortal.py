"""Processes that die: all that they write is on disk, and what they have begun goes on.

A process dies before or after something that it does to the world outside: an append,
rows, a bundle, metric points, that it is present, anything that is asked of the
trainer; or in the middle of what it writes there, file by file.  Such moments are
counted, so that a test can have it die at each of them, one after the other.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from attrs import define, field

from arena_core.adapters.blobs.files import FileBlobStore
from arena_core.adapters.json_web_tokens import JsonWebTokens
from arena_core.adapters.metrics.sqlite import SQLiteMetricStore
from arena_core.adapters.presence.memory import MemoryPresence
from arena_core.adapters.rows.sqlite import SQLiteRowStore
from arena_core.adapters.runtimes.onnx import OnnxLoader
from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.adapters.telemetry.memory import MemoryScoreboard
from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.application.handling import Handler
from arena_core.application.keys import DeploymentKeys, MasterSecret
from arena_core.application.loading import Runtimes
from arena_core.application.metering import Metering
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.application.ports import Device, Presence
from arena_core.application.serving import Registry
from arena_core.application.session import Core
from arena_core.application.supervision import Supervisor
from arena_core.application.tallies import LogTally
from arena_core.application.telemetry import Telemetry
from arena_core.application.training_loop import TrainingLoop
from arena_core.application.use_cases import Application, UseCases
from arena_core.application.views import Views
from arena_core.domain.ids import WorkerId
from arena_core.entrypoints.inspection import inspect
from unit.lines import Line
from unit.outcomes import Outcome
from unit.pipelines_at_work import LAB

RUNTIMES = Runtimes({".onnx": OnnxLoader(Device.CPU)})
STORE = "arena.db"
MOST_PASSES = 120
CHANGES = ("link", "mkdir", "rename", "replace", "rmdir", "symlink", "unlink", "write")
"""Of the functions of `os` those that change a file or a folder."""


class Died(BaseException):
    """The process is gone, from one moment to the next: nothing can catch this."""


class HangsError(AssertionError):
    """The pipeline hangs: nothing more comes of it."""


@define
class Fate:
    """Counts the points at which a process can die, and has it die at some."""

    deaths: frozenset[int] = frozenset()
    file_by_file: bool = False
    """Whether every change of a file is a point too."""
    points: list[str] = field(factory=list)
    is_over: bool = False

    def point(self, what: str) -> None:
        self.points.append(what)
        if len(self.points) in self.deaths:
            self.is_over = True
            raise Died(what)

    @contextmanager
    def within(self, call: str) -> Iterator[None]:
        """Have all that `call` changes of files be points; the dead change nothing."""

        def mortal(change: Callable) -> Callable:
            def changed(*args, **named):
                if self.is_over:
                    raise Died(call)  # however much would be cleared away
                self.point(f"within {call}: {change.__name__}")
                return change(*args, **named)

            return changed

        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES if self.file_by_file else ():
                patch.setattr(os, name, mortal(getattr(os, name)))
            yield


class Mortal:
    """An adapter, some of whose calls are a point before they begin and when done."""

    def __init__(self, adapter: object, fate: Fate, *effects: str) -> None:
        self._adapter, self._fate, self._effects = adapter, fate, effects

    def __getattr__(self, name: str):
        call = getattr(self._adapter, name)
        if name not in self._effects:
            return call

        def mortal(*args, **named):
            self._fate.point(f"before {name}")
            with self._fate.within(name):
                result = call(*args, **named)
            self._fate.point(f"after {name}")
            return result

        return mortal


@define
class Place:
    """What outlives every process: the disk, the trainings, the time."""

    folder: Path
    trainer: MemoryTrainer
    now: datetime = datetime(2026, 9, 1, tzinfo=UTC)
    rebuilds: bool = False
    """Whether every process begins by making its rows anew."""
    presence: MemoryPresence = field(factory=MemoryPresence)

    def copy(self, folder: Path, trainer: MemoryTrainer) -> "Place":
        shutil.copytree(self.folder, folder)
        return Place(folder, trainer, self.now, self.rebuilds)

    def clock(self) -> datetime:
        return self.now

    @contextmanager
    def process(self, fate: Fate) -> Iterator["Process"]:
        """Give a process that has just begun; afterwards it is gone, in any case."""
        path = self.folder / STORE
        store = SQLiteEventStore.open(path, clock=self.clock)
        rows = SQLiteRowStore.open(self.folder / "views", code="1")
        metrics = SQLiteMetricStore.open(path)
        blobs = FileBlobStore(self.folder / "blobs")
        worker = WorkerId(uuid4())
        with closing(store), closing(rows), closing(metrics):
            mortal_store = Mortal(store, fate, "append")
            core = Core(
                mortal_store,
                Handler(mortal_store, self.clock),
                Views(mortal_store, Mortal(rows, fate, "update", "replace")),
                Mortal(metrics, fate, "record"),
                Mortal(blobs, fate, "put"),
                partial(inspect, RUNTIMES),
                self.clock,
                uuid4,
                trainer=self._mortal_trainer(fate),
                master=MasterSecret(bytes(32)),
                signer=JsonWebTokens(bytes(32)),
            )
            presence = Mortal(self.presence, fate, "announce", "withdraw", "tell")
            process = Process(self, core, worker, presence)
            try:
                presence.announce(worker)
                if self.rebuilds:
                    core.views.rebuild()
                yield process
            finally:
                process.registry.close()
                self.presence.withdraw(worker)  # the system sees to that

    def _mortal_trainer(self, fate: Fate) -> Mortal:
        effects = ("start", "stop", "acknowledge", "tidy", "discard")
        return Mortal(self.trainer, fate, *effects)


class Process:
    """All that one process of the server does, a step at a time and in any order."""

    def __init__(
        self, place: Place, core: Core, worker: WorkerId, presence: Presence
    ) -> None:
        keys = DeploymentKeys(bytes(32))
        self.core, self.place = core, place
        self.registry = Registry(keys, worker, agreement=core.agreement)
        self.loop = TrainingLoop(core, presence, core.trainer, worker, most=2)
        self.runner = PipelineRunner(core)
        self.supervisor = Supervisor(
            core, self.registry, presence, RUNTIMES, worker, beside={}
        )
        self.application = Application(
            core,
            self.registry,
            keys,
            bytes,
            metering=Metering(
                Telemetry(), MemoryScoreboard(), presence, worker, lambda: None
            ),
            tally=LogTally(core.store),
        )

    @property
    def use(self) -> UseCases:
        return self.application.on_behalf_of(LAB)

    def works(self) -> list[Callable[[], None]]:
        """Return what its threads do again and again, each one pass."""
        return [
            self.loop.reconcile,
            self.runner.reconcile,
            self.supervisor.follow,
            self.supervisor.reconcile,
        ]

    def works_for(self, line: Line) -> list[Callable[[], None]]:
        """Return those of them that the line wants just now."""
        works = self.works()
        return works if line.is_served(self.use) else works[:-1]

    def answering(self) -> dict[str, str]:
        """Return the weights that answer here, by the agent's name."""
        if not self.registry.all_live():
            return {}
        deployed = [a for a in self.use.agents.list() if a.deployment is not None]
        live = [(a.name, self.registry.live(str(a.deployment.id))) for a in deployed]
        return {name: there.digest for name, there in live if there is not None}


# --- how it lives ------------------------------------------------------------------


def live(process: Process, line: Line, order: random.Random) -> Outcome:
    """Let a process work until the pipeline has ended; return what has become of it.

    `order`: in which order its threads get their turns.
    """
    answered: set[str] = set()
    for _ in range(MOST_PASSES):
        turns = [*process.works_for(line), lambda: line.attend(process.use)]
        order.shuffle(turns)
        for turn in turns:
            turn()
            answering = process.answering().keys()
            assert answered <= answering, "what is live has fallen silent"
            answered |= answering
        process.place.now += timedelta(seconds=1)
        if line.has_ended(process.use) and _is_quiet(process):
            return Outcome.of(process.use, line)
    raise HangsError(process.use.pipelines.get(line.pipeline))


def _is_quiet(process: Process) -> bool:
    """Say whether all agents that are Deployed answer here, and with their weights."""
    agents = [a for a in process.use.agents.list() if a.deployment is not None]
    statuses = {a.name: a.deployment.status.value for a in agents}
    wanted = {
        a.name: a.checkpoint.digest for a in agents if statuses[a.name] == "Deployed"
    }
    return "Pending" not in statuses.values() and process.answering() == wanted


def lives(place: Place, line: Line, seed: int, *fates: Fate) -> Outcome:
    """Live with each fate, one process after the other; the last one does not die."""
    order = random.Random(seed)  # noqa: S311 -- orders turns, guards nothing
    for fate in fates:
        with suppress(Died), place.process(fate) as process:
            return live(process, line, order)
    with place.process(Fate()) as process:
        return live(process, line, order)
