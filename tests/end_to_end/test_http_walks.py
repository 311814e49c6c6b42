"""A walk over a list, page by page, while things come and go."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from end_to_end.http_world import assert_problem, opened

API = "/api/v1"
PROJECTS = f"{API}/projects"


class Walk(RuleBasedStateMachine):
    """One walks over the projects; others make, rename and delete some meanwhile.

    What is there from the walk's beginning to its end is met exactly once; what is not
    there at any time in between is never met.
    """

    world = None

    @initialize()
    def begin(self):
        self.client = self.world.member()
        for item in self.client.get(f"{PROJECTS}?limit=1000").json()["items"]:
            self.client.delete(f"{PROJECTS}/{item['id']}")
        self.alive = set()
        self.restart()

    def restart(self):
        self.there_throughout = set(self.alive)
        self.there_at_any_time = set(self.alive)
        self.met, self.next = [], None

    @rule(number=st.integers(1, 4))
    def create(self, number):
        for _ in range(number):
            made = self.client.post(PROJECTS, json={"name": "x"}).json()["id"]
            self.alive.add(made)
            self.there_at_any_time.add(made)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def delete(self, data):
        gone = data.draw(st.sampled_from(sorted(self.alive)))
        self.client.delete(f"{PROJECTS}/{gone}")
        self.alive.discard(gone)
        self.there_throughout.discard(gone)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def rename(self, data):
        one = data.draw(st.sampled_from(sorted(self.alive)))
        self.client.patch(f"{PROJECTS}/{one}", json={"name": "y"})

    @rule(limit=st.integers(1, 3))
    def turn(self, limit):
        if self.next is None:
            answer = self.client.get(PROJECTS, params={"limit": limit})
        else:
            answer = self.client.get(self.next)
        self.met += [item["id"] for item in answer.json()["items"]]
        assert len(self.met) == len(set(self.met))
        assert set(self.met) <= self.there_at_any_time
        self.next = answer.links.get("next", {}).get("url")
        assert (self.next is None) == (answer.json()["next_cursor"] is None)
        if self.next is None:
            assert self.there_throughout <= set(self.met)
            self.restart()


@pytest.mark.slow
def test_a_walk_neither_skips_nor_repeats_whatever_happens_meanwhile():
    with opened(serve=False) as world:
        machine = type("Walk", (Walk,), {"world": world})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=15, stateful_step_count=40)
        )


@pytest.fixture(scope="module")
def world():
    with opened(serve=False) as world:
        yield world


@pytest.fixture(scope="module")
def client(world):
    client = world.member()
    for number in range(5):
        kind = "advanced" if number % 2 else "classic"
        client.post(PROJECTS, json={"name": f"p{number}", "kind": kind})
    return client


def cursor(answer):
    return answer.json()["next_cursor"]


def test_the_link_goes_on_where_the_cursor_does(client):
    first = client.get(PROJECTS, params={"limit": 2, "name": "p1"})
    assert "link" not in first.headers
    first = client.get(PROJECTS, params={"limit": 2})
    link = first.links["next"]["url"]
    query = parse_qs(urlsplit(link).query)
    assert query == {"limit": ["2"], "cursor": [cursor(first)]}
    assert urlsplit(link).path == PROJECTS
    by_hand = client.get(PROJECTS, params={"limit": 2, "cursor": cursor(first)})
    assert client.get(link).json() == by_hand.json()


def test_below_a_prefix_the_link_is_below_it_too(world):
    client = world.client(world.token(), root_path="/arena")
    first = client.get("/arena" + PROJECTS, params={"limit": 1})
    assert urlsplit(first.links["next"]["url"]).path == f"/arena{PROJECTS}"


def test_a_page_may_have_another_length_than_the_one_before(client):
    first = client.get(PROJECTS, params={"limit": 1})
    rest = client.get(PROJECTS, params={"limit": 100, "cursor": cursor(first)})
    names = [p["name"] for p in first.json()["items"] + rest.json()["items"]]
    assert names == [f"p{n}" for n in range(5)]


def test_a_walk_through_the_past_stays_there(world, client):
    then = world.head()
    first = client.get(PROJECTS, params={"limit": 2, "as_of": then})
    made = client.post(PROJECTS, json={"name": "later"}).json()
    seen, answer = first.json()["items"], first
    while "next" in answer.links:
        answer = client.get(answer.links["next"]["url"])
        seen += answer.json()["items"]
    client.delete(f"{PROJECTS}/{made['id']}")
    assert [p["name"] for p in seen] == [f"p{n}" for n in range(5)]


def test_a_cursor_is_good_for_its_own_list_only(world, client):
    taken = cursor(client.get(PROJECTS, params={"limit": 2}))
    stranger = world.client(world.token(organisation="rivals"))
    for asked, path, params in (
        (client, PROJECTS, {"name": "p1"}),
        (client, PROJECTS, {"as_of": str(world.head())}),
        (client, f"{API}/experiments", {}),
        (stranger, PROJECTS, {}),
    ):
        answer = asked.get(path, params={"cursor": taken, **params})
        problem = assert_problem(answer, 400, "/cursor")
        assert problem["code"] == "INVALID_CURSOR"


@pytest.mark.parametrize("value", ["", "x", "7", "A" * 43, "\u0661"])
def test_what_is_no_cursor_is_refused(client, value):
    answer = client.get(PROJECTS, params={"cursor": value})
    assert_problem(answer, 400, "/cursor")


def test_another_process_with_the_same_secret_goes_on(tmp_path):
    with opened(tmp_path / "a.db", serve=False) as one:
        token = one.token()
        client = one.client(token)
        for _ in range(3):
            client.post(PROJECTS, json={"name": "x"})
        taken = cursor(client.get(PROJECTS, params={"limit": 2}))
    with opened(tmp_path / "a.db", serve=False) as two:
        rest = two.client(token).get(PROJECTS, params={"cursor": taken})
        assert len(rest.json()["items"]) == 1
