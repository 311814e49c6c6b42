"""The composition root: the only module that knows both adapters and entry points."""

import os
import secrets
import shutil
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from uuid import uuid4

from attrs import frozen

from arena_core.adapters.appending import utc_now
from arena_core.adapters.blobs.files import FileBlobStore
from arena_core.adapters.blobs.memory import MemoryBlobStore
from arena_core.adapters.converters.process import LimitedConverter
from arena_core.adapters.json_web_tokens import JsonWebTokens
from arena_core.adapters.metrics.memory import MemoryMetricStore
from arena_core.adapters.metrics.sqlite import SQLiteMetricStore
from arena_core.adapters.presence.files import FilePresence
from arena_core.adapters.presence.memory import MemoryPresence
from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.adapters.rows.sqlite import SQLiteRowStore
from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.adapters.tarballs import Limits, unpack
from arena_core.adapters.telemetry.files import FileScoreboard
from arena_core.adapters.telemetry.memory import MemoryScoreboard
from arena_core.adapters.telemetry.process import measure
from arena_core.adapters.trainers.process import ProcessTrainer
from arena_core.adapters.trainers.programs import Limits as TrainingLimits
from arena_core.application.agreement import Agreement
from arena_core.application.conversion import Converter
from arena_core.application.handling import Handler
from arena_core.application.importing import Importer
from arena_core.application.keys import DeploymentKeys, MasterSecret
from arena_core.application.loading import Loaded, load
from arena_core.application.metering import Metering
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.application.ports import (
    BlobStore,
    EventStore,
    MetricStore,
    Presence,
    RowStore,
)
from arena_core.application.probing import Prober, Schedule
from arena_core.application.progress import Progress
from arena_core.application.readings import Scoreboard, Work
from arena_core.application.serving import Registry
from arena_core.application.session import Core
from arena_core.application.supervision import Supervisor
from arena_core.application.tallies import LogTally
from arena_core.application.telemetry import Telemetry
from arena_core.application.trainer import Trainer
from arena_core.application.training_loop import TrainingLoop
from arena_core.application.use_cases import Application
from arena_core.application.views import Views
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import WorkerId
from arena_core.domain.release import VERSION
from arena_core.entrypoints.inspection import InspectionApart, inspect
from arena_core.entrypoints.library import Arena, Uploads
from arena_core.entrypoints.recipes.programs import program_of
from arena_core.entrypoints.runtimes import runtimes_of
from arena_core.entrypoints.secret_file import SECRET_BYTES, given_secret, master_secret
from arena_core.entrypoints.settings import Settings


@frozen
class Kept:
    """The adapters of whatever keeps things."""

    store: EventStore
    rows: RowStore
    metrics: MetricStore
    blobs: BlobStore
    presence: Presence
    scoreboard: Scoreboard
    secret: bytes
    incoming: Path | None = None
    """Where uploads are unpacked."""


def open_arena(settings: Settings, *, serve: bool = True) -> Arena:
    """Open the store of `settings`, and serve what is Deployed unless told not to.

    Raises `Unavailable` or `Corrupt` if the store cannot be opened.
    """
    with ExitStack() as resources:
        kept = _kept(settings, resources)
        worker = WorkerId(uuid4())
        keys, master = DeploymentKeys(kept.secret), MasterSecret(kept.secret)
        runtimes = runtimes_of(settings.device, settings.threads)
        agreement = Agreement(worker, kept.presence)
        registry = Registry(
            keys, worker, agreement=agreement, keep_warm_s=settings.keep_warm_s
        )
        trainer = _trainer(settings, resources)
        core = Core(
            kept.store,
            Handler(kept.store, utc_now),
            Views(kept.store, kept.rows),
            kept.metrics,
            kept.blobs,
            InspectionApart(kept.incoming)
            if settings.inspect_apart
            else partial(inspect, runtimes),
            utc_now,
            uuid4,
            partial(TemporaryDirectory, prefix="import-", dir=kept.incoming),
            agreement,
            master=master,
            signer=JsonWebTokens(master.key("access-token")),
            trainer=trainer,
            allow_commands=settings.allow_commands,
        )
        progress = Progress()
        importer = Importer(core, kept.presence, converter(), worker, progress)
        training_loop = TrainingLoop(
            core, kept.presence, trainer, worker, most=_most_trainings(settings)
        )
        runner = PipelineRunner(core)
        supervisor = Supervisor(
            core,
            registry,
            kept.presence,
            runtimes,
            worker,
            beside={
                "importer": importer,
                "trainer": training_loop,
                "runner": runner,
            },
            prober=_prober(settings, core, registry, worker),
        )
        metering = Metering(
            Telemetry(),
            kept.scoreboard,
            kept.presence,
            worker,
            measure,
            set_aside=lambda: {
                Work.STAGE: len(runner.set_aside),
                Work.TRAINING: len(training_loop.set_aside),
            },
        )
        limits = Limits(total_bytes=settings.max_upload_bytes)
        arena = Arena(
            Application(
                core,
                registry,
                keys,
                secrets.token_bytes,
                progress,
                metering=metering,
                tally=LogTally(core.store),
            ),
            supervisor,
            settings,
            Uploads(partial(unpack, limits=limits), kept.incoming),
            resources.pop_all(),
        )
    if serve:
        try:
            supervisor.start()
            metering.start()
        except BaseException:
            arena.close()
            raise
    return arena


def _trainer(settings: Settings, resources: ExitStack) -> Trainer:
    """Return what trains.  In memory nobody could find a training again: it ends."""
    folder = settings.runs_folder or _folder_of_its_own(resources)
    limits = TrainingLimits(
        wall_s=settings.training_time_limit_s,
        folder_bytes=settings.max_training_bytes,
        file_bytes=settings.max_training_bytes,
        memory_bytes=settings.max_training_memory_bytes,
        log_bytes=settings.max_log_bytes,
    )
    trainer = ProcessTrainer(
        folder,
        partial(program_of, settings=settings),
        limits,
        ends_with_us=settings.store_path is None,
    )
    return resources.enter_context(closing(trainer))


def _folder_of_its_own(resources: ExitStack) -> Path:
    """Return a place that nothing is made in before it is needed."""
    folder = Path(gettempdir()) / f"arena-runs-{uuid4()}"
    resources.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _most_trainings(settings: Settings) -> int:
    return settings.trainings or max(1, (os.cpu_count() or 1) // 2)


def is_served(settings: Settings) -> bool:
    """Say whether some process serves the store of `settings`."""
    path = settings.store_path
    return path is not None and FilePresence(_workers(path)).is_anyone_alive()


def unpack_archive(archive: Path, folder: Path) -> None:
    """Unpack a bundle that somebody has packed, as an upload would be."""
    unpack(archive, folder, limits=Limits())


def converter() -> Converter:
    """Return what converts files of other training code, where it can harm nothing."""
    return LimitedConverter()


def load_bundle(folder: Path) -> Loaded:
    """Load the bundle in `folder` and check its parity, as a Connect would."""
    blobs = MemoryBlobStore()
    return load(blobs, runtimes_of(), blobs.put(folder), None)


def _prober(
    settings: Settings, core: Core, registry: Registry, worker: WorkerId
) -> Prober | None:
    if not settings.probe_interval_s:
        return None
    return Prober(core, registry, worker, Schedule(settings.probe_interval_s))


def _kept(settings: Settings, resources: ExitStack) -> Kept:
    path = settings.store_path
    if path is None:
        return _in_memory(settings, resources)
    return _in_files(settings, path, resources)


def _in_memory(settings: Settings, resources: ExitStack) -> Kept:
    secret = settings.secret_key
    return Kept(
        resources.enter_context(closing(MemoryEventStore())),
        resources.enter_context(closing(MemoryRowStore())),
        resources.enter_context(closing(MemoryMetricStore())),
        MemoryBlobStore() if settings.blobs is None else FileBlobStore(settings.blobs),
        MemoryPresence(),
        MemoryScoreboard(),
        secrets.token_bytes(SECRET_BYTES) if secret is None else given_secret(secret),
    )


def _in_files(settings: Settings, path: Path, resources: ExitStack) -> Kept:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise Rejected(
            "The folder of the store cannot be made, or not be written to: name "
            "another place.",
            field="store",
        ) from error
    store = resources.enter_context(closing(SQLiteEventStore.open(path)))
    # What is there already must be sound before anything is put beside it.
    views = path.with_name(path.name + ".views")
    views.touch(mode=0o600)
    blobs = FileBlobStore(settings.blobs or path.with_name(path.name + ".blobs"))
    key_file = path.with_name(path.name + ".key")
    return Kept(
        store,
        resources.enter_context(closing(SQLiteRowStore.open(views, code=VERSION))),
        resources.enter_context(closing(SQLiteMetricStore.open(path))),
        blobs,
        FilePresence(_workers(path)),
        FileScoreboard(_workers(path), release=VERSION),
        master_secret(settings.secret_key, key_file, begun=store.head() > 0),
        blobs.incoming,
    )


def _workers(store: Path) -> Path:
    return store.with_name(store.name + ".workers")
