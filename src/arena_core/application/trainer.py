"""Training: what is to be trained, what has come of it so far, and the port.

A training runs in a process of its own, which outlives the one that has started it.
All that it says is in files of its folder, so whoever finds it again can read on.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from attrs import field, frozen
from msgspec import Struct

from arena_core.application.ports import MetricPoint
from arena_core.domain.experiment import Setup
from arena_core.domain.ids import ExperimentId, RunId
from arena_core.domain.values import Family, Source

START = "start"
"""The folder of the bundle whose weights a training begins with."""
DECODER = "decoder"
"""The folder of the bundle that stays as it is, below what is trained."""
RESUME = "resume"
"""The folder of the bundle that a training goes on from."""


@frozen
class Order:
    """What is to be trained.  It is kept in the run's folder as `order.json`."""

    run_id: RunId
    experiment_id: ExperimentId
    recipe: str
    algorithm: str
    family: Family
    source: Source
    base_model: str | None
    config: Mapping[str, Any]
    """The recipe's own settings, checked."""
    seed: int
    max_steps: int | None
    resume_step: int | None
    resume_of: RunId | None
    """Which run wrote the checkpoint to go on from: its state may be there still."""


@frozen
class Resumable:
    """The checkpoint from which an experiment would go on: the state beside it."""

    run_id: RunId
    """Which run has written it."""
    step: int


LayOut: TypeAlias = Callable[[Path], None]
"""Puts the bundles that a training needs into the folder that it is given, in folders
`start`, `decoder` and `resume`."""


class RunState(Enum):
    ABSENT = "absent"
    """Never started, as far as anybody can tell."""
    RUNNING = "running"
    ENDED = "ended"
    """It has ended, and how is known."""
    LOST = "lost"
    """It was started and is gone, and nobody knows how it ended."""


@frozen
class Sighting:
    """How a run stands."""

    state: RunState
    started_at: datetime | None = None
    code: int | None = None
    """The exit code of what has ended; None where a signal or a limit has ended it."""
    reason: str | None = None
    """Why it ended otherwise than with exit code 0: a sentence for its user."""
    stopped: bool = False
    """Whether it ended because it was asked to, which is no failure."""

    @property
    def succeeded(self) -> bool:
        return self.state is RunState.ENDED and self.code == 0 and self.reason is None


@frozen
class Found:
    """A checkpoint that a training has finished writing."""

    step: int
    folder: Path


@frozen
class News:
    """What a run has said since it was last acknowledged."""

    points: Sequence[MetricPoint] = ()
    checkpoints: Sequence[Found] = ()
    """By step."""
    fault: str | None = None
    """Why what it has written cannot be understood: a sentence that names the line."""
    mark: str = ""
    """How far this goes; for `acknowledge`."""
    is_further: bool = False
    """Whether that is beyond what was acknowledged, maybe by lines that say nothing."""


@frozen
class Pace:
    """How far a training is."""

    step: int
    max_steps: int | None
    steps_per_s: float | None
    left_s: float | None
    started_at: datetime


class Trainer(Protocol):
    """Runs trainings, each under an id that is used once for ever.

    Safe to use from several threads, and one place of runs from several processes.
    """

    def start(self, order: Order, lay_out: LayOut) -> None:
        """Start the run, unless it was ever started before, by whomever.

        Returns as soon as it runs.  Raises `Unavailable` or `StorageFull` if nothing
        was started, and it may be tried again; `Rejected` if it never can be.
        """
        ...

    def look(self, run_id: RunId) -> Sighting:
        """Say how the run stands.  Cheap: asked many times a second."""
        ...

    def stop(self, run_id: RunId) -> None:
        """Ask the run to end; after a grace it is killed with all its children.

        Returns at once.  Safe to repeat, and after the end.  A run that was never
        started cannot be started afterwards: it counts as stopped.
        """
        ...

    def news(self, run_id: RunId) -> News:
        """Return what the run has said beyond what was acknowledged, in parts.

        What was logged before a checkpoint was written is never told after it.  A
        fault is told again each time, with what could be understood before it.
        """
        ...

    def acknowledge(self, run_id: RunId, mark: str) -> None:
        """Say that all up to `mark` has been recorded: it is not told again.

        The folders of its checkpoints are removed.
        """
        ...

    def log(self, run_id: RunId, lines: int) -> Sequence[str]:
        """Return the last lines that the run has printed, control characters removed.

        Empty if it printed nothing, or is not there any more.
        """
        ...

    def pace(self, run_id: RunId) -> Pace | None:
        """Return how far the run is; None if it has not said so, or has ended."""
        ...

    def tidy(self, run_ids: Sequence[RunId], resumable: Resumable | None) -> None:
        """Remove what nobody needs of runs that have ended.

        `run_ids`: those of one experiment, the newest first.  Of that the log stays, of
        each how it ended, and the state beside the checkpoint that is `resumable`.
        Safe to call twice.
        """
        ...

    def discard(self, run_id: RunId) -> None:
        """End the run and remove all that is left of it.  Safe to call twice.

        It cannot be started again: it counts as stopped.
        """
        ...

    def close(self) -> None:
        """Free everything.  Runs go on, unless nobody could ever find them again."""
        ...


@frozen
class Recipe:
    """What trains an experiment: a word that users write, and what it understands."""

    name: str
    trains: str
    """A few words on what it trains."""
    extra: str | None
    """The extra of this package that it needs, if it needs one."""
    config: type[Struct]
    """A Struct of msgspec that forbids unknown fields: its own settings."""
    may_be_ordered: bool = field(default=True)
    """Whether callers over HTTP may order it: not where it runs what they say."""


Requirements: TypeAlias = Callable[[Setup], None]
"""Raises `Rejected` if what it takes to train this is not here: a package, a dataset,
an environment.  It has time for a look, and imports nothing that others have written;
what can't be told that way is let be."""
