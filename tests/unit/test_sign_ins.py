"""Sign-ins from beginning to end, without HTTP: on a clock of the tests."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from uuid import UUID, uuid4

import attrs
import pytest
from attrs import define, field

from arena_core.application.grants import ACCESS, REFRESH, Grant, refresh_token
from arena_core.application.identity import authenticate
from arena_core.application.ports import Note
from arena_core.application.secrets import sealed
from arena_core.application.session import Paging
from arena_core.application.sign_ins import Refusal, SignIns
from arena_core.application.use_cases import Application, UseCases
from arena_core.domain import sign_in
from arena_core.domain.errors import (
    Flaw,
    Forbidden,
    IllegalTransition,
    NotFound,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from arena_core.domain.ids import OrganisationId, user_of
from arena_core.domain.sign_in import Status
from arena_core.domain.values import LIBRARY, Actor, ActorKind, Caller, Role
from unit.workers import Worker, World

MOMENT = timedelta(microseconds=1)
NOBODY = Caller(OrganisationId(""), Actor(ActorKind.SYSTEM, "anonymous"), Role.VIEWER)


@define
class Server:
    """A worker of a world, and whoever calls it."""

    world: World = field(factory=World)
    worker: Worker = field(init=False)
    application: Application = field(init=False)

    def __attrs_post_init__(self):
        self.worker = self.world.worker()
        self.application = attrs.evolve(
            self.worker.application, random_bytes=secrets.token_bytes
        )

    @property
    def core(self):
        return self.worker.core

    @property
    def client(self) -> SignIns:
        return self.application.on_behalf_of(NOBODY).sign_ins

    def operator(self, organisation: str = "default") -> UseCases:
        where = OrganisationId(organisation)
        return self.application.on_behalf_of(Caller(where, LIBRARY, Role.MANAGER))

    def issued(self, user: str = "ann", *, role: str = "member", where="default"):
        return self.operator(where).tokens.issue(name="laptop", user=user, role=role)

    def bearing(self, token: str) -> UseCases:
        return self.application.on_behalf_of(authenticate(self.core, token))

    def signed_in(self, token: str) -> Grant:
        begun = self.client.begin()
        self.bearing(token).sign_ins.approve(begun.user_code)
        granted = self.client.redeem(begun.device_code)
        assert isinstance(granted, Grant)
        return granted

    def refused(self, token: str) -> Flaw:
        with pytest.raises(Unauthenticated) as caught:
            authenticate(self.core, token)
        return caught.value.flaw

    def wait(self, time: timedelta) -> None:
        self.world.wait(time)

    def head(self) -> int:
        return self.world.store.head()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def token(server) -> str:
    return server.issued().token


# --- signing in ------------------------------------------------------------------


def test_who_begins_a_login_leaves_nothing_behind(server):
    head = server.head()
    begun = [server.client.begin() for _ in range(100)]
    for one in begun:
        assert server.client.redeem(one.device_code) is Refusal.PENDING
    assert server.head() == head
    assert len({one.user_code for one in begun}) == 100


def test_an_approved_client_acts_for_its_user_as_the_user_may(server, token):
    granted = server.signed_in(token)
    caller = authenticate(server.core, granted.access_token)
    by_token = authenticate(server.core, token)
    assert (caller.organisation, caller.role) == ("default", Role.MEMBER)
    assert (caller.actor.kind, caller.actor.name) == (ActorKind.USER, "ann")
    assert caller.actor.token_id != by_token.actor.token_id
    assert granted.expires_in_s == 15 * 60
    assert granted.refresh_expires_in_s == 30 * 24 * 60 * 60


def test_what_is_granted_is_in_no_event_and_in_no_repr(server, token):
    begun = server.client.begin()
    server.bearing(token).sign_ins.approve(begun.user_code)
    granted = server.client.redeem(begun.device_code)
    everything = repr([*server.world.store.read_all(), begun, granted, server.core])
    letters = begun.user_code.replace("-", "")
    for secret in (begun.device_code, granted.access_token, granted.refresh_token):
        assert secret not in everything
        assert secret[-20:] not in everything
    assert letters not in everything.replace(begun.user_code, "")


def test_a_code_is_pending_until_somebody_decides_and_then_gives_tokens_once(
    server, token
):
    begun = server.client.begin()
    assert server.client.redeem(begun.device_code) is Refusal.PENDING
    server.bearing(token).sign_ins.approve(begun.user_code)
    assert isinstance(server.client.redeem(begun.device_code), Grant)
    assert server.client.redeem(begun.device_code) is Refusal.INVALID


def test_who_asks_too_soon_is_told_to_slow_down_and_still_gets_in(server, token):
    begun = server.client.begin()
    assert server.client.redeem(begun.device_code) is Refusal.PENDING
    server.wait(timedelta(seconds=1) - MOMENT)
    assert server.client.redeem(begun.device_code) is Refusal.TOO_SOON
    server.wait(timedelta(seconds=2))
    assert server.client.redeem(begun.device_code) is Refusal.PENDING
    server.bearing(token).sign_ins.approve(begun.user_code)
    assert isinstance(server.client.redeem(begun.device_code), Grant)


def test_a_denied_client_is_told_so_every_time(server, token):
    begun = server.client.begin()
    server.bearing(token).sign_ins.deny(begun.user_code)
    for _ in range(2):
        assert server.client.redeem(begun.device_code) is Refusal.DENIED
    with pytest.raises(IllegalTransition):
        server.bearing(token).sign_ins.approve(begun.user_code)


@pytest.mark.parametrize("approved", [False, True])
def test_a_code_expires_at_its_moment_whether_it_was_approved_or_not(
    server, token, approved
):
    begun = server.client.begin()
    if approved:
        server.bearing(token).sign_ins.approve(begun.user_code)
    server.wait(timedelta(seconds=begun.expires_in_s))
    assert server.client.redeem(begun.device_code) is Refusal.EXPIRED


def test_a_code_is_good_until_the_moment_before(server, token):
    begun = server.client.begin()
    server.wait(timedelta(seconds=begun.expires_in_s) - MOMENT)
    server.bearing(token).sign_ins.approve(begun.user_code)
    assert isinstance(server.client.redeem(begun.device_code), Grant)


def test_an_expired_code_cannot_be_decided_about_and_a_mistyped_one_neither(
    server, token
):
    begun, head = server.client.begin(), server.head()
    server.wait(timedelta(seconds=begun.expires_in_s))
    person = server.bearing(token).sign_ins
    for decide in (person.approve, person.deny):
        with pytest.raises(Rejected, match="has expired"):
            decide(begun.user_code)
        with pytest.raises(Rejected, match="mistyped"):
            decide("BCDF-GHJK-LMNP")
    assert server.head() == head


def test_to_decide_twice_is_to_decide_once(server, token):
    begun = server.client.begin()
    server.bearing(token).sign_ins.approve(begun.user_code)
    head = server.head()
    server.bearing(token).sign_ins.approve(begun.user_code.lower())
    assert server.head() == head


@pytest.mark.parametrize("text", ["", "arena_dvc_", "eyJ", "x" * 10_000, "\ud800"])
def test_what_is_no_device_code_is_no_grant(server, text):
    assert server.client.redeem(text) is Refusal.INVALID


@pytest.mark.parametrize("trial", range(5))
def test_of_two_who_hold_the_same_code_on_two_workers_one_gets_in(trial):
    del trial
    world = World()
    servers = [Server(world), Server(world)]
    begun = servers[0].client.begin()
    token = servers[0].issued().token
    servers[1].bearing(token).sign_ins.approve(begun.user_code)
    together = Barrier(8)

    def redeem(number: int) -> Grant | Refusal:
        client = servers[number % 2].client
        together.wait()
        return client.redeem(begun.device_code)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(redeem, range(8)))
    assert sum(isinstance(one, Grant) for one in outcomes) == 1
    assert outcomes.count(Refusal.INVALID) == 7


def test_who_is_beaten_between_looking_and_taking_gets_nothing(server, token):
    """The race above, on purpose: the other is faster by a hair."""
    begun = server.client.begin()
    server.bearing(token).sign_ins.approve(begun.user_code)
    faster, other = server.client, Server(server.world)
    taken = []

    def clock():
        if not taken:
            taken.append(True)
            taken.append(faster.redeem(begun.device_code))
        return server.world.now

    beaten = attrs.evolve(
        other.client, session=attrs.evolve(
            other.client.session, core=attrs.evolve(other.core, clock=clock)
        )
    )  # fmt: skip
    assert beaten.redeem(begun.device_code) is Refusal.INVALID
    assert isinstance(taken[1], Grant)


# --- who may approve -------------------------------------------------------------


def test_a_client_that_is_signed_in_lets_no_other_in(server, token):
    granted = server.signed_in(token)
    begun, head = server.client.begin(), server.head()
    other = server.bearing(granted.access_token).sign_ins
    for decide in (other.approve, other.deny):
        with pytest.raises(Forbidden, match="personal token"):
            decide(begun.user_code)
    assert server.head() == head


@pytest.mark.parametrize("external", [None, "ann"])
def test_the_key_of_an_organisation_lets_nobody_in(server, external):
    key = server.operator().tokens.issue(name="ann", kind="org", role="manager").token
    caller = authenticate(server.core, key, external_user=external)
    begun = server.client.begin()
    with pytest.raises(Forbidden, match="personal token"):
        server.application.on_behalf_of(caller).sign_ins.approve(begun.user_code)


def test_whoever_has_the_store_lets_nobody_in(server):
    begun = server.client.begin()
    with pytest.raises(Forbidden, match="personal token"):
        server.operator().sign_ins.approve(begun.user_code)


def test_a_sign_in_may_no_more_than_the_token_that_approved_it(server):
    weak = server.issued("eve", role="viewer").token
    server.operator().organisations.change_role("default", "eve", Role.MANAGER)
    caller = authenticate(server.core, server.signed_in(weak).access_token)
    assert caller.role is Role.VIEWER


def test_a_sign_in_may_more_when_its_user_may_more_than_when_it_was_approved(server):
    token = server.issued("eve", role="manager").token
    server.issued("boss", role="manager")
    server.operator().organisations.change_role("default", "eve", Role.VIEWER)
    granted = server.signed_in(token)
    server.operator().organisations.change_role("default", "eve", Role.MANAGER)
    assert authenticate(server.core, granted.access_token).role is Role.MANAGER


def test_of_two_who_are_signed_in_neither_is_taken_for_the_other(server, token):
    anns, bobs = (
        server.signed_in(one).access_token
        for one in (token, server.issued("bob").token)
    )
    for _ in range(2):
        assert authenticate(server.core, anns).actor.name == "ann"
        assert authenticate(server.core, bobs).actor.name == "bob"


# --- what ends the access --------------------------------------------------------


def test_an_access_token_lives_a_quarter_of_an_hour_and_a_refresh_renews_it(
    server, token
):
    granted = server.signed_in(token)
    server.wait(ACCESS - MOMENT)
    assert authenticate(server.core, granted.access_token)
    server.wait(MOMENT)
    assert server.refused(granted.access_token) is Flaw.REVOKED
    renewed = server.client.refresh(granted.refresh_token)
    assert authenticate(server.core, renewed.access_token).actor.name == "ann"
    assert renewed.refresh_token == granted.refresh_token
    assert renewed.refresh_expires_in_s == granted.refresh_expires_in_s - 15 * 60


def test_a_refresh_leaves_nothing_behind(server, token):
    granted, head = server.signed_in(token), server.head()
    for _ in range(20):
        server.client.refresh(granted.refresh_token)
    assert server.head() == head


def test_no_refresh_leads_beyond_the_end_of_the_sign_in(server, token):
    granted = server.signed_in(token)
    server.wait(REFRESH - timedelta(minutes=1))
    last = server.client.refresh(granted.refresh_token)
    assert (last.expires_in_s, last.refresh_expires_in_s) == (60, 60)
    server.wait(timedelta(minutes=1) - MOMENT)
    assert isinstance(server.client.refresh(granted.refresh_token), Grant)
    server.wait(MOMENT)
    assert server.client.refresh(granted.refresh_token) is Refusal.INVALID
    assert server.refused(last.access_token) is Flaw.REVOKED


def test_signing_out_kills_both_tokens_at_once_and_only_those(server, token):
    here, there = server.signed_in(token), server.signed_in(token)
    assert authenticate(server.core, here.access_token)
    assert server.client.sign_out(here.refresh_token)
    assert server.refused(here.access_token) is Flaw.REVOKED
    assert server.client.refresh(here.refresh_token) is Refusal.INVALID
    assert authenticate(server.core, there.access_token)
    assert authenticate(server.core, token)


def test_to_sign_out_twice_is_to_sign_out_once(server, token):
    granted = server.signed_in(token)
    assert server.client.sign_out(granted.refresh_token)
    head = server.head()
    assert server.client.sign_out(granted.refresh_token)
    assert server.head() == head


def test_signing_out_is_known_to_every_other_worker_at_once(token, server):
    other = Server(server.world)
    granted = server.signed_in(token)
    assert authenticate(other.core, granted.access_token)
    server.client.sign_out(granted.refresh_token)
    assert other.refused(granted.access_token) is Flaw.REVOKED


def test_signing_out_says_so_if_another_worker_does_not_follow(monkeypatch):
    monkeypatch.setattr("arena_core.application.memberships.AGREEMENT_S", 0.0)
    world = World(agree=True)
    server, other = Server(world), Server(world)
    world.presence.tell(other.worker.id, Note(position=10**6))
    granted = server.signed_in(server.issued().token)
    world.presence.tell(other.worker.id, Note(position=0))
    with pytest.raises(Unavailable, match="not every process"):
        server.client.sign_out(granted.refresh_token)
    world.presence.tell(other.worker.id, Note(position=server.head()))
    assert server.client.sign_out(granted.refresh_token)


@pytest.mark.parametrize("how", ["revoke", "rotate"])
def test_a_token_takes_the_sign_ins_with_it_that_it_has_approved(server, how):
    issued = server.issued()
    granted = server.signed_in(issued.token)
    pending = server.client.begin()
    server.bearing(issued.token).sign_ins.approve(pending.user_code)
    tokens = server.bearing(issued.token).tokens
    getattr(tokens, how)(issued.view.id)
    assert server.refused(granted.access_token) is Flaw.REVOKED
    assert server.client.refresh(granted.refresh_token) is Refusal.INVALID
    assert server.client.redeem(pending.device_code) is Refusal.DENIED


def test_a_rotated_token_approves_again(server):
    issued = server.issued()
    server.signed_in(issued.token)
    rotated = server.bearing(issued.token).tokens.rotate(issued.view.id)
    granted = server.signed_in(rotated.token)
    assert authenticate(server.core, granted.access_token).actor.name == "ann"


def test_a_change_of_role_acts_on_access_tokens_at_once(server):
    granted = server.signed_in(server.issued(role="manager").token)
    server.issued("boss", role="manager")
    for role in (Role.VIEWER, Role.MEMBER, Role.MANAGER):
        server.operator().organisations.change_role("default", "ann", role)
        assert authenticate(server.core, granted.access_token).role is role


def test_who_is_removed_from_their_organisation_has_no_access_any_more(server, token):
    server.issued("boss", role="manager")
    granted = server.signed_in(token)
    server.operator().organisations.remove("default", "ann")
    assert server.refused(granted.access_token) is Flaw.REVOKED
    assert server.client.refresh(granted.refresh_token) is Refusal.INVALID


# --- forged and strange ----------------------------------------------------------


def test_a_refresh_token_is_derived_from_its_sign_in_and_another_secret_makes_none(
    server, token
):
    granted = server.signed_in(token)
    sign_in_id = UUID(hex=granted.refresh_token.split("_")[2])
    forged = sealed(f"arena_ref_{sign_in_id.hex}", bytes(32))
    unknown = refresh_token(server.core, uuid4())
    nothing = sealed("arena_ref_zz", bytes(32))
    for text in (forged, unknown, nothing, sealed("x", bytes(32)), "", "x" * 9999):
        assert server.client.refresh(text) is Refusal.INVALID
        assert not server.client.sign_out(text)
    assert authenticate(server.core, granted.access_token)


def test_no_refresh_token_serves_as_an_access_token_or_the_other_way_round(
    server, token
):
    granted = server.signed_in(token)
    assert server.refused(granted.refresh_token)
    assert server.client.refresh(granted.access_token) is Refusal.INVALID
    assert not server.client.sign_out(granted.access_token)


def test_a_signed_token_of_a_sign_in_that_never_was_is_refused(server, token):
    granted = server.signed_in(token)
    claims = server.core.signer.verify(granted.access_token, server.world.now)
    unknown = attrs.evolve(claims, sign_in_id=uuid4())
    other_kind = attrs.evolve(claims, sign_in_id=user_of("ann"))
    for made_up in (unknown, other_kind):
        assert server.refused(server.core.signer.sign(made_up)) is Flaw.REVOKED


def test_an_approval_that_nobody_has_taken_up_gives_no_access(server, token):
    begun = server.client.begin()
    server.bearing(token).sign_ins.approve(begun.user_code)
    made = [r for r in server.world.store.read_all() if r.name == "sign_in.approved"]
    granted = server.signed_in(token)
    claims = server.core.signer.verify(granted.access_token, server.world.now)
    early = attrs.evolve(claims, sign_in_id=made[0].stream)
    assert server.refused(server.core.signer.sign(early)) is Flaw.REVOKED


# --- one's own -------------------------------------------------------------------


def test_one_sees_ones_own_sign_ins_that_live_and_nobody_elses(server, token):
    begun = server.client.begin()
    server.bearing(token).sign_ins.approve(begun.user_code)  # not taken up
    granted = [server.signed_in(token) for _ in range(3)]
    server.client.sign_out(granted[1].refresh_token)
    stranger = server.issued("bob").token
    server.signed_in(stranger)
    mine = server.bearing(token).sign_ins.list()
    assert [view.client for view in mine] == ["arena-cli"] * 2
    assert server.bearing(granted[0].access_token).sign_ins.list() == mine
    assert len(server.bearing(stranger).sign_ins.list()) == 1


def test_sign_ins_are_listed_page_by_page(server, token):
    for _ in range(5):
        server.signed_in(token)
    mine = server.bearing(token).sign_ins
    seen, after = [], 0
    while after is not None:
        part = mine.list(paging=Paging(after, 2))
        seen += part.items
        after = part.next_after
    assert seen == mine.list().items
    assert len(seen) == 5


def test_sign_ins_are_listed_as_they_were(server, token):
    granted = server.signed_in(token)
    then = server.head()
    server.client.sign_out(granted.refresh_token)
    server.wait(REFRESH)
    caller = authenticate(server.core, token)
    for as_of, expected in ((0, 0), (then - 1, 0), (then, 1), (then + 1, 0), (None, 0)):
        past = server.application.on_behalf_of(caller, as_of=as_of)
        assert len(past.sign_ins.list()) == expected, as_of


def test_sign_ins_that_have_expired_are_not_listed(server, token):
    server.signed_in(token)
    server.wait(REFRESH - MOMENT)
    assert len(server.bearing(token).sign_ins.list()) == 1
    server.wait(MOMENT)
    assert len(server.bearing(token).sign_ins.list()) == 0


def test_who_is_no_user_has_no_sign_ins(server, token):
    granted = server.signed_in(token)
    assert len(server.operator().sign_ins.list()) == 0
    view = server.bearing(granted.access_token).sign_ins.list()[0]
    with pytest.raises(NotFound):
        server.operator().sign_ins.end(view.id)


def test_one_ends_ones_own_sign_ins_and_no_others(server, token):
    granted = server.signed_in(token)
    mine = server.bearing(token)
    view = mine.sign_ins.list()[0]
    stranger = server.bearing(server.issued("bob", role="manager").token)
    of_another_kind = mine.session.caller.actor.token_id
    for who, what in (
        (stranger, view.id),
        (mine, uuid4()),
        (mine, of_another_kind),
    ):
        with pytest.raises(NotFound, match="no such sign-in"):
            who.sign_ins.end(what)
    assert authenticate(server.core, granted.access_token)
    mine.sign_ins.end(view.id)
    assert server.refused(granted.access_token) is Flaw.REVOKED
    mine.sign_ins.end(view.id)  # it stays so


def test_a_sign_in_ends_where_it_began_whoever_of_its_users_organisations_is_current(
    server, token
):
    granted = server.signed_in(token)
    other = server.bearing(token).organisations.create("Other")
    server.bearing(token).users.edit(current_organisation=other.id)
    assert authenticate(server.core, granted.access_token).organisation == other.id
    server.bearing(token).sign_ins.end(server.bearing(token).sign_ins.list()[0].id)
    of_sign_ins = [
        r.context for r in server.world.store.read_all() if r.name.startswith("sign_in")
    ]
    assert {context.organisation for context in of_sign_ins} == {"default"}
    assert {context.actor.name for context in of_sign_ins} == {"ann"}


def test_the_rows_of_sign_ins_say_whose_they_are(server, token):
    server.signed_in(token)
    (view,) = server.bearing(token).sign_ins.list()
    row = server.core.views.rows.get(view.id)
    assert (row.kind, row.parent) == (sign_in.KIND, user_of("ann"))
    assert row.state.status is Status.LIVE
