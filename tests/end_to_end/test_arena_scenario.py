"""People with agilerl-arena use a real server: the same story with every version.

Each version runs in an environment of its own.  What a call comes to is what the
package itself returned or raised; nothing in between is ours.
"""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from end_to_end.arena_platform import MANIFEST, a_name
from end_to_end.arena_users import refused, returned, unauthenticated
from end_to_end.public_client import OLD

pytestmark = pytest.mark.slow

HOSTED = {
    "list_environments": (),
    "environment_exists": ("mine",),
    "list_datasets": (),
    "dataset_exists": ("mine",),
    "list_resources": (),
    "get_user_credits": (),
}
"""What the hosted platform has besides, and this server has not."""
HOSTED_SINCE = {"list_models": (), "get_model_info": ("meta/llama",)}
"""The same, for all but the oldest version."""

# --- the whole story -----------------------------------------------------------------


def test_from_a_manifest_to_a_pole_that_stands(platform, user, bundle):
    project, name = a_name("project"), a_name("run")
    returned(user("create_project", project, "poles", llm_based=False))
    returned(user("set_default_project", project))
    submitted = returned(user("submit_experiment", str(MANIFEST), experiment_name=name))
    assert submitted, "a result that is empty is taken for none"
    (listed,) = returned(user("list_experiments"))
    assert listed["name"] == name
    assert listed["status"] in {"Pending", "Running"}
    experiment_id = platform.id_of(name)
    platform.write(experiment_id, bundle, step=4096, fitness=480.0)
    (row,) = returned(user("list_checkpoints", name))
    assert (row["steps"], row["evaluation_score"]) == (4096, 480.0)
    assert returned(user("deploy_agent", name))
    platform.deployed(name)
    status = returned(user.find(name)["open"])
    assert status["agent"]["algo"] == "PPO"
    key = platform.row(name)["api_key"]
    if user.version != OLD:
        key = user.environ["ARENA_API_KEY"]
    played = user.client("play", url=platform.row(name)["url"], key=key, seed=3)
    assert played["return"] >= 475


# --- who somebody is -----------------------------------------------------------------


def test_a_profile_has_names_and_an_address_and_no_nulls(platform, user):
    mine = user.bearing(platform.token(user=a_name("ann")))
    profile = returned(mine("get_current_user"))
    names = {"first_name", "last_name", "email"}
    assert all(isinstance(profile[name], str) for name in names)


def test_no_login_is_needed_with_a_token(user):
    logged_in, project = user.calls(("login", (), {}), ("list_projects", (), {}))
    assert (returned(logged_in), "returned" in project) == (None, True)


@pytest.mark.parametrize("key", ["nonsense", "arena_pat_nonsense"])
def test_a_wrong_token_is_an_authentication_error(user, key):
    met = user.bearing(key)("list_projects")
    assert unauthenticated(met)
    assert "Invalid API key" in met["text"]


def test_a_viewer_changes_nothing(platform, user):
    viewer = user.bearing(platform.token("viewer"))
    assert "returned" in viewer("list_projects")
    met = viewer("create_project", a_name("project"), None, llm_based=False)
    refused(met, 403)


def test_capabilities_are_unknown_whoever_asks(user):
    for key in (user.environ["ARENA_API_KEY"], "nonsense"):
        assert returned(user.bearing(key)("_get_cli_capabilities")) is None


def test_what_only_the_hosted_platform_has_is_a_plain_404(user):
    hosted = HOSTED if user.version == OLD else {**HOSTED, **HOSTED_SINCE}
    calls = [(method, given, {}) for method, given in hosted.items()]
    for met in user.calls(*calls):
        assert "hosted platform" in refused(met, 404)


# --- projects ------------------------------------------------------------------------


def test_projects_are_made_listed_and_deleted_by_their_names(user):
    classic, advanced = a_name("classic"), a_name("advanced")
    returned(user("create_project", classic, None, llm_based=False))
    returned(user("create_project", advanced, "of language", llm_based=True))
    rows = returned(user("list_projects"))
    assert {"name": classic, "type": "Classic RL", "description": ""} in rows
    kind = "Advanced Training"
    assert {"name": advanced, "type": kind, "description": "of language"} in rows
    returned(user("delete_project", classic))
    left = [row["name"] for row in returned(user("list_projects"))]
    assert (classic in left, advanced in left) == (False, True)


def test_a_project_that_is_unknown_is_not_deleted(user):
    refused(user("delete_project", "no such thing"), 404, "no such thing")


def test_of_two_projects_with_one_name_none_is_deleted(platform, user):
    name = a_name("twin")
    returned(user("create_project", name, "one", llm_based=False))
    # Their users make no second; whoever knows ids may.
    refused(user("create_project", name, "other", llm_based=False), 409, name)
    platform.control.post("/api/v1/projects", {"name": name, "kind": "classic"})
    refused(user("delete_project", name), 409, name)
    rows = returned(user("list_projects"))
    assert [row["name"] for row in rows].count(name) == 2


def test_the_default_project_must_exist(user):
    met = user("set_default_project", "no such thing")
    assert met["error"] == "ArenaConfigError"
    assert user("list_experiments")["error"] == "ArenaConfigError"


# --- experiments ---------------------------------------------------------------------


def test_a_submitted_manifest_is_the_configuration_of_its_experiment(platform, user):
    project, name = platform.project(), a_name("run")
    returned(
        user(
            "submit_experiment",
            yaml.safe_load(MANIFEST.read_text()),
            project=project,
            experiment_name=name,
            resource_id="arena-medium",
            num_nodes=2,
        )
    )
    made = platform.control.get(f"/api/v1/experiments/{platform.id_of(name)}")
    assert made["algorithm"] == "PPO"
    assert made["status"] in {"Pending", "Running"}
    assert made["source"] == {"kind": "gym", "name": "CartPole-v1"}
    assert '"learn_step":128' in json.dumps(made["config"], separators=(",", ":"))


def test_nothing_is_submitted_to_an_unknown_project(platform, user):
    name = a_name("run")
    met = user(
        "submit_experiment",
        str(MANIFEST),
        project="no such thing",
        experiment_name=name,
    )
    refused(met, 404, error="ArenaTrainingError", label="TrainingError")
    listed = platform.control.get("/api/v1/experiments?limit=1000")["items"]
    assert name not in [item["name"] for item in listed]


def test_code_of_ones_own_is_not_taken_with_a_manifest(platform, user, tmp_path):
    reward = tmp_path / "reward.py"
    reward.write_text("def reward(completion): return 1.0\n")
    met = user(
        "submit_experiment",
        str(MANIFEST),
        project=platform.project(),
        experiment_name=a_name("run"),
        reward_file=str(reward),
    )
    assert 400 <= met["status"] < 500
    refused(met, met["status"], error="ArenaTrainingError", label="TrainingError")


def test_only_the_experiments_of_the_project_are_listed(platform, user):
    project = platform.project()
    name = platform.experiment(project=project)
    (row,) = returned(user("list_experiments", project))
    assert (row["name"], row["status"]) == (name, "Draft")
    assert returned(user("list_experiments", platform.project())) == []
    refused(user("list_experiments", "no such thing"), 404)


def test_checkpoints_are_listed_with_their_scores_and_sizes(user, trained):
    rows = returned(user("list_checkpoints", trained))
    scores = {r["steps"]: (r["training_score"], r["evaluation_score"]) for r in rows}
    assert scores == {10: (49.5, 99.0), 20: (49.0, 98.0), 5: (None, None)}
    assert [row["steps"] for row in rows] == [10, 20, 5], "best first, unscored last"
    assert all(0 < row["size_mb"] < 1 for row in rows)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("list_checkpoints", ()),
        ("list_experiment_metric_names", ()),
        ("download_experiment_metrics", ()),
        ("resume_experiment", (10,)),
        ("stop_experiment", ()),
        ("deploy_agent", ()),
    ],
)
def test_an_unknown_experiment_is_not_found(user, method, given):
    refused(user(method, "no such thing", *given), 404, "no such thing")


def test_of_experiments_with_one_name_the_latest_is_meant(platform, user):
    name, first, second = a_name("run"), platform.project(), platform.project()
    for project in (first, second):
        platform.experiment(name=name, project=project)
    said = [
        ("list_experiment_metric_names", (name,), {"project": project, "details": True})
        for project in (None, first, second)
    ]
    meant = [returned(met)["experiment_id"] for met in user.calls(*said)]
    assert meant[0] == meant[2] != meant[1]


def test_an_experiment_that_trains_is_stopped_and_resumed_by_its_name(
    platform, user, bundle
):
    name = a_name("run")
    returned(
        user(
            "submit_experiment",
            str(MANIFEST),
            project=platform.project(),
            experiment_name=name,
        )
    )
    experiment = f"/api/v1/experiments/{platform.id_of(name)}"
    refused(user("resume_experiment", name, 10), 409)
    assert returned(user("stop_experiment", f" {name} "))
    platform.stopped(name)
    met = user("resume_experiment", name, 10)
    refused(met, met["status"])  # there is nothing yet that it could go on from
    platform.write(platform.id_of(name), bundle, step=10)
    assert returned(user("resume_experiment", name, 200_000))
    assert platform.control.get(experiment)["status"] in {"Pending", "Running"}
    assert returned(user("stop_experiment", name))


def test_a_draft_is_not_stopped(platform, user):
    refused(user("stop_experiment", platform.experiment()), 409)


# --- metrics -------------------------------------------------------------------------

POINTS = [
    {"step": step, "name": name, "value": value}
    for step in (10, 20, 30)
    for name, value in (("score", step * 1.5), ("loss", 1 / step))
]


@pytest.fixture(scope="module")
def measured(platform) -> str:
    name = platform.experiment()
    path = f"/api/v1/experiments/{platform.id_of(name)}/metrics"
    platform.control.post(path, {"points": POINTS})
    return name


def test_names_of_metrics_are_listed_once_and_in_order(platform, user, measured):
    names, details = user.calls(
        ("list_experiment_metric_names", (measured,), {}),
        ("list_experiment_metric_names", (measured,), {"details": True}),
    )
    assert returned(names) == ["loss", "score"]
    experiment_id = platform.id_of(measured)
    assert returned(details) == {
        "experiment_id": experiment_id, "metrics": ["loss", "score"],
    }  # fmt: skip


def test_metrics_are_previewed_as_a_table(user, measured):
    def table(**named):
        met = user("preview_experiment_metrics_csv", measured, **named)
        body, media_type, _ = returned(met)
        assert media_type.startswith("text/csv")
        return list(csv.DictReader(io.StringIO(body)))

    assert len(table(preview_rows=50_000)) == 3
    (first, second) = table(preview_rows=2)
    assert {"score", "loss"} <= first.keys()
    assert (float(first["score"]), float(second["loss"])) == (15.0, 0.05)
    (only,) = table(preview_rows=1, metrics=["loss"])
    assert ("loss" in only, "score" in only) == (True, False)
    assert table(preview_rows=0) == []


def test_metrics_are_downloaded_under_a_name_of_the_server(user, measured, tmp_path):
    file = tmp_path / "to" / "metrics.csv"
    download = "download_experiment_metrics"
    assert returned(user(download, measured, str(file))) == str(file)
    assert file.read_text().count("\n") == 4
    # A folder is enough: the answer says how the file is called.
    written = Path(returned(user(download, measured, str(tmp_path))))
    assert (written.parent, written.suffix) == (tmp_path, ".csv")
    assert written.read_text() == file.read_text()
    assert user(download, measured, str(file))["error"] == "FileExistsError"
