"""The public client's class `Agent` against a real server.

Each version of agilerl-arena runs in an environment of its own: 0.1.3, the last that
was made for deployment keys, and 1.29.0, whose models forbid every key they do not
know.  Older clients than those were never released: one is emulated below.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import gymnasium
import numpy as np
import pytest

import bundles
from end_to_end.arena_platform import issued
from end_to_end.processes import Client, Place, Process, serving
from end_to_end.public_client import (
    NEW,
    OLD,
    FirstGeneration,
    Live,
    PublicClient,
    check_routes,
    encoded,
    frozen_agent,
    live_agent,
    loading_elsewhere,
    opened,
    refused,
    told,
)

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(7).normal(size=(7, 4))
GONE = "Nothing is served at this address."


# --- what runs -------------------------------------------------------------------


@pytest.fixture(scope="module", params=[OLD, NEW])
def client(request, tmp_path_factory) -> Iterator[PublicClient]:
    with opened(request.param, request, tmp_path_factory) as client:
        yield client


@pytest.fixture(scope="module")
def new_client(request, tmp_path_factory) -> Iterator[PublicClient]:
    with opened(NEW, request, tmp_path_factory) as client:
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Process]:
    with serving(Place(tmp_path_factory.mktemp("server"))) as process:
        yield process


@pytest.fixture
def control(server) -> Iterator[Client]:
    client = server.client()
    yield client
    client.close()


@pytest.fixture
def bundle(tmp_path) -> Path:
    return bundles.cartpole(tmp_path / "bundle", network=bundles.BALANCER)


@pytest.fixture(scope="module")
def balancer(server, tmp_path_factory) -> Live:
    folder = tmp_path_factory.mktemp("balancer")
    with closing(server.client()) as control:
        return live_agent(control, bundles.cartpole(folder, network=bundles.BALANCER))


@pytest.fixture(scope="module")
def regressor(server, tmp_path_factory) -> Live:
    folder = tmp_path_factory.mktemp("regressor")
    with closing(server.client()) as control:
        return live_agent(control, bundles.regressor(folder), "Supervised")


def _unauthenticated(met: dict) -> bool:
    return met["error"] == "ArenaAuthError" and "401" in met["text"]


def _forbidden(met: dict, client: PublicClient, detail: str) -> bool:
    if client.version == OLD:
        return refused(met, 403, detail)
    return met["error"] == "ArenaAuthError" and "not allowed" in met["text"]


# --- acting ----------------------------------------------------------------------


def test_an_agent_balances_the_pole_for_the_public_client(client, balancer):
    played = client("play", url=balancer.url, key=balancer.key, seed=3)
    assert played["return"] >= 475
    assert (played["action"]["shape"], played["action"]["dtype"]) == ([], "int64")
    assert played["hidden_state"] is None


def test_the_status_is_what_the_clients_own_model_takes(client, balancer):
    status = client("call", url=balancer.url, key=balancer.key)["open"]["returned"]
    assert UUID(status.pop("instance_id"))
    assert status == {
        "success": True,
        "deployment_id": balancer.deployment_id,
        "agent": {
            "algo": "PPO",
            "multi_agent": False,
            "llm": False,
            "recurrent": False,
            "supervised": False,
        },
    }


def test_a_path_after_which_comes_a_slash_serves_as_well(client, balancer):
    met = client("call", url=balancer.url + "/", key=balancer.key)
    assert not [name for name in met if "error" in met[name]]


def test_one_observation_gets_one_action_and_seven_get_seven(client, balancer):
    greedy = bundles.BALANCER(ROWS).argmax(axis=1)
    masks = np.eye(2)[1 - greedy]
    acted = client(
        "act",
        url=balancer.url,
        key=balancer.key,
        rows=ROWS.tolist(),
        masks=masks.tolist(),
    )
    assert acted == {
        "one": _action([], greedy[:1]),
        "all": _action([7], greedy),
        "one masked": _action([], 1 - greedy[:1]),
        "all masked": _action([7], 1 - greedy),
    }


def _action(shape: list[int], values: np.ndarray) -> dict:
    told = {"shape": shape, "dtype": "int64", "values": values.tolist()}
    return {"returned": [told, None]}


def test_a_supervised_agent_predicts_for_the_public_client(client, regressor):
    rows = ROWS[:, :3]
    met = client("predict", url=regressor.url, key=regressor.key, rows=rows.tolist())
    expected = bundles.REGRESSOR(rows)
    for name, shape in (("one", (2,)), ("all", (7, 2))):
        results, metadata = met[name]["returned"]
        assert tuple(results["shape"]) == shape
        values = np.reshape(results["values"], (-1, 2))
        np.testing.assert_allclose(values, expected[: len(values)], rtol=1e-4)
        assert metadata.pop("inference_time_ms") >= 0
        assert metadata == {"batch_size": len(values), "success": True}


def test_answers_carry_the_keys_that_all_clients_know_and_no_others(
    control, balancer, regressor
):
    row = encoded(ROWS[:1])
    acted = _asked(control, balancer, "get_action", {"obs": row})
    assert set(acted) == {"action"}
    row = encoded(ROWS[:1, :3])
    predicted = _asked(control, regressor, "predict", {"inputs": row})
    wanted = {"results", "batch_size", "inference_time_ms", "success"}
    assert set(predicted) == wanted


def _asked(control: Client, live: Live, verb: str, body: object) -> dict:
    path = f"{urlsplit(live.url).path}/{verb}"
    return control.ask("POST", path, body, token=live.key).expect(200)


# --- credentials -----------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "nonsense", "arena_dep_" + "0" * 32 + "_1_x"])
def test_a_wrong_key_is_found_out_at_the_first_real_call(client, balancer, key):
    met = client("call", url=balancer.url, key=key)
    assert "returned" in met["open"]
    assert _unauthenticated(met["get_action"])


def test_a_rotated_key_is_dead_and_the_new_one_is_not(client, control, bundle):
    live = live_agent(control, bundle)
    control.post(f"/api/v1/agents/{live.agent_id}/rotate-key")
    key = control.get(f"/api/v1/agents/{live.agent_id}/access")["api_key"]
    assert _unauthenticated(client("call", url=live.url, key=live.key)["get_action"])
    assert "returned" in client("call", url=live.url, key=key)["get_action"]


def test_the_key_of_another_deployment_is_forbidden(client, balancer, regressor):
    met = client("call", url=balancer.url, key=regressor.key)
    detail = (
        "This credential is not for this deployment: use its own key, or a token "
        "whose current organisation has it."
    )
    assert _forbidden(met["get_action"], client, detail)


def test_an_access_token_opens_every_deployment_of_its_organisation(
    client, server, balancer
):
    token = issued(server.place.store, role="member")
    assert "returned" in client("call", url=balancer.url, key=token)["get_action"]


def test_a_viewer_may_look_but_not_call(client, server, balancer):
    token = issued(server.place.store, role="viewer")
    met = client("call", url=balancer.url, key=token)
    assert "returned" in met["open"]
    detail = (
        "This needs the role member; in the current organisation this credential has "
        "the role viewer."
    )
    assert _forbidden(met["get_action"], client, detail)


def test_a_token_in_the_environment_is_a_credential_too(new_client, server, balancer):
    environ = {"ARENA_API_KEY": issued(server.place.store, role="member")}
    met = new_client("call", url=balancer.url, environ=environ)
    assert "returned" in met["get_action"]


def test_a_partner_calls_on_behalf_of_users_of_its_own(new_client, server, balancer):
    token = issued(server.place.store, role="member", kind="org")
    environ = {"ARENA_ORG_KEY": token, "ARENA_EXTERNAL_USER_ID": "customer-7"}
    met = new_client("call", url=balancer.url, environ=environ)
    assert "returned" in met["get_action"]
    options = {"org_key": token, "external_user_id": "customer-7"}
    met = new_client("call", url=balancer.url, key="nonsense", **options)
    assert "returned" in met["get_action"]


def test_a_partners_wrong_token_isrefused(new_client, balancer):
    options = {"org_key": "arena_org_nonsense", "external_user_id": "customer-7"}
    met = new_client("call", url=balancer.url, **options)
    assert _unauthenticated(met["get_action"])


# --- refusals --------------------------------------------------------------------


def test_a_policy_acts_and_does_nothing_else(client, balancer):
    seen = told(ROWS[0])
    met = client("wrong_routes", url=balancer.url, key=balancer.key, tree=seen)
    check_routes(met, "get_action", "This deployment acts: call get_action, not {}.")


def test_a_supervised_agent_predicts_and_does_nothing_else(client, regressor):
    seen = told(ROWS[0, :3])
    met = client("wrong_routes", url=regressor.url, key=regressor.key, tree=seen)
    check_routes(met, "predict", "This deployment predicts: call predict, not {}.")


def test_what_the_policy_cannot_take_is_refused_in_one_sentence(client, balancer):
    met = client("odd_observations", url=balancer.url, key=balancer.key)
    one_array = "obs must be one array, as base64 of a .npy file."
    for name in ("dict", "tuple", "none"):
        assert refused(met.pop(name), 400, one_array), name
    for name, error in met.items():
        assert error["status"] == 400, name
        sentence = re.fullmatch(r".*\{'detail': '([^']+)'\}", error["text"])
        assert sentence is not None, error
        assert sentence[1].endswith("."), error
        assert not set(sentence[1]) & set("[]{}/"), error


# --- while nothing is served -----------------------------------------------------


def _check_nothing_answers(met: dict, status: int, detail: str) -> None:
    assert all(refused(error, status, detail) for error in met.values()), met


def test_an_agent_that_was_disconnected_is_not_found(client, control, bundle):
    live = live_agent(control, bundle)
    control.post(f"/api/v1/agents/{live.agent_id}/disconnect")
    _check_nothing_answers(client("call", url=live.url, key=live.key), 404, GONE)


def test_an_agent_that_was_deleted_is_not_found(client, control, bundle):
    live = live_agent(control, bundle)
    control.ask("DELETE", f"/api/v1/agents/{live.agent_id}").expect(200)
    _check_nothing_answers(client("call", url=live.url, key=live.key), 404, GONE)


def test_an_address_that_never_was_is_not_found(client, server):
    url = f"http://{server.address}/inference/{uuid4()}"
    _check_nothing_answers(client("call", url=url, key="any"), 404, GONE)


def test_an_agent_that_failed_is_unavailable(client, server, control, bundle):
    bundles.write_weights(bundle, bundles.BALANCER.swapped())
    path = f"/api/v1/agents/{frozen_agent(control, bundle)}"
    state = control.post(f"{path}/connect?wait=30")["deployment"]
    assert state["status"] == "Failed"
    url = f"http://{server.address}/inference/{state['id']}"
    met = client("call", url=url, key="any")
    detail = "The deployment has failed: the reason of its agent says why."
    _check_nothing_answers(met, 503, detail)


def test_an_agent_that_is_being_put_live_is_unavailable(
    client, server, control, bundle
):
    path = f"/api/v1/agents/{frozen_agent(control, bundle)}"
    deployment_id = control.get(path)["deployment"]["id"]
    with loading_elsewhere(server.place.store, UUID(deployment_id)):
        assert control.get(path)["deployment"]["status"] == "Pending"
        url = f"http://{server.address}/inference/{deployment_id}"
        met = client("call", url=url, key="any")
    detail = "The deployment is being put live: try again."
    _check_nothing_answers(met, 503, detail)


# --- the first generation --------------------------------------------------------


def test_an_agent_balances_the_pole_for_the_first_generation(control, balancer):
    client = FirstGeneration(control, balancer.url, balancer.key)
    with gymnasium.make("CartPole-v1") as env:
        observation, _ = env.reset(seed=5)
        total, over = 0.0, False
        while not over:
            status, action, _ = client.get_action(observation)
            assert status == 200
            observation, reward, ended, cut, _ = env.step(action)
            total, over = total + float(reward), ended or cut
    assert total >= 475
