"""Pipelines over HTTP beyond their rules: answers, preconditions and bad input."""

from uuid import uuid4
from xml.etree import ElementTree as ET

import pytest

from arena_core.application.pipelines import Pipelines

from end_to_end.http_world import assert_problem, opened
from end_to_end.pipelines_over_http import API, Line

STAGE = {
    "id", "position", "type", "trigger", "experiment_id", "experiment_name", "start",
    "checkpoint", "auto_add", "agent_name", "condition", "approval", "retries",
    "time_limit_s", "status", "stale", "stale_because", "run",
}  # fmt: skip
RUN = {
    "id", "number", "status", "cause", "attempt", "triggered_at", "triggered_by",
    "approved_by", "rejected_by", "stopped_by", "started_at", "ended_at",
    "retry_at", "consumed", "produced", "agent_id", "training_run_id", "condition_met",
    "finding", "awaits_approval", "to_approve", "reason",
}  # fmt: skip
PIPELINE = {
    "id", "project_id", "name", "description", "last_modified", "stages", "owner",
    "created_at",
}  # fmt: skip


@pytest.fixture(name="line")
def _line(tmp_path):
    with opened(serve=False, allow_commands=True) as world:
        yield Line.of(world, tmp_path)


# --- what is shown -------------------------------------------------------------------


def test_a_pipeline_its_stages_and_their_runs_have_these_fields(line):
    (first,) = line.lay_out("experiment")
    line.trigger()
    line.succeed(first)
    shown = line.show()
    assert shown.keys() == PIPELINE
    assert shown["stages"][0].keys() == STAGE
    assert shown["stages"][0]["run"].keys() >= RUN


def test_whoever_makes_something_is_told_where_it_is(line):
    made = line.insert()
    where = made.headers["location"].removeprefix("http://testserver")
    assert line.client.get(where).json() == made.json()["stages"][0]
    before = line.insert(position=1)
    where = before.headers["location"].removeprefix("http://testserver")
    assert line.client.get(where).json()["position"] == 1
    triggered = line.order(1, "trigger")
    assert triggered.headers["location"].endswith(line.at)


def test_a_list_goes_on_page_by_page_and_by_name(line):
    for number in range(4):
        body = {"project_id": line.project, "name": f"line {number % 2}"}
        assert line.client.post(f"{API}/pipelines", json=body).status_code == 201
    found, where = [], f"{API}/pipelines?limit=2"
    while where is not None:
        answer = line.client.get(where)
        found += [each["name"] for each in answer.json()["items"]]
        where = answer.links.get("next", {}).get("url")
    assert found == ["line", "line 0", "line 1", "line 0", "line 1"]
    params = {"project_id": line.project, "name": "line 1"}
    named = line.client.get(f"{API}/pipelines", params=params).json()["items"]
    assert [each["name"] for each in named] == ["line 1", "line 1"]


def test_the_picture_of_a_pipeline_carries_nothing_out(line):
    line.lay_out("experiment", "deployment")
    name = '<script>alert("x")</script>&'
    line.done("PATCH", name=name)
    answer = line.ask("GET", "/graph.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "sandbox" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    picture = ET.fromstring(answer.text)  # noqa: S314 -- our own, and it is looked at
    assert not [e for e in picture.iter() if e.tag.endswith("script")]
    assert "<script" not in answer.text
    known = {"If-None-Match": answer.headers["etag"]}
    assert line.client.get(f"{line.at}/graph.svg", headers=known).status_code == 304
    line.trigger()
    assert line.client.get(f"{line.at}/graph.svg", headers=known).status_code == 200


def test_the_past_of_a_pipeline_is_shown_as_it_was(line):
    (first,) = line.lay_out("experiment")
    line.trigger()
    at, before = line.world.head(), line.show()
    line.succeed(first)
    line.done("PATCH", name="renamed")
    params = {"as_of": at}
    assert line.client.get(line.at, params=params).json() == before
    runs = line.client.get(line.at + line.path(1, "runs"), params=params).json()
    (listed,) = runs["items"]
    (attempt,) = listed.pop("attempts")
    assert listed == before["stages"][0]["run"]
    assert (attempt["number"], attempt["ended_at"]) == (1, None)
    refused = line.client.post(
        line.at + line.path(1, "trigger"), params=params, json={}
    )
    assert_problem(refused, 422, "/as_of")


# --- settings ------------------------------------------------------------------------


def test_what_an_edit_leaves_out_stays_and_null_takes_away(line):
    line.lay_out("experiment", "experiment")
    said = {
        "agent_name": "forecaster",
        "condition": {"min_fitness": 1.5, "better_than_live": False},
        "time_limit_s": 60.0,
        "approval": True,
        "retries": {"most": 2, "first_wait_s": 0.5},
        "auto_add": "final",
        "checkpoint": "final",
    }
    edited = line.done("PATCH", line.path(2), **said)["stages"][1]
    assert {name: edited[name] for name in said} == said
    same = line.done("PATCH", line.path(2))["stages"][1]
    assert same == edited
    gone = {"agent_name": None, "condition": None, "time_limit_s": None}
    cleared = line.done("PATCH", line.path(2), **gone)["stages"][1]
    assert cleared == edited | gone


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"trigger": None}, "/trigger"),
        ({"trigger": "later"}, "/trigger"),
        ({"checkpoint": "specific"}, "/checkpoint"),
        ({"approval": 1}, "/approval"),
        ({"auto_add": True}, "/auto_add"),
        ({"retries": {"most": -1}}, "/retries/most"),
        ({"retries": {"most": 21}}, "/retries/most"),
        ({"retries": {"most": 1, "first_wait_s": -1}}, "/retries/first_wait_s"),
        ({"retries": {"most": 1, "wait": 1}}, "/retries/wait"),
        ({"retries": {}}, "/retries/most"),
        ({"retries": None}, "/retries"),
        ({"time_limit_s": 0}, "/time_limit_s"),
        ({"time_limit_s": 1e300}, "/time_limit_s"),
        ({"condition": {"min_fitness": "1"}}, "/condition/min_fitness"),
        ({"condition": {"max_fitness": 1}}, "/condition/max_fitness"),
        ({"agent_name": " "}, "/agent_name"),
        ({"agent_name": "x" * 201}, "/agent_name"),
        ({"start": "anew"}, "/start"),
        ({"start": {"agent_id": "x"}}, "/start/agent_id"),
        ({"start": {"agent": str(uuid4())}}, "/start/agent"),
        ({"experiment_id": "x"}, "/experiment_id"),
        ({"duplicate": True}, "/duplicate"),
        ({"position": 1}, "/position"),
        ({"algorithm": "PPO"}, "/algorithm"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_field(line, said, field):
    line.lay_out("experiment", "experiment")
    before = line.world.head()
    problem = assert_problem(line.ask("PATCH", line.path(2), **said), 422)
    pointers = [error["pointer"] for error in problem["errors"]]
    assert pointers in ([field], [field.rpartition("/")[0]]), pointers
    assert line.world.head() == before


@pytest.mark.parametrize("position", [0, -1, 4, 2**31, "1", 1.5, None])
def test_a_stage_is_moved_to_a_position_that_is_there(line, position):
    line.lay_out("experiment", "experiment", "experiment")
    answer = line.ask("POST", line.path(3, "move"), position=position)
    assert_problem(answer, 422, "/position")


def test_a_stage_is_one_of_its_own_pipeline(line):
    line.lay_out("experiment")
    body = {"project_id": line.project, "name": "other"}
    other = line.client.post(f"{API}/pipelines", json=body).json()["id"]
    elsewhere = f"{API}/pipelines/{other}{line.path(1)}"
    assert line.client.get(elsewhere).status_code == 404
    assert line.client.patch(elsewhere, json={"approval": True}).status_code == 404
    assert line.client.delete(elsewhere).status_code == 404
    for verb in ("trigger", "retry", "stop", "approve", "reject"):
        answer = line.client.post(f"{elsewhere}/{verb}", json={})
        assert answer.status_code == 404, verb
    assert line.client.get(f"{elsewhere}/runs").status_code == 404


def test_what_is_in_another_project_or_organisation_is_not_bound(line):
    body = {"name": "other lab", "kind": "advanced"}
    project = line.client.post(f"{API}/projects", json=body).json()["id"]
    elsewhere = line.experiment(project_id=project)
    assert_problem(line.insert(experiment_id=elsewhere), field="/experiment_id")
    stranger = line.world.client(line.world.token(organisation="rivals"))
    their_lab = stranger.post(f"{API}/projects", json=body).json()["id"]
    draft = {"project_id": their_lab, "name": "e", "algorithm": "PPO"}
    theirs = stranger.post(f"{API}/experiments", json=draft).json()["id"]
    assert line.insert(experiment_id=theirs).status_code == 404
    assert stranger.get(line.at).status_code == 404
    made = stranger.post(
        f"{API}/pipelines", json={"project_id": line.project, "name": "x"}
    )
    assert made.status_code == 404


# --- orders --------------------------------------------------------------------------


def test_an_order_is_accepted_while_something_is_at_work(line):
    (first,) = line.lay_out("experiment")
    assert line.ask("POST", line.path(1, "trigger")).status_code == 202
    assert line.ask("POST", line.path(1, "stop")).status_code == 200
    assert line.statuses() == ["Stopped"]
    assert line.order(1, "retry").status_code == 202
    line.begin(first)
    assert line.ask("POST", line.path(1, "stop")).status_code == 202


def test_what_nobody_waits_for_long_is_answered_as_it_stands(line):
    line.lay_out("experiment")
    where = line.at + line.path(1, "trigger")
    answer = line.client.post(where, params={"wait": 0.05}, json={})
    assert answer.status_code == 202
    assert answer.json()["stages"][0]["status"] == "Pending"


def test_an_order_says_why_and_is_carried_out_once_under_a_key(line):
    line.lay_out("experiment")
    where, key = line.at + line.path(1, "trigger"), {"Idempotency-Key": "once"}
    first = line.client.post(where, json={"reason": "because"}, headers=key)
    again = line.client.post(where, json={"reason": "because"}, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["idempotent-replayed"] == "true"
    log = line.client.get(f"{API}/events", params={"limit": 1000}).json()["items"]
    triggered = [event for event in log if event["name"] == "stage.triggered"]
    assert [event["reason"] for event in triggered] == ["because"]
    other = line.client.post(where, json={"reason": "other"}, headers=key)
    assert_problem(other, 422)


def test_a_change_under_a_key_makes_one_thing(line):
    for path, body in (
        ("/stages", {"type": "experiment", "experiment_id": line.experiment()}),
        ("/duplicate", {}),
    ):
        key = {"Idempotency-Key": path}
        answers = [
            line.client.post(line.at + path, json=body, headers=key) for _ in range(2)
        ]
        assert answers[0].status_code == 201
        assert answers[0].text == answers[1].text
        assert answers[0].headers["location"] == answers[1].headers["location"]
    assert len(line.stages()) == 1
    assert len(line.client.get(f"{API}/pipelines").json()["items"]) == 2


def test_who_has_not_seen_the_structure_does_not_change_it(line):
    line.lay_out("experiment", "experiment")
    tag = line.ask("GET").headers["etag"]
    line.done("PATCH", line.path(2), approval=True)
    before, match = line.world.head(), {"If-Match": tag}
    for method, path, body in (
        ("PATCH", "", {"name": "x"}),
        ("PATCH", line.path(2), {"approval": False}),
        ("POST", line.path(2, "move"), {"position": 1}),
        ("POST", line.path(1, "trigger"), {}),
        ("DELETE", line.path(2), {}),
        ("DELETE", "", {}),
    ):
        answer = line.client.request(method, line.at + path, json=body, headers=match)
        assert_problem(answer, 412)
    assert line.world.head() == before


def test_who_has_seen_the_structure_may_change_it_though_a_stage_has_run(line):
    (first,) = line.lay_out("experiment")
    tag = line.ask("GET").headers["etag"]
    line.trigger()
    line.succeed(first)
    assert line.ask("GET").headers["etag"] != tag
    edited = line.client.patch(line.at, json={"name": "x"}, headers={"If-Match": tag})
    assert edited.status_code == 200
    assert edited.headers["etag"] == line.ask("GET").headers["etag"]


def test_who_has_seen_the_structure_may_order_and_change_its_stages(line):
    """As for the pipeline itself: what its ETag names is what If-Match compares."""
    line.lay_out("experiment", "experiment")
    for method, path, body in (
        ("PATCH", line.path(2), {"approval": True}),
        ("POST", line.path(1, "trigger"), {}),
        ("POST", line.path(1, "stop"), {}),
        ("POST", line.path(2, "move"), {"position": 1}),
        ("DELETE", line.path(2), {}),
        ("DELETE", "", {}),
    ):
        match = {"If-Match": line.ask("GET").headers["etag"]}
        answer = line.client.request(method, line.at + path, json=body, headers=match)
        assert answer.is_success, (method, path, answer.text)


def test_an_approval_is_about_the_checkpoint_that_was_looked_at(line):
    first, _ = line.lay_out("experiment", "experiment")
    line.done("PATCH", line.path(2), approval=True)
    line.trigger()
    (digest,) = line.succeed(first)
    run = line.stage(2)["run"]
    assert run["awaits_approval"] is True
    assert run["to_approve"]["candidate"]["digest"] == digest
    assert_problem(line.order(2, "approve", digest="0" * 64), 409)
    assert_problem(line.order(2, "approve", digest="x"), 422, "/digest")
    assert line.order(2, "approve", digest=digest, reason="fine").status_code == 202
    assert line.statuses() == ["Succeeded", "Running"]
    assert_problem(line.order(1, "reject"), 409)


def test_what_is_rejected_is_stopped_and_says_so(line):
    first, _ = line.lay_out("experiment", "experiment")
    line.done("PATCH", line.path(2), approval=True)
    line.trigger()
    line.succeed(first)
    assert line.order(2, "reject", reason="too slow").status_code == 200
    assert line.statuses() == ["Succeeded", "Stopped"]
    run = line.stage(2)["run"]
    assert "not approved" in run["reason"]
    assert run["rejected_by"]["reason"] == "too slow"
    assert run["rejected_by"]["actor"].startswith("user:")
    assert run["triggered_by"]["actor"] == "system:runner"
    assert (run["status"], run["approved_by"]) == ("Stopped", None)


def test_a_condition_that_is_not_met_shows_what_it_saw(line):
    first, _ = line.lay_out("experiment", "deployment")
    line.done("PATCH", line.path(2), condition={"min_fitness": 5})
    line.trigger()
    line.succeed(first, {10: 2.0})
    run = line.stage(2)["run"]
    assert (line.statuses()[1], run["condition_met"]) == ("Stopped", False)
    assert "2" in run["finding"]
    assert "5" in run["finding"]


def test_whoever_may_only_look_changes_and_orders_nothing(line):
    line.lay_out("experiment")
    viewer, before = line.world.member("viewer"), line.world.head()
    assert viewer.get(line.at).status_code == 200
    assert viewer.patch(line.at, json={"name": "x"}).status_code == 403
    for verb in ("trigger", "stop", "approve"):
        where = line.at + line.path(1, verb)
        assert viewer.post(where, json={}).status_code == 403
    assert line.world.head() == before


def test_an_insertion_says_where_its_own_stage_is_though_others_insert_meanwhile(
    line, monkeypatch
):
    line.lay_out("experiment")
    inserted, others = Pipelines.inserted, []

    def overtaken(use, pipeline_id, **said):
        mine = inserted(use, pipeline_id, **said)
        if not others:
            others.append(inserted(use, pipeline_id, type="deployment", position=2))
        return mine

    monkeypatch.setattr(Pipelines, "inserted", overtaken)
    made = line.insert("deployment", position=2)
    mine = made.headers["location"].rpartition("/")[2]
    assert [s["id"] for s in made.json()["stages"][1:]] == [str(others[0]), mine]


def test_an_experiment_stage_cannot_be_left_without_an_experiment(line):
    line.lay_out("experiment", "experiment")
    refused = line.ask("PATCH", line.path(2), experiment_id=None)
    assert_problem(refused, 422, "/experiment_id")
    edited = line.done("PATCH", line.path(2), type="deployment", experiment_id=None)
    assert edited["stages"][1]["experiment_id"] is None


def test_what_goes_live_is_caused_by_whoever_has_triggered_its_stage(line):
    (first, _) = line.lay_out("experiment", "deployment", trigger="manual")
    line.trigger()
    line.succeed(first)
    line.trigger(2)
    line.connect()
    assert line.statuses() == ["Succeeded", "Succeeded"]
    log = {event.event_id: event for event in line.world.arena.audit.log()}
    chain = [next(e for e in log.values() if e.name == "deployment.connected")]
    while (cause := chain[-1].causation_id) is not None:
        chain.append(log[cause])
    *_, asked = (e for e in log.values() if e.name == "stage.triggered")
    by = line.stage(2)["run"]["triggered_by"]["actor"]
    # What triggers it also records what it takes: both are of one command.
    assert (chain[-1].actor, chain[-1].correlation_id) == (by, asked.correlation_id)
    assert chain[-1].position - asked.position == 1
    assert len({event.correlation_id for event in chain}) == 1
