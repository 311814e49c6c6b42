"""One run of a stage: what it takes, what it leaves, and what follows from it."""

from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from attrs import field, frozen

from arena_core.domain.ids import AgentId, Digest, ExperimentId, RunId, StageId
from arena_core.domain.stage_settings import HandOver, Settings
from arena_core.domain.values import Scores, natural, sha256


class Status(Enum):
    NOT_STARTED = "NotStarted"
    PENDING = "Pending"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


AT_WORK = (Status.PENDING, Status.RUNNING, Status.STOPPING)
RETRIABLE = (Status.FAILED, Status.STOPPED)


class Cause(Enum):
    """Why a run was triggered."""

    MANUAL = "manual"
    AUTO = "auto"
    """The stage before it has succeeded."""
    RETRY = "retry"
    """It had failed, or was stopped."""
    TRAIN = "train"
    """Somebody asked for its experiment to be trained."""
    RESUME = "resume"
    """Somebody asked for its experiment to go on."""


@frozen
class Product:
    """A checkpoint that an Experiment stage has left, and what was known of it then."""

    experiment_id: ExperimentId
    step: int = field(validator=natural)
    digest: Digest = field(validator=sha256)
    scores: Scores = field(factory=Scores)


@frozen
class Yields:
    """What an Experiment stage has to give since its last run has ended."""

    best: Product | None = None
    """None where no checkpoint has an evaluation score."""
    final: Product | None = None

    def under(self, rule: HandOver) -> Product | None:
        return self.best if rule is HandOver.BEST else self.final


@frozen
class Consumed:
    """The checkpoint that a run takes, and where it comes from."""

    product: Product
    stage_id: StageId | None = None
    """The stage before it, whose run `run_id` has left it."""
    run_id: RunId | None = None
    agent_id: AgentId | None = None
    """The agent that the first stage begins with."""


@frozen
class Ordered:
    """What whoever triggers a run says of the training that it begins."""

    resume_step: int | None = field(default=None, validator=natural)
    """Go on from that checkpoint of its own experiment."""
    max_steps: int | None = field(default=None, validator=natural)
    """None: what the experiment's own settings say."""
    seed: int | None = field(default=None, validator=natural)


@frozen
class Inputs:
    """What a run begins with."""

    fingerprint: Digest = field(validator=sha256)
    """Of all that decides what it makes: compared to tell whether it is stale."""
    consumed: Consumed | None = None
    ordered: Ordered = field(factory=Ordered)


@frozen
class Seen:
    """What there was to decide by: the checkpoint to be used, and what is live."""

    candidate: Product | None
    live: Product | None


@frozen
class ConditionChecked:
    run_id: RunId
    met: bool
    seen: Seen
    finding: str
    """A sentence that says why."""


@frozen
class Run:
    """One execution of a stage."""

    id: RunId
    number: int
    cause: Cause
    settings: Settings
    fingerprint: Digest
    triggered_at: datetime
    ordered: Ordered = field(factory=Ordered)
    consumed: Consumed | None = None
    condition: ConditionChecked | None = None
    asked: Seen | None = None
    """What there was to approve of, since approval was asked for."""
    approved: bool = False
    attempt: int = 0
    """How many times it was begun."""
    training: int | None = None
    """Of its last attempt."""
    first_training: int | None = None
    """Of its first."""
    agent_id: AgentId | None = None
    started_at: datetime | None = None
    """Of the last attempt."""
    retry_at: datetime | None = None
    timed_out: bool = False
    ended_at: datetime | None = None
    reason: str | None = None
    """Why it ended, or why an attempt has failed."""
    added: AgentId | None = None

    @property
    def resume_step(self) -> int | None:
        """The checkpoint of its own experiment from which it was told to go on."""
        return self.ordered.resume_step

    @property
    def awaits_approval(self) -> bool:
        return self.asked is not None and not self.approved

    @property
    def candidate(self) -> Product | None:
        """The checkpoint that it is about to use."""
        return None if self.consumed is None else self.consumed.product


class Verdict(Enum):
    """How the work of a run stands: that of a training, or of a deployment."""

    ONGOING = "ongoing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


@frozen
class Outcome:
    verdict: Verdict
    reason: str | None = None
    began_at: datetime | None = None
    """None: it waits for its turn still, or that it has ended is all that counts."""


class Reaction(Enum):
    """What follows from a state."""

    CHECK_CONDITION = "check condition"
    REQUEST_APPROVAL = "request approval"
    START = "start"
    TIME_OUT = "time out"
    SUCCEED = "succeed"
    FAIL = "fail"
    STOP = "stop"


def follows(
    status: Status, run: Run, outcome: Outcome | None, now: datetime
) -> Reaction | None:
    """Return what follows; None: nothing, until something else happens.

    `outcome`: how the work of the run stands; None: it has not begun.
    """
    if status is Status.PENDING:
        return _before_the_work(run, now)
    if status not in AT_WORK or outcome is None:
        return None
    match outcome.verdict:
        case Verdict.SUCCEEDED:
            return Reaction.SUCCEED
        case Verdict.FAILED:
            return Reaction.FAIL
        case Verdict.STOPPED:
            return Reaction.FAIL if run.timed_out else Reaction.STOP
        case Verdict.ONGOING:
            at = due(status, run, outcome)
            over = at is not None and now >= at
            return Reaction.TIME_OUT if over else None
        case _:
            assert_never(outcome.verdict)


def _before_the_work(run: Run, now: datetime) -> Reaction | None:
    if run.retry_at is not None and now < run.retry_at:
        return None
    if run.settings.condition is not None and run.condition is None:
        return Reaction.CHECK_CONDITION
    if run.settings.approval and run.asked is None:
        return Reaction.REQUEST_APPROVAL
    return None if run.awaits_approval else Reaction.START


def due(status: Status, run: Run, outcome: Outcome | None) -> datetime | None:
    """Return when something follows by the mere passing of time.

    The time limit is of the work itself: what waits for its turn uses up none of it.
    """
    if status is Status.PENDING:
        return None if run.awaits_approval else run.retry_at
    limit = run.settings.time_limit_s
    began_at = None if outcome is None else outcome.began_at
    if status is not Status.RUNNING or limit is None or began_at is None:
        return None
    return began_at + timedelta(seconds=limit)
