from datetime import UTC, datetime
from uuid import UUID

import pytest

from arena_core.domain import user
from arena_core.domain.errors import AlreadyExists, Conflict, NotFound, Rejected
from arena_core.domain.ids import OrganisationId, TokenId, user_of
from arena_core.domain.user import (
    ChooseOrganisation,
    DescribeUser,
    HoldToken,
    JoinOrganisation,
    LeaveOrganisation,
    OrganisationChosen,
    OrganisationJoined,
    OrganisationLeft,
    PersonalTokenHeld,
    PersonalTokenReleased,
    RegisterUser,
    ReleaseToken,
    User,
    UserDescribed,
    UserRegistered,
)
from unit.spec import Spec

spec = Spec(user, datetime(2026, 9, 1, tzinfo=UTC))

OURS, THEIRS = OrganisationId("ours"), OrganisationId("theirs")
TOKEN, OTHER = TokenId(UUID(int=1)), TokenId(UUID(int=2))
REGISTERED = UserRegistered("ada@example.org")
IN_OURS, IN_THEIRS = OrganisationJoined(OURS), OrganisationJoined(THEIRS)
HELD = PersonalTokenHeld(TOKEN)


def test_a_user_is_registered_by_the_name_that_they_sign_in_with():
    spec.given().when(RegisterUser(" ada@example.org ")).then(REGISTERED)
    assert spec.given(REGISTERED).state == User(
        user_of("ada@example.org"), "ada@example.org", "ada@example.org"
    )


def test_a_name_that_is_no_address_says_nothing_of_an_email():
    assert spec.given(UserRegistered("ada")).state.email == ""


def test_a_user_needs_a_name():
    spec.given().when(RegisterUser("  ")).then_raises(Rejected, "user is missing")


@pytest.mark.parametrize("name", ["a/b", "/", ".", "..", "@", "-"])
def test_a_name_can_be_a_part_of_an_address(name):
    spec.given().when(RegisterUser(name)).then_raises(Rejected, "and no slash")


def test_a_user_is_registered_once():
    command = RegisterUser("ada@example.org")
    spec.given(REGISTERED).when(command).then_raises(AlreadyExists)


@pytest.mark.parametrize("name", ["ADA", " ada ", "\uff21da", "ad\uff41"])
def test_case_and_looks_do_not_tell_two_people_apart(name):
    assert user_of(name) == user_of("ada")


@pytest.mark.parametrize("name", ["adа", "ad", "a da", "ada@x"])  # noqa: RUF001 -- a Cyrillic letter
def test_other_names_are_other_people(name):
    assert user_of(name) != user_of("ada")


@pytest.mark.parametrize(
    "command",
    [
        DescribeUser("Ada"),
        JoinOrganisation(OURS),
        LeaveOrganisation(OURS),
        ChooseOrganisation(OURS),
        HoldToken(TOKEN),
        ReleaseToken(TOKEN),
    ],
)
def test_nothing_is_done_of_a_user_who_never_was(command):
    spec.given().when(command).then_raises(NotFound, "no such user")


def test_what_is_not_said_of_a_user_stays_as_it_was():
    described = UserDescribed("Ada", "", "ada@example.org")
    spec.given(REGISTERED).when(DescribeUser(" Ada ")).then(described)
    lovelace = UserDescribed("Ada", "Lovelace", "ada@example.org")
    given = spec.given(REGISTERED, described)
    given.when(DescribeUser(last_name="Lovelace")).then(lovelace)
    given.when(DescribeUser("Ada")).then()
    given.when(DescribeUser()).then()


def test_what_is_said_of_a_user_can_be_taken_back():
    given = spec.given(REGISTERED, UserDescribed("Ada", "L", "a@b"))
    given.when(DescribeUser(" ", "", "")).then(UserDescribed("", "", ""))


@pytest.mark.parametrize("field", ["first_name", "last_name", "email"])
def test_what_is_said_of_a_user_is_short_and_plain(field):
    for text in ("x" * 201, "a\nb"):
        command = DescribeUser(**{field: text})
        spec.given(REGISTERED).when(command).then_raises(Rejected, field)


def test_the_first_organisation_of_a_user_is_the_current_one():
    spec.given(REGISTERED).when(JoinOrganisation(OURS)).then(IN_OURS)
    state = spec.given(REGISTERED, IN_OURS, IN_THEIRS).state
    assert (state.organisations, state.current) == ((OURS, THEIRS), OURS)


def test_to_join_again_changes_nothing():
    spec.given(REGISTERED, IN_OURS).when(JoinOrganisation(OURS)).then()


def test_a_user_chooses_among_the_organisations_that_they_belong_to():
    given = spec.given(REGISTERED, IN_OURS, IN_THEIRS)
    given.when(ChooseOrganisation(THEIRS)).then(OrganisationChosen(THEIRS))
    given.when(ChooseOrganisation(OURS)).then()
    nowhere = ChooseOrganisation(OrganisationId("nowhere"))
    given.when(nowhere).then_raises(NotFound, "no such organisation")


def test_who_leaves_the_current_organisation_acts_in_the_eldest_that_is_left():
    given = spec.given(REGISTERED, IN_OURS, IN_THEIRS)
    given.when(LeaveOrganisation(OURS)).then(OrganisationLeft(OURS, THEIRS))
    given.when(LeaveOrganisation(THEIRS)).then(OrganisationLeft(THEIRS, OURS))
    left = spec.given(REGISTERED, IN_OURS, IN_THEIRS, OrganisationLeft(OURS, THEIRS))
    assert (left.state.organisations, left.state.current) == ((THEIRS,), THEIRS)


def test_who_leaves_their_only_organisation_acts_in_none_until_they_join_one():
    alone = spec.given(REGISTERED, IN_OURS)
    alone.when(LeaveOrganisation(OURS)).then(OrganisationLeft(OURS, None))
    nowhere = spec.given(REGISTERED, IN_OURS, OrganisationLeft(OURS, None))
    nowhere.when(LeaveOrganisation(OURS)).then()
    nowhere.when(JoinOrganisation(THEIRS)).then(IN_THEIRS)
    back = spec.given(REGISTERED, IN_OURS, OrganisationLeft(OURS, None), IN_THEIRS)
    assert back.state.current == THEIRS


def test_rule_86_a_user_has_one_live_personal_token_at_most():
    spec.given(REGISTERED).when(HoldToken(TOKEN)).then(HELD)
    given = spec.given(REGISTERED, HELD)
    given.when(HoldToken(TOKEN)).then()
    given.when(HoldToken(OTHER)).then_raises(Conflict, "rotate it or revoke it")


def test_rule_86_after_a_token_is_released_there_may_be_another():
    given = spec.given(REGISTERED, HELD)
    given.when(ReleaseToken(TOKEN)).then(PersonalTokenReleased(TOKEN))
    given.when(ReleaseToken(OTHER)).then()
    released = spec.given(REGISTERED, HELD, PersonalTokenReleased(TOKEN))
    released.when(ReleaseToken(TOKEN)).then()
    released.when(HoldToken(OTHER)).then(PersonalTokenHeld(OTHER))
