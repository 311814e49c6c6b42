"""What the bundle of a checkpoint says of itself is to be had over HTTP."""

import numpy as np
import pytest

import bundles
from end_to_end.http_world import assert_problem, opened

DATASET = {
    "name": "irises.csv",
    "sha256": "ab" * 32,
    "rows": 150,
    "columns": ["sepal", "petal", "colour=red"],
    "classes": ["setosa", "virginica"],
}
PROVENANCE = {"recipe": "supervised", "seed": 7, "dataset": DATASET}
CONTENTS = {
    "digest", "algorithm", "family", "framework", "classes", "columns", "dataset",
    "provenance",
}  # fmt: skip


def described(folder, provenance):
    """Return a bundle of a supervised model that says this of itself."""
    bundles.regressor(folder)
    stored = {**bundles.manifest(folder), "provenance": provenance}
    bundles.write_manifest(folder, stored)
    return folder


@pytest.fixture(scope="module")
def world():
    with opened() as world:
        yield world


@pytest.fixture(scope="module")
def agent(world, tmp_path_factory):
    folder = described(tmp_path_factory.mktemp("b") / "bundle", PROVENANCE)
    return world.agent(folder, algorithm="Supervised")


def test_an_agent_and_its_checkpoint_say_what_the_classes_and_columns_are(world, agent):
    client = world.member("viewer")
    of_agent = client.get(f"/api/v1/agents/{agent.id}/checkpoint")
    at = f"/api/v1/experiments/{agent.experiment_id}/checkpoints/10"
    of_checkpoint = client.get(at)
    assert (of_agent.status_code, of_checkpoint.status_code) == (200, 200)
    assert of_agent.json() == of_checkpoint.json()
    said = of_agent.json()
    assert said.keys() == CONTENTS
    assert said["digest"] == agent.checkpoint.digest
    assert (said["algorithm"], said["family"]) == ("Supervised", "supervised")
    assert said["framework"] == {"name": "numpy", "version": np.__version__}
    assert said["classes"] == DATASET["classes"]
    assert said["columns"] == DATASET["columns"]
    assert said["dataset"] == {key: DATASET[key] for key in ("name", "sha256", "rows")}
    assert said["provenance"] == PROVENANCE


def test_who_calls_predict_is_told_the_classes_with_the_key(world, agent):
    client = world.member()
    where = f"/api/v1/agents/{agent.id}"
    assert client.post(f"{where}/connect", params={"wait": 30}).status_code == 200
    access = client.get(f"{where}/access").json()
    assert access["classes"] == DATASET["classes"]
    assert access["columns"] == DATASET["columns"]
    answer = world.client().get(
        access["endpoint"].removeprefix("http://testserver") + "/status"
    )
    assert "setosa" not in answer.text, "that is open to everybody"


@pytest.mark.parametrize(
    "provenance",
    [
        {},
        {"dataset": None},
        {"dataset": ["setosa"]},
        {"dataset": {"classes": "setosa", "columns": {"a": 1}, "rows": "many"}},
        {"dataset": {"classes": [1, 2], "columns": [None], "name": 3, "rows": True}},
        {"dataset": {"classes": [], "columns": [], "sha256": {}, "rows": 1.5}},
    ],
)
def test_what_a_bundle_does_not_say_is_null_and_the_rest_is_passed_on(
    world, tmp_path, provenance
):
    agent = world.agent(described(tmp_path, provenance), algorithm="Supervised")
    answer = world.member("viewer").get(f"/api/v1/agents/{agent.id}/checkpoint")
    said = answer.json()
    assert (said["classes"], said["columns"]) == (None, None)
    assert said["dataset"] in (None, {"name": None, "sha256": None, "rows": None})
    assert (said["dataset"] is None) == (
        not isinstance(provenance.get("dataset"), dict)
    )
    assert said["provenance"] == provenance


def test_an_agent_that_was_given_another_checkpoint_tells_of_that_one(world, tmp_path):
    first = described(tmp_path / "1", {"seed": 1})
    made = world.experiment(
        first, described(tmp_path / "2", {"seed": 2}), algorithm="Supervised"
    )
    client = world.member()
    choice = {
        "name": "swapped",
        "experiment_id": str(made.id),
        "checkpoint": {"type": "specific", "step": 10},
    }
    at = f"/api/v1/agents/{client.post('/api/v1/agents', json=choice).json()['id']}"
    seen = world.head()
    other = {"checkpoint": {"type": "specific", "step": 20}}
    assert client.post(f"{at}/redeploy", json=other).status_code == 200
    seeds = [
        client.get(f"{at}/checkpoint", params=params).json()["provenance"]["seed"]
        for params in ({}, {"as_of": seen})
    ]
    assert seeds == [2, 1]


def test_a_step_without_a_checkpoint_has_no_contents(world, agent):
    at = f"/api/v1/experiments/{agent.experiment_id}/checkpoints"
    refused = world.member("viewer").get(f"{at}/11")
    assert "there are: 10" in assert_problem(refused, 404)["detail"]
