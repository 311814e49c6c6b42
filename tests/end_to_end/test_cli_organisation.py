"""`arena-core organisation`, and tokens of organisations: on the store's machine."""

import re
from uuid import UUID

import pytest
from click.testing import CliRunner

import arena_core
from arena_core.application.identity import authenticate
from arena_core.domain.errors import ArenaError, Unauthenticated
from arena_core.entrypoints.cli.main import cli


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_STORE", str(tmp_path / "arena.db"))
    with arena_core.open(tmp_path / "arena.db", serve=False):
        pass
    return tmp_path / "arena.db"


def said(*words):
    result = CliRunner().invoke(cli, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def refused(*words):
    """Return why it is: `main` prints that as one sentence."""
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert isinstance(result.exception, ArenaError), result.output
    return str(result.exception)


def bearer(store, token):
    with arena_core.open(store, serve=False) as arena:
        return authenticate(arena.application.core, token)


@pytest.mark.usefixtures("store")
def test_the_default_organisation_is_always_there():
    listed = said("organisation", "list").split("\n")
    assert [line.split() for line in listed] == [["NAME", "ID"], ["default", "default"]]


@pytest.mark.usefixtures("store")
def test_an_organisation_is_created_with_its_manager():
    made = said("organisation", "create", "Acme [1]", "--manager", "ada@x.org")
    assert str(UUID(made)) == made
    assert "Acme [1]" in said("organisation", "list")
    for name in (made, "Acme [1]"):
        listed = said("organisation", "members", name).split("\n")
        assert listed[1].split() == ["ada@x.org", "manager"]


def test_a_token_is_issued_listed_and_revoked_in_an_organisation(store):
    made = said("organisation", "create", "acme")
    token = said("token", "create", "--user", "bob", "--organisation", "acme")
    assert bearer(store, token).organisation == made
    assert "bob" in said("token", "list", "--organisation", made)
    assert "bob" not in said("token", "list")
    token_id = token.split("_")[2]
    assert "no such token" in refused("token", "revoke", token_id)
    said("token", "revoke", token_id, "--organisation", "acme", "--reason", "left")
    with pytest.raises(Unauthenticated):
        bearer(store, token)


def test_who_is_invited_comes_in_and_is_removed(store):
    said("token", "create", "--user", "ada", "--role", "manager")
    invitation = said("organisation", "invite", "default", "zoe", "--role", "viewer")
    assert re.fullmatch(r"arena_inv_[0-9a-f]{32}_\w{49}", invitation)
    with arena_core.open(store, serve=False) as arena:
        arena.invitations.accept(invitation)
    assert "zoe" in said("organisation", "members", "default")
    said("organisation", "remove", "default", "zoe", "--reason", "a test")
    assert "zoe" not in said("organisation", "members", "default")
    assert "last manager" in refused("organisation", "remove", "default", "ada")
    with arena_core.open(store, serve=False) as arena:
        removed = [e for e in arena.audit.log() if e.reason == "a test"]
    assert removed[0].actor.startswith("operator:")


@pytest.mark.usefixtures("store")
def test_a_name_that_fits_none_or_several_is_refused():
    assert "called x(y)" in refused("organisation", "members", "x(y)")
    ids = [said("organisation", "create", "twice") for _ in range(2)]
    why = refused("organisation", "members", "twice")
    assert all(made in why for made in ids)
