"""The metrics of agents, each seen by its own organisation only."""

from collections.abc import Callable, Iterator

from arena_core.application.monitoring import Scrape
from arena_core.application.readings import AgentReading, HistogramReading
from arena_core.application.telemetry import (
    INFERENCE_SECONDS,
    MOST_ACTIONS,
    ROWS,
    Outcome,
)
from arena_core.domain.deployment import Status
from arena_core.entrypoints.http.exposition import Family, Kind, Sample

OTHER_ACTIONS = "other"
RARE = (
    "deployment.connect_failed",
    "deployment.connection_lost",
    "deployment.checkpoint_swapped",
    "deployment.swap_failed",
    "deployment.swap_passed",
    "deployment.swap_reverted",
)
"""Events that are told of from 0 on: of a series that begins at 1, Prometheus sees no
increase, and so would not see the first."""
SERIES = ("agent", "version", "method")


def _info(scrape: Scrape) -> Iterator[Sample]:
    for each in scrape.agents:
        deployment = "" if each.deployment_id is None else str(each.deployment_id)
        yield (str(each.id), each.name, deployment, each.digest, each.version), 1


def _states(scrape: Scrape) -> Iterator[Sample]:
    for each in scrape.agents:
        for status in Status if each.status is not None else ():
            yield (str(each.id), status.value), status is each.status


def _transitions(scrape: Scrape) -> Iterator[Sample]:
    for each, times in scrape.transitions.items():
        yield (str(each.agent_id), each.before.value, each.after.value), times


def _agent_events(scrape: Scrape) -> Iterator[Sample]:
    told = {
        (str(agent.id), name): 0
        for agent in scrape.agents
        for name in (RARE if agent.deployment_id is not None else ())
    }
    told |= {(str(of.agent_id), of.event): n for of, n in scrape.events.items()}
    yield from told.items()


def _of_series(
    value: Callable[[AgentReading], float | HistogramReading],
) -> Callable[[Scrape], Iterator[Sample]]:
    """Return what gives one sample for each agent, version and method."""

    def samples(scrape: Scrape) -> Iterator[Sample]:
        for series, reading in scrape.inference:
            labels = str(series.agent_id), series.version, series.method
            yield labels, value(reading)

    return samples


def _requests(scrape: Scrape) -> Iterator[Sample]:
    for series, reading in scrape.inference:
        for outcome, times in zip(Outcome, reading.outcomes, strict=True):
            labels = str(series.agent_id), series.version, series.method
            yield (*labels, outcome.name.lower()), times


def _actions(scrape: Scrape) -> Iterator[Sample]:
    names = [*map(str, range(MOST_ACTIONS)), OTHER_ACTIONS]
    for series, reading in scrape.inference:
        for part, counts in reading.actions.items():
            for name, times in zip(names, counts, strict=True):
                if times:
                    labels = str(series.agent_id), series.version, str(part), name
                    yield labels, times


def _queued(scrape: Scrape) -> Iterator[Sample]:
    waiting: dict[str, int] = {}
    for series, reading in scrape.inference:
        agent = str(series.agent_id)
        waiting[agent] = waiting.get(agent, 0) + reading.queued
    for agent, queued in waiting.items():
        yield (agent,), queued


OF_AGENTS = (
    Family(
        "arena_agent_info",
        Kind.INFO,
        ("agent", "name", "deployment", "checkpoint", "version"),
        "1 for each agent: its name, its deployment if it has one, and the digest of "
        "the checkpoint that is live or goes live next, whole and as the label "
        "version has it",
        _info,
    ),
    Family(
        "arena_deployment_state",
        Kind.GAUGE,
        ("agent", "state"),
        "1 for the status that the agent's deployment has, 0 for each other",
        _states,
    ),
    Family(
        "arena_deployment_transitions_total",
        Kind.COUNTER,
        ("agent", "from", "to"),
        "Changes of the status of the agent's deployment, since the log began",
        _transitions,
    ),
    Family(
        "arena_deployment_events_total",
        Kind.COUNTER,
        ("agent", "type"),
        "Events of the agent's deployment, such as swaps and what became of them, "
        "since the log began",
        _agent_events,
    ),
    Family(
        "arena_inference_requests_total",
        Kind.COUNTER,
        (*SERIES, "outcome"),
        "Requests to the agent by how they ended",
        _requests,
    ),
    Family(
        "arena_inference_duration_seconds",
        Kind.HISTOGRAM,
        SERIES,
        "Time from the arrival of a request to its answer, of those that succeeded",
        _of_series(lambda reading: reading.durations),
        INFERENCE_SECONDS,
    ),
    Family(
        "arena_batch_size",
        Kind.HISTOGRAM,
        SERIES,
        "Rows that went through the weights together",
        _of_series(lambda reading: reading.rows),
        ROWS,
    ),
    Family(
        "arena_batch_duration_seconds",
        Kind.HISTOGRAM,
        SERIES,
        "Time that one run of the weights took",
        _of_series(lambda reading: reading.runs),
        INFERENCE_SECONDS,
    ),
    Family(
        "arena_batch_requests_total",
        Kind.COUNTER,
        SERIES,
        "Requests whose rows went through the weights: over the number of batches, "
        "how many share one",
        _of_series(lambda reading: reading.requests_run),
    ),
    Family(
        "arena_queue_depth",
        Kind.GAUGE,
        ("agent",),
        "Requests that wait for the weights",
        _queued,
    ),
    Family(
        "arena_action_mask_violations_total",
        Kind.COUNTER,
        SERIES,
        "Rows in which the weights preferred an action that the mask forbids, and "
        "another was answered",
        _of_series(lambda reading: reading.violations),
    ),
    Family(
        "arena_actions_total",
        Kind.COUNTER,
        ("agent", "version", "part", "action"),
        "Actions answered, if they are whole numbers: 0 to "
        f"{MOST_ACTIONS - 1} each by itself, any other as {OTHER_ACTIONS}; part "
        "counts the parts of a MultiDiscrete or MultiBinary action, else it is 0",
        _actions,
    ),
)
