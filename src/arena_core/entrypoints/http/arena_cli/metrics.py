"""/api/cli/v1/experiments/metrics: their names as JSON, or the points as CSV."""

from typing import Annotated

import msgspec
from attrs import frozen

from arena_core.application import metric_tables
from arena_core.domain.values import Role
from arena_core.entrypoints.http.attachments import attachment
from arena_core.entrypoints.http.endpoints import JSON, Call, Endpoint, Past, Reply
from arena_core.entrypoints.http.fields import Name

PATH = "/api/cli/v1/experiments/metrics"
CSV = "text/csv"


class MetricsQuery(Past, kw_only=True):
    """With `preview_rows` the answer is CSV: `metric` says which columns, if not all.

    `project` is the name of one; of several experiments the one that changed last.
    """

    experiment_name: Name
    project: Name | None = None
    details: bool = False
    preview_rows: Annotated[int, msgspec.Meta(ge=0)] | None = None
    metric: list[str] = msgspec.field(default_factory=list)


@frozen(slots=False)
class MetricDetails:
    experiment_id: str
    metrics: list[str]


def show(call: Call) -> Reply:
    query: MetricsQuery = call.query
    found = call.use.experiments.look_up(query.experiment_name, project=query.project)
    measured = call.use.measurements
    if query.preview_rows is not None:
        table = measured.table(found.id, columns=query.metric, rows=query.preview_rows)
        named = attachment(found.name, "_metrics.csv")
        body = metric_tables.written(table).encode()
        return Reply(body, media_type=CSV, headers=named)
    names = [point.name for point in measured.latest(found.id)]
    return Reply(MetricDetails(str(found.id), names) if query.details else names)


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        show,
        Role.VIEWER,
        "List what an experiment has measured, or show it as a table",
        list[str] | MetricDetails,
        query=MetricsQuery,
        media_types=(JSON, CSV),
    ),
)
