"""Workers, as processes are: each its own memory, on one store and one clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from attrs import define, field

from arena_core.adapters.blobs.memory import MemoryBlobStore
from arena_core.adapters.json_web_tokens import JsonWebTokens
from arena_core.adapters.metrics.memory import MemoryMetricStore
from arena_core.adapters.presence.memory import MemoryPresence
from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.adapters.runtimes.onnx import OnnxLoader
from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.adapters.telemetry.memory import MemoryScoreboard
from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.application.agreement import Agreement
from arena_core.application.conversion import Format, Options, Report
from arena_core.application.handling import Handler
from arena_core.application.importing import Importer
from arena_core.application.keys import DeploymentKeys, MasterSecret
from arena_core.application.loading import Runtimes
from arena_core.application.metering import Metering
from arena_core.application.ports import Device, RowStore
from arena_core.application.progress import Progress
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
from unit.scenes import ANN, key_of

import bundles

ONNX = OnnxLoader(Device.CPU)


@define
class Loader:
    """Loads real weights and counts what is loaded and not yet closed."""

    before: Callable[[], None] = lambda: None
    """Called while the model is being loaded."""
    loads: int = 0
    closes: int = 0

    def __call__(self, signature, weights):
        self.loads += 1
        self.before()
        return _Counted(ONNX(signature, weights), self)

    @property
    def runtimes(self) -> Runtimes:
        return Runtimes({".onnx": self})

    @property
    def open(self) -> int:
        return self.loads - self.closes


@define
class _Counted:
    _runtime: object
    _loader: Loader
    _closed: bool = False

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def close(self):
        if not self._closed:
            self._closed = True
            self._loader.closes += 1
        self._runtime.close()


@define
class Converter:
    """Writes a real bundle, whatever was ordered, and remembers what that was."""

    write: Callable[[Path], Path] = bundles.cartpole
    during: Callable[[Report], None] = lambda report: None  # noqa: ARG005
    orders: list[tuple[Format, dict[str, bytes], Options]] = field(factory=list)

    def __call__(self, of, order, bundle, options, report):
        files = {path.name: path.read_bytes() for path in order.iterdir()}
        self.orders.append((of, files, options))
        assert not bundle.exists()
        report("reading the weights")
        self.during(report)
        self.write(bundle)


@define
class World:
    """What all workers share, and what time it is."""

    now: datetime = datetime(2026, 9, 1, tzinfo=UTC)
    store: MemoryEventStore = field(factory=MemoryEventStore)
    rows: RowStore = field(factory=MemoryRowStore)
    metrics: MemoryMetricStore = field(factory=MemoryMetricStore)
    blobs: MemoryBlobStore = field(factory=MemoryBlobStore)
    presence: MemoryPresence = field(factory=MemoryPresence)
    keys: DeploymentKeys = DeploymentKeys(b"master")  # noqa: RUF009 -- frozen
    trainer: MemoryTrainer = field(factory=lambda: MemoryTrainer({}))
    """Where all trainings run: it outlives every worker."""
    agree: bool = False
    """Whether workers look at what the others have done, and wait for it."""
    monotonic_s: float = 0.0

    def wait(self, time: timedelta) -> None:
        self.now += time
        self.monotonic_s += time.total_seconds()

    def worker(self, *, alive: bool = True) -> "Worker":
        worker = Worker(self, WorkerId(uuid4()))
        if alive:
            self.presence.announce(worker.id)
        return worker

    def log(self, of: str = "deployment") -> list[str]:
        """Return what has become of the deployments, by its names; or of others."""
        names = [r.name.split(".") for r in self.store.read_all()]
        return [name for kind, name in names if kind == of]


@define(eq=False)
class Worker:
    """One process: its views, its registry and its supervisor, without a thread."""

    world: World
    id: WorkerId
    loader: Loader = field(factory=Loader)
    converter: Converter = field(factory=Converter)
    progress: Progress = field(factory=Progress)
    core: Core = field(init=False)
    importer: Importer = field(init=False)
    registry: Registry = field(init=False)
    supervisor: Supervisor = field(init=False)
    trainings: TrainingLoop = field(init=False)

    def __attrs_post_init__(self):
        world = self.world
        self.core = Core(
            world.store,
            Handler(world.store, lambda: world.now),
            Views(world.store, world.rows),
            world.metrics,
            world.blobs,
            partial(inspect, Runtimes({".onnx": ONNX})),
            lambda: world.now,
            uuid4,
            agreement=Agreement(self.id, world.presence if world.agree else None),
            master=MasterSecret(bytes(32)),
            signer=JsonWebTokens(bytes(32)),
            trainer=world.trainer,
        )
        self.registry = Registry(
            world.keys,
            self.id,
            agreement=self.core.agreement,
            monotonic=lambda: world.monotonic_s,
        )
        self.importer = Importer(
            self.core, world.presence, self.converter, self.id, self.progress
        )
        self.trainings = TrainingLoop(
            self.core, world.presence, world.trainer, self.id, most=2
        )
        self.supervisor = Supervisor(
            self.core,
            self.registry,
            world.presence,
            self.loader.runtimes,
            self.id,
            beside={"importer": self.importer},
        )

    @property
    def use(self) -> UseCases:
        return self.application.on_behalf_of(ANN)

    @property
    def application(self) -> Application:
        return Application(
            self.core,
            self.registry,
            self.world.keys,
            bytes,
            self.progress,
            metering=Metering(
                Telemetry(),
                MemoryScoreboard(),
                self.world.presence,
                self.id,
                lambda: None,
            ),
            tally=LogTally(self.core.store),
        )

    def pass_(self, times: int = 1) -> None:
        for _ in range(times):
            self.supervisor.reconcile()

    def follow(self) -> None:
        """Follow the log, as another thread does beside the passes."""
        self.supervisor.follow()

    def import_(self, times: int = 1) -> None:
        """Pass over the imports."""
        for _ in range(times):
            self.importer.reconcile()

    def train(self, times: int = 1) -> None:
        """Pass over the trainings."""
        for _ in range(times):
            self.trainings.reconcile()

    def serves(self, agent) -> bool:
        return self.registry.live(key_of(agent)) is not None

    def deployment(self, agent_id: UUID):
        return self.use.agents.get(agent_id).deployment

    def die(self) -> None:
        """End as kill -9 does: nothing is recorded, the presence is gone."""
        self.world.presence.withdraw(self.id)
