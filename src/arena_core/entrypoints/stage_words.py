"""A stage and its run in a few words, for tables, trees and pictures.

Nothing in here is markup: whoever draws it escapes what users have written.
"""

from datetime import datetime
from shlex import quote

from arena_core.application.deeds import Hand
from arena_core.application.pipeline_views import RunView, StageView, StaleCause
from arena_core.domain.ids import Digest
from arena_core.domain.stage_run import Product, Seen, Status
from arena_core.domain.stage_settings import AutoAdd, Condition, StageType

SHOWN_OF_DIGEST = 12


def name_of(stage: StageView) -> str:
    """Return what people call it: its experiment, or the agent that it puts live."""
    if stage.type is StageType.EXPERIMENT:
        return stage.experiment_name or "an experiment that was deleted"
    return stage.agent_name or "Deployment"


def short(digest: Digest | None) -> str:
    return "nothing" if digest is None else digest[:SHOWN_OF_DIGEST]


def product(it: Product | None) -> str | None:
    """Return a checkpoint in words: what identifies it, its step, its fitness."""
    if it is None:
        return None
    score = it.scores.evaluation
    told = f"{short(it.digest)} at step {it.step}"
    return told if score is None else f"{told}, fitness {score:.4g}"


def time_of(moment: datetime) -> str:
    """Return a time as people write it, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def span(seconds: float) -> str:
    """Return a length of time, rounded as one says it."""
    whole = max(round(seconds), 0)
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {left:02} s" if minutes else f"{left} s"


def question(seen: Seen) -> str:
    """Return what somebody is asked to approve of."""
    about = product(seen.candidate) or "a beginning from scratch"
    beside = product(seen.live)
    return about if beside is None else f"{about}; live is {beside}"


def pause(run: RunView, status: Status, now: datetime) -> str | None:
    """Return what a Pending run waits for."""
    if status is not Status.PENDING:
        return None
    if run.awaits_approval:
        asked = "" if run.to_approve is None else f": {question(run.to_approve)}"
        return f"waits until somebody approves or rejects{asked}"
    if run.retry_at is not None:
        left = span((run.retry_at - now).total_seconds())
        return f"attempt {run.attempt + 1} in {left}, after: {run.reason}"
    return None


def turn(queue_position: int) -> str:
    """Return what a training waits for of which enough are at work already."""
    return f"waits for its turn to train: place {queue_position} in the queue"


def note(stage: StageView, now: datetime) -> str | None:
    """Return what matters most about its run just now; None: nothing does."""
    run = stage.run
    if run is None:
        return None
    if (waits := pause(run, stage.status, now)) is not None:
        return waits
    if stage.status in (Status.FAILED, Status.STOPPED):
        return why_ended(run)
    if run.queue_position is not None:
        return turn(run.queue_position)
    if stage.type is StageType.DEPLOYMENT:
        used = product(run.consumed)
        # Whether anything serves it just now is told by its agent.
        does = "put live" if stage.status is Status.SUCCEEDED else "takes"
        return None if used is None else f"{does} {used}"
    made = product(run.produced)
    return None if made is None else f"left {made}"


def note_of_run(run: RunView) -> str | None:
    """Return what a run that is listed has to say of itself."""
    if run.awaits_approval:
        return "waits for an approval"
    if run.queue_position is not None:
        return turn(run.queue_position)
    said = [run.finding if run.reason is None else None, why_ended(run)]
    if run.approved_by is not None:
        said.append(by("Approved", run.approved_by))
    return " ".join(filter(None, said)) or None


def why_ended(run: RunView) -> str | None:
    """Return why a run has ended, and who wanted it to."""
    said = [run.reason]
    if run.rejected_by is not None:
        said.append(by("Rejected", run.rejected_by))
    if run.stopped_by is not None:
        said.append(by("Stopped", run.stopped_by))
    return " ".join(filter(None, said)) or None


def by(done: str, hand: Hand) -> str:
    """Return a sentence on who has done something, and why if they said so."""
    why = "" if hand.reason is None else f": {hand.reason}"
    return f"{done} by {hand.actor}{why}" + (
        "" if why.endswith((".", "!", "?")) else "."
    )


def how_to_approve(pipeline: str, stage: StageView) -> str | None:
    """Return what is typed to approve of what a stage asks about, if it asks."""
    run = stage.run
    if run is None or not run.awaits_approval:
        return None
    seen = None if run.to_approve is None else run.to_approve.candidate
    about = "" if seen is None else f" --digest {short(seen.digest)}"
    typed = f"{quote(pipeline)} {stage.position}"
    return (
        f"arena-core pipeline approve {typed}{about}, or "
        f"arena-core pipeline reject {typed}"
    )


def stale(cause: StaleCause) -> str:
    """Return one reason why a stage is stale, with its place in the log."""
    if not cause.positions:
        return cause.sentence
    where = ", ".join(map(str, cause.positions))
    events = "event" if len(cause.positions) == 1 else "events"
    return f"{cause.sentence} ({events} {where})"


def condition(it: Condition) -> str:
    least = [] if it.min_fitness is None else [f"fitness >= {it.min_fitness:g}"]
    better = ["better than what is live"] if it.better_than_live else []
    return " and ".join(least + better) or "nothing"


def plan(stage: StageView) -> str:
    """Return what its settings say beyond type, trigger and name; "" if nothing."""
    retries = stage.retries.most
    words = [
        "" if stage.start is None else f"begins with agent {stage.start}",
        "" if stage.auto_add is AutoAdd.NO else f"adds its {stage.auto_add.value}",
        "" if stage.condition is None else f"only if {condition(stage.condition)}",
        "needs an approval" if stage.approval else "",
        f"{retries} retries" if retries > 1 else "1 retry" if retries else "",
        "" if stage.time_limit_s is None else f"at most {span(stage.time_limit_s)}",
    ]
    return "; ".join(filter(None, words))
