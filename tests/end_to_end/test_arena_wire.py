"""The wire of the public client: every address, its closed shape and its refusals."""

import csv
import io
import json
from http import HTTPStatus
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import arena_core
from arena_core.domain.experiment import Status

import bundles
from end_to_end.http_world import INSIDE, World, opened, wire

CLI = "/api/cli/v1"
PROJECT = {"name", "type", "description"}
EXPERIMENT = {
    "id", "name", "project", "algorithm", "environment", "status", "reason",
    "created_at",
}  # fmt: skip
LINE = {"kind", "stage", "status", "message", "detail", "level"}
CHECKPOINT = {"steps", "training_score", "evaluation_score", "size_mb"}
DEPLOYMENT = {
    "id", "name", "experiment_name", "project_name", "algorithm", "status", "connected",
    "memory_scope", "url", "api_key", "spec", "created_at",
}  # fmt: skip
USER = {
    "id", "first_name", "last_name", "email", "organization_id", "organization_name",
}  # fmt: skip
MANIFEST = {
    "algorithm": {"name": "PPO"},
    "environment": {"name": "CartPole-v1"},
    "training": {"max_steps": 1000},
}
PATIENCE_S = 30
OUT_OF_SCOPE = (
    "/api/users/credits",
    CLI + "/capabilities",
    CLI + "/environments",
    CLI + "/environments/list",
    CLI + "/environments/create-and-validate",
    CLI + "/datasets",
    CLI + "/datasets/create",
    CLI + "/models",
    CLI + "/models/info",
    CLI + "/resources/list",
    CLI + "/on-prem/enable",
    CLI + "/on-prem/classes/list",
    CLI + "/experiments/run-spec/default",
)


class Cli:
    """A caller of the wire, with a world of its own."""

    def __init__(self, world: World):
        self.world = world
        self.client = world.member("member")

    def get(self, path, **params):
        return good(self.client.get(CLI + path, params=params))

    def post(self, path, **body):
        return good(self.client.post(CLI + path, json=body))

    def project(self, name="carts", *, llm_based=False):
        return self.post(
            "/projects/create", name=name, description=None, llm_based=llm_based
        )

    def submit(self, name="run", *, project="carts", manifest=MANIFEST):
        answer = self.client.post(
            CLI + "/experiments/jobs/submit",
            json={
                "manifest": manifest,
                "resource_id": "arena-medium",
                "num_nodes": 2,
                "project": project,
                "experiment_name": name,
            },
        )
        assert answer.status_code == HTTPStatus.OK, answer.text
        return answer

    def upload(self, folder, name="run", **scored):
        made = self.world.arena.experiments.look_up(name)
        return self.world.arena.experiments.add_checkpoint(
            made.id, path=folder, **scored
        )

    def settled(self, name="run"):
        """Return the deployment's row once nothing of it is under way."""
        found = self.world.arena.deployments.one(name)
        self.world.arena.agents.wait(found.agent.id, timeout_s=PATIENCE_S)
        return self.get("/inference/deployments/one", name=name)


def good(answer):
    """Return the body of a success, which is always 200 with JSON."""
    assert answer.status_code == HTTPStatus.OK, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def bad(answer, status):
    """Return the sentence of a refusal, which holds nothing else for users."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"detail", "error_code"}
    assert body["detail"].strip()
    assert not INSIDE.search(body["detail"]), body
    assert "http" not in body["detail"]
    words = body["detail"].lower()
    assert not ("not found" in words and "environment" in words)
    return body["detail"]


@pytest.fixture
def cli():
    with opened() as world:
        world.hold_trainings()
        yield Cli(world)


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """One with a submitted experiment, for tests that leave it as it is."""
    with opened() as world:
        world.hold_trainings()
        yield with_checkpoints(Cli(world), tmp_path_factory.mktemp("steady"))


@pytest.fixture
def run(cli, tmp_path):
    return with_checkpoints(cli, tmp_path)


@pytest.fixture
def bundle(tmp_path):
    return bundles.cartpole(tmp_path / "bundle")


def with_checkpoints(cli, folder):
    """Submit an experiment with two checkpoints, of which the earlier is better."""
    cli.project()
    cli.submit()
    cli.upload(bundles.cartpole(folder / "first"), step=10, score=1.0, fitness=2.0)
    swapped = bundles.CARTPOLE.swapped()
    other = bundles.cartpole(folder / "second", network=swapped)
    cli.upload(other, step=20, score=3.0, fitness=1.0)
    return cli


# --- who asks, and what there is not ------------------------------------------------


def test_the_current_user_is_described_without_null(steady):
    me = good(steady.client.get("/api/users/current"))
    assert me.keys() == USER
    assert all(isinstance(value, str) for value in me.values())
    assert me["organization_id"] == "default"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("known", [None, False, True])
def test_what_is_out_of_scope_is_not_there_for_anybody(steady, method, known):
    stranger = steady.world.client(None if known is None else "arena_pat_bad")
    client = steady.client if known else stranger
    for path in OUT_OF_SCOPE:
        assert "This server" in bad(client.request(method, path), 404)


@pytest.mark.parametrize("path", [CLI + "/modelss", CLI + "/experiments/x", CLI])
def test_an_address_that_nobody_knows_is_not_there_either(steady, path):
    answer = steady.client.get(path)
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert "nothing at this address" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/users/current"),
        ("GET", CLI + "/projects"),
        ("POST", CLI + "/projects/create"),
        ("DELETE", CLI + "/projects/delete"),
        ("GET", CLI + "/experiments/list"),
        ("POST", CLI + "/experiments/jobs/submit"),
        ("POST", CLI + "/experiments/jobs/resume"),
        ("POST", CLI + "/experiments/jobs/stop"),
        ("GET", CLI + "/experiments/jobs/checkpoints"),
        ("GET", CLI + "/experiments/metrics"),
        ("POST", CLI + "/inference/deploy"),
        ("GET", CLI + "/inference/deployments/list"),
        ("GET", CLI + "/inference/deployments/one"),
    ],
)
def test_everything_else_needs_a_credential(steady, method, path):
    for token in (None, "arena_pat_bad"):
        bad(steady.world.client(token).request(method, path), 401)
    reads = method == "GET"
    viewer = steady.world.member("viewer").request(method, path)
    assert (viewer.status_code == HTTPStatus.FORBIDDEN) != reads


# --- what is printed -----------------------------------------------------------------

COLUMNS = {
    "/experiments/list?project=carts": [
        "id", "name", "project", "algorithm", "environment", "status", "reason",
    ],
    "/experiments/jobs/checkpoints?experiment_name=run": [
        "steps", "training_score", "evaluation_score", "size_mb",
    ],
    "/inference/deployments/list": [
        "id", "name", "experiment_name", "project_name", "algorithm", "status",
    ],
}  # fmt: skip


@pytest.mark.parametrize("path", COLUMNS)
def test_columns_come_as_they_are_best_read(run, path):
    """The command line prints them in the order of the keys."""
    run.post("/inference/deploy", experiment_name="run", checkpoint=None)
    row, *_ = good(run.client.get(CLI + path))
    assert list(row)[: len(COLUMNS[path])] == COLUMNS[path]


def test_no_name_is_printed_that_ends_the_client(run):
    """Its tables take `[/x]` for the end of what was never begun."""
    name, shown = "[/red] [@x] [ok] a[1]", "[ /red] [ @x] [ok] a[1]"
    run.project(name)
    arena = run.world.arena
    (project,) = [p for p in arena.projects.list() if p.name == name]
    arena.projects.edit(project.id, description="[/b]")
    run.submit(name, project=name)
    assert run.get("/projects")[-1]["name"] == shown
    assert run.get("/projects")[-1]["description"] == "[ /b]"
    (row,) = run.get("/experiments/list", project=name)
    assert (row["name"], row["project"]) == (shown, shown)


@pytest.mark.parametrize("name", ["CartPole-v1", "[/red]", "[bold]"])
def test_no_line_of_a_submission_has_brackets(name):
    # Such a name could be that of code, which not everybody may have run.
    with opened(serve=False, allow_commands=True) as world:
        cli = Cli(world)
        cli.project()
        manifest = {**MANIFEST, "environment": {"name": name}}
        lines = cli.submit(f"run {name}", manifest=manifest).text.splitlines()
    for message in (json.loads(line)["message"] for line in lines):
        assert not set("[]") & set(message)


def test_who_is_known_by_nothing_but_a_name_is_shown_it(cli):
    def shown(user):
        token = cli.world.issued("member", user=user).token
        return good(cli.world.client(token).get("/api/users/current"))

    ann, mail = shown("ann"), shown("ann@example.org")
    assert (ann["first_name"], ann["last_name"], ann["email"]) == ("ann", "", "")
    assert (mail["first_name"], mail["email"]) == ("", "ann@example.org")


# --- projects ----------------------------------------------------------------------


def test_projects_are_known_by_their_names(cli):
    assert cli.get("/projects") == []
    classic = cli.project()
    assert classic == {"name": "carts", "type": "Classic RL", "description": ""}
    advanced = cli.project("texts", llm_based=True)
    assert advanced["type"] == "Advanced Training"
    assert cli.get("/projects") == [classic, advanced]


def test_a_second_project_of_a_name_is_refused(cli):
    cli.project()
    answer = cli.client.post(CLI + "/projects/create", json={"name": " carts "})
    assert "called carts already" in bad(answer, 409)
    assert len(cli.get("/projects")) == 1


def test_a_project_is_deleted_by_its_name(cli):
    def delete(name):
        return cli.client.request(
            "DELETE", CLI + "/projects/delete", json={"name": name}
        )

    cli.project()
    assert good(delete("carts")) == {"name": "carts", "deleted": True}
    assert cli.get("/projects") == []
    assert "no project called carts" in bad(delete("carts"), 404)
    bad(cli.client.delete(CLI + "/projects/delete"), 422)


def test_an_ambiguous_project_is_told_with_the_whole_story(cli):
    ids = [str(cli.world.arena.projects.create("carts").id) for _ in range(2)]
    delete = {"name": "carts"}
    for answer in (
        cli.client.request("DELETE", CLI + "/projects/delete", json=delete),
        cli.client.get(CLI + "/experiments/list", params={"project": "carts"}),
    ):
        story = bad(answer, 409)
        assert all(known in story for known in ids)
    assert len(cli.get("/projects")) == 2


# --- experiments -------------------------------------------------------------------


def test_a_submission_is_a_stream_that_ends_with_the_experiment(cli):
    cli.project()
    answer = cli.submit()
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert all(line.keys() == LINE for line in lines)
    *before, last = lines
    assert before
    assert all(line["status"] not in {"completed", "failed"} for line in before)
    assert (last["kind"], last["status"]) == ("status", "completed")
    assert last["detail"].keys() == EXPERIMENT
    shown = {name: last["detail"][name] for name in ("name", "project", "status")}
    assert shown == {"name": "run", "project": "carts", "status": "Pending"}
    assert cli.get("/experiments/list", project="carts") == [last["detail"]]


def test_the_manifest_is_kept_as_the_configuration(cli):
    cli.project()
    whole = {**MANIFEST, "apiVersion": "agilerl.com/v1", "network": {"latent_dim": 32}}
    cli.submit(manifest=whole)
    made = cli.world.arena.experiments.look_up("run")
    beside = {"resource_id": "arena-medium", "num_nodes": 2}
    assert made.config == {"manifest": whole, **beside}
    assert (made.recipe, made.source) == ("agilerl", arena_core.gym("CartPole-v1"))


def test_a_submission_without_a_name_is_called_by_what_it_trains(cli):
    cli.project()
    cli.submit(None)
    (made,) = cli.get("/experiments/list", project="carts")
    assert made["name"] == "PPO-CartPole-v1"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"manifest": MANIFEST}, 422, "project is missing"),
        ({"manifest": MANIFEST, "project": None}, 422, "project is missing"),
        ({"manifest": MANIFEST, "project": "boats"}, 404, "no project called boats"),
        ({"manifest": MANIFEST, "project": " "}, 422, "project is missing"),
        ({"project": "carts"}, 422, "manifest is missing"),
        ({"manifest": {}, "project": "carts"}, 422, "manifest"),
        ({"manifest": [], "project": "carts"}, 422, "object"),
        ({"manifest": "algorithm: PPO", "project": "carts"}, 422, "object"),
        (
            {"manifest": MANIFEST, "project": "carts", "experiment_name": ""},
            422,
            "name is missing",
        ),
        (
            {"manifest": MANIFEST, "project": "carts", "num_nodes": 0},
            422,
            "field num_nodes is wrong: Expected int",
        ),
        (
            {
                "manifest": {**MANIFEST, "algorithm": {"name": "[PPO2]"}},
                "project": "carts",
            },
            422,
            "not known here",
        ),
    ],
)
def test_a_submission_that_cannot_be_kept_is_refused_whole(steady, body, status, said):
    head = steady.world.head()
    answer = steady.client.post(CLI + "/experiments/jobs/submit", json=body)
    assert said in bad(answer, status)
    assert steady.world.head() == head


def test_a_manifest_that_is_larger_than_an_event_is_refused(steady):
    head = steady.world.head()
    body = {"manifest": {**MANIFEST, "notes": "x" * 2_000_000}, "project": "carts"}
    bad(steady.client.post(CLI + "/experiments/jobs/submit", json=body), 413)
    assert steady.world.head() == head


def test_a_reward_file_is_refused_in_plain_words(steady):
    answer = steady.client.post(
        CLI + "/experiments/jobs/submit",
        files={
            "manifest": (None, json.dumps(MANIFEST)),
            "reward_file": ("reward.py", b"def reward(): ...", "text/x-python"),
        },
    )
    assert "no file or form is taken here" in bad(answer, 415)


def test_rule_07_what_nobody_has_begun_is_stopped_at_once_over_the_wire(cli):
    cli.project()
    cli.submit()
    stopped = cli.post("/experiments/jobs/stop", experiment_name=" run ")
    assert stopped.keys() == EXPERIMENT
    assert stopped["status"] == Status.STOPPED.value
    again = cli.client.post(
        CLI + "/experiments/jobs/stop", json={"experiment_name": "run"}
    )
    assert "while the experiment is Stopped" in bad(again, 409)


def test_rule_08_an_experiment_is_resumed_by_its_name(run):
    def resume(**body):
        return run.client.post(
            CLI + "/experiments/jobs/resume", json={"experiment_name": "run", **body}
        )

    assert "is Pending" in bad(resume(max_steps=9), 409)
    run.post("/experiments/jobs/stop", experiment_name="run")
    resumed = good(resume(max_steps=9))
    assert resumed.keys() == EXPERIMENT
    assert resumed["status"] == Status.PENDING.value
    assert len(run.get("/experiments/list", project="carts")) == 1
    for wrong in ({}, {"max_steps": -1}, {"max_steps": "9"}, {"max_steps": 2**63}):
        bad(resume(**wrong), 422)


def test_rule_08_resuming_without_a_checkpoint_is_refused(cli):
    cli.project()
    cli.submit()
    cli.post("/experiments/jobs/stop", experiment_name="run")
    body = {"experiment_name": "run", "max_steps": 9}
    answer = cli.client.post(CLI + "/experiments/jobs/resume", json=body)
    assert "no checkpoint to resume from" in bad(answer, 409)


def test_rule_11_checkpoints_come_with_their_scores_the_best_first(run, bundle):
    run.upload(bundle, step=30)
    run.upload(bundle, step=40, fitness=-1.0)
    rows = run.get("/experiments/jobs/checkpoints", experiment_name="run")
    assert all(row.keys() == CHECKPOINT for row in rows)
    assert [row["steps"] for row in rows] == [10, 20, 40, 30]
    assert (rows[0]["training_score"], rows[0]["evaluation_score"]) == (1.0, 2.0)
    assert (rows[3]["training_score"], rows[3]["evaluation_score"]) == (None, None)
    size_bytes = sum(path.stat().st_size for path in bundle.iterdir())
    assert rows[0]["size_mb"] == size_bytes / 1_000_000


@pytest.mark.parametrize(
    "path", ["/experiments/jobs/checkpoints", "/experiments/metrics"]
)
def test_an_experiment_that_is_not_there_is_told_by_its_name(steady, path):
    answer = steady.client.get(CLI + path, params={"experiment_name": "[/run]"})
    assert bad(answer, 404) == "There is no experiment called ?/run?."
    bad(steady.client.get(CLI + path), 422)


# --- metrics -----------------------------------------------------------------------


def metrics(cli, *more, name="run"):
    params = [("experiment_name", name), *more]
    return cli.client.get(CLI + "/experiments/metrics", params=params)


def table(answer):
    assert answer.status_code == HTTPStatus.OK, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.reader(io.StringIO(answer.text)))


def test_the_names_of_metrics_come_as_json(steady):
    assert good(metrics(steady)) == ["fitness", "score"]
    detailed = good(metrics(steady, ("details", "true"), ("project", "carts")))
    assert detailed.keys() == {"experiment_id", "metrics"}
    assert detailed["metrics"] == ["fitness", "score"]
    assert detailed["experiment_id"] == str(
        steady.world.arena.experiments.look_up("run").id
    )


def test_the_points_come_as_csv(steady):
    whole = metrics(steady, ("preview_rows", 50_000))
    assert table(whole) == [
        ["step", "fitness", "score"],
        ["10", "2.0", "1.0"],
        ["20", "1.0", "3.0"],
    ]
    named = 'attachment; filename="run_metrics.csv"'
    assert whole.headers["content-disposition"] == named
    assert table(metrics(steady, ("preview_rows", 1)))[1:] == [["10", "2.0", "1.0"]]
    assert table(metrics(steady, ("preview_rows", 0))) == [["step", "fitness", "score"]]


def test_columns_are_chosen_by_repeating_a_parameter(steady):
    chosen = [("preview_rows", 5), ("metric", "score"), ("metric", "fitness")]
    assert table(metrics(steady, *chosen))[0] == ["step", "score", "fitness"]
    one = metrics(steady, ("preview_rows", 5), ("metric", "score"))
    assert table(one)[0] == ["step", "score"]
    unknown = metrics(steady, ("preview_rows", 5), ("metric", "loss"))
    assert "there are: fitness, score" in bad(unknown, 422)


@pytest.mark.parametrize(
    "wrong",
    [
        [("preview_rows", "-1")],
        [("preview_rows", "many")],
        [("preview_rows", "1"), ("preview_rows", "1")],
        [("details", "perhaps")],
        [("rows", "1")],
    ],
)
def test_parameters_that_make_no_sense_are_refused(steady, wrong):
    bad(metrics(steady, *wrong), 422)


def test_the_file_of_metrics_is_named_so_that_it_harms_nobody(cli):
    name = '../../"x";\u2028évil/run'
    cli.project()
    cli.submit(name)
    answer = metrics(cli, ("preview_rows", 5), name=name)
    (said,) = answer.headers.get_list("content-disposition")
    assert said == 'attachment; filename="_x_vil_run_metrics.csv"'


def test_metrics_are_looked_up_in_a_project(run):
    run.project("boats")
    run.submit(project="boats")
    assert good(metrics(run)) == []
    assert good(metrics(run, ("project", "carts"))) == ["fitness", "score"]
    bad(metrics(run, ("project", "trains")), 404)


# --- deployments -------------------------------------------------------------------


def test_deploy_leads_to_a_url_and_a_key_that_answer(run):
    asked = run.post("/inference/deploy", experiment_name="run", checkpoint=None)
    assert asked.keys() == DEPLOYMENT
    if asked["status"] != "Deployed":
        nothing = (asked["url"], asked["api_key"], asked["spec"])
        assert nothing == (None, None, {"url": None})
    row = run.settled()
    assert row.keys() == DEPLOYMENT
    assert (row["name"], row["experiment_name"]) == ("run", "run")
    assert (row["project_name"], row["algorithm"]) == ("carts", "PPO")
    assert (row["status"], row["connected"]) == ("Deployed", True)
    assert row["spec"] == {"url": row["url"]}
    seen = {"obs": wire([[0.0] * 4]), "hidden_state": None, "action_mask": None}
    path = row["url"].removeprefix("http://testserver")
    client = run.world.client(row["api_key"])
    answer = client.post(path + "/get_action", json={**seen, "batch_size": 1})
    assert answer.status_code == HTTPStatus.OK
    status = client.get(path + "/status").json()
    assert status["deployment_id"] == row["id"]


def test_rule_44_there_is_no_url_and_no_key_while_it_is_not_deployed(run):
    run.post("/inference/deploy", experiment_name="run", checkpoint="20")
    live = run.settled()
    run.world.arena.agents.disconnect(run.world.arena.agents.look_up("run").id)
    row = run.get("/inference/deployments/one", name="run")
    assert (row["url"], row["api_key"], row["spec"]) == (None, None, {"url": None})
    assert (row["status"], row["connected"]) == ("Undeployed", False)
    assert row["id"] == live["id"]


def test_a_redeploy_keeps_the_url_and_the_key(run):
    run.post("/inference/deploy", experiment_name="run", checkpoint=None)
    first = run.settled()
    run.post("/inference/deploy", experiment_name="run", checkpoint="step_20")
    assert run.settled() == first
    agent = run.world.arena.agents.look_up("run")
    assert agent.checkpoint.step == 20
    assert len(run.get("/inference/deployments/list")) == 1


@pytest.mark.parametrize("name", ["step_20", "step-20", "20", 20, "final"])
def test_a_checkpoint_has_many_names(run, name):
    run.post("/inference/deploy", experiment_name="run", checkpoint=name)
    assert run.world.arena.agents.look_up("run").checkpoint.step == 20


def test_a_checkpoint_has_its_digest_for_a_name(run):
    made = run.world.arena.experiments.look_up("run")
    (*_, last) = run.world.arena.experiments.checkpoints(made.id)
    run.post("/inference/deploy", experiment_name="run", checkpoint=last.digest)
    assert run.world.arena.agents.look_up("run").checkpoint.digest == last.digest


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"experiment_name": "run", "checkpoint": "worst"}, 422),
        ({"experiment_name": "run", "checkpoint": "15"}, 422),
        ({"experiment_name": "run", "checkpoint": -1}, 422),
        ({"experiment_name": "run", "checkpoint": "a" * 64}, 422),
        ({"experiment_name": "run", "checkpoint": [1]}, 422),
        ({"experiment_name": "runs", "checkpoint": None}, 404),
        ({"experiment_name": "", "checkpoint": None}, 422),
        ({"experiment_name": "run", "memoryScope": "world"}, 422),
        ({"experiment_name": "run", "memory_scope": "user"}, 422),
        ({}, 422),
    ],
)
def test_a_deploy_that_makes_no_sense_makes_nothing(steady, body, status):
    head = steady.world.head()
    bad(steady.client.post(CLI + "/inference/deploy", json=body), status)
    assert steady.world.head() == head


def test_rule_87_the_memory_scope_is_chosen_once(run):
    def deploy(**scope):
        body = {"experiment_name": "run", "checkpoint": None, **scope}
        return run.client.post(CLI + "/inference/deploy", json=body)

    assert good(deploy(memoryScope="organization"))["memory_scope"] == "organization"
    run.settled()
    assert good(deploy())["memory_scope"] == "organization"
    assert "cannot be changed" in bad(deploy(memoryScope="user"), 409)


def test_rule_87_the_memory_scope_can_be_chosen_where_agents_are_connected(run):
    client = run.world.member("member")
    made = run.world.arena.experiments.look_up("run")
    body = {
        "name": "a",
        "experiment_id": str(made.id),
        "checkpoint": {"type": "best"},
        "memory_scope": "organization",
    }
    agent = client.post("/api/v1/agents", json=body).json()
    assert agent["deployment"]["memory_scope"] == "organization"
    path = f"/api/v1/agents/{agent['id']}/connect"
    refused = client.post(path, json={"memory_scope": "user"})
    assert refused.status_code == HTTPStatus.CONFLICT
    accepted = client.post(path, json={"memory_scope": "organization"})
    assert accepted.status_code in {HTTPStatus.OK, HTTPStatus.ACCEPTED}


def test_deployments_are_listed_by_exact_names_in_camel_case(run):
    run.post("/inference/deploy", experiment_name="run", checkpoint=None)
    row = run.settled()
    listed = "/inference/deployments/list"
    for names in (
        {},
        {"name": " run "},
        {"experimentName": "run", "projectName": " carts"},
        {"name": "", "experimentName": " "},
    ):
        assert run.get(listed, **names) == [row]
    for names in ({"name": "ru"}, {"experimentName": "RUN"}, {"projectName": "cart"}):
        assert run.get(listed, **names) == []
        one = {"name": "run", **names}
        bad(run.client.get(CLI + "/inference/deployments/one", params=one), 404)
    bad(run.client.get(CLI + listed, params={"experiment_name": "run"}), 422)


def test_rule_18_one_of_several_deployments_is_told_with_the_whole_story(run, bundle):
    run.post("/inference/deploy", experiment_name="run", checkpoint=None)
    run.project("boats")
    run.submit(project="boats")
    run.upload(bundle, step=10)
    run.post("/inference/deploy", experiment_name="run", checkpoint=None)
    rows = run.get("/inference/deployments/list", name="run")
    assert {row["project_name"] for row in rows} == {"carts", "boats"}
    one = CLI + "/inference/deployments/one"
    story = bad(run.client.get(one, params={"name": "run"}), 409)
    assert "project carts" in story
    assert "project boats" in story
    found = run.get("/inference/deployments/one", name="run", projectName="boats")
    assert found["project_name"] == "boats"
    for params in ({}, {"name": " "}):
        bad(run.client.get(one, params=params), 422)


def test_the_key_is_neither_for_those_who_only_read_nor_for_any_cache(run):
    run.post("/inference/deploy", experiment_name="run", checkpoint=None)
    run.settled()
    viewer = run.world.member("viewer")
    for path in ("one", "list"):
        answers = [
            client.get(f"{CLI}/inference/deployments/{path}", params={"name": "run"})
            for client in (run.client, viewer)
        ]
        rows = [good(answer) for answer in answers]
        member, reader = (row[0] if path == "list" else row for row in rows)
        assert member["api_key"].startswith("arena_dep_")
        assert (reader["api_key"], reader["url"]) == (None, member["url"])
        assert {a.headers["cache-control"] for a in answers} == {"no-store"}


def test_another_organisation_sees_and_does_nothing(run):
    run.post("/inference/deploy", experiment_name="run", checkpoint=None)
    run.settled()
    theirs = run.world.client(run.world.token("member", organisation="rivals"))
    head = run.world.head()
    assert good(theirs.get(CLI + "/projects")) == []
    assert good(theirs.get(CLI + "/inference/deployments/list")) == []
    bad(theirs.get(CLI + "/inference/deployments/one", params={"name": "run"}), 404)
    bad(theirs.get(CLI + "/experiments/list", params={"project": "carts"}), 404)
    body = {"experiment_name": "run", "checkpoint": None}
    bad(theirs.post(CLI + "/inference/deploy", json=body), 404)
    bad(
        theirs.post(CLI + "/experiments/jobs/stop", json={"experiment_name": "run"}),
        404,
    )
    assert run.world.head() == head


# --- whatever comes ----------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
ALGORITHMS = st.sampled_from(["PPO", "GRPO", "Supervised", "CQN", "Rainbow DQN"])
UNDERSTOOD = st.fixed_dictionaries(
    {
        "manifest": st.fixed_dictionaries(
            {
                "algorithm": st.fixed_dictionaries(
                    {"name": ALGORITHMS}, optional={"recurrent": st.booleans()}
                ),
                "environment": st.just({"name": "CartPole-v1"}),
            },
            optional={
                "training": st.builds(dict, max_steps=st.integers(0, 2**63 - 1)),
                "network": TREES,
                "mutation": TREES,
            },
        ),
        "project": st.just("carts"),
    },
    optional={
        "experiment_name": st.just("run"),
        "resource_id": st.integers() | st.text(),
        "num_nodes": st.integers(1, 100),
    },
)
PLACES = (
    (),
    ("manifest",),
    ("manifest", "algorithm"),
    ("manifest", "algorithm", "name"),
    ("manifest", "algorithm", "recurrent"),
    ("manifest", "algorithm", "pretrained_model_name_or_path"),
    ("manifest", "environment"),
    ("manifest", "environment", "name"),
    ("manifest", "environment", "dataset"),
    ("manifest", "training"),
    ("manifest", "training", "max_steps"),
    ("project",),
    ("experiment_name",),
    ("resource_id",),
    ("num_nodes",),
    ("surplus",),
)


def replaced(tree, place, other):
    """Return `tree` with something else at one place."""
    if not place:
        return other
    here = tree if isinstance(tree, dict) else {}
    inner = replaced(here.get(place[0]), place[1:], other)
    return {**here, place[0]: inner}


SUBMISSIONS = UNDERSTOOD | st.builds(
    replaced, UNDERSTOOD, st.sampled_from(PLACES), TREES | SCALARS
)


@given(SUBMISSIONS)
def test_whatever_is_submitted_is_kept_whole_or_refused(steady, body):
    before = steady.world.head()
    answer = steady.client.post(
        CLI + "/experiments/jobs/submit", content=json.dumps(body)
    )
    if answer.status_code == HTTPStatus.OK:
        *_, last = (json.loads(line) for line in answer.text.splitlines())
        made = steady.world.arena.experiments.get(UUID(last["detail"]["id"]))
        assert made.status is Status.PENDING
        assert made.config["manifest"] == body["manifest"]
        assert steady.world.head() == before + 2
    else:
        assert answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
        bad(answer, answer.status_code)
        assert steady.world.head() == before


@given(
    st.sampled_from(
        [
            "/experiments/jobs/resume",
            "/experiments/jobs/stop",
            "/inference/deploy",
            "/projects/create",
        ]
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "experiment_name": SCALARS,
            "max_steps": SCALARS,
            "checkpoint": TREES,
            "memoryScope": SCALARS,
            "name": st.just("carts") | st.just(" "),
            "llm_based": SCALARS,
        },
    )
    | TREES,
)
def test_whatever_is_posted_is_refused_in_plain_words(steady, path, body):
    before = steady.world.head()
    answer = steady.client.post(CLI + path, content=json.dumps(body))
    assert answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    bad(answer, answer.status_code)
    assert steady.world.head() == before
