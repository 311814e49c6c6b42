"""What is said of one stage of a pipeline, and what can follow what.

Which of the settings count depends on the type of the stage.
"""

from enum import Enum

from attrs import field, frozen

from arena_core.domain.algorithms import is_same
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import AgentId, ExperimentId
from arena_core.domain.values import Family, finite, trimmed

MOST_RETRIES = 20
LONGEST_WAIT_S = 24 * 3600.0
LONGEST_TIME_LIMIT_S = 365 * 24 * 3600.0


class StageType(Enum):
    EXPERIMENT = "experiment"
    DEPLOYMENT = "deployment"


class Trigger(Enum):
    MANUAL = "manual"
    """It runs when somebody triggers it."""
    AUTO = "auto"
    """It runs whenever the stage before it succeeds."""


class HandOver(Enum):
    """Which checkpoint of the Experiment stage before it a stage takes."""

    BEST = "best"
    FINAL = "final"


class AutoAdd(Enum):
    """Which checkpoint becomes an agent when an Experiment stage succeeds."""

    NO = "no"
    BEST = "best"
    """The final one where none has an evaluation score."""
    FINAL = "final"


class Link(Enum):
    """What a training does with the checkpoint that it is given."""

    WEIGHTS = "weights"
    """It trains them further."""
    DECODER = "decoder"
    """It trains a policy over the latent space of it, and leaves it as it is."""


@frozen
class Trains:
    """What decides whether one training can use what another has left."""

    algorithm: str
    family: Family
    base_model: str | None = None

    @property
    def needs_a_decoder(self) -> bool:
        return self.family is Family.LATENT


def link(before: Trains, after: Trains) -> Link | None:
    """Return what `after` does with a checkpoint of `before`; None: it cannot."""
    if is_same(before.algorithm, after.algorithm):
        same = before.base_model == after.base_model or after.family is not Family.LLM
        return Link.WEIGHTS if same else None
    if before.family is Family.LLM and after.family is Family.LLM:
        return Link.WEIGHTS if before.base_model == after.base_model else None
    if before.family is Family.SUPERVISED and after.needs_a_decoder:
        return Link.DECODER
    return None


@frozen
class SavedAgent:
    """An agent whose checkpoint the first stage begins with."""

    agent_id: AgentId
    trains: Trains


@frozen
class Condition:
    """What a checkpoint must be like before the stage does anything with it."""

    min_fitness: float | None = field(default=None, validator=finite)
    """Its evaluation score at least."""
    better_than_live: bool = False
    """Whether it must score higher than what the stage has live; nothing live: met."""

    def __attrs_post_init__(self) -> None:
        if self.min_fitness is None and not self.better_than_live:
            raise Rejected(
                "A condition asks for nothing: give min_fitness, or better_than_live, "
                "or leave the condition out.",
                field="condition",
            )


def _count(_: object, attribute: object, value: int) -> None:
    del attribute
    if not 0 <= value <= MOST_RETRIES:
        raise Rejected(
            f"A stage can be retried between 0 and {MOST_RETRIES} times.",
            field="retries.most",
        )


def _wait(_: object, attribute: object, value: float) -> None:
    del attribute
    if not 0 <= value <= LONGEST_WAIT_S:
        raise Rejected(
            "first_wait_s must be between 0 and a day, in seconds.",
            field="retries.first_wait_s",
        )


def _limit(_: object, attribute: object, value: float | None) -> None:
    del attribute
    if value is not None and not 0 < value <= LONGEST_TIME_LIMIT_S:
        raise Rejected(
            "time_limit_s must be above 0 and at most a year, in seconds.",
            field="time_limit_s",
        )


@frozen
class Retries:
    """How often a stage that has failed is tried again by itself."""

    most: int = field(default=0, validator=_count)
    first_wait_s: float = field(default=10.0, converter=float, validator=_wait)
    """Before the first; each further one waits twice as long, a day at most."""

    def wait_s(self, failed: int) -> float | None:
        """Return how long to wait after `failed` attempts; None: no more of them."""
        if failed > self.most:
            return None
        return float(min(self.first_wait_s * 2 ** (failed - 1), LONGEST_WAIT_S))


def _agent_name(name: str | None) -> str | None:
    return None if name is None else trimmed(name, field="agent_name")


@frozen
class Settings:
    """Of one stage.  Its type says which of them count."""

    type: StageType
    trigger: Trigger = Trigger.MANUAL
    checkpoint: HandOver = HandOver.BEST
    """Of the Experiment stage before it; the first stage has none."""
    experiment_id: ExperimentId | None = None
    """What an Experiment stage trains."""
    trains: Trains | None = None
    """Of that experiment, when it was bound."""
    start: SavedAgent | None = None
    """What the first stage begins with; None: from scratch."""
    auto_add: AutoAdd = AutoAdd.NO
    agent_name: str | None = field(default=None, converter=_agent_name)
    """Of the agent that it makes; None: the pipeline's or the experiment's."""
    condition: Condition | None = None
    approval: bool = False
    """Whether somebody has to approve of the checkpoint before it is used."""
    retries: Retries = field(factory=Retries)
    time_limit_s: float | None = field(default=None, validator=_limit)
    """Of one attempt, from the start of its work."""
