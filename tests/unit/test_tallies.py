"""How often what has happened, counted from the log."""

from collections import Counter

import pytest

from arena_core.application import tallies
from arena_core.application.tallies import LogTally, OfAgent, Transition
from arena_core.domain.deployment import Status
from arena_core.domain.errors import UnknownEvent
from unit.scenes import ANN


@pytest.fixture
def tally(scene):
    return LogTally(scene.arena.application.core.store)


def test_an_empty_log_has_no_events(tally):
    found = tally.look()
    assert (found.position, found.events) == (0, {})
    assert (found.of_agents, found.transitions) == ({}, {})


def test_every_event_is_counted_by_its_stored_name(scene, tally):
    agent = scene.live(scene.agent())
    scene.use.agents.rotate_key(agent.id)
    scene.use.agents.rotate_key(agent.id)
    found = tally.look()
    assert found.events == Counter(scene.log())
    assert found.events["deployment.key_rotated"] == 2
    of_agent = OfAgent(ANN.organisation, agent.id, "deployment.key_rotated")
    assert found.of_agents[of_agent] == 2
    assert sum(found.of_agents.values()) == sum(
        name.startswith("deployment.") for name in scene.log()
    )


def test_looking_again_goes_on_where_it_was_left(scene, tally):
    scene.advanced()
    first = tally.look()
    assert tally.look() == first
    scene.advanced()
    assert first.events == {"project.created": 1}, "what was told does not change"
    assert tally.look().events == {"project.created": 2}
    assert tally.look().position == scene.arena.application.core.store.head()


def test_every_change_of_status_is_a_transition_of_its_agent(scene, tally):
    agent = scene.live(scene.agent())
    tally.look()
    scene.use.agents.disconnect(agent.id)
    scene.live(agent)
    other = scene.agent("other")
    found = tally.look().transitions
    assert found == {
        Transition(ANN.organisation, agent.id, before, after): times
        for before, after, times in (
            (Status.UNDEPLOYED, Status.PENDING, 2),
            (Status.PENDING, Status.DEPLOYED, 2),
            (Status.DEPLOYED, Status.UNDEPLOYED, 1),
        )
    }
    assert other.id not in {each.agent_id for each in found}


def test_a_long_log_is_read_in_several_looks_and_told_when_all_is_known(
    scene, tally, monkeypatch
):
    monkeypatch.setattr(tallies, "PAGE", 2)
    monkeypatch.setattr(tallies, "MOST_PAGES", 2)
    for _ in range(9):
        scene.advanced()
    looks = [tally.look() for _ in range(3)]
    assert looks[:2] == [None, None]
    assert looks[2].events == {"project.created": 9}
    for _ in range(5):
        scene.advanced()
    assert tally.look().events == {"project.created": 13}, "known, if a little late"
    assert tally.look().events == {"project.created": 14}


class Poisoned:
    """A log whose second event is of a release to come."""

    def __init__(self, store):
        self._store = store

    def read_all(self, *, after, limit):
        if after:
            raise UnknownEvent("This release does not know it.")
        return self._store.read_all(after=after, limit=min(limit, 1))


def test_what_cannot_be_understood_ends_the_counting_before_it(scene):
    scene.advanced()
    scene.advanced()
    tally = LogTally(Poisoned(scene.arena.application.core.store))
    for _ in range(2):
        assert tally.look().events == {"project.created": 1}


def test_the_counts_are_of_the_streams_own_organisation(scene, tally):
    scene.live(scene.agent())
    assert {each.organisation for each in tally.look().of_agents} == {"default"}
