"""Pipelines as users see them, made by hand."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from arena_core.application.deeds import Hand
from arena_core.application.pipeline_views import PipelineView, RunView, StageView
from arena_core.domain.ids import Digest, ExperimentId
from arena_core.domain.stage_run import Cause, Product, Status
from arena_core.domain.stage_settings import (
    AutoAdd,
    HandOver,
    Retries,
    StageType,
    Trigger,
)
from arena_core.domain.values import Scores

NAMES = UUID(int=6)
AGENT = uuid5(NAMES, "agent")
NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=9)


def product(letter, fitness=None, step=40):
    experiment_id = ExperimentId(uuid5(NAMES, "experiment"))
    return Product(experiment_id, step, Digest(letter * 64), Scores(None, fitness))


def hand(actor, reason=None):
    return Hand(actor, NOW, reason)


def run(**said):
    known = {
        "id": uuid5(NAMES, "run"),
        "number": 1,
        "status": Status.RUNNING,
        "cause": Cause.MANUAL,
        "attempt": 1,
        "triggered_at": NOW,
        "triggered_by": hand("operator:ann"),
        "approved_by": None,
        "rejected_by": None,
        "stopped_by": None,
        "started_at": NOW,
        "ended_at": None,
        "retry_at": None,
        "queue_position": None,
        "consumed": None,
        "produced": None,
        "agent_id": None,
        "training_run_id": None,
        "condition_met": None,
        "finding": None,
        "awaits_approval": False,
        "to_approve": None,
        "reason": None,
    }
    return RunView(**known | said)


def stage(position, **said):
    known = {
        "id": uuid5(NAMES, f"stage {position}"),
        "position": position,
        "type": StageType.EXPERIMENT,
        "trigger": Trigger.MANUAL,
        "experiment_id": uuid5(NAMES, f"experiment {position}"),
        "experiment_name": f"experiment {position}",
        "start": None,
        "checkpoint": HandOver.BEST,
        "auto_add": AutoAdd.NO,
        "agent_name": None,
        "condition": None,
        "approval": False,
        "retries": Retries(),
        "time_limit_s": None,
        "status": Status.NOT_STARTED,
        "stale": False,
        "stale_because": [],
        "run": None,
    }
    return StageView(**known | said)


def view(*stages, name="chain", description=""):
    return PipelineView(
        uuid5(NAMES, "pipeline"),
        uuid5(NAMES, "project"),
        name,
        description,
        NOW,
        list(stages),
        "library",
        NOW,
    )
