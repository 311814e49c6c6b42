"""The rules of pipelines, each as a caller meets it over HTTP."""

from uuid import UUID

import pytest

import bundles
from end_to_end.http_world import assert_problem, opened
from end_to_end.pipelines_over_http import API, DIGITS, Line


@pytest.fixture(name="line")
def _line(tmp_path):
    with opened(serve=False, allow_commands=True) as world:
        yield Line.of(world, tmp_path)


def saved_agent(line, experiment_id, **said):
    body = {"name": "saved", "kind": "advanced", "experiment_id": experiment_id}
    body |= {"checkpoint": {"type": "final"}, **said}
    made = line.client.post(f"{API}/agents", json=body)
    assert made.status_code == 201, made.text
    return made.json()["id"]


def trained(line, **said):
    """Return an experiment that has a checkpoint, and the digest of that."""
    made = line.experiment("trained", **said)
    bundle = bundles.cartpole(line.folder / made)
    kept = line.world.arena.experiments.add_checkpoint(UUID(made), step=5, path=bundle)
    return made, kept.digest


def events(line, name):
    log = line.client.get(f"{API}/events", params={"limit": 1000}).json()["items"]
    return [event for event in log if event["name"] == name]


def agents(line, **params):
    return line.client.get(f"{API}/agents", params=params).json()["items"]


def test_rule_60_pipelines_are_for_advanced_projects_over_http(line):
    body = {"name": "carts", "kind": "classic"}
    classic = line.client.post(f"{API}/projects", json=body).json()["id"]
    before = line.world.head()
    refused = line.client.post(
        f"{API}/pipelines", json={"project_id": classic, "name": "line"}
    )
    assert "Advanced" in assert_problem(refused)["detail"]
    params = {"project_id": classic}
    asked = line.client.get(f"{API}/pipelines", params=params)
    assert "Advanced" in assert_problem(asked)["detail"]
    assert line.world.head() == before
    elsewhere = line.experiment(project_id=classic)
    assert_problem(line.insert(experiment_id=elsewhere), field="/experiment_id")


def test_rule_61_a_name_is_demanded_and_a_description_is_not_over_http(line):
    body = {"project_id": line.project}
    refused = line.client.post(f"{API}/pipelines", json=body)
    assert_problem(refused, 422, "/name")
    blank = line.client.post(f"{API}/pipelines", json=body | {"name": " "})
    assert_problem(blank, 422, "/name")
    made = line.client.post(f"{API}/pipelines", json=body | {"name": "second"})
    assert (made.status_code, made.json()["description"]) == (201, "")
    assert line.client.get(made.headers["location"]).json() == made.json()


def test_rule_62_stages_have_an_order_and_one_of_two_types_over_http(line):
    line.lay_out("experiment", "deployment")
    assert line.insert(position=2).status_code == 201
    kinds = [(stage["position"], stage["type"]) for stage in line.stages()]
    assert kinds == [(1, "experiment"), (2, "experiment"), (3, "deployment")]
    assert_problem(line.insert("notebook"), 422, "/type")


def test_rule_63_the_first_stage_is_no_deployment_over_http(line):
    assert_problem(line.insert("deployment"), field="/type")
    line.lay_out("experiment", "deployment")
    before = line.show()
    first, second = line.path(1), line.path(2)
    for method, path, body in (
        ("POST", "/stages", {"type": "deployment", "position": 1}),
        ("POST", f"{second}/move", {"position": 1}),
        ("PATCH", first, {"type": "deployment"}),
        ("DELETE", first, {}),
    ):
        problem = assert_problem(line.ask(method, path, **body))
        assert "first" in problem["detail"], path
    assert line.show() == before


def test_rule_64_auto_starts_after_a_success_and_manual_when_triggered_over_http(line):
    first, second, third = line.lay_out("experiment", "experiment", "experiment")
    line.done("PATCH", line.path(3), trigger="manual")
    line.go_on()
    assert line.statuses() == ["NotStarted"] * 3
    line.trigger()
    line.succeed(first)
    assert line.statuses() == ["Succeeded", "Running", "NotStarted"]
    line.succeed(second)
    assert line.statuses() == ["Succeeded", "Succeeded", "NotStarted"]
    line.trigger(3)
    line.succeed(third)
    assert line.statuses() == ["Succeeded"] * 3


def test_rule_65_the_first_stage_is_manual_over_http(line):
    assert_problem(line.insert(trigger="auto"), field="/trigger")
    line.lay_out("experiment", "experiment")
    assert [stage["trigger"] for stage in line.stages()] == ["manual", "auto"]
    moved = line.done("POST", line.path(2, "move"), position=1)
    assert moved["stages"][0]["trigger"] == "manual"
    assert line.insert().json()["stages"][-1]["trigger"] == "manual"


@pytest.mark.parametrize("end", ["Failed", "Stopped"])
def test_rule_66_what_has_failed_or_was_stopped_starts_nothing_over_http(line, end):
    first, _ = line.lay_out("experiment", "experiment")
    line.trigger()
    if end == "Failed":
        line.fail(first)
    else:
        line.begin(first)
        line.order(1, "stop")
        line.end_stop(first)
    assert line.statuses() == [end, "NotStarted"]
    assert line.stage(1)["run"]["reason"]


def test_rule_67_a_later_stage_takes_the_best_or_the_final_checkpoint_over_http(line):
    first, *_ = line.lay_out("experiment", "experiment")
    assert_problem(line.ask("PATCH", line.path(2), checkpoint="specific"), 422)
    line.done("PATCH", line.path(2), trigger="manual")
    line.trigger()
    best, final = line.succeed(first, {10: 2.0, 20: 1.0})
    line.trigger(2)
    assert line.stage(2)["run"]["consumed"]["digest"] == best
    line.order(2, "stop")
    line.done("PATCH", line.path(2), checkpoint="final")
    line.trigger(2)
    assert line.stage(2)["run"]["consumed"]["digest"] == final


def test_rule_67_ties_of_best_go_to_the_larger_step_over_http(line):
    first, *_ = line.lay_out("experiment", "experiment")
    line.trigger()
    _, later, _ = line.succeed(first, {10: 2.0, 20: 2.0, 30: 1.0})
    assert line.stage(2)["run"]["consumed"]["digest"] == later


def test_rule_68_a_success_can_add_a_saved_model_over_http(line):
    (first,) = line.lay_out("experiment")
    line.done("PATCH", line.path(1), auto_add="best", agent_name="forecaster")
    line.trigger()
    digest, _ = line.succeed(first, {10: 2.0, 20: 1.0})
    (added,) = agents(line, kind="advanced")
    assert (added["name"], added["deployment"]) == ("forecaster", None)
    assert added["checkpoint"]["digest"] == digest
    assert line.stage(1)["run"]["agent_id"] == added["id"]


def test_rule_69_the_final_checkpoint_is_added_where_none_is_scored_over_http(line):
    (first,) = line.lay_out("experiment")
    line.done("PATCH", line.path(1), auto_add="best")
    line.trigger()
    _, final = line.succeed(first, {10: None, 20: None})
    (added,) = agents(line, kind="advanced")
    assert added["checkpoint"]["digest"] == final


def test_rule_70_latent_ppo_needs_a_decoder_and_takes_the_one_before_over_http(line):
    latent = line.experiment(algorithm="LatentPPO", source=DIGITS)
    refused = line.insert(experiment_id=latent)
    assert "decoder" in assert_problem(refused, field="/start")["detail"]
    decoder = line.experiment(algorithm="Supervised", source=DIGITS)
    assert line.insert(experiment_id=decoder).status_code == 201
    bound = line.insert(experiment_id=latent, trigger="auto")
    assert bound.status_code == 201
    line.trigger()
    (digest,) = line.succeed(decoder)
    *_, requested = events(line, "experiment.training_requested")
    assert requested["data"]["beginning"]["decoder"] == digest
    assert requested["data"]["beginning"]["weights"] is None


def test_rule_71_the_first_stage_begins_with_nothing_or_a_saved_agent_over_http(line):
    source, digest = trained(line)
    saved = saved_agent(line, source)
    line.lay_out("experiment", "experiment")
    assert [stage["start"] for stage in line.stages()] == ["scratch", None]
    start = {"agent_id": saved}
    edited = line.done("PATCH", line.path(1), start=start)
    assert edited["stages"][0]["start"] == start
    assert_problem(line.ask("PATCH", line.path(2), start=start), field="/start")
    line.trigger()
    assert line.stage(1)["run"]["consumed"]["digest"] == digest
    line.order(1, "stop")
    for scratch in ("scratch", None):
        line.done("PATCH", line.path(1), start=start)
        line.done("PATCH", line.path(1), start=scratch)
        assert line.stage(1)["start"] == "scratch"
    unknown = {"agent_id": source}
    assert line.ask("PATCH", line.path(1), start=unknown).status_code == 404


def test_rule_72_deployments_use_the_nearest_experiment_before_over_http(line):
    first, *_ = line.lay_out("experiment", "deployment", "deployment")
    line.done("PATCH", line.path(3), checkpoint="final")
    line.trigger()
    best, final = line.succeed(first, {10: 2.0, 20: 1.0})
    line.connect()
    line.connect()
    assert line.statuses() == ["Succeeded"] * 3
    consumed = [line.stage(n)["run"]["consumed"]["digest"] for n in (2, 3)]
    assert consumed == [best, final]


def test_rule_72_it_is_not_the_first_experiment_that_is_deployed_over_http(line):
    first, second, _ = line.lay_out("experiment", "experiment", "deployment")
    line.trigger()
    (early,) = line.succeed(first)
    (late,) = line.succeed(second)
    assert early != late
    assert line.stage(3)["run"]["consumed"]["digest"] == late


def test_rule_73_a_deployment_has_succeeded_when_its_agent_is_deployed_over_http(line):
    first, _ = line.lay_out("experiment", "deployment")
    line.trigger()
    (digest,) = line.succeed(first)
    assert line.statuses() == ["Succeeded", "Running"]
    line.connect()
    assert line.statuses() == ["Succeeded", "Succeeded"]
    (agent,) = agents(line)
    assert agent["deployment"]["status"] == "Deployed"
    assert agent["deployment"]["digest"] == digest
    assert line.stage(2)["run"]["agent_id"] == agent["id"]


def test_rule_74_only_what_is_compatible_can_follow_over_http(line):
    line.lay_out("experiment")
    fitting, other = line.experiment("more"), line.experiment("dqn", algorithm="DQN")
    offered = line.done("GET", "/candidates")["items"]
    assert {c["experiment_id"] for c in offered} >= {fitting}
    assert other not in {c["experiment_id"] for c in offered}
    refused = line.insert(experiment_id=other)
    assert "cannot use" in assert_problem(refused, field="/experiment_id")["detail"]
    assert line.insert(experiment_id=fitting).status_code == 201


def test_rule_75_what_has_run_or_is_used_is_bound_as_a_duplicate_over_http(line):
    (first,) = line.lay_out("experiment")
    has_run, _ = trained(line)
    offered = line.done("GET", "/candidates")["items"]
    needs = {c["experiment_id"]: c["needs_duplicate"] for c in offered}
    for used in (first, has_run):
        assert needs[used] is True
        refused = line.insert(experiment_id=used)
        assert "duplicate" in assert_problem(refused)["detail"]
        made = line.insert(experiment_id=used, duplicate=True)
        assert made.status_code == 201
        bound = made.json()["stages"][-1]
        assert bound["experiment_id"] not in {used, None}
        assert bound["experiment_name"].endswith("(copy)")


def test_rule_76_an_auto_stage_is_not_triggered_but_can_be_retried_over_http(line):
    first, second = line.lay_out("experiment", "experiment")
    line.trigger()
    line.succeed(first)
    line.fail(second)
    assert "Auto" in assert_problem(line.order(2, "trigger"), 409)["detail"]
    assert line.order(2, "retry", reason="once more").status_code == 202
    assert line.statuses() == ["Succeeded", "Running"]
    assert line.stage(2)["run"]["cause"] == "retry"
    assert line.stage(1)["run"]["number"] == 1
    line.succeed(second)
    assert_problem(line.order(2, "retry"), 409)


def test_rule_77_a_stage_needs_its_input_over_http(line):
    line.lay_out("experiment", "experiment", trigger="manual")
    before = line.world.head()
    assert "Stage 1" in assert_problem(line.order(2, "trigger"), 409)["detail"]
    assert line.world.head() == before


def test_rule_78_a_stage_is_stale_when_it_would_take_something_else_over_http(line):
    first, second = line.lay_out("experiment", "experiment")
    line.done("PATCH", line.path(2), trigger="manual")
    line.trigger()
    (old,) = line.succeed(first)
    line.trigger(2)
    line.succeed(second)
    assert [stage["stale"] for stage in line.stages()] == [False, False]
    line.trigger()
    (new,) = line.succeed(first)
    (cause,) = line.stage(2)["stale_because"]
    assert line.stage(2)["stale"] is True
    assert (cause["why"], cause["consumed"], cause["now"]) == ("produced", old, new)
    assert cause["stage_id"] == line.stage(1)["id"]
    log = {event.position: event.name for event in line.world.arena.audit.log()}
    named = [log[position] for position in cause["positions"]]
    assert named[0] == "stage.triggered"
    assert "stage.succeeded" in named
    line.trigger(2)
    line.succeed(second)
    assert [stage["stale"] for stage in line.stages()] == [False, False]


def test_rule_79_a_stage_says_how_it_stands_over_http(line):
    (first,) = line.lay_out("experiment")
    stage = line.stage(1)
    assert stage["status"] == "NotStarted"
    assert stage["run"] is None
    assert stage["experiment_name"] == "ppo"
    assert stage == line.done("GET", line.path(1))
    line.ask("POST", line.path(1, "trigger"))
    assert line.statuses() == ["Pending"]
    line.go_on()
    line.begin(first)
    assert line.statuses() == ["Running"]
    assert line.order(1, "stop").status_code == 202
    assert line.statuses() == ["Stopping"]
    line.end_stop(first)
    run = line.stage(1)["run"]
    assert line.statuses() == ["Stopped"]
    assert run["started_at"] <= run["ended_at"]
    (listed,) = line.done("GET", line.path(1, "runs"))["items"]
    assert [attempt["number"] for attempt in listed.pop("attempts")] == [1]
    assert listed == run


def test_rule_80_runs_do_not_count_as_modifications_over_http(line):
    (first,) = line.lay_out("experiment")
    before = line.show()["last_modified"]
    line.trigger()
    line.succeed(first)
    assert line.show()["last_modified"] == before
    line.done("PATCH", line.path(1), approval=True)
    assert line.show()["last_modified"] > before


def test_rule_81_pipelines_are_renamed_described_and_deleted_over_http(line):
    listed = line.client.get(f"{API}/pipelines").json()["items"]
    assert [each["name"] for each in listed] == ["line"]
    edited = line.done("PATCH", name="other", description="why")
    assert (edited["name"], edited["description"]) == ("other", "why")
    assert line.done("PATCH", name=None)["name"] == "other"
    assert line.ask("DELETE").status_code == 200
    assert line.ask("GET").status_code == 404
    assert line.client.get(f"{API}/pipelines").json()["items"] == []


def test_rule_82_a_duplicate_has_the_stages_and_no_runs_over_http(line):
    first, *_ = line.lay_out("experiment", "deployment")
    line.trigger()
    line.succeed(first)
    made = line.ask("POST", "/duplicate")
    assert made.status_code == 201
    assert made.headers["location"].endswith(made.json()["id"])
    copy = made.json()
    assert copy["name"] == "line (copy)"
    assert [stage["type"] for stage in copy["stages"]] == ["experiment", "deployment"]
    assert {stage["status"] for stage in copy["stages"]} == {"NotStarted"}
    drafted = copy["stages"][0]["experiment_id"]
    assert drafted != first
    found = line.client.get(f"{API}/experiments/{drafted}").json()
    assert found["status"] == "Draft"
    assert line.done("POST", "/duplicate", name="named")["name"] == "named"


def test_rule_83_nothing_is_edited_below_a_run_over_http(line):
    line.lay_out("experiment", "experiment")
    line.trigger()
    before = line.world.head()
    for method, path, body in (
        ("POST", "/stages", {"type": "deployment"}),
        ("PATCH", line.path(2), {"checkpoint": "final"}),
        ("POST", line.path(2, "move"), {"position": 1}),
        ("DELETE", line.path(2), {}),
        ("DELETE", "", {}),
    ):
        problem = assert_problem(line.ask(method, path, **body), 409)
        assert "stop it" in problem["detail"], path
    assert line.world.head() == before
    assert line.done("PATCH", name="renamed")["name"] == "renamed"


def test_rule_84_who_polls_is_sent_nothing_new_until_there_is_over_http(line):
    line.lay_out("experiment", "experiment")
    tag = line.ask("GET").headers["etag"]
    for path in ("", line.path(1)):
        tag = line.ask("GET", path).headers["etag"]
        known = {"If-None-Match": tag}
        again = line.client.get(line.at + path, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        line.order(1, "stop" if path else "trigger")
        changed = line.client.get(line.at + path, headers=known)
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag


def test_rule_85_a_pipeline_configures_no_experiment_over_http(line):
    for said in ({"algorithm": "PPO"}, {"config": {}}, {"recipe": "sb3"}):
        refused = line.insert(**said)
        assert_problem(refused, 422, "/" + next(iter(said)))
    assert line.stages() == []
