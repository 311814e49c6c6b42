"""The metrics of the server as a whole, for the people who run it."""

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus

from arena_core.application.monitoring import Scrape, Server
from arena_core.application.readings import ProcessReading
from arena_core.application.telemetry import HTTP_SECONDS
from arena_core.domain.release import VERSION
from arena_core.entrypoints.http.exposition import Family, Kind, Sample


def _of_server(
    samples: Callable[[Server], Iterable[Sample]],
) -> Callable[[Scrape], Iterable[Sample]]:
    return lambda scrape: () if scrape.server is None else samples(scrape.server)


def _one(value: Callable[[Server], float]) -> Callable[[Scrape], Iterable[Sample]]:
    return _of_server(lambda server: [((), value(server))])


def _handled(server: Server) -> Iterator[Sample]:
    for each, reading in server.http:
        status = str(each.status)
        error = status if each.status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
        yield (each.method, each.route, status, error), reading


def _process(
    value: Callable[[ProcessReading], float | None],
) -> Callable[[Scrape], Iterable[Sample]]:
    def samples(server: Server) -> Iterator[Sample]:
        found = None if server.process is None else value(server.process)
        if found is not None:
            yield (), found

    return _of_server(samples)


OF_SERVER = (
    Family(
        "arena_build_info",
        Kind.INFO,
        ("version",),
        "1, with the release that runs",
        _of_server(lambda _: [((VERSION,), 1)]),
    ),
    Family(
        "arena_workers",
        Kind.GAUGE,
        (),
        "Processes that serve the store",
        _one(lambda server: server.workers),
    ),
    Family(
        "http_server_request_duration_seconds",
        Kind.HISTOGRAM,
        (
            "http_request_method",
            "http_route",
            "http_response_status_code",
            "error_type",
        ),
        "Time that requests to the control plane took; the route is its template, "
        "empty where none fits, and error_type is empty unless the server failed",
        _of_server(_handled),
        HTTP_SECONDS,
    ),
    Family(
        "arena_auth_failures_total",
        Kind.COUNTER,
        ("reason",),
        "Requests refused with 401, by what was wrong with the credential",
        _of_server(lambda s: [((f.value,), times) for f, times in s.refused.items()]),
    ),
    Family(
        "arena_log_position",
        Kind.GAUGE,
        (),
        "Position of the last event of the log",
        _one(lambda server: server.log_position),
    ),
    Family(
        "arena_projection_lag_events",
        Kind.GAUGE,
        (),
        "Positions of the log that the read model is behind; it stays above 0 if the "
        "read model has stopped",
        _one(lambda server: server.projection_lag),
    ),
    Family(
        "arena_events_appended_total",
        Kind.COUNTER,
        ("type",),
        "Events by their stored name, since the log began",
        _of_server(lambda server: [((n,), t) for n, t in server.events.items()]),
    ),
    Family(
        "arena_set_aside",
        Kind.GAUGE,
        ("kind",),
        "Stages and trainings that workers cannot go on with just now; what several of "
        "them have set aside counts for each",
        _of_server(lambda s: [((w.value,), n) for w, n in s.set_aside.items()]),
    ),
    Family(
        "process_cpu_seconds_total",
        Kind.COUNTER,
        (),
        "Processor time that all workers have used, those that ended too",
        _process(lambda process: process.cpu_ms / 1000),
    ),
    Family(
        "process_resident_memory_bytes",
        Kind.GAUGE,
        (),
        "Memory that all workers hold; what they share counts for each",
        _process(lambda process: process.resident_bytes),
    ),
    Family(
        "process_virtual_memory_bytes",
        Kind.GAUGE,
        (),
        "Address space of all workers",
        _process(lambda process: process.virtual_bytes),
    ),
    Family(
        "process_open_fds",
        Kind.GAUGE,
        (),
        "Files and sockets that all workers have open",
        _process(lambda process: process.open_fds),
    ),
    Family(
        "process_max_fds",
        Kind.GAUGE,
        (),
        "How many all workers may have open",
        _process(lambda process: process.max_fds),
    ),
    Family(
        "process_start_time_seconds",
        Kind.GAUGE,
        (),
        "When the oldest of the workers began, in seconds since 1970",
        _process(lambda process: process.started_at_s),
    ),
)
