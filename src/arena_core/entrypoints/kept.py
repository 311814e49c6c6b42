"""Whatever keeps things, opened: in memory, or in files beside the store."""

import secrets
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from attrs import frozen

from arena_core.adapters.blobs.files import FileBlobStore
from arena_core.adapters.blobs.memory import MemoryBlobStore
from arena_core.adapters.metrics.memory import MemoryMetricStore
from arena_core.adapters.metrics.sqlite import SQLiteMetricStore
from arena_core.adapters.presence.files import FilePresence
from arena_core.adapters.presence.memory import MemoryPresence
from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.adapters.rows.sqlite import SQLiteRowStore
from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.adapters.telemetry.files import FileScoreboard
from arena_core.adapters.telemetry.memory import MemoryScoreboard
from arena_core.application.ports import (
    BlobStore,
    EventStore,
    MetricStore,
    Presence,
    RowStore,
)
from arena_core.application.readings import Scoreboard
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import TrainingRequested
from arena_core.domain.ids import ExperimentId
from arena_core.domain.release import VERSION
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


def open_kept(settings: Settings, resources: ExitStack) -> Kept:
    """Open what `settings` name; `resources` closes it.

    Raises `Unavailable`, `Corrupt` or `Rejected` if that cannot be done.
    """
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
        resources.enter_context(
            closing(SQLiteMetricStore.open(path, requests=partial(_requests, store)))
        ),
        blobs,
        FilePresence(workers_of(path)),
        FileScoreboard(workers_of(path), release=VERSION),
        master_secret(settings.secret_key, key_file, begun=store.head() > 0),
        blobs.incoming,
    )


def _requests(store: EventStore, experiment_id: ExperimentId) -> Sequence[int]:
    """Return where in the log the trainings of an experiment were asked for."""
    return [
        recorded.position
        for recorded in store.read(experiment_id)
        if isinstance(recorded.event, TrainingRequested)
    ]


def workers_of(store: Path) -> Path:
    """Return the folder in which those who serve the store leave their notes."""
    return store.with_name(store.name + ".workers")
