"""Rules 2, 3, 4 and 86: users, the organisations that they belong to, their tokens."""

import pytest
from attrs import evolve

from arena_core import best
from arena_core.application.handling import Change
from arena_core.application.identity import authenticate, caller_of_user, sha256_of
from arena_core.application.ports import Note
from arena_core.application.secrets import sealed
from arena_core.application.session import Paging
from arena_core.domain import credential
from arena_core.domain.credential import IssueAccessToken, Secret, TokenKind
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    NotFound,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from arena_core.domain.ids import (
    OrganisationId,
    TokenId,
    WorkerId,
    organisation_of,
)
from arena_core.domain.organisation import OPEN_FOR
from arena_core.domain.user import DescribeUser
from arena_core.domain.values import Actor, ActorKind, Caller, Role
from unit.workers import World


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


def refused_again(scene, token, **more):
    with pytest.raises(Unauthenticated, match="not open, or it is for a user"):
        scene.arena.invitations.accept(token, **more)


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


MANAGING = Caller(
    OrganisationId("default"), Actor(ActorKind.OPERATOR, "root"), Role.MANAGER
)


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


def test_a_token_gives_no_more_rights_than_who_issues_it_has(scene, core, user):
    bob = user("bob")
    limited = scene.arena.on_behalf_of(caller_of_user(core, "bob", most=Role.VIEWER))
    scene.arena.tokens.revoke(token_of(bob))
    with pytest.raises(Forbidden, match="cannot be given the role member"):
        limited.tokens.issue(name="t", role="member")
    assert limited.tokens.issue(name="t").view.role is Role.VIEWER


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
