"""Users, as tests of what they may do have them: fixtures, and a few questions."""

import pytest

from arena_core.application.handling import Change
from arena_core.application.identity import authenticate
from arena_core.application.secrets import sealed, sha256_of
from arena_core.domain import credential
from arena_core.domain.credential import IssueAccessToken, Secret, TokenKind
from arena_core.domain.errors import (
    Unauthenticated,
)
from arena_core.domain.ids import (
    OrganisationId,
    TokenId,
)
from arena_core.domain.values import Actor, ActorKind, Caller, Role

MANAGING = Caller(
    OrganisationId("default"), Actor(ActorKind.OPERATOR, "root"), Role.MANAGER
)


@pytest.fixture
def core(scene):
    return scene.arena.application.core


@pytest.fixture
def bearing(scene, core):
    """Return what lets one see what the bearer of a token can do."""
    return lambda token: scene.arena.on_behalf_of(authenticate(core, token))


@pytest.fixture
def user(scene, bearing):
    """Return what makes a member of an organisation, and gives what they can do."""

    def make(name, role="manager", *, organisation="default"):
        tokens = scene.operator(organisation).tokens
        return bearing(tokens.issue(name="t", user=name, role=role).token)

    return make


@pytest.fixture
def join(scene):
    """Return what brings a user into another organisation, by an invitation."""

    def make(token, name, organisation, role="member"):
        invitations = scene.operator(organisation).invitations
        invited = invitations.invite(organisation, name, role=role)
        return scene.arena.invitations.accept(invited.token, bearing=token)

    return make


@pytest.fixture
def older(scene, core):
    """Return what issues a token as releases did that knew no users."""

    def issue(name, role=Role.MEMBER, *, organisation="default", kind=TokenKind.USER):
        token_id = TokenId(core.new_id())
        text = sealed(f"arena_{kind.value}_{token_id.hex}", bytes(32))
        secret = Secret(sha256_of(text), text[-4:])
        command = IssueAccessToken(token_id, kind, "t", name, role, secret)
        session = scene.operator(organisation).session
        session.execute(Change(credential, token_id, command))
        return text

    return issue


def token_of(use):
    return use.session.caller.actor.token_id


def refused(core, token, **more):
    with pytest.raises(Unauthenticated):
        authenticate(core, token, **more)


def refused_again(scene, token, **more):
    with pytest.raises(Unauthenticated, match="not open, or it is for a user"):
        scene.arena.invitations.accept(token, **more)
