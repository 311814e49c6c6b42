"""What a caller's rights hang on."""

import pytest

from arena_core.application.callers import require_role, unchanged
from arena_core.application.handling import Change
from arena_core.application.identity import authenticate
from arena_core.application.ports import Write
from arena_core.domain import project
from arena_core.domain.errors import Conflict, Forbidden
from arena_core.domain.ids import OrganisationId, organisation_of, user_of
from arena_core.domain.values import LIBRARY, Caller, ProjectKind, Role
from unit.people import MANAGING
from unit.scenes import CONTEXT

DEFAULT = OrganisationId("default")


def hung_on(core, caller):
    """Return the streams that an append of this caller would guard."""
    return {write.stream for write in unchanged(core, caller, lambda: caller)}


@pytest.fixture
def issue(scene):
    return lambda **said: scene.operator().tokens.issue(name="t", **said)


def test_a_users_rights_hang_on_the_token_the_user_and_the_organisation(core, issue):
    issued = issue(user="ann")
    caller = authenticate(core, issued.token)
    streams = {issued.view.id, user_of("ann"), organisation_of(DEFAULT)}
    assert hung_on(core, caller) == streams


def test_the_rights_of_who_is_signed_in_hang_on_the_token_that_approved_it_too(
    scene, core, issue, bearing
):
    issued = issue(user="ann")
    begun = scene.use.sign_ins.begin()
    bearing(issued.token).sign_ins.approve(begun.user_code)
    granted = scene.use.sign_ins.redeem(begun.device_code)
    caller = authenticate(core, granted.access_token)
    streams = {caller.actor.token_id, issued.view.id, user_of("ann")}
    assert caller.actor.token_id != issued.view.id
    assert hung_on(core, caller) == {*streams, organisation_of(DEFAULT)}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("needed", Role)
def test_a_role_covers_itself_and_what_is_below_it(role, needed):
    caller = Caller(DEFAULT, LIBRARY, role)
    ranks = [Role.VIEWER, Role.MEMBER, Role.MANAGER]
    if ranks.index(role) >= ranks.index(needed):
        require_role(caller, needed)
        return
    with pytest.raises(Forbidden, match=f"needs the role {needed.value}.*{role.value}"):
        require_role(caller, needed)


def test_an_organisations_key_hangs_on_itself(core, issue):
    issued = issue(kind="org")
    caller = authenticate(core, issued.token, external_user="theirs")
    assert hung_on(core, caller) == {issued.view.id}


@pytest.mark.parametrize("caller", [MANAGING, Caller(DEFAULT, LIBRARY, Role.MANAGER)])
def test_who_has_the_store_itself_hangs_on_nothing(core, caller):
    assert hung_on(core, caller) == set()


def test_a_token_from_before_there_were_users_hangs_on_what_is_not_there_yet(
    core, older
):
    caller = authenticate(core, older("ann"))
    guarded = unchanged(core, caller, lambda: caller)
    assert Write(user_of("ann"), 0, ()) in guarded


def test_who_is_somebody_else_by_now_is_told_to_ask_again(core, issue):
    ann, bob = (authenticate(core, issue(user=u).token) for u in ("ann", "bob"))
    with pytest.raises(Conflict, match="ask again"):
        unchanged(core, ann, lambda: bob)


def test_what_is_guarded_is_asked_for_anew_whenever_somebody_was_faster(core):
    stream, asked = core.new_id(), []
    command = project.CreateProject(stream, "p", ProjectKind.CLASSIC, "")

    def guard():
        asked.append(None)
        return [Write(user_of("nobody"), 2 - len(asked), ())]  # which is at 0

    core.handler.handle(CONTEXT, Change(project, stream, command), guard=guard)
    assert len(asked) == 2
    assert len(core.store.read(stream)) == 1
