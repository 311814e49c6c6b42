"""/api/v1/experiments/{id}/metrics: points, a table, CSV, the last values, a stream."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from arena_core.application import metric_tables
from arena_core.application.metric_tables import MetricTable
from arena_core.application.ports import MetricPoint
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Role
from arena_core.entrypoints.http.attachments import attachment
from arena_core.entrypoints.http.endpoints import (
    JSON,
    Again,
    Call,
    Endpoint,
    Listed,
    Listing,
    ListOf,
    Reply,
)
from arena_core.entrypoints.http.feed import Feed
from arena_core.entrypoints.http.metric_stream import Measuring, MetricStream
from arena_core.entrypoints.http.server_sent import MEDIA_TYPE, last_seen

PATH = "/api/v1/experiments/{experiment_id}/metrics"
CSV = "text/csv"
MOST_POINTS = 10_000
"""Of one page."""
LARGEST_METRICS = 1 << 25
"""Bytes of as many metric points as one call may record."""


class Points(msgspec.Struct, forbid_unknown_fields=True):
    points: list[MetricPoint]


@frozen
class PointsRecorded:
    """How many points were appended."""

    recorded: int


class MetricFilter(Listing, kw_only=True):
    """`name`: which metrics, may be repeated; left out: all of them.

    `training`: what that one has measured, and before it what it goes on from; left
    out: the latest that has measured or written anything.  0: before the first.

    `format`: `points` and `latest` (the last of each name) are lists of points, `table`
    and `csv` have a row for each step.  `limit` and `cursor`: which part of the points.
    `rows` and `after_step`: which part of a table.  `after`: with `Accept:
    text/event-stream`, the id of the event that was seen last.
    """

    most: ClassVar[int] = MOST_POINTS
    limit: Annotated[
        int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MOST_POINTS})
    ] = MOST_POINTS
    name: list[str] = msgspec.field(default_factory=list)
    format: Literal["points", "table", "csv", "latest"] = "points"
    rows: Annotated[int, msgspec.Meta(ge=1)] = metric_tables.MOST_ROWS
    after_step: Annotated[int, msgspec.Meta(ge=0)] | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    training: Annotated[int, msgspec.Meta(ge=0)] | None = None


def _id(call: Call) -> UUID:
    experiment_id: UUID = call.ids["experiment_id"]
    return experiment_id


def metrics(call: Call) -> Reply:
    query: MetricFilter = call.query
    if MEDIA_TYPE in call.accept:
        return _followed(call)
    match query.format:
        case "csv":
            return _as_csv(call)
        case "table":
            return Reply(_table(call))
        case "latest":
            found = call.use.measurements.latest(
                _id(call), names=query.name or None, training=query.training
            )
            return Reply(Listed(list(found), None))
        case "points":
            return Reply(_points(call))


def _points(call: Call) -> Listed:
    query: MetricFilter = call.query
    limit = query.checked_limit()
    found = call.use.measurements.points(
        _id(call),
        names=query.name or None,
        after=None if query.cursor is None else _place(query.cursor),
        limit=limit + 1,
        training=query.training,
    )
    shown = list(found[:limit])
    is_cut = len(found) > limit
    return Listed(shown, f"{shown[-1].step} {shown[-1].name}" if is_cut else None)


def _place(cursor: str) -> tuple[int, str]:
    """Return the step and the name that an opened cursor holds."""
    step, _, name = cursor.partition(" ")
    return int(step), name


def _table(call: Call) -> MetricTable:
    query: MetricFilter = call.query
    after = -1 if query.after_step is None else query.after_step
    return call.use.measurements.table(
        _id(call),
        columns=query.name,
        rows=query.rows,
        after_step=after,
        training=query.training,
    )


def _as_csv(call: Call) -> Reply:
    shown = _table(call)
    name = call.use.experiments.get(_id(call)).name
    headers = attachment(name, "_metrics.csv")
    if shown.next_after_step is not None:
        rest = [
            ("format", "csv"),
            ("rows", call.query.rows),
            ("after_step", shown.next_after_step),
            *(("name", each) for each in call.query.name),
        ]
        if call.query.training is not None:
            rest.append(("training", call.query.training))
        where = call.base_url + PATH.format(experiment_id=_id(call))
        headers["Link"] = f'<{where}?{urlencode(rest)}>; rel="next"'
    body = metric_tables.written(shown).encode()
    return Reply(body, media_type=CSV, headers=headers)


def _followed(call: Call) -> Reply:
    if call.query.as_of is not None:
        raise Rejected("The past does not grow: leave as_of out.", field="as_of")
    # Refused before the stream begins.
    call.use.measurements.latest(_id(call), names=[], training=call.query.training)
    return Reply(None, goes_on=partial(_stream, call))


async def _stream(call: Call, request: Request, again: Again) -> Response:
    feed: Feed = request.app.state.feed
    seen = request.headers.get("last-event-id")
    after = last_seen(seen, call.query.after)
    field = "Last-Event-ID" if seen else "after"
    await feed.threads.run(partial(_check_is_there, call, after, field))
    query: MetricFilter = call.query
    measuring = Measuring(
        call.use.session, _id(call), query.name, after, query.training, again
    )
    return MetricStream(measuring, feed, feed.join())


def _check_is_there(call: Call, seen: int, field: str) -> None:
    """Refuse to wait behind the last point: who does misses what comes first."""
    if seen > 0 and not call.use.measurements.has_recorded(_id(call), seen):
        raise Rejected(
            f"No point of the experiment has the number {seen}: it may have been "
            "restored from a back-up. Follow it anew, from 0.",
            field=field,
        )


def add_metrics(call: Call) -> Reply:
    call.use.experiments.add_metrics(_id(call), call.body.points)
    return Reply(PointsRecorded(len(call.body.points)), HTTPStatus.CREATED)


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        metrics,
        Role.VIEWER,
        "Show what was measured, as points, a table or CSV, or follow it",
        ListOf(MetricPoint),
        query=MetricFilter,
        also_shows=MetricTable,
        media_types=(JSON, CSV, MEDIA_TYPE),
    ),
    Endpoint(
        "POST",
        PATH,
        add_metrics,
        Role.MEMBER,
        "Append metric points",
        PointsRecorded,
        body=Points,
        most_bytes=LARGEST_METRICS,
        status=HTTPStatus.CREATED,
        repeatable=True,
    ),
)
