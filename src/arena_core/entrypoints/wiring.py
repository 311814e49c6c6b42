"""The composition root: adapters, use cases and entry points are put together here."""

import os
import secrets
import shutil
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from uuid import uuid4

from attrs import evolve

from arena_core.adapters.appending import utc_now
from arena_core.adapters.blobs.memory import MemoryBlobStore
from arena_core.adapters.converters.process import LimitedConverter
from arena_core.adapters.json_web_tokens import JsonWebTokens
from arena_core.adapters.presence.files import FilePresence
from arena_core.adapters.tarballs import Limits, unpack
from arena_core.adapters.telemetry.process import measure
from arena_core.adapters.trainers.process import ProcessTrainer
from arena_core.adapters.trainers.programs import Limits as TrainingLimits
from arena_core.application.agreement import Agreement
from arena_core.application.conversion import Converter
from arena_core.application.handling import Handler
from arena_core.application.importing import Importer
from arena_core.application.keys import DeploymentKeys, MasterSecret
from arena_core.application.loading import Loaded, Runtimes, load
from arena_core.application.metering import Metering
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.application.probing import Prober, Schedule
from arena_core.application.progress import Progress
from arena_core.application.readings import Work
from arena_core.application.serving import Registry
from arena_core.application.session import Core
from arena_core.application.supervision import Supervisor
from arena_core.application.tallies import LogTally
from arena_core.application.telemetry import Telemetry
from arena_core.application.trainer import Trainer
from arena_core.application.training_loop import TrainingLoop
from arena_core.application.use_cases import Application
from arena_core.application.views import Views
from arena_core.domain.ids import WorkerId
from arena_core.entrypoints.inspection import InspectionApart, inspect
from arena_core.entrypoints.kept import Kept, open_kept, workers_of
from arena_core.entrypoints.library import Arena, Uploads
from arena_core.entrypoints.recipes.programs import program_of
from arena_core.entrypoints.recipes.requirements import Here
from arena_core.entrypoints.runtimes import runtimes_of
from arena_core.entrypoints.settings import Settings


def open_arena(settings: Settings, *, serve: bool = True) -> Arena:
    """Open the store of `settings`, and serve what is Deployed unless told not to.

    Raises `Unavailable` or `Corrupt` if the store cannot be opened.
    """
    with ExitStack() as resources:
        kept = open_kept(settings, resources)
        worker = WorkerId(uuid4())
        keys = DeploymentKeys(kept.secret)
        runtimes = runtimes_of(settings.device, settings.threads)
        agreement = Agreement(worker, kept.presence)
        registry = Registry(
            keys, worker, agreement=agreement, keep_warm_s=settings.keep_warm_s
        )
        core = _core(settings, kept, runtimes, agreement, _trainer(settings, resources))
        if serve:
            # Who only orders leaves it to whoever serves, whose settings may differ.
            core = evolve(core, check_here=Here(settings).check)
        progress = Progress()
        importer = Importer(core, kept.presence, converter(), worker, progress)
        training_loop = TrainingLoop(
            core, kept.presence, core.trainer, worker, most=_most_trainings(settings)
        )
        runner = PipelineRunner(core)
        supervisor = Supervisor(
            core,
            registry,
            kept.presence,
            runtimes,
            worker,
            beside={"importer": importer, "trainer": training_loop, "runner": runner},
            prober=_prober(settings, core, registry, worker),
        )
        metering = _metering(kept, worker, runner, training_loop)
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
            _uploads(settings, kept),
            resources.pop_all(),
        )
    if serve:
        _serve(arena, supervisor, metering)
    return arena


def _core(
    settings: Settings,
    kept: Kept,
    runtimes: Runtimes,
    agreement: Agreement,
    trainer: Trainer,
) -> Core:
    master = MasterSecret(kept.secret)
    return Core(
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


def _metering(
    kept: Kept, worker: WorkerId, runner: PipelineRunner, training_loop: TrainingLoop
) -> Metering:
    return Metering(
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


def _uploads(settings: Settings, kept: Kept) -> Uploads:
    limits = Limits(total_bytes=settings.max_upload_bytes)
    return Uploads(partial(unpack, limits=limits), kept.incoming)


def _serve(arena: Arena, supervisor: Supervisor, metering: Metering) -> None:
    """Begin to serve what is Deployed; what cannot be begun leaves nothing open."""
    try:
        supervisor.start()
        metering.start()
    except BaseException:
        arena.close()
        raise


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
    return path is not None and FilePresence(workers_of(path)).is_anyone_alive()


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
