"""/api/v1/experiments/{id}/train, stop, resume, duplicate, and what training prints."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import msgspec
from attrs import evolve, frozen

from arena_core.application.recipe_settings import Seed
from arena_core.application.resources import ExperimentView
from arena_core.application.training import MOST_LINES
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Role
from arena_core.entrypoints.http.agents import Choice, Reason
from arena_core.entrypoints.http.awaiting import Wait, as_it_grows, awaited
from arena_core.entrypoints.http.endpoints import JSON, Call, Endpoint, Past, Reply
from arena_core.entrypoints.http.experiments import EXPERIMENT, ONE, PATH
from arena_core.entrypoints.http.fields import Name

TEXT = "text/plain"
TrainingNumber = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Steps = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class TrainingOrder(Reason, kw_only=True):
    """`max_steps`, `seed`: null, or left out: what the recipe's settings say."""

    max_steps: Steps | None = None
    seed: Seed | None = None


class ResumptionOrder(Reason, kw_only=True):
    """`max_steps`: null, or left out: as before.

    With `name` and `checkpoint` a new experiment goes on from that checkpoint; without
    them the same one does, from its last.
    """

    max_steps: Steps | None = None
    name: Name | None = None
    checkpoint: Choice | None = None


class Duplication(msgspec.Struct, forbid_unknown_fields=True):
    """`name`: null, or left out: the same with a suffix."""

    name: Name | None = None


class Tail(Past, kw_only=True):
    """`lines`: how many of the last ones.

    `training`: the number of another than the latest, whose log is kept until a later
    one has ended.
    """

    lines: Annotated[int, msgspec.Meta(ge=1, le=MOST_LINES)] = 200
    training: TrainingNumber | None = None


@frozen
class TrainingLog:
    """The last lines that a training has printed; none if it printed nothing."""

    lines: list[str]


def _id(call: Call) -> UUID:
    experiment_id: UUID = call.ids["experiment_id"]
    return experiment_id


def _located(call: Call, view: ExperimentView, status: HTTPStatus) -> Reply:
    return Reply(view, status, f"{call.base_url}{PATH}/{view.id}")


def _awaited(call: Call, asked: ExperimentView) -> Reply:
    """Answer at once, or when nothing is under way, if the caller waits for that."""

    def settled() -> Reply | None:
        view = call.use.training.settled(asked.id)
        return None if view is None else _located(call, view, HTTPStatus.OK)

    growing = as_it_grows(call.use.session.core.store, settled)
    return awaited(call, _located(call, asked, HTTPStatus.ACCEPTED), growing)


def train(call: Call) -> Reply:
    body: TrainingOrder = call.body
    asked = call.use.training.train(
        _id(call), max_steps=body.max_steps, seed=body.seed, reason=body.reason
    )
    return _awaited(call, asked)


def stop(call: Call) -> Reply:
    return _awaited(call, call.use.training.stop(_id(call), reason=call.body.reason))


def resume(call: Call) -> Reply:
    body: ResumptionOrder = call.body
    if body.name is not None and body.checkpoint is not None:
        made = call.use.training.resume_as(
            _id(call),
            name=body.name,
            checkpoint=body.checkpoint.chosen(),
            max_steps=body.max_steps,
            reason=body.reason,
        )
        return _made(call, made)
    if body.name is not None or body.checkpoint is not None:
        raise Rejected(
            "A new experiment goes on from a checkpoint that you choose: give its name "
            "and the checkpoint, or leave both out to go on with this one.",
            field="name" if body.name is None else "checkpoint",
        )
    asked = call.use.training.resume(
        _id(call), max_steps=body.max_steps, reason=body.reason
    )
    return _awaited(call, asked)


def _made(call: Call, view: ExperimentView) -> Reply:
    """Answer with a new experiment: it is there, whatever becomes of its training."""
    reply = _located(call, view, HTTPStatus.CREATED)
    found = _awaited(call, view)
    if found.until is None:
        return reply
    until = found.until

    def settled() -> Reply | None:
        over = until()
        return None if over is None else evolve(over, status=HTTPStatus.CREATED)

    return evolve(reply, until=settled, wait_s=found.wait_s)


def duplicate(call: Call) -> Reply:
    made = call.use.training.duplicate(_id(call), name=call.body.name)
    return _located(call, made, HTTPStatus.CREATED)


def log(call: Call) -> Reply:
    query: Tail = call.query
    printed = call.use.training.log(
        _id(call), lines=query.lines, training=query.training
    )
    lines = list(printed)
    varies = {"Vary": "Accept"}
    if TEXT in call.accept and JSON not in call.accept:
        text = "".join(f"{line}\n" for line in lines)
        return Reply(text.encode(), media_type=TEXT, headers=varies)
    return Reply(TrainingLog(lines), headers=varies)


def _order(
    verb: str, handle: Callable[[Call], Reply], summary: str, body: type[msgspec.Struct]
) -> Endpoint:
    return Endpoint(
        "POST",
        f"{ONE}/{verb}",
        handle,
        Role.MEMBER,
        summary,
        ExperimentView,
        body=body,
        query=Wait,
        also=HTTPStatus.ACCEPTED,
        also_made=verb == "resume",
        versioned=EXPERIMENT,
    )


ENDPOINTS = (
    _order("train", train, "Train an experiment from the beginning", TrainingOrder),
    _order("stop", stop, "End its training; what it has written stays", Reason),
    _order("resume", resume, "Go on from a checkpoint", ResumptionOrder),
    Endpoint(
        "POST",
        ONE + "/duplicate",
        duplicate,
        Role.MEMBER,
        "Draft an experiment with the same set-up",
        ExperimentView,
        body=Duplication,
        status=HTTPStatus.CREATED,
        versioned=EXPERIMENT,
    ),
    Endpoint(
        "GET",
        ONE + "/log",
        log,
        Role.VIEWER,
        "Show the last lines that its training has printed",
        TrainingLog,
        query=Tail,
        media_types=(JSON, TEXT),
    ),
)
