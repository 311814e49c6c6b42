"""/metrics of real servers: under load, and over the lives of several processes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bundles import observations
from end_to_end.processes import (
    Client,
    Endpoint,
    Place,
    Process,
    connect,
    endpoint,
    eventually,
    serving,
)
from end_to_end.stores import fill

pytestmark = pytest.mark.slow

OBSERVED = observations(2, 4)
REQUESTS = "arena_inference_requests_total"


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def scraped(client: Client) -> dict[tuple[str, frozenset], float]:
    """Return the value of every sample."""
    text = client.ask("GET", "/metrics").raw.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def counters(client: Client) -> dict[tuple[str, frozenset], float]:
    """Return all that must never go back."""
    growing = ("_total", "_count", "_bucket", "_sum")
    return {k: v for k, v in scraped(client).items() if k[0].endswith(growing)}


def total(samples: dict[tuple[str, frozenset], float], name: str, **labels: str):
    return sum(
        value
        for (sampled, found), value in samples.items()
        if sampled == name and labels.items() <= dict(found).items()
    )


def check_nothing_went_back(before, after) -> None:
    gone = {key for key in before if after.get(key, -1) < before[key]}
    assert not gone


@contextmanager
def asking(server: Process, where: Endpoint) -> Iterator[list[int]]:
    """Ask again and again in a thread meanwhile; gives the statuses so far."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        client = server.client()
        while not stop.is_set():
            statuses.append(where.ask(client, OBSERVED).status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


def test_scrapes_under_load_never_go_back_and_end_exact(place):
    agent = str(fill(place.store).agent)
    with serving(place) as server:
        client = server.client()
        connect(client, agent)
        where = endpoint(client, agent)
        before = counters(client)
        with asking(server, where) as statuses:
            for _ in range(30):
                after = counters(client)
                check_nothing_went_back(before, after)
                before = after
            eventually(lambda: len(statuses) >= 100, what="a hundred were answered")
        assert set(statuses) == {200}
        last = scraped(client)
        assert total(last, REQUESTS, outcome="ok") == len(statuses)
        assert total(last, REQUESTS) == len(statuses)
        assert total(last, "arena_actions_total") == 2 * len(statuses)
        assert total(last, "arena_batch_size_sum") == 2 * len(statuses)
        assert total(last, "arena_batch_requests_total") == len(statuses)
        assert total(last, "arena_inference_duration_seconds_count") == len(statuses)


def test_each_process_answers_for_all_and_a_killed_one_takes_nothing_with_it(place):
    agent = str(fill(place.store).agent)
    with serving(place) as first:
        ada = first.client()
        connect(ada, agent)
        where = endpoint(ada, agent)
        with serving(place) as other:
            bob = other.client()
            bob.token = ada.token
            for client, times in ((ada, 3), (bob, 4)):
                for _ in range(times):
                    where.ask(client, OBSERVED).expect(200)
            eventually(
                lambda: total(scraped(ada), REQUESTS, outcome="ok") == 7,
                what="the first has heard of what the other has answered",
            )
            seen = counters(ada)
            assert total(scraped(bob), REQUESTS, outcome="ok") == 7
            assert total(scraped(bob), "arena_workers") == 2
            check_nothing_went_back(seen, counters(bob))
            seen = counters(bob)
            first.kill()
            after = counters(bob)
            check_nothing_went_back(seen, after)
            assert total(after, REQUESTS, outcome="ok") == 7
            assert total(scraped(bob), "arena_workers") == 1
            with serving(place) as third:
                eve = third.client()
                eve.token = ada.token
                check_nothing_went_back(after, counters(eve))
                assert total(scraped(eve), REQUESTS, outcome="ok") == 7


def test_a_server_that_starts_alone_begins_anew_but_the_log_goes_on(place):
    agent = str(fill(place.store).agent)
    with serving(place) as server:
        client = server.client()
        connect(client, agent)
        where = endpoint(client, agent)
        where.ask(client, OBSERVED).expect(200)
        before = scraped(client)
        assert total(before, REQUESTS) == 1
    with serving(place) as server:
        client = server.client()
        after = scraped(client)
        assert total(after, REQUESTS) == 0
        name = "arena_events_appended_total"
        assert total(after, name) > total(before, name) > 0
        events = "arena_deployment_events_total"
        connected = {"agent": agent, "type": "deployment.connected"}
        assert total(before, events, **connected) == 1
