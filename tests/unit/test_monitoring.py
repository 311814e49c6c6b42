"""Who sees which figures."""

import pytest

from arena_core.application.telemetry import Outcome
from arena_core.domain.deployment import Status
from arena_core.domain.errors import Flaw
from unit.scenes import STRANGER, key_of


@pytest.fixture
def telemetry(scene):
    return scene.arena.application.telemetry


def of_stranger(scene):
    return scene.arena.on_behalf_of(STRANGER).monitoring.scrape()


def test_a_live_agent_is_shown_with_what_it_has_done(scene, telemetry):
    agent = scene.live(scene.agent("balancer"))
    live = scene.registry.live(key_of(agent))
    telemetry.of(live, "get_action").answered(Outcome.OK, 0.5)
    scrape = scene.use.monitoring.scrape()
    (shown,) = scrape.agents
    assert (shown.id, shown.name) == (agent.id, "balancer")
    assert (shown.deployment_id, shown.status) == (
        agent.deployment.id,
        Status.DEPLOYED,
    )
    assert shown.digest == agent.checkpoint.digest
    assert shown.version == agent.checkpoint.digest[:12]
    ((series, reading),) = scrape.inference
    assert (series.agent_id, series.version) == (agent.id, shown.version)
    assert sum(reading.outcomes) == 1
    assert sum(scrape.events.values()) == 5
    assert sum(scrape.transitions.values()) == 2


def test_an_agent_without_a_deployment_has_no_status(scene):
    agent = scene.saved_model()
    (shown,) = scene.use.monitoring.scrape().agents
    assert (shown.deployment_id, shown.status) == (None, None)
    assert shown.digest == agent.checkpoint.digest


def test_of_another_organisation_nothing_is_shown(scene, telemetry):
    agent = scene.live(scene.agent())
    live = scene.registry.live(key_of(agent))
    telemetry.of(live, "get_action").answered(Outcome.OK, 0.5)
    telemetry.refused(Flaw.MISSING)
    scrape = of_stranger(scene)
    assert (list(scrape.agents), list(scrape.inference)) == ([], [])
    assert (scrape.events, scrape.transitions, scrape.server) == ({}, {}, None)


def test_a_deleted_agent_is_shown_no_more(scene, telemetry):
    agent = scene.live(scene.agent())
    live = scene.registry.live(key_of(agent))
    telemetry.of(live, "get_action").answered(Outcome.OK, 0.5)
    scene.use.agents.delete(agent.id)
    scrape = scene.use.monitoring.scrape()
    assert (list(scrape.agents), list(scrape.inference)) == ([], [])
    assert (scrape.events, scrape.transitions) == ({}, {})


def test_the_server_as_a_whole_is_shown_to_those_who_run_it(scene, telemetry):
    scene.advanced()
    telemetry.refused(Flaw.REVOKED)
    telemetry.handled("GET", "/livez", 200, 0.1)
    server = scene.use.monitoring.scrape().server
    assert server.workers == 1
    assert server.refused[Flaw.REVOKED] == 1
    assert [series.route for series, _ in server.http] == ["/livez"]
    assert (server.log_position, server.projection_lag) == (1, 0)
    assert server.events == {"project.created": 1}


def test_until_the_log_is_read_its_counts_are_left_out(scene, monkeypatch):
    agent = scene.live(scene.agent())
    monkeypatch.setattr(scene.arena.application.tally, "look", lambda: None)
    scrape = scene.use.monitoring.scrape()
    assert (scrape.events, scrape.transitions, scrape.server.events) == ({}, {}, {})
    assert [each.id for each in scrape.agents] == [agent.id]


def test_a_read_model_that_has_stopped_is_seen_by_its_lag(scene, monkeypatch):
    scene.advanced()
    views = scene.arena.application.core.views
    behind = views.catch_up()
    monkeypatch.setattr(views, "catch_up", lambda: behind)
    monkeypatch.setattr(scene.arena.application.core.store, "head", lambda: behind + 3)
    assert scene.use.monitoring.scrape().server.projection_lag == 3
