from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve

from arena_core.domain import organisation
from arena_core.domain.credential import Secret
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    NotFound,
    Rejected,
    Unauthenticated,
)
from arena_core.domain.ids import InvitationId, OrganisationId, user_of
from arena_core.domain.organisation import (
    OPEN_FOR,
    AcceptInvitation,
    AddMember,
    ChangeRole,
    CreateOrganisation,
    InvitationWithdrawn,
    InviteMember,
    MemberInvited,
    MemberJoined,
    MemberRemoved,
    MemberRoleChanged,
    OrganisationCreated,
    OrganisationRenamed,
    RemoveMember,
    RenameOrganisation,
    WithdrawInvitation,
)
from arena_core.domain.values import Role
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
spec = Spec(organisation, NOW)

ID = OrganisationId("acme")
FIRST, SECOND = InvitationId(UUID(int=1)), InvitationId(UUID(int=2))
SECRET, OTHER = Secret("a" * 64, "1234"), Secret("b" * 64, "5678")
CREATED = OrganisationCreated(ID, "Acme")
ADA = MemberJoined("ada", Role.MANAGER)
EVE = MemberJoined("eve", Role.MANAGER)
BOB = MemberJoined("bob", Role.MEMBER)
INVITED = MemberInvited(FIRST, "zoe", Role.MEMBER, SECRET, NOW + OPEN_FOR)
ZOE = MemberJoined("zoe", Role.MEMBER, FIRST)


def test_an_organisation_is_created_once_and_stays_as_it_is():
    spec.given().when(CreateOrganisation(ID, " Acme ")).then(CREATED)
    spec.given(CREATED).when(CreateOrganisation(ID, "Other")).then()


@pytest.mark.parametrize("history", [(), (CREATED,)])
def test_an_organisation_needs_a_name(history):
    for command in (CreateOrganisation(ID, " "), RenameOrganisation(" ")):
        if history or isinstance(command, CreateOrganisation):
            spec.given(*history).when(command).then_raises(Rejected)


def test_an_organisation_is_renamed():
    spec.given(CREATED).when(RenameOrganisation(" New ")).then(
        OrganisationRenamed("New")
    )
    renamed = spec.given(CREATED, OrganisationRenamed("New"))
    renamed.when(RenameOrganisation("New")).then()
    assert renamed.state.name == "New"


@pytest.mark.parametrize(
    "command",
    [
        RenameOrganisation("x"),
        AddMember("ada", Role.MEMBER),
        InviteMember(FIRST, "zoe", Role.MEMBER, SECRET),
        WithdrawInvitation(FIRST),
        AcceptInvitation(FIRST),
        ChangeRole("ada", Role.MEMBER),
        RemoveMember("ada", None),
    ],
)
def test_nothing_is_done_of_an_organisation_that_never_was(command):
    spec.given().when(command).then_raises(NotFound, "no such organisation")


# --- members -----------------------------------------------------------------------


def test_a_member_is_added_and_never_loses_rights_by_that():
    spec.given(CREATED).when(AddMember(" ada ", Role.MANAGER)).then(ADA)
    given = spec.given(CREATED, ADA, BOB)
    given.when(AddMember("ADA", Role.MEMBER)).then()
    given.when(AddMember("bob", Role.MEMBER)).then()
    raised = MemberRoleChanged("bob", Role.MANAGER)
    given.when(AddMember("Bob", Role.MANAGER)).then(raised)


def test_members_are_in_the_order_of_joining_whatever_becomes_of_their_roles():
    changed = MemberRoleChanged("ada", Role.VIEWER)
    given = spec.given(CREATED, ADA, EVE, BOB, changed)
    assert [(m.name, m.role) for m in given.state.members] == [
        ("ada", Role.VIEWER),
        ("eve", Role.MANAGER),
        ("bob", Role.MEMBER),
    ]
    assert given.state.member(user_of("ADA")).name == "ada"
    assert given.state.member(user_of("zoe")) is None


def test_rule_03_a_member_is_given_another_role():
    given = spec.given(CREATED, ADA, EVE, BOB)
    viewer = MemberRoleChanged("ada", Role.VIEWER)
    given.when(ChangeRole("Ada", Role.VIEWER)).then(viewer)
    given.when(ChangeRole("bob", Role.MEMBER)).then()
    given.when(ChangeRole("bob", Role.MANAGER)).then(
        MemberRoleChanged("bob", Role.MANAGER)
    )
    unknown = given.when(ChangeRole("zoe", Role.MANAGER))
    unknown.then_raises(NotFound, "no such member")


@pytest.mark.parametrize(
    "command", [ChangeRole("ada", Role.MEMBER), RemoveMember("ada", "ada")]
)
def test_the_last_manager_stays_a_manager(command):
    for others in ((), (BOB,), (EVE, MemberRemoved("eve", "ada"))):
        given = spec.given(CREATED, ADA, *others)
        given.when(command).then_raises(Conflict, "last manager")


def test_rule_04_who_is_removed_has_a_manager_for_a_successor():
    given = spec.given(CREATED, ADA, EVE, BOB)
    given.when(RemoveMember("bob", "eve")).then(MemberRemoved("bob", "eve"))
    given.when(RemoveMember("BOB", "EVE")).then(MemberRemoved("bob", "eve"))
    given.when(RemoveMember("bob", None)).then(MemberRemoved("bob", "ada"))
    given.when(RemoveMember("ada", None)).then(MemberRemoved("ada", "eve"))


@pytest.mark.parametrize("successor", ["ada", "bob", "zoe"])
def test_rule_04_no_other_than_another_manager_is_a_successor(successor):
    given = spec.given(CREATED, ADA, EVE, BOB)
    given.when(RemoveMember("ada", successor)).then(MemberRemoved("ada", "eve"))


def test_rule_04_where_there_is_no_manager_there_is_no_successor():
    given = spec.given(CREATED, BOB)
    given.when(RemoveMember("bob", "bob")).then(MemberRemoved("bob", None))


def test_who_is_not_a_member_cannot_be_removed():
    given = spec.given(CREATED, ADA, BOB, MemberRemoved("bob", "ada"))
    assert [m.name for m in given.state.members] == ["ada"]
    given.when(RemoveMember("bob", None)).then_raises(NotFound, "no such member")


# --- invitations -------------------------------------------------------------------


def test_an_invitation_is_open_for_a_week():
    invite = InviteMember(FIRST, " zoe ", Role.MEMBER, SECRET)
    spec.given(CREATED).when(invite).then(INVITED)
    (invitation,) = spec.given(CREATED, INVITED).state.invitations
    assert (invitation.user_id, invitation.secret) == (user_of("zoe"), SECRET)
    assert invitation.expires_at == NOW + timedelta(days=7)


def test_an_invitation_is_accepted_once():
    spec.given(CREATED, INVITED).when(AcceptInvitation(FIRST)).then(ZOE)
    accepted = spec.given(CREATED, INVITED, ZOE)
    assert accepted.state.member(user_of("zoe")).role is Role.MEMBER
    assert not accepted.state.invitations
    accepted.when(AcceptInvitation(FIRST)).then_raises(Unauthenticated)


@pytest.mark.parametrize(
    "history",
    [
        (),
        (INVITED, InvitationWithdrawn(FIRST)),
        (evolve(INVITED, expires_at=NOW),),
        (evolve(INVITED, invitation_id=SECOND),),
    ],
)
def test_why_an_invitation_is_not_open_is_not_said(history):
    when = spec.given(CREATED, *history).when(AcceptInvitation(FIRST))
    when.then_raises(Unauthenticated, "^This invitation is not open, or it is for")


def test_another_invitation_of_a_name_makes_the_first_void():
    again = InviteMember(SECOND, "ZOE", Role.VIEWER, OTHER)
    invited = MemberInvited(SECOND, "ZOE", Role.VIEWER, OTHER, NOW + OPEN_FOR)
    void = InvitationWithdrawn(FIRST)
    spec.given(CREATED, INVITED).when(again).then(void, invited)
    state = spec.given(CREATED, INVITED, void, invited).state
    assert [i.number for i in state.invitations] == [2]


def test_whom_nobody_could_ever_name_again_is_not_let_in():
    for command in (
        InviteMember(FIRST, "a/b", Role.MEMBER, SECRET),
        AddMember("..", Role.MEMBER),
    ):
        spec.given(CREATED).when(command).then_raises(Rejected, "and no slash")


def test_members_are_not_invited():
    invite = InviteMember(FIRST, "BOB", Role.MEMBER, SECRET)
    spec.given(CREATED, BOB).when(invite).then_raises(AlreadyExists, "BOB is a member")


def test_who_is_added_without_an_invitation_needs_none_any_more():
    given = spec.given(CREATED, INVITED)
    joined = MemberJoined("zoe", Role.VIEWER)
    given.when(AddMember("zoe", Role.VIEWER)).then(InvitationWithdrawn(FIRST), joined)


def test_an_invitation_is_withdrawn():
    withdraw = WithdrawInvitation(FIRST)
    spec.given(CREATED, INVITED).when(withdraw).then(InvitationWithdrawn(FIRST))
    gone = spec.given(CREATED, INVITED, InvitationWithdrawn(FIRST))
    gone.when(withdraw).then_raises(NotFound, "no such invitation")


def test_numbers_are_never_given_again():
    state = spec.given(CREATED, ADA, EVE, MemberRemoved("eve", "ada"), BOB).state
    assert [m.number for m in state.members] == [1, 3]


def test_no_text_of_an_invitation_shows_the_hash_of_its_secret():
    invite = InviteMember(FIRST, "zoe", Role.MEMBER, SECRET)
    for thing in (invite, INVITED, spec.given(CREATED, INVITED).state):
        assert SECRET.sha256 not in repr(thing)
