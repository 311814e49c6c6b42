"""/metrics, for Prometheus and whatever reads its formats."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import frozen

from arena_core.application.monitoring import Scrape
from arena_core.domain.values import Role
from arena_core.entrypoints.http.agent_metrics import OF_AGENTS
from arena_core.entrypoints.http.endpoints import Call, Endpoint, Reply
from arena_core.entrypoints.http.exposition import Family
from arena_core.entrypoints.http.server_metrics import OF_SERVER

if TYPE_CHECKING:
    from prometheus_client.core import Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
FAMILIES = (*OF_AGENTS, *OF_SERVER)


def visible(scrape: Scrape) -> tuple[Family, ...]:
    """Return what this caller may see."""
    return OF_AGENTS if scrape.server is None else FAMILIES


@frozen
class _Scraped:
    """What the Prometheus client takes for a registry of collectors."""

    scrape: Scrape

    def collect(self) -> "Iterable[Metric]":
        return (family.metric(self.scrape) for family in visible(self.scrape))


def show(call: Call) -> Reply:
    scraped = _Scraped(call.use.monitoring.scrape())
    if "application/openmetrics-text" in call.accept:
        return Reply(_open_metrics(scraped), media_type=OPEN_METRICS)
    return Reply(_text(scraped), media_type=TEXT)


# The client is loaded when it is first needed: a server that nobody scrapes needs none.


def _text(scraped: _Scraped) -> bytes:
    from prometheus_client import generate_latest  # noqa: PLC0415

    return generate_latest(scraped)


def _open_metrics(scraped: _Scraped) -> bytes:
    from prometheus_client.openmetrics import exposition  # noqa: PLC0415

    text: bytes = exposition.generate_latest(scraped)  # type: ignore[no-untyped-call]
    return text


ENDPOINTS = (
    Endpoint(
        "GET",
        "/metrics",
        show,
        Role.VIEWER,
        "Show the figures of all workers, for Prometheus",
        str,
        media_types=(TEXT, OPEN_METRICS),
    ),
)
