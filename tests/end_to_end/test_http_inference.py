"""The data plane, as the public clients rely on it."""

import base64
import io
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import numpy as np
import pytest
from attrs import frozen

import bundles
from end_to_end.hostile import BODIES, GOOD, LEAVES
from end_to_end.http_world import array, asked, assert_detail, bearing, opened, wire

LIMIT = 200_000
OBS = bundles.observations(5, 4)
ACTIONS = bundles.CARTPOLE(OBS).argmax(axis=1)


@pytest.fixture(scope="module")
def world():
    with opened(max_body_bytes=LIMIT) as world:
        yield world


@frozen(eq=False)
class Served:
    """One live agent of each shape, for the tests of this module to call."""

    pole: object
    pendulum: object
    regressor: object
    bound: float
    """Of the pendulum's actions."""


@pytest.fixture(scope="module")
def served(world, tmp_path_factory):
    def folder(name):
        return tmp_path_factory.mktemp(name)

    pendulum = bundles.pendulum(folder("pendulum"))
    return Served(
        world.live(bundles.cartpole(folder("cartpole"))),
        world.live(pendulum, algorithm="TD3"),
        world.live(bundles.regressor(folder("regressor")), algorithm="Supervised"),
        bundles.manifest(pendulum)["action_space"]["high"],
    )


def acted(endpoint, obs, **more):
    answer = endpoint.post("get_action", json={"obs": wire(obs), **more})
    assert answer.status_code == 200, answer.text
    return array(answer.json()["action"])


# --- status ------------------------------------------------------------------------


def test_the_status_has_exactly_the_keys_that_every_client_takes(world, served):
    flags = ("multi_agent", "llm", "recurrent")
    for endpoint, algorithm, supervised in (
        (served.pole, "PPO", False),
        (served.pendulum, "TD3", False),
        (served.regressor, "Supervised", True),
    ):
        answer = world.client().get(f"{endpoint.path}/status")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        status = answer.json()
        assert status.keys() == {"success", "deployment_id", "instance_id", "agent"}
        assert status["success"] is True
        assert status["deployment_id"] == str(endpoint.deployment_id)
        assert isinstance(status["instance_id"], str)
        assert status["agent"] == {
            "algo": algorithm,
            "supervised": supervised,
            **dict.fromkeys(flags, False),
        }


def test_head_of_the_status_says_how_long_it_is(world, served):
    got = world.client().get(f"{served.pole.path}/status")
    head = world.client().head(f"{served.pole.path}/status")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


# --- get_action --------------------------------------------------------------------


def test_one_observation_gets_one_action(served):
    action = acted(served.pole, OBS[:1], batch_size=1)
    assert (action.shape, action.dtype) == ((1,), np.int64)
    assert action[0] == ACTIONS[0]


def test_as_many_rows_come_out_as_went_in(served):
    for rows in (1, 2, 5):
        action = acted(served.pole, OBS[:rows], batch_size=rows)
        assert action.tolist() == ACTIONS[:rows].tolist()


def test_a_box_of_actions_is_clipped_to_its_bounds(served):
    obs = bundles.observations(50, 3) * 3
    action = acted(served.pendulum, obs)
    assert (action.shape, action.dtype) == ((50, 1), np.float32)
    raw = bundles.PENDULUM(obs)
    assert (np.abs(raw) > served.bound).any()
    expected = raw.clip(-served.bound, served.bound)
    np.testing.assert_allclose(action, expected, atol=1e-5)


@pytest.mark.parametrize(
    "convert",
    [
        lambda obs: obs.astype(np.float64),
        lambda obs: obs.astype(np.float16),
        np.asfortranarray,
        lambda obs: obs.astype(">f4"),
        lambda obs: obs.astype(">f8"),
        lambda obs: np.repeat(obs, 2, axis=0)[::2],
    ],
    ids=["float64", "float16", "Fortran", "big-endian 4", "big-endian 8", "strided"],
)
def test_whatever_the_array_is_made_of_the_action_is_the_same(served, convert):
    obs = convert(OBS)
    file = io.BytesIO()
    np.save(file, obs, allow_pickle=False)
    leaf = base64.b64encode(file.getvalue()).decode()
    answer = served.pole.post("get_action", json={"obs": leaf})
    expected = bundles.CARTPOLE(obs.astype("f4")).argmax(axis=1)
    assert array(answer.json()["action"]).tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", ">i2"])
def test_whole_numbers_are_taken_for_floats(served, dtype):
    obs = np.arange(8).reshape(2, 4)
    file = io.BytesIO()
    np.save(file, obs.astype(dtype), allow_pickle=False)
    leaf = base64.b64encode(file.getvalue()).decode()
    answer = served.pole.post("get_action", json={"obs": leaf})
    expected = bundles.CARTPOLE(obs.astype("f4")).argmax(axis=1)
    assert array(answer.json()["action"]).tolist() == expected.tolist()


def test_the_oldest_clients_four_keys_with_nulls_are_taken(served):
    body = {
        "obs": wire(OBS[:1]),
        "hidden_state": None,
        "action_mask": None,
        "batch_size": 1,
    }
    answer = served.pole.post("get_action", json=body)
    assert answer.status_code == 200
    assert array(answer.json()["action"]).tolist() == [ACTIONS[0]]


def test_unknown_keys_are_ignored(served):
    more = {"env_defined_actions": {}, "hidden_state": "x", "temperature": [1]}
    assert acted(served.pole, OBS, **more).tolist() == ACTIONS.tolist()


def test_the_answer_is_one_strict_base64_text(served):
    answer = served.pole.post("get_action", json={"obs": wire(OBS)})
    assert answer.headers["content-type"] == "application/json"
    data = base64.b64decode(answer.json()["action"], validate=True)
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    assert loaded.tolist() == ACTIONS.tolist()


# --- masks -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["?", "i1", "i8", "f4", "f8"])
def test_a_mask_is_enforced(served, dtype):
    forbidden = (ACTIONS[:, None] != np.arange(2)).astype(dtype)
    action = acted(served.pole, OBS, action_mask=wire(forbidden))
    assert action.tolist() == (1 - ACTIONS).tolist()


def test_a_mask_that_allows_everything_changes_nothing(served):
    assert acted(
        served.pole, OBS, action_mask=wire(np.ones((5, 2), bool))
    ).tolist() == (ACTIONS.tolist())


def test_any_number_but_zero_in_a_mask_means_legal(served):
    mask = np.full((5, 2), 0.25)
    assert acted(served.pole, OBS, action_mask=wire(mask)).tolist() == ACTIONS.tolist()


def test_a_row_that_may_do_nothing_is_named(served):
    mask = np.ones((5, 2), bool)
    mask[3] = False
    body = {"obs": wire(OBS), "action_mask": wire(mask)}
    answer = served.pole.post("get_action", json=body)
    assert "row 3" in assert_detail(answer, 400)


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        (np.ones((5, 3)), "(5, 2)"),
        (np.ones((5, 2, 1)), "(5, 2)"),
        (np.ones(5), "(5, 2)"),
        (np.ones((4, 2)), "5 rows"),
        (np.ones(2), "5 rows"),
        (np.ones((1, 2)), "5 rows"),
    ],
    ids=str,
)
def test_a_mask_of_another_shape_is_refused(served, mask, wanted):
    body = {"obs": wire(OBS), "action_mask": wire(mask)}
    detail = assert_detail(served.pole.post("get_action", json=body), 400)
    assert "action_mask" in detail
    assert wanted in detail


def test_a_mask_for_a_box_of_actions_is_refused(served):
    body = {"obs": wire(bundles.observations(1, 3)), "action_mask": wire([[1]])}
    answer = served.pendulum.post("get_action", json=body)
    assert "action_mask" in assert_detail(answer, 400)


# --- predict -----------------------------------------------------------------------


def test_a_prediction_has_one_row_for_each_input(served):
    for rows in (1, 7):
        inputs = bundles.observations(rows, 3)
        answer = served.regressor.post("predict", json={"inputs": wire(inputs)})
        assert answer.status_code == 200
        body = answer.json()
        assert body.keys() == {"results", "batch_size", "inference_time_ms", "success"}
        assert (body["batch_size"], body["success"]) == (rows, True)
        assert 0 <= body["inference_time_ms"] < 60_000
        results = array(body["results"])
        assert (results.shape, results.dtype) == ((rows, 2), np.float32)
        np.testing.assert_allclose(results, bundles.REGRESSOR(inputs), atol=1e-5)


# --- the wrong route ---------------------------------------------------------------


def test_the_wrong_route_for_the_kind_says_which_is_right(served):
    obs, inputs = {"obs": wire(OBS)}, {"inputs": wire(bundles.observations(1, 3))}
    answer = served.regressor.post("get_action", json=obs)
    assert "predict" in assert_detail(answer, 400)
    answer = served.pole.post("predict", json=inputs)
    assert "get_action" in assert_detail(answer, 400)


def test_the_routes_of_language_models_are_wrong_for_all_others(world, served):
    for endpoint in (served.pole, served.regressor):
        client = world.client(endpoint.key)
        for verb in ("generate", "generate_stream"):
            body = {"prompts": ["hello"], "params": {}}
            assert_detail(client.post(f"{endpoint.path}/{verb}", json=body), 400)
        for verb in ("sessions", f"sessions/{uuid4()}"):
            assert_detail(client.get(f"{endpoint.path}/{verb}"), 400)
        assert_detail(client.delete(f"{endpoint.path}/sessions/{uuid4()}"), 400)


@pytest.mark.parametrize("verb", ["", "step", "get_actions", "get_action/", "v2/infer"])
def test_a_route_that_is_none_is_not_found(served, verb):
    assert_detail(served.pole.post(verb, json={}), 404)


def test_a_wrong_method_names_the_right_one(world, served):
    client = world.client(served.pole.key)
    for method, verb, allowed in (
        ("POST", "status", "GET, HEAD"),
        ("DELETE", "status", "GET, HEAD"),
        ("GET", "get_action", "POST"),
        ("PUT", "get_action", "POST"),
        ("GET", "predict", "POST"),
    ):
        answer = client.request(method, f"{served.pole.path}/{verb}")
        assert_detail(answer, 405)
        assert answer.headers["allow"] == allowed


# --- malformed ---------------------------------------------------------------------


@pytest.mark.parametrize("what", LEAVES)
def test_a_malformed_array_is_refused_quickly_in_one_sentence(served, what):
    leaf = LEAVES[what]
    for endpoint, verb, body in (
        (served.pole, "get_action", {"obs": leaf}),
        (served.regressor, "predict", {"inputs": leaf}),
    ):
        begun = time.perf_counter()
        answer = endpoint.post(verb, json=body)
        took_s = time.perf_counter() - begun
        assert_detail(answer, 400)
        assert took_s < 1
    if leaf is not None:
        body = {"obs": GOOD, "action_mask": leaf}
        if what not in {"NaN", "infinity", "larger than float32"}:
            assert_detail(served.pole.post("get_action", json=body), 400)


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_no_request_is_refused_in_one_sentence(served, what):
    assert_detail(served.pole.post("get_action", content=BODIES[what]), 400)
    assert_detail(served.regressor.post("predict", content=BODIES[what]), 400)


@pytest.mark.parametrize("size", [0, 2, 6, -1, 10**30, "5", 5.5, True, [5]])
def test_a_batch_size_that_is_not_the_number_of_rows_is_refused(served, size):
    body = {"obs": wire(OBS), "batch_size": size}
    detail = assert_detail(served.pole.post("get_action", json=body), 400)
    assert "batch_size" in detail


def test_a_bad_request_spoils_nothing_for_the_next(served):
    for what in ("NaN", "zip", "void of 2**62 elements"):
        served.pole.post("get_action", json={"obs": LEAVES[what]})
    assert acted(served.pole, OBS).tolist() == ACTIONS.tolist()


# --- too large ---------------------------------------------------------------------


def test_a_body_over_the_limit_is_refused_before_and_while_it_is_read(world, served):
    path = f"{served.pole.path}/get_action"
    token = ("authorization", f"Bearer {served.pole.key}")
    read = []

    def a_lot():
        for _ in range(500):
            read.append(50_000)
            yield {"type": "http.request", "body": b" " * 50_000, "more_body": True}

    announced = ("content-length", str(LIMIT + 1))
    headers = [token, announced]
    answer = asked(world.app, "POST", path, headers=headers, messages=a_lot())
    assert (answer.status, read) == (413, [])
    answer = asked(world.app, "POST", path, headers=[token], messages=a_lot())
    assert answer.status == 413
    assert sum(read) <= LIMIT + 50_000
    assert json.loads(answer.body).keys() == {"detail"}


def test_a_caller_who_leaves_is_no_defect(world, served, caplog):
    part = {"type": "http.request", "body": b'{"obs":', "more_body": True}
    headers = [("authorization", f"Bearer {served.pole.key}")]
    path = f"{served.pole.path}/get_action"
    asked(world.app, "POST", path, headers=headers, messages=[part])
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert acted(served.pole, OBS).tolist() == ACTIONS.tolist()


# --- who may call ------------------------------------------------------------------


def test_credentials_that_are_good(world, served):
    body = {"obs": wire(OBS)}
    member, manager = world.token("member"), world.token("manager")
    for token in (served.pole.key, member, manager):
        assert served.pole.post("get_action", token, json=body).status_code == 200
    organisations = world.issued("member", kind="org")
    headers = {**bearing(organisations.token), "X-External-User-Id": "grace"}
    path = f"{served.pole.path}/get_action"
    assert world.client().post(path, json=body, headers=headers).status_code == 200


def test_credentials_that_are_good_for_something_else_are_forbidden(world, served):
    body = {"obs": wire(OBS)}
    for token in (
        served.regressor.key,
        world.token("viewer"),
        world.token("manager", organisation="elsewhere"),
    ):
        assert_detail(served.pole.post("get_action", token, json=body), 403)
        assert_detail(served.pole.post("generate", token, json=body), 403)


def test_who_is_forbidden_is_told_whether_the_role_or_the_organisation_is_why(
    world, served
):
    body = {"obs": wire(OBS)}
    viewer, stranger = world.token("viewer"), world.token("viewer", organisation="acme")
    assert "role member" in served.pole.post("get_action", viewer, json=body).text
    said = served.pole.post("get_action", stranger, json=body).text
    assert "current organisation has it" in said


def test_without_a_good_credential_the_answer_is_always_401(served):
    body = {"obs": wire(OBS)}
    for token in (None, "hunter2", served.pole.key[:-1], served.pole.key.upper()):
        answer = served.pole.post("get_action", token, json=body)
        assert_detail(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


# --- when nothing is live ----------------------------------------------------------


def test_what_is_not_there_is_not_found(world, served):
    client = world.client(served.pole.key)
    for name in (uuid4(), "x", "", served.pole.agent_id, "a" * 5000, "%00", "..%2f"):
        for verb in ("status", "get_action"):
            answer = client.get(f"/inference/{name}/{verb}")
            assert answer.status_code == 404, name
            assert answer.json().keys() >= {"detail"}


def test_a_life_of_an_endpoint(tmp_path):
    with opened() as world:
        live = world.live(bundles.cartpole(tmp_path))
        client = world.client(live.key)

        def statuses():
            body = {"obs": wire(OBS)}
            return (
                client.get(f"{live.path}/status").status_code,
                client.post(f"{live.path}/get_action", json=body).status_code,
            )

        assert statuses() == (200, 200)
        world.arena.agents.disconnect(live.agent_id)
        assert statuses() == (404, 404)
        world.arena.agents.connect(live.agent_id)
        assert statuses() == (200, 200)
        world.arena.agents.delete(live.agent_id)
        assert statuses() == (404, 404)
        world.arena.agents.restore(live.agent_id)
        assert statuses() == (404, 404)


def test_what_is_pending_is_unavailable_for_now(tmp_path):
    with opened(serve=False) as world:
        agent = world.agent(bundles.cartpole(tmp_path))
        pending = world.arena.application.on_behalf_of(
            world.arena.projects.session.caller
        ).agents.connect(agent.id)
        client = world.client(world.token())
        for verb in ("status", "get_action"):
            answer = client.post(f"/inference/{pending.deployment.id}/{verb}", json={})
            assert_detail(answer, 503)
            assert answer.headers["retry-after"] == "1"


def test_what_failed_is_unavailable_and_does_not_say_why(world, tmp_path):
    folder = bundles.cartpole(tmp_path)
    bundles.write_weights(folder, bundles.Network.of(4, 2, seed=9))
    agent = world.agent(folder)
    failed = world.arena.agents.connect(agent.id)
    assert failed.deployment.status.value == "Failed"
    answer = world.client().get(f"/inference/{failed.deployment.id}/status")
    assert failed.deployment.reason not in assert_detail(answer, 503)
    assert answer.headers["retry-after"] == "1"


def test_an_id_in_another_spelling_answers_at_once(world, served):
    begun = time.perf_counter()
    for name in (served.pole.deployment_id.hex, str(served.pole.deployment_id).upper()):
        answer = world.client().get(f"/inference/{name}/status")
        assert answer.status_code in {200, 404}
    assert time.perf_counter() - begun < 1


# --- many at once ------------------------------------------------------------------


def test_callers_at_the_same_time_get_their_own_answers(served):
    rows = bundles.observations(64, 4)
    expected = bundles.CARTPOLE(rows).argmax(axis=1)

    def ask(row):
        return int(acted(served.pole, rows[row : row + 1])[0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(64)))
    assert answers == expected.tolist()
    assert 0 < sum(answers) < 64
