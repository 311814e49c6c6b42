"""People with agilerl-arena deploy, find and call agents on a real server.

The same with every version, by the names that people know; how the class `Agent` does
with an address and a key is in `test_public_client.py`.
"""

from functools import cache
from uuid import UUID

import gymnasium
import numpy as np
import pytest
from attrs import evolve

import bundles
from end_to_end.arena_platform import a_name
from end_to_end.arena_users import (
    GREEDY,
    ROWS,
    acts,
    one_action,
    refused,
    returned,
    unauthenticated,
)
from end_to_end.processes import eventually
from end_to_end.public_client import (
    OLD,
    FirstGeneration,
    loading_elsewhere,
    taken,
    told,
)
from every_shape import EVERY_SHAPE, assert_same

pytestmark = pytest.mark.slow

# --- deploying -----------------------------------------------------------------------


def test_a_redeployed_agent_keeps_its_address(platform, user, bundle, swapped):
    name = platform.experiment(bundle, swapped)  # the first is the best
    returned(user("deploy_agent", name))
    before = platform.deployed(name)
    acts(user.find(name, one_action()))
    for checkpoint, action in (
        ("step_20", 1 - GREEDY[0]),
        ("step_10", GREEDY[0]),
        ("final", 1 - GREEDY[0]),
        (None, GREEDY[0]),
        ("20", 1 - GREEDY[0]),
        ("best", GREEDY[0]),
        ("step-20", 1 - GREEDY[0]),
    ):
        returned(user("deploy_agent", name, checkpoint))
        # Until the other weights answer, the earlier ones do: no call fails.
        eventually(
            lambda action=action: _action(user, name) == action,
            what=f"{checkpoint} answers",
        )
        after = platform.row(name)
        assert (after["url"], after["status"]) == (before["url"], "Deployed")


def _action(user, name) -> int:
    (met,) = user.find(name, one_action())["calls"]
    return int(taken(returned(met)[0]))


def test_the_status_is_asked_for_anew(platform, user, trained):
    anew = {"method": "status", "refresh": True}
    ids = set()
    for checkpoint in (None, "final"):
        returned(user("deploy_agent", trained, checkpoint))
        platform.deployed(trained)
        met = user.find(trained, anew)
        assert returned(met["calls"][0]) == returned(met["open"])
        ids.add(returned(met["open"])["deployment_id"])
    assert ids == {platform.row(trained)["id"]}


@pytest.mark.parametrize("checkpoint", ["step_999", "999", "nonsense", ""])
def test_a_checkpoint_that_there_is_not_is_not_deployed(platform, user, checkpoint):
    name = platform.experiment()
    met = user("deploy_agent", name, checkpoint)
    assert met["status"] in {404, 409, 422}
    refused(met, met["status"])
    assert platform.rows(name) == []


def test_an_experiment_without_scores_is_deployed_by_its_final_checkpoint(
    platform, user, unscored
):
    returned(user("deploy_agent", unscored))
    platform.deployed(unscored)
    acts(user.find(unscored, one_action()))


def test_the_scope_of_memory_is_chosen_once(platform, user, bundle):
    name = platform.experiment(bundle)
    if user.version == OLD:
        met = user("deploy_agent", name, memory_scope="organization")
        assert met["error"] == "TypeError"
        return
    returned(user("deploy_agent", name, memory_scope="organization"))
    returned(user("deploy_agent", name))
    assert platform.deployed(name)["memory_scope"] == "organization"
    refused(user("deploy_agent", name, memory_scope="user"), 409, "memory")
    assert platform.row(name)["memory_scope"] == "organization"


def test_memory_belongs_to_each_user_unless_said_otherwise(platform, user, trained):
    returned(user("deploy_agent", trained))
    assert platform.deployed(trained)["memory_scope"] == "user"


# --- looking agents up ---------------------------------------------------------------

ROW = {
    "id", "name", "experiment_name", "project_name", "algorithm", "status", "connected",
    "memory_scope", "url", "api_key", "spec", "created_at",
}  # fmt: skip


def test_a_row_says_what_every_version_reads(platform, user, pole):
    (row,) = returned(user("list_inference_deployments", name=pole))
    assert row.keys() == ROW
    assert (row["name"], row["status"], row["connected"]) == (pole, "Deployed", True)
    assert row["experiment_name"] == pole
    assert row["url"].startswith(f"{platform.url}/")
    assert row["spec"] == {"url": row["url"]}
    assert row["api_key"].startswith("arena_dep_")
    assert UUID(row["id"])


def test_filters_are_exact(platform, user, pole):
    def names(**filters):
        rows = returned(user("list_inference_deployments", **filters))
        return [row["name"] for row in rows]

    assert names(name=f" {pole} ") == names(experiment_name=pole) == [pole]
    project = platform.row(pole)["project_name"]
    assert names(project_name=project) == [pole]
    assert names(name=pole[:-1]) == names(name=pole.upper()) == []
    assert names(name=pole, project_name="no such thing") == []


def test_an_unknown_agent_is_not_found(user):
    refused(user.find("no such thing")["open"], 404, "no such thing")


def test_of_two_agents_with_one_name_none_is_opened_unless_it_is_said_which(
    platform, user, trained, unscored
):
    first, second = trained, unscored
    name = platform.live(first)
    platform.live(second, name=name)
    said = refused(user.find(name)["open"], 409, first, second)
    assert all(row["project_name"] in said for row in platform.rows(name))
    acts(user.find(name, one_action(), experiment_name=first))
    project = platform.rows(name)[0]["project_name"]
    acts(user.find(name, one_action(), project_name=project, refresh=True))


def test_an_agent_without_an_address_says_to_wait(platform, user, trained):
    name = platform.agent(trained)
    undeployed = user.find(name)["open"]
    deployment = UUID(platform.row(name)["id"])
    with loading_elsewhere(platform.process.place.store, deployment):
        row = platform.row(name)
        assert (row["status"], row["url"], row["api_key"]) == ("Pending", None, None)
        pending = user.find(name)["open"]
    for met in (undeployed, pending):
        assert met["error"] == "ArenaAPIError"
        assert "no inference URL" in met["text"]


def test_nothing_of_another_organisation_is_seen(platform, user, pole):
    key = platform.token(organisation="elsewhere")
    stranger = user.bearing(key)
    assert returned(stranger("list_inference_deployments")) == []
    assert returned(stranger("list_projects")) == []
    refused(stranger.find(pole)["open"], 404)
    refused(stranger("list_checkpoints", pole), 404)
    refused(stranger("deploy_agent", pole), 404)
    url = platform.row(pole)["url"]
    met = user.client("call", url=url, key=key)["get_action"]
    if user.version == OLD:
        assert (met["error"], met["status"]) == ("ArenaInferenceError", 403)
    else:
        assert (met["error"], "not allowed" in met["text"]) == ("ArenaAuthError", True)


# --- addresses and keys that are remembered ------------------------------------------


def test_an_agent_that_moved_is_found_again_by_a_client_that_knows_how(
    platform, user, trained
):
    name = platform.live(trained)
    acts(user.find(name, one_action()))
    platform.delete(name)
    platform.live(trained, name=name)
    met = user.find(name, one_action())
    if user.version == OLD:
        assert (met["open"]["error"], met["open"]["status"]) == (
            "ArenaInferenceError", 404,
        )  # fmt: skip
        met = user.find(name, one_action(), refresh=True)
    acts(met)


def test_an_agent_that_is_deleted_is_gone_from_every_list(platform, user, trained):
    name = platform.live(trained)
    acts(user.find(name, one_action()))
    platform.delete(name)
    assert returned(user("list_inference_deployments", name=name)) == []
    refused(user.find(name, refresh=True)["open"], 404)


def test_an_agent_that_is_undeployed_has_no_address(platform, user, trained):
    name = platform.live(trained)
    acts(user.find(name, one_action()))
    platform.act(name, "disconnect")
    met = user.find(name, refresh=True)["open"]
    assert "no inference URL" in met["text"]


def test_an_agent_that_is_unavailable_is_not_looked_up_again(platform, user, trained):
    name = platform.live(trained)
    acts(user.find(name, one_action()))
    deployment = UUID(platform.row(name)["id"])
    platform.act(name, "disconnect")
    with loading_elsewhere(platform.process.place.store, deployment):
        met = user.find(name)["open"]
    assert (met["error"], met["status"]) == ("ArenaInferenceError", 503)


def test_a_rotated_key_is_dead_where_keys_are_remembered(platform, user, trained):
    name = platform.live(trained)
    acts(user.find(name, one_action()))
    platform.act(name, "rotate-key")
    met = user.find(name, one_action())
    if user.version == OLD:
        assert unauthenticated(met["calls"][0])
        met = user.find(name, one_action(), refresh=True)
    acts(met)


def test_a_rotated_token_is_dead_at_once(platform, user, pole):
    name = a_name("user")
    earlier = user.bearing(platform.token(user=name))
    assert "returned" in earlier("list_projects")
    url, old = platform.row(pole)["url"], earlier.environ["ARENA_API_KEY"]
    key_id = old.split("_")[2]
    rotated = platform.control.ask(
        "POST", f"/api/v1/tokens/{key_id}/rotate", token=old
    ).expect(200)
    assert unauthenticated(earlier("list_projects"))
    assert unauthenticated(user.client("call", url=url, key=old)["get_action"])
    later = user.bearing(rotated["token"])
    assert "returned" in later("list_projects")


def test_a_viewer_is_told_no_key(platform, user, pole):
    viewer = user.bearing(platform.token("viewer"))
    (row,) = returned(viewer("list_inference_deployments", name=pole))
    assert row["api_key"] is None
    met = viewer.find(pole, one_action())
    if user.version == OLD:
        assert "no api_key" in met["open"]["text"]
    else:
        assert met["calls"][0]["error"] == "ArenaAuthError"


# --- partners ------------------------------------------------------------------------


def test_a_partner_acts_for_users_of_its_own(platform, user, pole):
    key = platform.token(kind="org")
    partner = {"ARENA_ORG_KEY": key, "ARENA_EXTERNAL_USER_ID": "customer-7"}
    by_environ = evolve(user, environ=platform.environ(**partner))
    if user.version == OLD:  # it knows no keys of organisations
        assert unauthenticated(by_environ("list_projects"))
        return
    options = {"org_key": key, "external_user_id": "customer-7"}
    by_argument = evolve(user, environ=platform.environ(), options=options)
    for somebody in (by_environ, by_argument):
        assert returned(somebody("login")) is None
        assert "returned" in somebody("get_current_user")
        acts(somebody.find(pole, one_action()))
    wrong = {**options, "org_key": "arena_org_nonsense"}
    met = evolve(by_argument, options=wrong)("list_projects")
    assert (met["error"], "organisation key" in met["text"]) == ("ArenaAuthError", True)


# --- acting --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shaped(platform, tmp_path_factory):
    """Puts an agent of a shape live when it is first asked for; says its name."""

    @cache
    def live(shape: str) -> str:
        kind = EVERY_SHAPE[shape]
        folder = kind.write(tmp_path_factory.mktemp("bundle"))
        project = platform.project(kind="advanced" if kind.predicts else "classic")
        experiment = platform.experiment(
            folder, project=project, algorithm=kind.algorithm
        )
        return platform.live(experiment)

    return live


def test_one_observation_gets_one_action_and_seven_get_seven(user, pole):
    masks = np.eye(2)[1 - GREEDY]
    all_seven = {"method": "get_action", "tree": told(ROWS), "batched": True}
    met = user.find(
        pole,
        one_action(),
        all_seven,
        one_action(info=told({"action_mask": masks[0]})),
        {**all_seven, "info": told({"action_mask": masks})},
    )
    one, seven, one_masked, seven_masked = (
        taken(returned(call)[0]) for call in met["calls"]
    )
    assert (one, one.shape) == (GREEDY[0], ())
    assert_same(seven, GREEDY)
    assert one_masked == 1 - GREEDY[0]
    assert_same(seven_masked, 1 - GREEDY)


@pytest.mark.parametrize("name", ["agents", "recurrent", "supervised"])
def test_an_agent_of_another_shape_is_opened_by_its_name(user, shaped, name):
    shape = EVERY_SHAPE[name]
    seen = shape.observe(7)
    asked = {"method": shape.verb, "tree": told(seen), "batched": True}
    met = user.find(shaped(name), asked)
    status = returned(met["open"])["agent"]
    assert status["algo"] == shape.algorithm
    assert [flag for flag, is_set in status.items() if is_set is True] == list(
        shape.flags
    )
    answer, _ = returned(met["calls"][0])
    assert_same(taken(answer), shape.truth(seen))


# --- the first generation ------------------------------------------------------------


def test_the_first_snippet_runs(platform, pole):
    """As before the first release: a list of one row, `spec.url`, three values."""
    client = FirstGeneration.named(platform.control, pole)
    assert client.url == platform.row(pole)["url"]
    with gymnasium.make("CartPole-v1") as env:
        state, _info = env.reset(seed=5)
        for _ in range(10):
            status, action, hidden_state = client.get_action(state)
            assert (status, hidden_state) == (200, None)
            state, *_ = env.step(action)


def test_the_first_command_line_sends_numbers_that_were_typed(platform, pole):
    client = FirstGeneration.named(platform.control, pole)
    typed = np.array([float(word) for word in ["0.1", "0", "-0.2", "0"]])
    status, action, _ = client.get_action(typed)
    assert (status, action) == (200, bundles.BALANCER(typed[None]).argmax())


def test_what_is_answered_is_the_same_for_every_version(platform, user, pole):
    status, action, _ = FirstGeneration.named(platform.control, pole).get_action(
        ROWS[3]
    )
    met = user.find(pole, {"method": "get_action", "tree": told(ROWS[3])})
    mine = taken(returned(met["calls"][0])[0])
    assert (status, int(action)) == (200, int(mine))
