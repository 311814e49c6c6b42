"""/api/v1/pipelines/{id}/stages: to set them up and to run them; what they did."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec
from attrs import evolve

from arena_core.application.pipeline_views import PipelineView, RunHistory, StageView
from arena_core.application.pipelines import is_at_work
from arena_core.application.session import Page
from arena_core.domain.errors import NotFound
from arena_core.domain.ids import Digest
from arena_core.domain.values import Role
from arena_core.entrypoints.http import pipelines
from arena_core.entrypoints.http.agents import Reason
from arena_core.entrypoints.http.awaiting import Wait, as_it_grows, awaited
from arena_core.entrypoints.http.endpoints import (
    Call,
    Endpoint,
    Listed,
    ListOf,
    Nothing,
    Past,
    Reply,
)
from arena_core.entrypoints.http.pipelines import PIPELINE, pipeline_id, shown
from arena_core.entrypoints.http.stage_resources import (
    PipelineResource,
    Position,
    StageEdit,
    StageInsertion,
    StageResource,
)

PATH = pipelines.ONE + "/stages"
ONE = PATH + "/{stage_id}"


class Place(msgspec.Struct, forbid_unknown_fields=True):
    """Which it is to be, from 1."""

    position: Position


class Approval(Reason, kw_only=True):
    """`digest`: of the checkpoint that you have looked at; another one is refused.

    null, or left out: whatever the stage asks about.
    """

    digest: Digest | None = None


def _ids(call: Call) -> tuple[UUID, UUID]:
    return pipeline_id(call), call.ids["stage_id"]


def _stage(view: PipelineView, stage_id: UUID) -> StageView:
    for stage in view.stages:
        if stage.id == stage_id:
            return stage
    raise NotFound("There is no such stage in this pipeline.")


def insert(call: Call) -> Reply:
    body: StageInsertion = call.body
    made = call.use.pipelines.inserted(
        pipeline_id(call), position=body.position, **body.said()
    )
    view = call.use.pipelines.get(pipeline_id(call))
    where = f"{call.base_url}{pipelines.PATH}/{view.id}/stages/{made}"
    return evolve(shown(call, view, HTTPStatus.CREATED), location=where)


def show(call: Call) -> Reply:
    view = call.use.pipelines.get(pipeline_id(call))
    return Reply(StageResource.of(_stage(view, call.ids["stage_id"])))


def edit(call: Call) -> Reply:
    body: StageEdit = call.body
    return shown(call, call.use.pipelines.edit_stage(*_ids(call), **body.said()))


def remove(call: Call) -> Reply:
    return shown(call, call.use.pipelines.remove_stage(*_ids(call)))


def move(call: Call) -> Reply:
    moved = call.use.pipelines.move_stage(*_ids(call), call.body.position)
    return shown(call, moved)


def runs(call: Call) -> Reply:
    return Reply(Listed.of(Page(list(call.use.pipelines.runs(*_ids(call))))))


def trigger(call: Call) -> Reply:
    return _awaited(
        call, call.use.pipelines.trigger(*_ids(call), reason=call.body.reason)
    )


def retry(call: Call) -> Reply:
    return _awaited(
        call, call.use.pipelines.retry(*_ids(call), reason=call.body.reason)
    )


def stop(call: Call) -> Reply:
    return _awaited(call, call.use.pipelines.stop(*_ids(call), reason=call.body.reason))


def approve(call: Call) -> Reply:
    body: Approval = call.body
    approved = call.use.pipelines.approve(
        *_ids(call), digest=body.digest, reason=body.reason
    )
    return _awaited(call, approved)


def reject(call: Call) -> Reply:
    return _awaited(
        call, call.use.pipelines.reject(*_ids(call), reason=call.body.reason)
    )


def _awaited(call: Call, asked: PipelineView) -> Reply:
    """Answer at once, or when no stage is at work, if the caller waits for that."""

    def settled() -> Reply | None:
        view = call.use.pipelines.get(asked.id)
        return None if is_at_work(view) else _located(call, view, HTTPStatus.OK)

    growing = as_it_grows(call.use.session.core.store, settled)
    return awaited(call, _located(call, asked, HTTPStatus.ACCEPTED), growing)


def _located(call: Call, view: PipelineView, status: HTTPStatus) -> Reply:
    where = f"{call.base_url}{pipelines.PATH}/{view.id}"
    return Reply(PipelineResource.of(view), status, where)


def _order(
    verb: str,
    handle: Callable[[Call], Reply],
    summary: str,
    body: type[msgspec.Struct] = Reason,
) -> Endpoint:
    return Endpoint(
        "POST",
        f"{ONE}/{verb}",
        handle,
        Role.MEMBER,
        summary,
        PipelineResource,
        body=body,
        query=Wait,
        also=HTTPStatus.ACCEPTED,
        versioned=PIPELINE,
    )


def _change(
    method: str,
    path: str,
    handle: Callable[[Call], Reply],
    summary: str,
    body: type[msgspec.Struct] = Nothing,
    **said: Any,  # noqa: ANN401 -- further fields of the endpoint
) -> Endpoint:
    return Endpoint(
        method,
        path,
        handle,
        Role.MEMBER,
        summary,
        PipelineResource,
        body=body,
        versioned=PIPELINE,
        **said,
    )


ENDPOINTS = (
    _change(
        "POST",
        PATH,
        insert,
        "Insert a stage",
        StageInsertion,
        status=HTTPStatus.CREATED,
    ),
    Endpoint(
        "GET",
        ONE,
        show,
        Role.VIEWER,
        "Show a stage",
        StageResource,
        query=Past,
        versioned=PIPELINE,
    ),
    _change("PATCH", ONE, edit, "Change the settings of a stage", StageEdit),
    _change("DELETE", ONE, remove, "Remove a stage; its experiment stays"),
    _change("POST", ONE + "/move", move, "Move a stage to a position", Place),
    _order("trigger", trigger, "Run a Manual stage"),
    _order("retry", retry, "Run a stage again that is Failed or Stopped"),
    _order("stop", stop, "Stop what the stage is doing"),
    _order("approve", approve, "Approve of the checkpoint it asks about", Approval),
    _order("reject", reject, "Refuse the checkpoint: the stage is Stopped"),
    Endpoint(
        "GET",
        ONE + "/runs",
        runs,
        Role.VIEWER,
        "List what the stage has done, the latest first",
        ListOf(RunHistory),
        query=Past,
    ),
)
