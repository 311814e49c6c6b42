"""/metrics: in both formats, to whom it may concern, and never more than that."""

import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from arena_core.application.setting_aside import SetAside
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.http.exposition import Kind
from arena_core.entrypoints.http.metrics import FAMILIES, OPEN_METRICS, TEXT
from arena_core.entrypoints.http.server_metrics import OF_SERVER

import bundles
from end_to_end.http_world import bearing, opened, wire

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
)
NAMES = {family.name for family in FAMILIES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bundles.cartpole(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def world():
    with opened() as world:
        yield world


@pytest.fixture(scope="module")
def live(world, folder):
    """Return an agent that has answered, and refused."""
    live = world.live(folder)
    observed = {"obs": wire(bundles.observations(3, 4))}
    assert live.post("get_action", json=observed).status_code == 200
    assert live.post("get_action", json={}).status_code == 400
    return live


def scraped(client: TestClient, accept: str = "text/plain") -> Mapping[str, Metric]:
    """Return what a scrape tells, by the name of the family as the page has it."""
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    if answer.headers["content-type"] == OPEN_METRICS:
        found = list(open_metrics.text_string_to_metric_families(answer.text))
    else:
        assert answer.headers["content-type"] == TEXT
        found = list(text_string_to_metric_families(answer.text))
    return {named(metric): metric for metric in found}


def named(metric: Metric) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
    return metric.name + suffix


def values(
    metrics: Mapping[str, Metric], sampled: str, /, **labels: str
) -> list[float]:
    """Return the values of the samples called `sampled` that have these labels."""
    return [
        sample.value
        for metric in metrics.values()
        for sample in metric.samples
        if sample.name == sampled and labels.items() <= sample.labels.items()
    ]


def value(metrics: Mapping[str, Metric], sampled: str, /, **labels: str) -> float:
    (found,) = values(metrics, sampled, **labels)
    return found


# --- the formats -------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=0.0.4", PROMETHEUS])
@pytest.mark.usefixtures("live")
def test_every_metric_is_there_with_its_kind_and_its_labels(world, accept):
    metrics = scraped(world.member("viewer"), accept)
    assert metrics.keys() == NAMES
    is_open = accept == PROMETHEUS
    for family in FAMILIES:
        kind = family.kind
        expected = "gauge" if kind is Kind.INFO and not is_open else kind.value
        assert metrics[family.name].type == expected, family.name
        assert metrics[family.name].documentation == family.meaning
        for sample in metrics[family.name].samples:
            assert sample.labels.keys() - {"le"} == set(family.labels), family.name


@pytest.mark.usefixtures("live")
def test_both_formats_tell_the_same(world):
    client = world.member("viewer")
    plain, opened_ = scraped(client), scraped(client, PROMETHEUS)
    for name in ("arena_inference_requests_total", "arena_deployment_state"):
        assert plain[name].samples == opened_[name].samples


@pytest.mark.usefixtures("live")
def test_histograms_are_whole(world):
    metrics = scraped(world.member("viewer"))
    for family in FAMILIES:
        if family.kind is not Kind.HISTOGRAM:
            continue
        by_series: dict[frozenset, list] = {}
        for sample in metrics[family.name].samples:
            labels = {k: v for k, v in sample.labels.items() if k != "le"}
            by_series.setdefault(frozenset(labels.items()), []).append(sample)
        assert by_series, family.name
        for samples in by_series.values():
            buckets = [s for s in samples if s.name.endswith("_bucket")]
            bounds = [float(s.labels["le"]) for s in buckets]
            assert bounds == [*family.bounds, float("inf")]
            counts = [s.value for s in buckets]
            assert counts == sorted(counts)
            (count,) = (s.value for s in samples if s.name.endswith("_count"))
            assert counts[-1] == count > 0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not there")
@pytest.mark.usefixtures("live")
def test_promtool_finds_nothing_to_mend(world):
    text = world.member("viewer").get("/metrics").content
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, b"", b"")


# --- the figures -------------------------------------------------------------------


def test_what_an_agent_has_answered_is_counted(world, live):
    metrics = scraped(world.member("viewer"))
    agent = world.arena.agents.get(live.agent_id)
    series = {
        "agent": str(agent.id),
        "version": agent.checkpoint.digest[:12],
        "method": "get_action",
    }
    requests = "arena_inference_requests_total"
    assert value(metrics, requests, **series, outcome="ok") == 1
    assert value(metrics, requests, **series, outcome="rejected") == 1
    assert value(metrics, "arena_inference_duration_seconds_count", **series) == 1
    assert value(metrics, "arena_batch_size_sum", **series) == 3
    assert value(metrics, "arena_batch_requests_total", **series) == 1
    assert sum(values(metrics, "arena_actions_total", agent=str(agent.id))) == 3
    assert value(metrics, "arena_queue_depth", agent=str(agent.id)) == 0


def test_an_agent_is_described_and_its_status_is_one_of_all(world, live):
    metrics = scraped(world.member("viewer"))
    agent = world.arena.agents.get(live.agent_id)
    info = {
        "agent": str(agent.id),
        "name": agent.name,
        "deployment": str(live.deployment_id),
        "checkpoint": agent.checkpoint.digest,
        "version": agent.checkpoint.digest[:12],
    }
    assert values(metrics, "arena_agent_info", **info) == [1]
    states = {
        sample.labels["state"]: sample.value
        for sample in metrics["arena_deployment_state"].samples
        if sample.labels["agent"] == str(agent.id)
    }
    assert states == {"Undeployed": 0, "Pending": 0, "Deployed": 1, "Failed": 0}
    transition = {"agent": str(agent.id), "from": "Pending", "to": "Deployed"}
    assert value(metrics, "arena_deployment_transitions_total", **transition) == 1
    event = {"agent": str(agent.id), "type": "deployment.connected"}
    assert value(metrics, "arena_deployment_events_total", **event) == 1


def test_the_log_is_counted_by_the_types_of_its_events(folder):
    with opened() as world:
        world.live(folder)
        token = world.token("viewer")
        metrics = scraped(world.client(token))
        assert value(metrics, "arena_log_position") == world.head()
        assert value(metrics, "arena_projection_lag_events") == 0
        of_type = {
            sample.labels["type"]: sample.value
            for sample in metrics["arena_events_appended_total"].samples
        }
        log = world.arena.application.core.store.read_all()
        assert sum(of_type.values()) == len(log)
        assert of_type["agent.checkpoint_frozen"] == 1


def test_what_is_set_aside_is_told_by_its_kind():
    with opened(serve=False) as world:
        client = world.member("viewer")
        metrics = scraped(client)
        assert value(metrics, "arena_set_aside", kind="stage") == 0
        assert value(metrics, "arena_set_aside", kind="training") == 0
        beside = world.arena.supervisor._beside
        ill = SetAside("It is ill.", 1, datetime.now(UTC))
        beside["runner"]._set_aside[uuid4()] = ill
        beside["trainer"]._set_aside |= {uuid4(): ill, uuid4(): ill}
        metrics = scraped(client)
        assert value(metrics, "arena_set_aside", kind="stage") == 1
        assert value(metrics, "arena_set_aside", kind="training") == 2


def test_requests_to_the_control_plane_are_told_by_template_never_by_path():
    with opened() as world:
        client = world.member("manager", raise_server_exceptions=False)
        unknown = "11111111-1111-4111-8111-111111111111"
        client.get("/api/v1/projects")
        client.get(f"/api/v1/projects/{unknown}")
        client.get("/api/v1/projects/no-id-at-all")
        client.get("/secret-path-of-somebody")
        client.request("BREW", "/api/v1/projects")
        client.delete("/livez")
        world.client().get("/api/v1/projects")
        answer = client.get("/metrics")
        for part in (unknown, "no-id-at-all", "secret-path", "BREW"):
            assert part not in answer.text
        name = "http_server_request_duration_seconds_count"
        found = {
            (
                sample.labels["http_request_method"],
                sample.labels["http_route"],
                sample.labels["http_response_status_code"],
                sample.labels["error_type"],
            ): sample.value
            for metric in text_string_to_metric_families(answer.text)
            for sample in metric.samples
            if sample.name == name
        }
        assert found == {
            ("GET", "/api/v1/projects", "200", ""): 1,
            ("GET", "/api/v1/projects/{project_id}", "404", ""): 2,
            ("GET", "", "404", ""): 1,
            ("_OTHER", "", "405", ""): 1,
            ("DELETE", "", "405", ""): 1,
            ("GET", "/api/v1/projects", "401", ""): 1,
        }


def test_a_defect_is_told_as_an_error_of_the_server(monkeypatch):
    with opened() as world:
        client = world.member("viewer", raise_server_exceptions=False)
        with monkeypatch.context() as patched:
            patched.setattr(
                "arena_core.application.projects.Projects.list", lambda *_, **__: 1 / 0
            )
            assert client.get("/api/v1/projects").status_code == 500
        name = "http_server_request_duration_seconds_count"
        failed = {"http_response_status_code": "500", "error_type": "500"}
        assert value(scraped(client), name, **failed) == 1


def test_bad_credentials_are_counted_by_what_is_wrong_with_them(folder):
    with opened() as world:
        live = world.live(folder)
        issued = world.issued("viewer")
        world.arena.tokens.rotate(issued.view.id)
        revoked = world.issued("viewer")
        world.arena.tokens.revoke(revoked.view.id)
        with opened() as foreign:
            unknown = foreign.token()
        tokens = [None, None, "no token", issued.token, revoked.token, unknown]
        for token in tokens:
            assert world.client(token).get("/metrics").status_code == 401
        assert live.post("get_action", token=None).status_code == 401
        metrics = scraped(world.member("viewer"))
        found = {
            sample.labels["reason"]: sample.value
            for sample in metrics["arena_auth_failures_total"].samples
        }
        assert found == {
            "missing": 3, "malformed": 1, "unknown": 1, "rotated": 1, "revoked": 1,
        }  # fmt: skip


# --- who sees what -----------------------------------------------------------------


def test_another_organisation_sees_its_own_agents_and_nothing_of_the_server(
    world, live
):
    client = world.client(world.token("viewer", organisation="rivals"))
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert scraped(client).keys() == NAMES - {family.name for family in OF_SERVER}
    assert not any(metric.samples for metric in scraped(client).values())
    agent = world.arena.agents.get(live.agent_id)
    for secret in (str(agent.id), agent.name, agent.checkpoint.digest[:12]):
        assert secret not in answer.text


def test_no_key_and_no_token_is_a_label(world, live):
    token = world.token("viewer")
    text = world.client(token).get("/metrics").text
    assert live.key not in text
    assert token not in text
    assert "arena_pat_" not in text
    assert "arena_dep_" not in text


def test_without_a_credential_nothing_is_shown(world):
    answer = world.client().get("/metrics")
    assert answer.status_code == 401
    assert "arena_" not in answer.text


def test_a_deployment_key_is_no_credential_for_it(world, live):
    assert world.client(live.key).get("/metrics").status_code == 401


HOSTILE = st.text(min_size=1, max_size=40) | st.sampled_from(
    ['"', "\\", '\\"', "a\\nb", '"} 1\narena_evil 1', "{}", "# HELP x y", "é", "日本"]
)


@given(HOSTILE)
def test_no_name_of_an_agent_breaks_the_exposition(world, live, name):
    try:
        world.arena.agents.edit(live.agent_id, name=name)
    except Rejected:
        return
    for accept in ("text/plain", PROMETHEUS):
        metrics = scraped(world.member("viewer"), accept)
        assert metrics.keys() == NAMES
        told = world.arena.agents.get(live.agent_id).name
        agent = str(live.agent_id)
        assert value(metrics, "arena_agent_info", agent=agent, name=told) == 1


def test_masks_that_were_needed_are_counted(world, tmp_path):
    live = world.live(bundles.cartpole(tmp_path / "masked"))
    observed = bundles.observations(8, 4)
    preferred = bundles.CARTPOLE(observed).argmax(axis=1)
    mask = np.ones((8, 2), np.int8)
    mask[np.arange(3), preferred[:3]] = 0
    body = {"obs": wire(observed), "action_mask": wire(mask)}
    assert live.post("get_action", json=body).status_code == 200
    metrics = scraped(world.member("viewer"))
    agent = str(live.agent_id)
    assert value(metrics, "arena_action_mask_violations_total", agent=agent) == 3


def test_bearing_a_token_twice_is_one_scrape(world):
    client = TestClient(world.app, headers=bearing(world.token("viewer")))
    first, second = scraped(client), scraped(client)
    name = "http_server_request_duration_seconds_count"
    route = {"http_route": "/metrics", "http_response_status_code": "200"}
    assert value(second, name, **route) == value(first, name, **route) + 1
