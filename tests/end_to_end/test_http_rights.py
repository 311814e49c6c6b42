"""Nothing is done by who has lost the right to it, however late they lost it."""

import json

import pytest

from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.application.session import Session

from end_to_end.http_world import asked, assert_problem, bearing, opened
from end_to_end.test_http_login import SIGN_INS, Client, signed_in
from every_shape import EVERY_SHAPE

MEMBERS = "/api/v1/organisations/default/members"
INVITATIONS = "/api/v1/organisations/default/invitations"
KEY = {"name": "for ever", "kind": "org", "role": "manager"}


@pytest.fixture
def world():
    with opened() as world:
        yield world


@pytest.fixture(params=["before the transaction", "before the append"])
def meanwhile(request, monkeypatch):
    """Return a function that has something happen when all has been looked at."""
    owner, name = Session, "execute"
    if request.param == "before the append":
        owner, name = MemoryEventStore, "append"
    original = getattr(owner, name)

    def arrange(happening):
        def interposed(self, *given, **named):
            monkeypatch.setattr(owner, name, original)
            happening()
            return original(self, *given, **named)

        monkeypatch.setattr(owner, name, interposed)

    return arrange


def one_by_one(body, happening):
    """Yield a body during which something happens."""
    whole = json.dumps(body).encode()
    yield {"type": "http.request", "body": whole[:-1], "more_body": True}
    happening()
    yield {"type": "http.request", "body": whole[-1:], "more_body": False}


def begun_during(world, token, path, body, happening):
    """Return the answer to a POST while whose body comes something happens."""
    return asked(
        world.app,
        "POST",
        path,
        headers=[("authorization", f"Bearer {token}")],
        messages=one_by_one(body, happening),
    )


def demoted(world, name):
    return lambda: world.arena.organisations.change_role("default", name, "viewer")


def removed(world, name):
    return lambda: world.arena.organisations.remove("default", name)


def kinds_of_tokens(world):
    return {view.kind.value for view in world.arena.tokens.list()}


# --- while the body comes ------------------------------------------------------------


@pytest.mark.parametrize("end", [demoted, removed])
def test_who_is_no_manager_any_more_when_the_body_is_complete_makes_no_key(world, end):
    world.issued()
    bob = world.issued(user="bob").token
    own = world.client(bob).post("/api/v1/organisations", json={"name": "bob's own"})
    assert own.status_code == 201
    answer = begun_during(world, bob, "/api/v1/tokens", KEY, end(world, "bob"))
    assert answer.status == 409
    assert kinds_of_tokens(world) == {"pat"}


def test_who_acts_elsewhere_when_the_body_is_complete_changes_nothing_here(world):
    world.issued()
    bob = world.issued("member", user="bob").token
    client = world.client(bob)
    client.post("/api/v1/organisations", json={"name": "bob's own"})
    made = world.experiment()
    points = {"points": [{"step": 1, "name": "fitness", "value": 9.0}]}
    path = f"/api/v1/experiments/{made.id}/metrics"
    answer = begun_during(world, bob, path, points, removed(world, "bob"))
    assert answer.status == 409
    assert not world.arena.experiments.metrics(made.id)


# --- when all but the append is done -------------------------------------------------


@pytest.mark.parametrize("end", ["rotate", "revoke"])
def test_a_sign_in_that_is_approved_while_its_token_ends_never_lives(
    world, meanwhile, end
):
    issued = world.issued(user="ann")
    client = Client(world)
    begun = client.begin()
    meanwhile(lambda: getattr(world.arena.tokens, end)(issued.view.id))
    answer = world.client(issued.token).post(
        f"{SIGN_INS}/approve", json={"user_code": begun["user_code"]}
    )
    assert_problem(answer, 401)
    assert client.poll(begun["device_code"]).json()["error"] == "authorization_pending"


def test_a_client_that_is_signed_in_gets_no_token_of_its_own_by_ending_its_users(
    world, meanwhile
):
    issued = world.issued(user="ann")
    client = world.client(signed_in(world, issued.token)["access_token"])
    path = f"/api/v1/tokens/{issued.view.id}"
    meanwhile(lambda: client.delete(path).raise_for_status())
    assert_problem(client.post("/api/v1/tokens", json={"name": "mine now"}))
    assert "mine now" not in {view.name for view in world.arena.tokens.list()}


@pytest.mark.parametrize(
    "letting",
    [("/api/v1/tokens", KEY), (INVITATIONS, {"user": "a friend", "role": "manager"})],
)
@pytest.mark.parametrize(("end", "status"), [(demoted, 409), (removed, 401)])
def test_a_manager_who_is_none_any_more_lets_nobody_in(
    world, meanwhile, letting, end, status
):
    path, body = letting
    world.issued()
    bob = world.client(world.issued(user="bob").token)
    meanwhile(end(world, "bob"))
    assert_problem(bob.post(path, json=body), status)
    assert kinds_of_tokens(world) == {"pat"}
    assert not world.arena.invitations.list("default")


def test_of_two_managers_who_remove_each_other_one_is_left(world, meanwhile):
    ann, bob = (world.client(world.issued(user=u).token) for u in ("ann", "bob"))
    world.issued(user="cem")
    meanwhile(lambda: ann.delete(f"{MEMBERS}/bob").raise_for_status())
    assert_problem(bob.delete(f"{MEMBERS}/ann"), 401)
    members = ann.get(MEMBERS).json()["items"]
    assert [member["user"] for member in members] == ["ann", "cem"]


def test_of_two_rotations_of_one_secret_only_one_shows_another(world, meanwhile):
    issued = world.issued(user="ann")
    path = f"/api/v1/tokens/{issued.view.id}/rotate"
    first = []
    meanwhile(lambda: first.append(world.client(issued.token).post(path)))
    assert_problem(world.client(issued.token).post(path), 401)
    secret = first[0].raise_for_status().json()["token"]
    assert world.client(secret).get("/api/v1/projects").is_success


def test_an_organisations_key_that_ends_meanwhile_writes_nothing(world, meanwhile):
    key = world.issued("member", kind="org")
    headers = {**bearing(key.token), "X-External-User-Id": "their user"}
    meanwhile(lambda: world.arena.tokens.revoke(key.view.id))
    answer = world.client().post(
        "/api/v1/projects", json={"name": "late"}, headers=headers
    )
    assert_problem(answer, 401)
    assert not world.arena.projects.list()


def test_what_others_do_meanwhile_keeps_nobody_from_what_they_may(world, meanwhile):
    ann, bob = (world.client(world.issued(user=u).token) for u in ("ann", "bob"))
    meanwhile(lambda: ann.post(INVITATIONS, json={"user": "cem"}).raise_for_status())
    assert bob.post(INVITATIONS, json={"user": "dee"}).status_code == 201
    invited = world.arena.invitations.list("default")
    assert [invitation.user for invitation in invited] == ["cem", "dee"]


@pytest.mark.parametrize(("end", "status"), [(demoted, 409), (removed, 401)])
def test_who_is_no_member_any_more_takes_no_agent_off(
    world, meanwhile, tmp_path, end, status
):
    endpoint = world.live(EVERY_SHAPE["box"].write(tmp_path / "box"), algorithm="SAC")
    world.issued()
    bob = world.client(world.issued("member", user="bob").token)
    meanwhile(end(world, "bob"))
    answer = bob.post(f"/v2/repository/models/{endpoint.agent_id}/unload")
    assert answer.status_code == status, answer.text
    agent = world.arena.agents.get(endpoint.agent_id)
    assert agent.deployment.connected
