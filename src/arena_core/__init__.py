"""arena-core: from trained checkpoints to agents that answer, with a history.

`open` is the way in for a library user; the rest are the words that its calls take.
They are imported when they are first asked for, so that a program that trains can
import `arena_core.training` in no time.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from arena_core.domain.release import VERSION

if TYPE_CHECKING:
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

_FROM = {
    "Actor": "arena_core.domain.values",
    "ActorKind": "arena_core.domain.values",
    "Arena": "arena_core.entrypoints.library",
    "ArenaError": "arena_core.domain.errors",
    "Caller": "arena_core.domain.values",
    "CheckpointChoice": "arena_core.domain.values",
    "CheckpointType": "arena_core.domain.values",
    "Condition": "arena_core.domain.stage_settings",
    "Conflict": "arena_core.domain.errors",
    "Corrupt": "arena_core.domain.errors",
    "Family": "arena_core.domain.values",
    "Forbidden": "arena_core.domain.errors",
    "Guard": "arena_core.domain.guards",
    "Inference": "arena_core.entrypoints.library_inference",
    "MetricPoint": "arena_core.application.ports",
    "NotFound": "arena_core.domain.errors",
    "ProjectKind": "arena_core.domain.values",
    "Rejected": "arena_core.domain.errors",
    "Retries": "arena_core.domain.stage_settings",
    "Role": "arena_core.domain.values",
    "Settings": "arena_core.entrypoints.settings",
    "Shadow": "arena_core.domain.swap",
    "Source": "arena_core.domain.values",
    "SourceKind": "arena_core.domain.values",
    "Unauthenticated": "arena_core.domain.errors",
    "Unavailable": "arena_core.domain.errors",
    "best": "arena_core.application.freezing",
    "dataset": "arena_core.application.experiments",
    "final": "arena_core.application.freezing",
    "gym": "arena_core.application.experiments",
    "specific": "arena_core.application.freezing",
}
"""Where each word is to be found."""


def __getattr__(name: str) -> object:
    """Return one of the words.  Raises `AttributeError` if it is none of them."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_FROM[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def open(store: str | Path, *, serve: bool = True, **settings: object) -> "Arena":  # noqa: A001 -- read as arena_core.open
    """Open a store: `memory:`, or the path of an SQLite file, made if it is not there.

    While it is open, this process serves every agent that is Deployed; `serve=False`
    leaves that to others.  `settings` are the further fields of `Settings`.
    """
    from arena_core.entrypoints.settings import Settings  # noqa: PLC0415 -- see above
    from arena_core.entrypoints.wiring import open_arena  # noqa: PLC0415 -- likewise

    return open_arena(Settings(store, **settings), serve=serve)  # type: ignore[arg-type] # attrs checks the names


__all__ = [
    "Actor",
    "ActorKind",
    "Arena",
    "ArenaError",
    "Caller",
    "CheckpointChoice",
    "CheckpointType",
    "Condition",
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
    "Retries",
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
