"""Organisations, members, invitations and one's own tokens, as callers see them."""

import pytest

from end_to_end.http_world import assert_problem, bearing, opened

API = "/api/v1"
OURS = f"{API}/organisations/default"
ACCEPT = f"{API}/invitations/accept"
ME = f"{API}/users/me"
TOKENS = f"{API}/tokens"


@pytest.fixture
def world():
    with opened(serve=False) as world:
        yield world


@pytest.fixture
def manager(world):
    return world.client(world.issued("manager", user="ada@x.org").token)


def invited(manager, user, role="member", where=OURS):
    """Return the text of a new invitation."""
    answer = manager.post(f"{where}/invitations", json={"user": user, "role": role})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    return answer.json()["token"]


def accepted(world, token, **described):
    """Return the new user's client."""
    answer = world.client().post(ACCEPT, json={"token": token, **described})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    return world.client(answer.json()["token"])


def test_who_is_invited_comes_in_and_is_shown_a_token_once(world, manager):
    token = invited(manager, "bob@x.org", "viewer")
    bob = accepted(world, token, first_name="Bob", last_name="B")
    assert bob.get(ME).json() == {
        "name": "bob@x.org",
        "email": "bob@x.org",
        "first_name": "Bob",
        "last_name": "B",
        "current_organisation": "default",
        "organisations": [
            {
                "id": "default",
                "name": "default",
                "role": "viewer",
                "created_at": bob.get(OURS).json()["created_at"],
            }
        ],
    }
    assert manager.get(f"{OURS}/members").json()["items"] == [
        {"user": "ada@x.org", "role": "manager"},
        {"user": "bob@x.org", "role": "viewer"},
    ]
    assert manager.get(f"{OURS}/invitations").json()["items"] == []


def test_an_invitation_is_shown_without_its_secret_and_withdrawn(world, manager):
    token = invited(manager, "bob")
    (open_,) = manager.get(f"{OURS}/invitations").json()["items"]
    assert open_.keys() == {"id", "user", "role", "expires_at"}
    where = f"{OURS}/invitations/{open_['id']}"
    assert manager.delete(where).json() == {}
    assert_problem(manager.delete(where), 404)
    assert_problem(world.client().post(ACCEPT, json={"token": token}), 401)


def test_all_that_is_wrong_with_an_invitation_is_told_in_the_same_words(world, manager):
    void, token = invited(manager, "bob"), invited(manager, "bob")
    of_user = invited(manager, "cy")
    accepted(world, token)
    cy = world.issued(user="cy", organisation="elsewhere").token
    stranger = bearing(world.token())
    asked = [
        ({"token": text}, headers)
        for text in (void, token, of_user, token[:-1] + "?", "", "x" * 5000)
        for headers in ({}, stranger)
    ]
    details = {
        assert_problem(world.client().post(ACCEPT, json=body, headers=headers), 401)[
            "detail"
        ]
        for body, headers in asked
    }
    assert len(details) == 1
    own = world.client(cy).post(ACCEPT, json={"token": of_user})
    assert (own.status_code, own.json()["token"]) == (200, None)
    basic = {"Authorization": "Basic x"}
    refused = world.client().post(ACCEPT, json={"token": of_user}, headers=basic)
    assert_problem(refused, 401)


def test_rule_02_another_organisation_is_not_there_whatever_is_asked(world, manager):
    stranger = world.client(world.issued(user="eve", organisation="theirs").token)
    head = world.head()
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("GET", "/members", None),
        ("PATCH", "/members/eve", {"role": "viewer"}),
        ("DELETE", "/members/eve", None),
        ("GET", "/invitations", None),
        ("POST", "/invitations", {"user": "x"}),
        ("DELETE", "/invitations/00000000-0000-0000-0000-000000000000", None),
    ):
        for where in ("theirs", "nowhere", "x" * 201, "%2e%2e"):
            answer = manager.request(
                method, f"{API}/organisations/{where}{path}", json=body
            )
            assert_problem(answer, 404)
    chosen = manager.patch(ME, json={"current_organisation": "theirs"})
    assert_problem(chosen, 404)
    assert stranger.get(OURS).status_code == 404
    assert world.head() == head


def test_rule_02_a_user_acts_in_the_organisation_that_they_have_chosen(manager):
    ours = manager.post(f"{API}/projects", json={"name": "ours"}).json()
    made = manager.post(f"{API}/organisations", json={"name": "Side & co"})
    assert (made.status_code, made.json()["role"]) == (201, "manager")
    side = made.headers["location"].removeprefix("http://testserver")
    assert_problem(manager.patch(side, json={"name": "x"}), 409)
    manager.patch(ME, json={"current_organisation": made.json()["id"]})
    assert manager.get(f"{API}/projects").json()["items"] == []
    assert_problem(manager.get(f"{API}/projects/{ours['id']}"), 404)
    assert manager.patch(side, json={"name": "Side"}).json()["name"] == "Side"
    assert_problem(manager.patch(OURS, json={"name": "x"}), 409)
    names = [o["name"] for o in manager.get(f"{API}/organisations").json()["items"]]
    assert names == ["default", "Side"]


def test_rule_03_a_role_is_changed_by_managers_and_enforced_at_once(world, manager):
    bob = accepted(world, invited(manager, "bob"))
    where, project = f"{OURS}/members/bob", {"name": "p"}
    assert_problem(bob.patch(where, json={"role": "manager"}), 403)
    assert bob.post(f"{API}/projects", json=project).status_code == 201
    assert manager.patch(where, json={"role": "viewer"}).json()["role"] == "viewer"
    assert_problem(bob.post(f"{API}/projects", json=project), 403)
    myself = f"{OURS}/members/ada%40x.org"
    assert_problem(manager.patch(myself, json={"role": "member"}), 409)
    assert_problem(manager.delete(myself), 409)


def test_rule_04_what_a_removed_member_owned_is_the_managers(world, manager):
    bob = accepted(world, invited(manager, "bob"))
    made = bob.post(f"{API}/projects", json={"name": "p"}).json()
    assert made["owner"] == "user:bob"
    assert manager.delete(f"{OURS}/members/BOB").json() == {}
    assert_problem(bob.get(f"{API}/projects"), 401)
    now = manager.get(f"{API}/projects/{made['id']}").json()
    assert now["owner"] == "user:ada@x.org"


def test_a_member_leaves_and_removes_nobody(world, manager):
    bob = accepted(world, invited(manager, "bob"))
    assert_problem(bob.delete(f"{OURS}/members/ada%40x.org"), 403)
    assert bob.delete(f"{OURS}/members/bob").status_code == 200
    assert_problem(bob.get(ME), 401)


def test_rule_86_a_user_has_one_token_and_turns_it_themself(world, manager):
    bob = accepted(world, invited(manager, "bob"))
    assert_problem(bob.post(TOKENS, json={"name": "second"}), 409)
    refused = assert_problem(manager.post(TOKENS, json={"name": "t", "user": "bob"}))
    assert (refused["status"], "invite" in refused["detail"]) == (403, True)
    (own,) = bob.get(TOKENS).json()["items"]
    assert len(manager.get(TOKENS).json()["items"]) == 2
    where = f"{TOKENS}/{own['id']}"
    assert_problem(manager.post(f"{where}/rotate"), 403)
    turned = bob.post(f"{where}/rotate").json()
    assert (turned["last_four"], turned["user"]) == (turned["token"][-4:], "bob")
    assert_problem(bob.get(ME), 401)
    bob = world.client(turned["token"])
    assert bob.get(ME).status_code == 200
    assert manager.delete(where).json() == {}
    assert_problem(bob.get(ME), 401)


def test_keys_of_an_organisation_are_for_managers(world, manager):
    bob = accepted(world, invited(manager, "bob"))
    assert_problem(bob.post(TOKENS, json={"name": "k", "kind": "org"}), 403)
    key = manager.post(TOKENS, json={"name": "k", "kind": "org"}).json()
    assert (key["kind"], key["role"], key["user"]) == ("org", "member", "k")
    assert_problem(bob.delete(f"{TOKENS}/{key['id']}"), 404)
    caller = world.client(
        key["token"],
    )
    assert caller.get(ME).json()["name"] == "k"
    outside = {"X-External-User-Id": "grace"}
    assert caller.get(ME, headers=outside).json()["name"] == "grace"
    assert_problem(caller.patch(ME, json={"first_name": "x"}), 403)
    assert_problem(caller.post(f"{API}/organisations", json={"name": "x"}), 403)


def test_an_organisation_is_renamed_if_it_is_as_it_was_read(manager):
    seen = manager.get(OURS).headers["etag"]
    stale = {"If-Match": seen}
    assert manager.patch(OURS, json={"name": "a"}, headers=stale).is_success
    assert_problem(manager.patch(OURS, json={"name": "b"}, headers=stale), 412)


def test_to_create_an_organisation_twice_under_one_key_creates_one(manager):
    key = {"Idempotency-Key": '"one"'}
    made = [
        manager.post(f"{API}/organisations", json={"name": "x"}, headers=key).json()
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert len(manager.get(f"{API}/organisations").json()["items"]) == 2


def test_an_invitation_asked_for_twice_under_one_key_shows_its_secret_once(manager):
    key = {"Idempotency-Key": '"one"'}
    where = f"{OURS}/invitations"
    first = manager.post(where, json={"user": "bob"}, headers=key)
    assert first.status_code == 201
    again = manager.post(where, json={"user": "bob"}, headers=key)
    assert_problem(again, 409)
    assert first.json()["token"] not in again.text
    assert len(manager.get(where).json()["items"]) == 1


def test_no_answer_and_no_event_holds_the_secret_of_an_invitation(world, manager):
    token = invited(manager, "bob")
    secret = token.rpartition("_")[2]
    bob = accepted(world, token)
    for client in (manager, bob):
        for path in ("/events", "/organisations/default/members", "/users/me"):
            text = client.get(f"{API}{path}").text
            assert secret not in text
            assert "sha256" not in text


def test_who_is_invited_is_not_for_members_to_read(world, manager):
    bob = accepted(world, invited(manager, "bob"))
    invited(manager, "zoe@secret.example")
    assert "zoe@secret.example" not in bob.get(f"{API}/events").text
    assert "zoe@secret.example" in manager.get(f"{API}/events").text
    assert_problem(bob.get(f"{OURS}/invitations"), 403)
