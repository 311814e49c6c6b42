"""Rule 86: whose a token is, what it may do, and when it is dead."""

import pytest

from arena_core.application.callers import caller_of_user
from arena_core.application.identity import authenticate
from arena_core.application.ports import Note
from arena_core.application.secrets import sha256_of
from arena_core.domain.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from arena_core.domain.ids import (
    TokenId,
    WorkerId,
)
from arena_core.domain.values import Actor, ActorKind, Role
from unit.people import MANAGING, refused, refused_again, token_of
from unit.workers import World

# --- tokens ----------------------------------------------------------------------


def test_rule_86_a_personal_token_is_its_own_users_only(user):
    ada, bob = user("ada"), user("bob", "member")
    assert [t.user for t in ada.tokens.list()] == ["ada", "bob"]
    assert [t.user for t in bob.tokens.list()] == ["bob"]
    with pytest.raises(Forbidden, match="revoke it instead"):
        ada.tokens.rotate(token_of(bob))
    for ask in (bob.tokens.get, bob.tokens.rotate, bob.tokens.revoke):
        with pytest.raises(NotFound, match="no such token"):
            ask(token_of(ada))
    ada.tokens.revoke(token_of(bob), reason="it leaked")
    ada.tokens.revoke(token_of(bob))
    assert [t.user for t in ada.tokens.list()] == ["ada"]


def test_rule_86_a_user_revokes_and_issues_their_own(scene, core, user):
    bob = user("bob", "member")
    with pytest.raises(Conflict, match="rotate it or revoke it"):
        bob.tokens.issue(name="second")
    signed_in = scene.arena.on_behalf_of(caller_of_user(core, "bob"))
    signed_in.tokens.revoke(token_of(bob))
    signed_in.tokens.revoke(token_of(bob))
    assert not signed_in.tokens.list()
    with pytest.raises(Forbidden, match="by its own user only"):
        signed_in.tokens.issue(name="t", user="ada")
    issued = signed_in.tokens.issue(name="t", user="BOB")
    assert (issued.view.user, issued.view.role) == ("bob", Role.MEMBER)
    assert authenticate(core, issued.token).actor == Actor(
        ActorKind.USER, "bob", issued.view.id
    )


def test_who_is_only_signed_in_gets_no_token_out_of_that(scene, core, user):
    bob = user("bob", "manager")
    sign_in = TokenId(core.new_id())
    use = scene.arena.on_behalf_of(caller_of_user(core, "bob", token_id=sign_in))
    assert use.users.me().name == "bob"
    with pytest.raises(Forbidden, match="with the token itself"):
        use.tokens.rotate(token_of(bob))
    with pytest.raises(Conflict):
        use.tokens.issue(name="t")
    use.tokens.revoke(token_of(bob))


def test_a_token_gives_no_more_rights_than_who_issues_it_has(scene, core, user):
    bob = user("bob")
    limited = scene.arena.on_behalf_of(caller_of_user(core, "bob", most=Role.VIEWER))
    scene.arena.tokens.revoke(token_of(bob))
    with pytest.raises(Forbidden, match="cannot be given the role member"):
        limited.tokens.issue(name="t", role="member")
    assert limited.tokens.issue(name="t").view.role is Role.VIEWER


@pytest.mark.parametrize("role", ["viewer", "member", "manager"])
def test_who_lost_a_token_is_given_another_of_no_other_rights(scene, core, user, role):
    lost, operator = user("bob", role), scene.operator("default")
    operator.tokens.revoke(token_of(lost))
    issued = operator.tokens.issue(name="t", user="Bob")
    assert authenticate(core, issued.token).role is Role(role)
    (bob,) = operator.organisations.members("default")
    assert bob.role is Role(role)


def test_keys_of_an_organisation_are_for_its_managers(scene, core, user):
    ada, bob = user("ada"), user("bob", "member")
    made = [ada.tokens.issue(name=f"key {n}", kind="org") for n in range(2)]
    assert {m.view.role for m in made} == {Role.MEMBER}
    with pytest.raises(Forbidden, match="role manager"):
        bob.tokens.issue(name="k", kind="org")
    key = scene.arena.on_behalf_of(authenticate(core, made[0].token))
    assert [t.id for t in key.tokens.list()] == [made[0].view.id], "which it is"
    for attempt in (key.tokens.rotate, key.tokens.revoke):
        with pytest.raises(Forbidden, match="role manager"):
            attempt(made[0].view.id)
    with pytest.raises(Forbidden, match="Only a user has a personal token"):
        key.tokens.issue(name="mine")
    turned = ada.tokens.rotate(made[0].view.id)
    refused(core, made[0].token)
    assert authenticate(core, turned.token).role is Role.MEMBER
    ada.tokens.revoke(made[1].view.id)
    refused(core, made[1].token)


def test_a_key_speaks_for_who_is_outside_and_never_for_a_user(scene, core, user):
    ada = user("ada")
    key = ada.tokens.issue(name="ada", kind="org", role="manager")
    alone = authenticate(core, key.token)
    assert str(alone.actor) == "external:ada"
    assert not scene.arena.on_behalf_of(alone).users.me().first_name
    named = authenticate(core, key.token, external_user=" ada ")
    assert named.actor == Actor(ActorKind.EXTERNAL, "ada", key.view.id)
    with pytest.raises(Forbidden):
        scene.arena.on_behalf_of(named).users.edit(first_name="x")
    for bad in ("x" * 201, " ", "a\0b"):
        with pytest.raises(Rejected) as caught:
            authenticate(core, key.token, external_user=bad)
        assert caught.value.field == "X-External-User-Id"


def test_no_secret_gets_into_events_rows_or_reprs(scene, core, user):
    ada = user("ada")
    issued = [
        ada.tokens.issue(name="k", kind="org"),
        ada.invitations.invite("default", "zoe"),
    ]
    accepted = scene.arena.invitations.accept(issued[1].token)
    texts = [*(i.token for i in issued), accepted.token]
    events = list(core.store.read_all())
    views = [*scene.arena.audit.log()]
    rows = [core.views.rows.get(r.stream) for r in events]
    shown = f"{events!r} {rows!r} {issued!r} {accepted!r} {views!s}"
    for text in texts:
        assert text.rpartition("_")[2] not in shown
        assert sha256_of(text) not in shown


# --- tokens from before there were users -----------------------------------------


def test_a_token_from_before_there_were_users_goes_on_as_it_was(scene, core, older):
    token = older("tom", Role.MANAGER, organisation="acme")
    tom = authenticate(core, token)
    assert (tom.organisation, tom.role, tom.actor.name) == ("acme", Role.MANAGER, "tom")
    use = scene.arena.on_behalf_of(tom)
    (own,) = use.tokens.list()
    new = use.tokens.rotate(own.id).token
    refused(core, token)
    use = scene.arena.on_behalf_of(authenticate(core, new))
    assert use.invitations.invite("acme", "zoe").view.user == "zoe"
    with pytest.raises(Forbidden, match="none of a registered user"):
        use.tokens.issue(name="t")
    use.tokens.revoke(own.id)
    refused(core, new)


def test_it_proves_nothing_of_a_user_who_is_registered_under_that_name(
    scene, core, older, user
):
    token = older("tom", Role.MANAGER, organisation="acme")
    tom = user("tom", "member")
    stranger = scene.arena.on_behalf_of(authenticate(core, token))
    assert stranger.session.caller.organisation == "acme"
    for attempt in (
        lambda: stranger.users.edit(first_name="x"),
        lambda: stranger.tokens.issue(name="t"),
        lambda: stranger.organisations.create("x"),
    ):
        with pytest.raises(Forbidden):
            attempt()
    with pytest.raises(NotFound):
        stranger.tokens.revoke(token_of(tom))
    invited = scene.operator("elsewhere").invitations.invite("elsewhere", "tom")
    refused_again(scene, invited.token, bearing=token)
    assert [o.id for o in stranger.users.me().organisations] == ["acme"]


def test_it_does_no_more_than_a_member_of_that_name_and_dies_with_the_membership(
    core, older, user
):
    token = older("tom", Role.MANAGER)
    ada = user("ada")
    user("tom", "viewer")
    assert authenticate(core, token).role is Role.VIEWER
    assert [t.user for t in ada.tokens.list()] == ["tom", "ada", "tom"]
    other, elsewhere = older("tim"), older("tom", organisation="acme")
    ada.organisations.remove("default", "tom")
    refused(core, token)
    assert authenticate(core, other).role is Role.MEMBER
    assert authenticate(core, elsewhere).organisation == "acme"


def test_who_is_not_known_is_nobody(core):
    with pytest.raises(Unauthenticated):
        caller_of_user(core, "nobody")


# --- several processes -----------------------------------------------------------


def test_what_ends_rights_is_answered_when_every_process_has_followed():
    world = World(agree=True)
    use = world.worker().application.on_behalf_of(MANAGING)
    issued = use.tokens.issue(name="t", user="ada", role="manager")
    use.tokens.issue(name="t", user="bob", role="manager")
    late = WorkerId(use.session.core.new_id())
    world.presence.announce(late)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arena_core.application.memberships.AGREEMENT_S", 0.01)
        for attempt in (
            lambda: use.tokens.revoke(issued.view.id),
            lambda: use.organisations.change_role("default", "bob", "member"),
            lambda: use.organisations.remove("default", "bob"),
        ):
            with pytest.raises(Unavailable, match="It is done"):
                attempt()
        use.tokens.issue(name="t", user="ada")
        (token,) = [t for t in use.tokens.list() if t.user == "ada"]
        assert use.tokens.rotate(token.id).token, "or it were lost"
    world.presence.tell(late, Note(position=10**6))
    use.tokens.revoke(token.id)


def test_what_another_process_has_ended_is_dead_here_at_once():
    world = World()
    one, other = world.worker(), world.worker()
    use = one.application.on_behalf_of(MANAGING)
    issued = use.tokens.issue(name="t", user="ada")
    for _ in range(2):
        assert authenticate(other.core, issued.token).actor.name == "ada"
    use.tokens.revoke(issued.view.id)
    refused(other.core, issued.token)
