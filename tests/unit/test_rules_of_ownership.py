"""Rules 3 and 4: roles, and what becomes of what somebody owned who is gone."""

import pytest

from arena_core import best
from arena_core.application.callers import caller_of_user
from arena_core.application.identity import authenticate
from arena_core.application.session import Paging
from arena_core.domain.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Unauthenticated,
)
from arena_core.domain.values import Role
from unit.people import refused, token_of

# --- roles -----------------------------------------------------------------------


def test_rule_03_a_change_of_role_is_enforced_at_once(core, user):
    ada, bob = user("ada"), user("bob")
    token = bob.tokens.rotate(token_of(bob)).token
    for role in ("viewer", "member", "manager"):
        ada.organisations.change_role("default", "BOB", role)
        assert authenticate(core, token).role is Role(role)


def test_rule_03_the_last_manager_stays(scene, user):
    ada = user("ada")
    user("bob", "member")
    for attempt in (
        lambda: ada.organisations.remove("default", "ada"),
        lambda: ada.organisations.change_role("default", "ada", "member"),
        lambda: scene.arena.organisations.remove("default", "ada"),
    ):
        with pytest.raises(Conflict, match="last manager"):
            attempt()


def test_rule_03_a_member_leaves_and_removes_nobody_else(core, user):
    user("ada"), user("cy")
    bob = user("bob", "member")
    token = bob.tokens.rotate(token_of(bob)).token
    with pytest.raises(Forbidden, match="role manager"):
        bob.organisations.remove("default", "cy")
    bob.organisations.remove("default", "bob")
    refused(core, token)


# --- removal and ownership -------------------------------------------------------


def test_rule_04_what_a_removed_member_owns_passes_to_the_manager_who_removes_them(
    scene, core, user
):
    user("eve")
    ada, bob = user("ada"), user("bob", "member")
    project = bob.projects.create("carts")
    experiment = bob.experiments.create(project.id, name="e", algorithm="PPO")
    kept = ada.projects.create("ada's")
    assert (project.owner, experiment.owner) == ("user:bob", "user:bob")
    then = core.store.head()

    ada.organisations.remove("default", "bob", reason="has left the company")

    assert ada.projects.get(project.id).owner == "user:ada"
    assert [p.owner for p in ada.projects.list()] == ["user:ada", "user:ada"]
    assert ada.experiments.get(experiment.id).owner == "user:ada"
    assert ada.projects.get(kept.id).owner == "user:ada"
    assert scene.arena.at(then).projects.get(project.id).owner == "user:bob"
    removed = [e for e in ada.audit.log() if e.name == "organisation.member_removed"]
    assert removed[-1].reason == "has left the company"
    assert removed[-1].data.successor == "ada"


def test_rule_04_an_agent_passes_on_too(scene, user):
    user("eve")
    bob = user("bob")
    source = scene.experiment()
    made = bob.agents.create("balancer", source.id, checkpoint=best())
    assert made.owner == "user:bob"
    bob.organisations.remove("default", "bob")
    (agent,) = scene.arena.agents.list()
    assert agent.owner == scene.arena.agents.get(made.id).owner == "user:eve"
    (replayed,) = scene.arena.audit.replay().agents
    assert replayed.owner == "user:eve"
    assert source.owner == scene.arena.experiments.get(source.id).owner == "user:ann"


def test_rule_04_ownership_goes_on_from_successor_to_successor(scene, core, user, join):
    ada, bob, cy = user("ada"), user("bob"), user("cy")
    first = cy.projects.create("first")
    token = cy.tokens.rotate(token_of(cy)).token
    bob.organisations.remove("default", "cy")
    with pytest.raises(Unauthenticated):
        authenticate(core, token)
    join(token, "CY", "default", "manager")
    second = scene.arena.on_behalf_of(authenticate(core, token)).projects.create("2")
    assert owners(ada) == ["user:bob", "user:cy"], "who is back owns what comes then"
    ada.organisations.remove("default", "bob")
    assert owners(ada) == ["user:ada", "user:cy"]
    ada.organisations.remove("default", "cy")
    assert owners(ada) == ["user:ada", "user:ada"]
    assert [p.id for p in ada.projects.list()] == [first.id, second.id]


def owners(use):
    return [p.owner for p in use.projects.list()]


def test_rule_04_what_others_made_under_the_same_name_stays_theirs(scene, user, core):
    ada, bob = user("ada"), user("bob")
    key = ada.tokens.issue(name="k", kind="org").token
    external = authenticate(core, key, external_user="bob")
    theirs = scene.arena.on_behalf_of(external).projects.create("x")
    elsewhere = user("bobby", organisation="acme").projects.create("y")
    ada.organisations.remove("default", "bob")
    assert ada.projects.get(theirs.id).owner == "external:bob"
    acme = scene.operator("acme")
    assert acme.projects.get(elsewhere.id).owner == "user:bobby"
    assert bob.users.me().organisations == []


def test_rule_04_without_a_manager_nothing_passes_on(scene, user):
    bob = user("bob", "member")
    made = bob.projects.create("x")
    scene.arena.organisations.remove("default", "bob")
    assert scene.arena.projects.get(made.id).owner == "user:bob"


def test_rule_04_who_is_removed_has_no_access_and_acts_where_else_they_belong(
    core, user, join
):
    ada, bob = user("ada"), user("bob", "member")
    token = bob.tokens.rotate(token_of(bob)).token
    ada.organisations.remove("default", "bob")
    refused(core, token)
    with pytest.raises(Unauthenticated):
        caller_of_user(core, "bob")
    join(token, "bob", "acme", "viewer")
    assert authenticate(core, token).organisation == "acme"
    assert authenticate(core, token).role is Role.VIEWER


def test_managers_have_nothing_to_do_with_the_token_of_who_has_left(
    scene, core, user, join
):
    ada, bob = user("ada"), user("bob", "member")
    token = bob.tokens.rotate(token_of(bob)).token
    join(token, "bob", "acme")
    assert len(ada.tokens.list()) == 2
    ada.organisations.remove("default", "bob")
    assert [t.user for t in ada.tokens.list()] == ["ada"]
    with pytest.raises(NotFound, match="no such token"):
        ada.tokens.revoke(token_of(bob))
    bob = scene.arena.on_behalf_of(authenticate(core, token))
    (own,) = bob.tokens.list()
    assert bob.tokens.get(own.id) == own, "although it was issued elsewhere"
    assert not bob.tokens.list(paging=Paging(core.store.head()))
