"""Who was found good is known, but no longer than it is so."""

import pytest
from attrs import define

from arena_core.application.identity import authenticate
from arena_core.domain.ids import DEFAULT_ORGANISATION, OrganisationId
from arena_core.entrypoints.http.known_callers import LONGEST_S, MOST, KnownCallers

import bundles
from end_to_end.http_world import opened, wire

OURS = DEFAULT_ORGANISATION
ROW = {"obs": wire([[0.0] * 4])}


@define
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def world():
    with opened(serve=False) as world:
        yield world


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def known(world, clock):
    return KnownCallers(world.arena.application.core.views, clock)


def found(world, known, token: str) -> bytes:
    """Look the bearer of a token up, as the data plane does; return the header."""
    core, header = world.arena.application.core, f"Bearer {token}".encode()
    core.views.catch_up()
    position = known.position
    known.add(header, authenticate(core, token), position)
    return header


def test_who_was_found_is_known_in_their_organisation_and_in_no_other(world, known):
    header = found(world, known, world.token("member"))
    caller = known.get(header, OURS)
    assert caller.organisation == OURS
    assert known.get(header, OrganisationId("elsewhere")) is None
    assert known.get(header + b" ", OURS) is None
    assert known.get(b"", OURS) is None


def test_whatever_happens_makes_it_forgotten(world, known):
    header = found(world, known, world.token("member"))
    world.arena.projects.create("anything")
    assert known.get(header, OURS) is None


def test_what_was_looked_up_before_something_happened_is_not_known(world, known):
    token = world.token("member")
    core = world.arena.application.core
    core.views.catch_up()
    position, caller = known.position, authenticate(core, token)
    world.arena.projects.create("anything")
    known.add(b"Bearer x", caller, position)
    assert known.get(b"Bearer x", OURS) is None


def test_nobody_is_known_for_long(world, known, clock):
    header = found(world, known, world.token("member"))
    clock.now_s = LONGEST_S
    assert known.get(header, OURS) is not None
    clock.now_s = LONGEST_S + 0.001
    assert known.get(header, OURS) is None


def test_nobody_is_known_while_the_read_model_stands_still(world, known):
    header = found(world, known, world.token("member"))
    views = world.arena.application.core.views
    views.halted = object()
    assert known.get(header, OURS) is None


def test_keys_of_organisations_are_looked_up_each_time(world, known):
    """What they may do depends on whom they speak for, which another header says."""
    header = found(world, known, world.issued("member", kind="org").token)
    assert known.get(header, OURS) is None


def test_so_many_are_known_and_no_more(world, known):
    header = found(world, known, world.token("member"))
    core = world.arena.application.core
    caller = known.get(header, OURS)
    for number in range(MOST):
        known.add(str(number).encode(), caller, core.views.position)
    assert known.get(header, OURS) is None
    assert known.get(b"%d" % (MOST - 1), OURS) is caller


@pytest.mark.parametrize("ends", ["rotate", "revoke", "demote", "remove"])
def test_a_token_that_is_known_is_dead_as_soon_as_it_ends(tmp_path, ends):
    with opened() as world:
        live = world.live(bundles.cartpole(tmp_path))
        issued = world.issued("member", user="grace")
        for _ in range(3):
            assert live.post("get_action", issued.token, json=ROW).status_code == 200
        if ends == "rotate":
            world.arena.tokens.rotate(issued.view.id)
        elif ends == "revoke":
            world.arena.tokens.revoke(issued.view.id)
        elif ends == "demote":
            world.arena.organisations.change_role("default", "grace", "viewer")
        else:
            world.issued("manager", user="ada")
            world.arena.organisations.remove("default", "grace")
        status = live.post("get_action", issued.token, json=ROW).status_code
        assert status == (403 if ends == "demote" else 401)
