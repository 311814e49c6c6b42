"""arena-core: from trained checkpoints to agents that answer, with a history.

`open` is the way in for a library user; the rest are the words that its calls take.
"""

from pathlib import Path

from arena_core.application.experiments import dataset, gym
from arena_core.application.freezing import best, final, specific
from arena_core.application.ports import MetricPoint
from arena_core.domain.errors import (
    ArenaError,
    Conflict,
    Corrupt,
    Forbidden,
    NotFound,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from arena_core.domain.guards import Guard
from arena_core.domain.release import VERSION
from arena_core.domain.swap import Shadow
from arena_core.domain.values import (
    Actor,
    ActorKind,
    Caller,
    CheckpointChoice,
    CheckpointType,
    Family,
    ProjectKind,
    Role,
    Source,
    SourceKind,
)
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.library_inference import Inference
from arena_core.entrypoints.settings import Settings

__version__ = VERSION


def open(store: str | Path, *, serve: bool = True, **settings: object) -> Arena:  # noqa: A001 -- read as arena_core.open
    """Open a store: `memory:`, or the path of an SQLite file, made if it is not there.

    While it is open, this process serves every agent that is Deployed; `serve=False`
    leaves that to others.  `settings` are the further fields of `Settings`.
    """
    from arena_core.entrypoints.wiring import open_arena  # noqa: PLC0415 -- adapters are imported when they are needed

    return open_arena(Settings(store, **settings), serve=serve)  # type: ignore[arg-type] # attrs checks the names


__all__ = [
    "Actor",
    "ActorKind",
    "Arena",
    "ArenaError",
    "Caller",
    "CheckpointChoice",
    "CheckpointType",
    "Conflict",
    "Corrupt",
    "Family",
    "Forbidden",
    "Guard",
    "Inference",
    "MetricPoint",
    "NotFound",
    "ProjectKind",
    "Rejected",
    "Role",
    "Settings",
    "Shadow",
    "Source",
    "SourceKind",
    "Unauthenticated",
    "Unavailable",
    "best",
    "dataset",
    "final",
    "gym",
    "open",
    "specific",
]
