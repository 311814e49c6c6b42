"""Training over HTTP: real processes are trained, watched, stopped and resumed."""

import csv
import io
import sys
from contextlib import contextmanager

import pytest
from attrs import field, frozen

from arena_core.entrypoints.http.server import Server, listen

import bundles
from end_to_end.event_streams import Stream, streaming
from end_to_end.http_world import assert_problem, opened
from end_to_end.processes import eventually

pytestmark = pytest.mark.slow

API = "/api/v1"
PROGRAM = """
import sys, time
from arena_core.training import Run
bundle, steps, hangs = sys.argv[1], int(sys.argv[2]), "hang" in sys.argv
with Run() as run:
    for step in range(run.first_step + 1, run.first_step + steps + 1):
        run.log(step, score=step / 2, fitness=float(step))
        print("step", step, flush=True)
        if bundle != "none":
            run.checkpoint(step, bundle)
    while hangs and not run.should_stop:
        time.sleep(0.01)
"""


@frozen(eq=False)
class Lab:
    """An advanced project of somebody who may train, and the programs that do."""

    world: object
    client: object
    project: str
    bundle: str

    def experiment(self, *words, name="ppo", **said):
        """Return the address of an experiment that the program trains so."""
        argv = [sys.executable, "-c", PROGRAM, *map(str, words)]
        body = {"project_id": self.project, "name": name, "algorithm": "PPO"}
        body |= {"source": {"kind": "gym", "name": "CartPole-v1"}}
        body |= {"recipe": "command", "config": {"argv": argv}, **said}
        made = self.client.post(f"{API}/experiments", json=body)
        assert made.status_code == 201, made.text
        return f"{API}/experiments/{made.json()['id']}"

    def trained(self, *words):
        at = self.experiment(*words)
        done = self.client.post(f"{at}/train", params={"wait": 60}, json={})
        assert done.status_code == 200, done.text
        assert done.json()["status"] == "Succeeded", done.text
        return at

    def running(self, *words):
        at = self.experiment(*words, "hang")
        asked = self.client.post(f"{at}/train", json={})
        assert asked.status_code == 202, asked.text
        last = int(words[1])
        eventually(lambda: self.seen(at) == last, what="it has measured all")
        return at

    def seen(self, at):
        points = self.client.get(f"{at}/metrics", params={"format": "latest"}).json()
        return max((point["step"] for point in points["items"]), default=None)

    def steps(self, at):
        found = self.client.get(f"{at}/checkpoints").json()["items"]
        return [each["step"] for each in found]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    with opened(folder / "arena.db", allow_commands=True) as world:
        client = world.member()
        body = {"name": "lab", "kind": "advanced"}
        project = client.post(f"{API}/projects", json=body).json()["id"]
        bundle = bundles.cartpole(folder / "bundle")
        yield Lab(world, client, project, str(bundle))


# --- orders --------------------------------------------------------------------------


def test_who_waits_is_answered_when_it_has_been_trained(lab):
    at = lab.experiment(lab.bundle, 2)
    answer = lab.client.post(f"{at}/train", params={"wait": 60}, json={})
    assert answer.status_code == 200
    assert answer.headers["location"].endswith(at)
    assert answer.json()["status"] == "Succeeded"
    assert answer.json() == lab.client.get(at).json()
    assert lab.steps(at) == [1, 2]


def test_who_does_not_wait_is_answered_at_once(lab):
    at = lab.experiment("none", 1)
    answer = lab.client.post(f"{at}/train", json={"seed": 3, "reason": "why"})
    assert answer.status_code == 202
    assert answer.headers["location"].endswith(at)
    training = answer.json()["training"]
    assert (training["number"], training["seed"]) == (1, 3)
    events = lab.client.get(f"{API}/events", params={"limit": 1000}).json()["items"]
    (asked,) = [
        event
        for event in events
        if event["stream"] == answer.json()["id"]
        and event["name"] == "experiment.training_requested"
    ]
    assert asked["reason"] == "why"


def test_what_is_asked_for_twice_under_one_key_is_trained_once(lab):
    at = lab.experiment("none", 1)
    key = {"Idempotency-Key": '"once"'}
    first = lab.client.post(f"{at}/train", params={"wait": 60}, json={}, headers=key)
    again = lab.client.post(f"{at}/train", params={"wait": 60}, json={}, headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["training"]["number"] == 1
    assert lab.client.get(at).json()["training"]["number"] == 1


def test_who_has_not_seen_the_latest_of_it_does_not_train_it(lab):
    at = lab.experiment("none", 1)
    tag = lab.client.get(at).headers["etag"]
    lab.client.patch(at, json={"name": "renamed"})
    refused = lab.client.post(f"{at}/train", json={}, headers={"If-Match": tag})
    assert_problem(refused, 412)
    assert lab.client.get(at).json()["status"] == "Draft"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max_steps": 0}, "/max_steps"),
        ({"max_steps": 1.5}, "/max_steps"),
        ({"seed": -1}, "/seed"),
        ({"seed": 2**31}, "/seed"),
        ({"steps": 1}, "/steps"),
        ({"reason": 1}, "/reason"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_its_field(lab, body, field):
    at = lab.experiment("none", 1)
    assert_problem(lab.client.post(f"{at}/train", json=body), 422, field)


def test_a_running_training_is_stopped_and_keeps_what_it_wrote(lab):
    at = lab.running(lab.bundle, 2)
    stopped = lab.client.post(f"{at}/stop", params={"wait": 60}, json={})
    assert stopped.status_code == 200
    assert stopped.json()["status"] == "Stopped"
    assert lab.steps(at) == [1, 2]
    again = lab.client.post(f"{at}/stop", json={})
    assert "stop" in assert_problem(again, 409)["detail"]


def test_a_training_goes_on_from_its_last_checkpoint(lab):
    at = lab.trained(lab.bundle, 2)
    going = lab.client.post(f"{at}/resume", params={"wait": 60}, json={})
    assert (going.status_code, going.json()["status"]) == (200, "Succeeded")
    assert going.json()["training"]["resume_step"] == 2
    assert lab.steps(at) == [1, 2, 3, 4]


def test_a_new_experiment_goes_on_from_a_checkpoint_that_is_chosen(lab):
    at = lab.trained(lab.bundle, 3)
    body = {"name": "on", "checkpoint": {"type": "specific", "step": 1}}
    made = lab.client.post(f"{at}/resume", params={"wait": 60}, json=body)
    assert made.status_code == 201
    where = made.headers["location"].removeprefix("http://testserver")
    assert where != at
    assert (made.json()["name"], made.json()["status"]) == ("on", "Succeeded")
    assert lab.steps(where) == [2, 3, 4]
    assert lab.steps(at) == [1, 2, 3]
    at_once = lab.client.post(f"{at}/resume", json={**body, "name": "at once"})
    assert at_once.status_code == 201
    assert at_once.json()["id"] not in where


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "on"}, "/checkpoint"),
        ({"checkpoint": {"type": "final"}}, "/name"),
        ({"name": " ", "checkpoint": {"type": "final"}}, "/name"),
        ({"name": "on", "checkpoint": {"type": "specific"}}, "/checkpoint/step"),
    ],
)
def test_half_of_a_new_experiment_is_refused(lab, body, field):
    at = lab.trained(lab.bundle, 1)
    before = lab.world.head()
    assert_problem(lab.client.post(f"{at}/resume", json=body), 422, field)
    assert lab.world.head() == before


def test_a_draft_has_nothing_to_go_on_from(lab):
    at = lab.experiment("none", 1)
    assert_problem(lab.client.post(f"{at}/resume", json={}), 409)


def test_a_duplicate_is_a_draft_with_the_same_set_up(lab):
    at = lab.trained(lab.bundle, 1)
    original = lab.client.get(at).json()
    made = lab.client.post(f"{at}/duplicate", json={})
    assert made.status_code == 201
    where = made.headers["location"].removeprefix("http://testserver")
    copy = lab.client.get(where).json()
    assert copy == made.json()
    assert (copy["name"], copy["status"]) == ("ppo (copy)", "Draft")
    assert copy["training"] is None
    for name in ("algorithm", "source", "recipe", "config", "family"):
        assert copy[name] == original[name]
    assert lab.steps(where) == []
    named = lab.client.post(f"{at}/duplicate", json={"name": "mine"})
    assert named.json()["name"] == "mine"


def test_another_organisation_orders_and_sees_nothing(lab):
    at = lab.trained(lab.bundle, 1)
    stranger = lab.world.client(lab.world.token(organisation="elsewhere"))
    before = lab.world.head()
    for verb in ("train", "stop", "resume", "duplicate"):
        assert stranger.post(f"{at}/{verb}", json={}).status_code == 404
    for path in ("log", "metrics", "metrics?format=csv"):
        assert stranger.get(f"{at}/{path}").status_code == 404
    assert lab.world.head() == before


def test_programs_are_not_named_over_http_unless_the_operator_allows_it():
    with opened(serve=False) as world:
        client = world.member()
        body = {"name": "lab", "kind": "advanced"}
        project = client.post(f"{API}/projects", json=body).json()["id"]
        command = {"recipe": "command", "config": {"argv": ["true"]}}
        source = {"source": {"kind": "gym", "name": "CartPole-v1"}}
        draft = {"project_id": project, "name": "e", "algorithm": "PPO", **source}
        refused = client.post(f"{API}/experiments", json={**draft, **command})
        assert "ARENA_ALLOW_COMMANDS" in assert_problem(refused, 403)["detail"]
        made = client.post(f"{API}/experiments", json=draft).json()
        where = f"{API}/experiments/{made['id']}"
        assert_problem(client.patch(where, json=command), 403)
        assert client.get(where).json()["recipe"] is None
        # What the operator has drafted is not trained over HTTP either.
        made = client.post(f"{API}/experiments", json=draft).json()
        its = world.arena.experiments.list(name="e")[1].id
        world.arena.experiments.edit(its, **command)
        before = world.head()
        for verb in ("train", "resume", "duplicate"):
            answer = client.post(f"{API}/experiments/{its}/{verb}", json={})
            assert answer.status_code in {403, 409}, answer.text
        assert client.post(f"{API}/experiments/{its}/train").status_code == 403
        copied = client.post(f"{API}/experiments/{its}/duplicate", json={})
        assert copied.status_code == 403
        assert world.head() == before


def test_a_pipeline_of_the_operators_programs_is_not_copied_over_http():
    with opened(serve=False) as world:
        line = world.pipeline(recipe="command", config={"argv": ["true"]})
        client = world.member()
        before = world.head()
        where = f"{API}/pipelines/{line.id}/duplicate"
        assert_problem(client.post(where, json={}), 403)
        assert world.head() == before
        world.arena.pipelines.duplicate(line.id)
        assert world.head() > before


# --- in a pipeline -------------------------------------------------------------------


def test_a_pipeline_goes_live_while_its_caller_waits(lab):
    at = lab.experiment(lab.bundle, 2)
    body = {"project_id": lab.project, "name": "line"}
    made = lab.client.post(f"{API}/pipelines", json=body).json()
    where = f"{API}/pipelines/{made['id']}"
    stage = {"type": "experiment", "experiment_id": at.rpartition("/")[2]}
    first = lab.client.post(f"{where}/stages", json=stage).json()["stages"][0]
    live = {"type": "deployment", "trigger": "auto"}
    assert lab.client.post(f"{where}/stages", json=live).status_code == 201
    trigger = f"{where}/stages/{first['id']}/trigger"
    answer = lab.client.post(trigger, params={"wait": 60}, json={})
    assert answer.status_code == 200
    stages = answer.json()["stages"]
    assert [stage["status"] for stage in stages] == ["Succeeded", "Succeeded"]
    agent = lab.client.get(f"{API}/agents/{stages[1]['run']['agent_id']}").json()
    assert agent["deployment"]["url"].startswith("http://testserver/inference/")
    # Whoever resumes the experiment runs the stage, and what follows it.
    going = lab.client.post(f"{at}/resume", params={"wait": 60}, json={})
    assert going.status_code == 200
    shown = lab.client.get(where).json()["stages"]
    assert shown[0]["run"]["cause"] == "resume"
    assert shown[1]["run"]["cause"] == "auto"


# --- what it says --------------------------------------------------------------------


def test_the_tail_of_what_it_prints_is_shown_as_json_or_text(lab):
    at = lab.trained("none", 3)
    whole = lab.client.get(f"{at}/log")
    assert whole.json() == {"lines": ["step 1", "step 2", "step 3"]}
    assert whole.headers["vary"] == "Accept"
    plain = lab.client.get(f"{at}/log?lines=2", headers={"Accept": "text/plain"})
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert plain.text == "step 2\nstep 3\n"
    known = {"Accept": "text/plain", "If-None-Match": plain.headers["etag"]}
    again = lab.client.get(f"{at}/log?lines=2", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    for lines in (0, 10_001, "x"):
        refused = lab.client.get(f"{at}/log", params={"lines": lines})
        assert_problem(refused, 422, "/lines")
    draft = lab.experiment("none", 1)
    assert lab.client.get(f"{draft}/log").json() == {"lines": []}


def test_what_a_crash_has_printed_can_be_read(lab):
    at = lab.experiment("none", "not a number")
    failed = lab.client.post(f"{at}/train", params={"wait": 60}, json={}).json()
    assert failed["status"] == "Failed"
    assert failed["reason"]
    assert "ValueError" in "\n".join(lab.client.get(f"{at}/log").json()["lines"])


def test_metrics_are_points_a_table_csv_or_the_last_values(lab):
    at = lab.trained("none", 3)

    def asked(**params):
        return lab.client.get(f"{at}/metrics", params=params)

    points = asked().json()["items"]
    assert len(points) == 6
    assert points[0] == {"step": 1, "name": "fitness", "value": 1.0}
    assert {p["name"] for p in asked(name="score").json()["items"]} == {"score"}
    assert asked(name=["score", "fitness"]).json()["items"] == points
    latest = asked(format="latest").json()["items"]
    assert latest == [
        {"step": 3, "name": "fitness", "value": 3.0},
        {"step": 3, "name": "score", "value": 1.5},
    ]
    assert asked(format="latest", name="score").json()["items"] == latest[1:]
    table = asked(format="table").json()
    assert table == {
        "columns": ["step", "fitness", "score"],
        "rows": [[1, 1.0, 0.5], [2, 2.0, 1.0], [3, 3.0, 1.5]],
        "next_after_step": None,
    }
    assert_problem(asked(format="table", name="loss"), 422, "/metric")
    assert_problem(asked(format="xml"), 422, "/format")


AS_MANY = """
from arena_core.training import Run
with Run() as run:
    for step in range(1, run.max_steps + 1):
        run.log(step, score=float(run.max_steps))
"""


@pytest.fixture(scope="module")
def twice(lab):
    """Return the metrics of what was trained anew, with fewer steps than before."""
    argv = [sys.executable, "-c", AS_MANY]
    at = lab.experiment(config={"argv": argv})
    for steps in (3, 2):
        body, params = {"max_steps": steps}, {"wait": 60}
        done = lab.client.post(f"{at}/train", json=body, params=params)
        assert done.json()["status"] == "Succeeded", done.text
    return f"{at}/metrics"


@pytest.mark.parametrize(("training", "steps"), [(None, 2), (2, 2), (1, 3), (0, 0)])
def test_metrics_are_those_of_the_latest_training_or_of_the_one_that_is_named(
    lab, twice, training, steps
):
    params = {} if training is None else {"training": training}

    def asked(**more):
        return lab.client.get(twice, params=params | more)

    rows = [[step, float(steps)] for step in range(1, steps + 1)]
    items = [{"step": s, "name": "score", "value": v} for s, v in rows]
    assert asked().json()["items"] == items
    assert asked(format="latest").json()["items"] == items[-1:]
    assert asked(format="table").json()["rows"] == rows
    written = asked(format="csv")
    assert list(csv.reader(io.StringIO(written.text)))[1:] == [
        [str(step), str(value)] for step, value in rows
    ]


def test_the_rest_of_a_part_is_of_the_same_training(lab, twice):
    params = {"training": 1, "limit": 2}
    first = lab.client.get(twice, params=params)
    rest = lab.client.get(first.links["next"]["url"]).json()
    assert [(p["step"], p["value"]) for p in rest["items"]] == [(3, 3.0)]
    params = {"training": 1, "rows": 2, "format": "csv"}
    first = lab.client.get(twice, params=params)
    rest = lab.client.get(first.links["next"]["url"])
    assert rest.text == "step,score\n3,3.0\n"


def test_a_stream_tells_the_points_of_one_training(twice, watched):
    at = twice.removesuffix("/metrics")
    for query, ids in (("", ["4", "5"]), ("?training=1", ["1", "2", "3"])):
        events = watched.stream(at, query).events()
        assert [next(events).id for _ in ids] == ids
        assert next(events).body["training"]["number"] == 2


@pytest.mark.parametrize("training", [-1, 3, "x"])
def test_a_training_that_there_never_was_has_no_metrics(lab, twice, watched, training):
    params = {"training": training}
    for shape in ("points", "table", "csv", "latest"):
        answer = lab.client.get(twice, params=params | {"format": shape})
        assert_problem(answer, 422, "/training")
    at = twice.removesuffix("/metrics")
    assert watched.stream(at, f"?training={training}").status == 422


def measured(lab, points):
    """Return where an experiment is of which these (step, name, value) are known."""
    at = lab.experiment("none", 1)
    fields = ("step", "name", "value")
    body = {"points": [dict(zip(fields, point, strict=True)) for point in points]}
    assert lab.client.post(f"{at}/metrics", json=body).status_code == 201
    return f"{at}/metrics"


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_points_come_in_pages_each_once_whatever_their_names_are(lab, limit):
    names = ["a", "a b", " c", "größe", "7"]
    at = measured(lab, [(step, name, 1.0) for step in (0, 2**63 - 1) for name in names])
    found, sizes = [], []
    asked = {"params": {"limit": limit, "name": names[:-1]}}
    answer = lab.client.get(at, **asked)
    while True:
        page = answer.json()
        found += [(p["step"], p["name"]) for p in page["items"]]
        sizes.append(len(page["items"]))
        assert ("next" in answer.links) == (page["next_cursor"] is not None)
        if page["next_cursor"] is None:
            break
        answer = lab.client.get(answer.links["next"]["url"])
    assert found == [(s, n) for s in (0, 2**63 - 1) for n in sorted(names[:-1])]
    assert set(sizes[:-1]) <= {limit}
    assert sizes[-1] > 0


def test_points_that_come_meanwhile_move_no_page(lab):
    at = measured(lab, [(step, "a", float(step)) for step in range(4)])
    first = lab.client.get(at, params={"limit": 2}).json()
    more = [{"step": step, "name": "a", "value": 9.0} for step in (0, 1, 3, 4)]
    assert lab.client.post(at, json={"points": more}).status_code == 201
    params = {"limit": 3, "cursor": first["next_cursor"]}
    rest = lab.client.get(at, params=params).json()
    assert [(p["step"], p["value"]) for p in rest["items"]] == [
        (2, 2.0), (3, 9.0), (4, 9.0),
    ]  # fmt: skip
    assert rest["next_cursor"] is None


def test_a_page_of_the_past_goes_on_in_the_past(lab):
    at = measured(lab, [(step, "a", 1.0) for step in range(3)])
    seen = lab.world.head()
    lab.client.post("/api/v1/projects", json={"name": "later", "kind": "classic"})
    later = {"points": [{"step": 9, "name": "a", "value": 1.0}]}
    assert lab.client.post(at, json=later).status_code == 201
    params = {"limit": 2, "as_of": seen}
    first = lab.client.get(at, params=params).json()
    params["cursor"] = first["next_cursor"]
    assert [p["step"] for p in lab.client.get(at, params=params).json()["items"]] == [2]


def test_a_page_of_points_has_10_000_at_most(lab):
    at = measured(lab, [(step, "a", 1.0) for step in range(10_001)])
    first = lab.client.get(at).json()
    assert len(first["items"]) == 10_000
    rest = lab.client.get(at, params={"cursor": first["next_cursor"]}).json()
    assert [p["step"] for p in rest["items"]] == [10_000]
    assert_problem(lab.client.get(at, params={"limit": 10_001}), 422, "/limit")
    assert_problem(lab.client.get(at, params={"limit": 0}), 422, "/limit")


def test_a_cursor_of_points_is_good_for_these_points_only(lab):
    at = measured(lab, [(step, "a", 1.0) for step in range(3)])
    other = measured(lab, [(step, "a", 1.0) for step in range(3)])
    cursor = lab.client.get(at, params={"limit": 1}).json()["next_cursor"]
    for path, params in ((other, {}), (at, {"name": "a"}), (at, {"format": "table"})):
        answer = lab.client.get(path, params={**params, "cursor": cursor})
        assert_problem(answer, 400, "/cursor")


def test_csv_is_a_file_that_comes_in_parts_if_it_is_long(lab):
    at = lab.trained("none", 5)
    params = {"format": "csv", "rows": 2, "name": "score"}
    answer = lab.client.get(f"{at}/metrics", params=params)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="ppo_metrics.csv"' in answer.headers["content-disposition"]
    found = []
    while True:
        heading, *rows = csv.reader(io.StringIO(answer.text))
        assert heading == ["step", "score"]
        found += rows
        if "next" not in answer.links:
            break
        answer = lab.client.get(answer.links["next"]["url"])
    assert found == [[str(step), str(step / 2)] for step in range(1, 6)]


def test_the_etag_of_a_running_experiment_follows_what_is_shown(lab):
    at = lab.running("none", 1)
    seen = {}
    for _ in range(20):
        answer = lab.client.get(at)
        assert seen.setdefault(answer.headers["etag"], answer.content) == answer.content
    tag = answer.headers["etag"]
    version = tag.partition("-")[2].partition(":")[2].partition("-")[0]
    assert lab.client.post(f"{at}/stop", params={"wait": 60}).status_code == 200
    changed = lab.client.get(at, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert f":{version}-" not in changed.headers["etag"]


# --- the stream of metrics -----------------------------------------------------------


@frozen(eq=False)
class Watched:
    """A lab behind a real server."""

    lab: Lab
    address: str
    _opened: list[Stream] = field(factory=list)

    def stream(self, at, query="", token=None, **headers):
        token = self.lab.world.token() if token is None else token
        path = f"{at}/metrics"
        stream = streaming(self.address, token, query, path=path, **headers)
        self._opened.append(stream)
        return stream

    def close(self):
        for stream in self._opened:
            stream.close()


@contextmanager
def watching(lab):
    server = Server(lab.world.app, listen("127.0.0.1", 0))
    with server.in_background() as url:
        watched = Watched(lab, url.removeprefix("http://"))
        try:
            yield watched
        finally:
            watched.close()


@pytest.fixture(name="watched", scope="module")
def _watched(lab):
    with watching(lab) as watched:
        yield watched


def test_a_stream_tells_each_point_and_how_the_training_stands(lab, watched):
    at = lab.running("none", 2)
    events = watched.stream(at).events()
    first = [next(events) for _ in range(4)]
    assert [sent.event for sent in first] == ["point"] * 4
    assert [int(sent.id) for sent in first] == [1, 2, 3, 4]
    assert [(sent.body["step"], sent.body["name"]) for sent in first] == [
        (1, "score"),
        (1, "fitness"),
        (2, "score"),
        (2, "fitness"),
    ]
    standing = next(events)
    assert (standing.event, standing.id) == ("status", None)
    assert standing.body["status"] == "Running"
    assert standing.body["training"]["number"] == 1
    more = {"points": [{"step": 9, "name": "score", "value": 7.0}]}
    assert lab.client.post(f"{at}/metrics", json=more).status_code == 201
    after = (sent for sent in events if sent.event == "point")
    assert next(after).body == more["points"][0]
    lab.client.post(f"{at}/stop", params={"wait": 60})
    told = (sent.body["status"] for sent in events if sent.event == "status")
    assert "Stopped" in (next(told) for _ in range(10))


def test_a_stream_goes_on_after_the_point_that_was_seen_last(lab, watched):
    at = lab.trained("none", 3)
    for stream in (
        watched.stream(at, "?after=4"),
        watched.stream(at, Last_Event_ID="4"),
        watched.stream(at, "?after=1", Last_Event_ID="4"),
    ):
        events = stream.events()
        assert [next(events).id for _ in range(2)] == ["5", "6"]
        assert next(events).body["status"] == "Succeeded"
    named = watched.stream(at, "?name=score").events()
    assert [next(named).id for _ in range(3)] == ["1", "3", "5"]


def test_a_long_history_is_told_whole_before_its_end_is(lab, watched):
    at = lab.experiment("none", 1)
    points = [{"step": n, "name": "loss", "value": 1.0} for n in range(450)]
    lab.client.post(f"{at}/metrics", json={"points": points})
    events = watched.stream(at).events()
    found = [next(events) for _ in range(451)]
    assert [int(sent.id) for sent in found[:450]] == list(range(1, 451))
    assert found[450].body["status"] == "Draft"


def test_a_stream_does_not_wait_behind_the_last_point(lab, watched):
    at = lab.experiment("none", 1)
    points = [{"step": n, "name": "loss", "value": 1.0} for n in range(3)]
    lab.client.post(f"{at}/metrics", json={"points": points})
    at_its_end = watched.stream(at, Last_Event_ID="3")
    assert next(at_its_end.events()).event == "status"
    for behind in (
        watched.stream(at, Last_Event_ID="4"),
        watched.stream(at, "?after=4"),
    ):
        assert behind.status == 422


def test_what_cannot_be_followed_is_refused(lab, watched):
    at, before = lab.experiment("none", 1), len(lab.world.app.feed._followers)
    assert watched.stream(at, "?as_of=1").status == 422
    assert watched.stream(at, Last_Event_ID="x").status == 422
    assert watched.stream(at, "?after=-1").status == 422
    nobody = f"{API}/experiments/{lab.project}"
    assert watched.stream(nobody).status == 404
    stranger = lab.world.token(organisation="elsewhere")
    assert watched.stream(at, token=stranger).status == 404
    assert len(lab.world.app.feed._followers) <= before


def test_a_stream_ends_with_the_right_to_see_it_and_with_the_experiment(lab, watched):
    at = lab.experiment("none", 1)
    issued = lab.world.issued()
    revoked, deleted = watched.stream(at, token=issued.token), watched.stream(at)
    for stream in (revoked, deleted):
        assert next(stream.events()).body["status"] == "Draft"
    lab.world.arena.tokens.revoke(issued.view.id)
    assert list(revoked.events()) == []
    lab.client.delete(at)
    assert list(deleted.events()) == []
