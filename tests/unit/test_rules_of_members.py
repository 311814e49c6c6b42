"""Rule 2: users, and the organisations that they belong to."""

import pytest
from attrs import evolve

from arena_core.application.callers import caller_of_user
from arena_core.application.identity import authenticate
from arena_core.application.secrets import sealed
from arena_core.application.session import Paging
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    NotFound,
    Rejected,
    Unauthenticated,
)
from arena_core.domain.ids import (
    OrganisationId,
    organisation_of,
)
from arena_core.domain.organisation import OPEN_FOR
from arena_core.domain.user import DescribeUser
from arena_core.domain.values import Role
from unit.people import MANAGING, refused_again, token_of
from unit.workers import World

# --- coming in -------------------------------------------------------------------


def test_whom_an_operator_gives_a_token_is_a_user_and_a_member(user):
    ada = user("ada", "viewer")
    assert ada.session.caller.role is Role.VIEWER
    (member,) = ada.organisations.members("default")
    assert (member.user, member.role) == ("ada", Role.VIEWER)
    me = ada.users.me()
    assert (me.name, me.email, me.current_organisation) == ("ada", "", "default")
    (view,) = me.organisations
    assert (view.id, view.name, view.role) == ("default", "default", Role.VIEWER)
    assert view.created_at is not None


def test_rule_86_even_an_operator_issues_no_second_token_to_a_user(scene, user):
    ada = user("ada")
    with pytest.raises(Conflict, match="rotate it or revoke it"):
        scene.arena.tokens.issue(name="other", user="ADA")
    assert [t.id for t in ada.tokens.list()] == [token_of(ada)]
    scene.arena.tokens.revoke(token_of(ada))
    scene.arena.tokens.issue(name="other", user="ADA")


def test_an_operator_says_for_whom_a_token_is(scene):
    with pytest.raises(Rejected, match="for which user") as caught:
        scene.arena.tokens.issue(name="t")
    assert caught.value.field == "user"


def test_a_token_that_an_operator_issues_raises_a_role_and_never_lowers_it(scene, user):
    ada = user("ada", "member")
    scene.arena.tokens.revoke(token_of(ada))
    ada = user("ada", "manager")
    assert ada.session.caller.role is Role.MANAGER
    scene.arena.tokens.revoke(token_of(ada))
    ada = user("ada", "viewer")
    assert ada.session.caller.role is Role.VIEWER, "it is what the token may do"
    (member,) = ada.organisations.members("default")
    assert member.role is Role.MANAGER


def test_who_is_invited_and_no_user_yet_becomes_one(scene, bearing):
    invited = scene.arena.invitations.invite("default", "zoe@x.org", role="viewer")
    assert invited.token.startswith("arena_inv_")

    accepted = scene.arena.invitations.accept(
        invited.token, described=DescribeUser("Zoe", "Zed")
    )

    zoe = bearing(accepted.token)
    assert (accepted.user, accepted.organisation.role) == ("zoe@x.org", Role.VIEWER)
    assert zoe.session.caller.role is Role.VIEWER
    me = zoe.users.me()
    assert (me.first_name, me.last_name, me.email) == ("Zoe", "Zed", "zoe@x.org")
    (token,) = zoe.tokens.list()
    assert token.last_four == accepted.token[-4:]
    joined = list(scene.arena.audit.log())[-1]
    assert (joined.organisation, joined.actor) == ("default", "user:zoe@x.org")
    refused_again(scene, invited.token)


def test_who_is_a_user_accepts_with_their_own_credential_and_no_other(
    scene, user, core
):
    ada, eve = user("ada"), user("eve")
    mine, hers = (use.tokens.rotate(token_of(use)).token for use in (ada, eve))
    ours = scene.arena.tokens.issue(name="k", kind="org").token
    invited = scene.operator("acme").invitations.invite("acme", "ADA")
    for bearing in (None, "junk", hers, ours, mine[:-1] + "?", "eyJ.x.y"):
        refused_again(scene, invited.token, bearing=bearing)
    with pytest.raises(NotFound):
        ada.organisations.get("acme")

    accepted = scene.arena.invitations.accept(invited.token, bearing=mine)

    assert (accepted.token, accepted.user) == (None, "ada")
    assert accepted.organisation.role is Role.MEMBER
    assert [o.id for o in ada.users.me().organisations] == ["default", "acme"]
    assert authenticate(core, mine).organisation == "default", "until they choose"


def test_an_invitation_opens_nothing_once_it_is_withdrawn_replaced_or_over():
    world = World()
    use = world.worker().application.on_behalf_of(MANAGING)
    first, second = (use.invitations.invite("default", "zoe").token for _ in range(2))
    third = use.invitations.invite("default", "zed")
    use.invitations.withdraw("default", third.view.id, reason="a slip")
    fourth = use.invitations.invite("default", "zac").token
    world.wait(OPEN_FOR)
    for token in (first, second, third.token, fourth):
        with pytest.raises(Unauthenticated):
            use.invitations.accept(token)
    assert [i.user for i in use.invitations.list("default")] == ["zoe", "zac"]
    with pytest.raises(NotFound, match="no such invitation"):
        use.invitations.withdraw("default", third.view.id)


def test_what_was_never_an_invitation_opens_nothing(scene, user):
    invited = scene.arena.invitations.invite("default", "zoe").token
    token_id, ours = token_of(user("ada")), organisation_of(OrganisationId("default"))
    for text in (
        "", "arena_inv_", invited[:-1] + "?", sealed("arena_inv_x", bytes(32)),
        sealed(f"arena_inv_{ours.hex}", bytes(32)),
        sealed(f"arena_inv_{token_id.hex}", bytes(32)),
        invited.replace("inv", "pat"),
    ):  # fmt: skip
        refused_again(scene, text)


def test_a_member_is_not_invited(scene, user):
    user("ada")
    with pytest.raises(AlreadyExists, match="a member already"):
        scene.arena.invitations.invite("default", "Ada")


def test_rule_02_what_a_manager_is_answered_says_nothing_of_users_elsewhere(user):
    user("ada", organisation="elsewhere")
    eve = user("eve")
    for known, unknown in (("ada", "zoe"), ("ADA", "ZOE")):
        answers = [eve.invitations.invite("default", name) for name in (known, unknown)]
        shown = [evolve(a.view, id=None, user="", expires_at=None) for a in answers]
        assert shown[0] == shown[1]
        for name in (known, unknown):
            with pytest.raises(NotFound, match="There is no such member"):
                eve.organisations.remove("default", name)
            with pytest.raises(NotFound, match="There is no such member"):
                eve.organisations.member("default", name)
            with pytest.raises(Forbidden, match="by its own user only"):
                eve.tokens.issue(name="t", user=name)
    assert [m.user for m in eve.organisations.members("default")] == ["eve"]


def test_what_users_do_beyond_an_organisation_is_in_nobodys_log(scene, user):
    eve = user("eve")
    eve.users.edit(first_name="Eve")
    eve.organisations.create("hers")
    assert not [e for e in eve.audit.log() if e.name.startswith("user.")]
    seen = [e.name for e in scene.arena.audit.log() if e.name.startswith("user.")]
    assert "user.registered" in seen


# --- several organisations -------------------------------------------------------


def test_rule_02_a_user_of_several_organisations_acts_in_one_at_a_time(
    scene, core, user, join
):
    ada = user("ada")
    ours = ada.projects.create("ours")
    token = ada.tokens.rotate(token_of(ada)).token
    join(token, "ada", "acme")
    me = ada.users.edit(current_organisation="acme")
    assert me.current_organisation == "acme"

    there = scene.arena.on_behalf_of(authenticate(core, token))

    assert there.session.caller.role is Role.MEMBER
    assert not there.projects.list()
    with pytest.raises(NotFound):
        there.projects.get(ours.id)
    theirs = there.projects.create("theirs")
    there.users.edit(current_organisation="default")
    back = scene.arena.on_behalf_of(authenticate(core, token))
    assert [p.id for p in back.projects.list()] == [ours.id]
    with pytest.raises(NotFound):
        back.projects.get(theirs.id)


def test_rule_02_an_organisation_that_one_does_not_belong_to_is_not_there(user):
    ada, bob = user("ada"), user("bob", "viewer")
    own = bob.organisations.create("own")
    assert own.role is Role.MANAGER
    for where in (own.id, "nowhere", ""):
        for ask in (
            ada.organisations.get,
            ada.organisations.members,
            ada.invitations.list,
            lambda w: ada.organisations.rename(w, "x"),
            lambda w: ada.organisations.member(w, "bob"),
            lambda w: ada.organisations.change_role(w, "bob", "viewer"),
            lambda w: ada.users.edit(current_organisation=w),
        ):
            with pytest.raises(NotFound, match="no such organisation"):
                ask(where)
    assert [o.id for o in ada.organisations.list()] == ["default"]
    assert [o.name for o in bob.organisations.list()] == ["default", "own"]


def test_an_organisation_is_administered_where_it_is_the_current_one(user, bearing):
    bob = user("bob", "viewer")
    own = bob.organisations.create("own")
    assert bob.organisations.get(own.id).name == "own"
    with pytest.raises(Conflict, match="make it that first"):
        bob.organisations.rename(own.id, "mine")
    token = bob.tokens.rotate(token_of(bob)).token
    bob.users.edit(current_organisation=own.id)
    bob = bearing(token)
    assert bob.session.caller.role is Role.VIEWER, "for that is the token's"
    assert bob.organisations.rename(own.id, "mine").name == "mine"


def test_who_is_no_user_creates_no_organisation(scene, core, older):
    key = scene.arena.tokens.issue(name="k", kind="org", role="manager").token
    for token in (key, older("tom", Role.MANAGER)):
        use = scene.arena.on_behalf_of(authenticate(core, token))
        with pytest.raises(Forbidden, match="registered user"):
            use.organisations.create("x")
        with pytest.raises(Forbidden, match="registered user"):
            use.users.edit(first_name="x")
        assert [o.id for o in use.organisations.list()] == ["default"]
        assert use.users.me().current_organisation == "default"


def test_a_user_makes_nobody_else_the_manager_of_what_they_create(user):
    with pytest.raises(Forbidden, match="its manager"):
        user("ada").organisations.create("x", manager="bob")


def test_an_operator_creates_organisations_and_sees_all(scene, core, user):
    user("ada", organisation="acme")
    empty = scene.arena.organisations.create("empty")
    made = scene.arena.organisations.create("Bob & sons", manager="bob")
    assert [o.id for o in scene.arena.organisations.list()] == [
        "default", "acme", empty.id, made.id,
    ]  # fmt: skip
    assert [m.user for m in scene.arena.organisations.members(made.id)] == ["bob"]
    bob = caller_of_user(core, "Bob")
    assert (bob.organisation, bob.role) == (made.id, Role.MANAGER)
    scene.arena.organisations.rename(made.id, "Bob's")
    assert scene.arena.organisations.get(made.id).name == "Bob's"
    with pytest.raises(NotFound):
        scene.arena.organisations.rename("nowhere", "x")


def test_an_organisation_can_be_looked_at_as_it_was(scene, core, user):
    before = core.store.head()
    ada = user("ada")
    bob = user("bob", "member")
    then = core.store.head()
    ada.organisations.change_role("default", "bob", "viewer")
    ada.organisations.rename("default", "ours")
    ada.users.edit(first_name="Ada")
    own = ada.organisations.create("own")

    past = scene.arena.on_behalf_of(ada.session.caller, as_of=then)

    assert past.organisations.get("default").name == "default"
    assert past.organisations.member("default", "bob").role is Role.MEMBER
    assert past.users.me().first_name == ""
    assert [o.id for o in past.organisations.list()] == ["default"]
    with pytest.raises(NotFound):
        past.organisations.get(own.id)
    dawn = scene.arena.on_behalf_of(ada.session.caller, as_of=before)
    assert not dawn.organisations.members("default")
    assert dawn.users.me().name == "ada"
    assert dawn.organisations.get("default").created_at is None
    ada.organisations.remove("default", "bob")
    gone = scene.arena.on_behalf_of(bob.session.caller, as_of=then)
    with pytest.raises(NotFound):
        gone.organisations.get("default")


def test_members_and_invitations_are_listed_part_by_part(scene, user):
    for name in ("ada", "bob", "cy"):
        user(name)
    invite = scene.arena.invitations.invite
    invite("default", "zed")
    members, invitations = scene.arena.organisations.members, scene.arena.invitations
    first = members("default", paging=Paging(limit=2))
    assert [m.user for m in first] == ["ada", "bob"]
    scene.arena.organisations.remove("default", "bob")
    rest = members("default", paging=Paging(first.next_after, 2))
    assert ([m.user for m in rest], rest.next_after) == (["cy"], None)
    assert invitations.list("default", paging=Paging(limit=1)).next_after is None
    assert members("default", paging=Paging(99)).items == []
