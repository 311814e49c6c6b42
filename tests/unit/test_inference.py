"""Calls of the data plane, from the bytes of a request to the bytes of its answer."""

import json

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application import inference
from arena_core.application.inference import (
    GET_ACTION,
    GREEDY,
    PREDICT,
    Choice,
    unwatched,
)
from arena_core.application.models import SINGLE
from arena_core.application.npy import from_base64, to_base64
from arena_core.domain.checkpoint import (
    Box,
    Discrete,
    Head,
    HiddenState,
    Manifest,
    MultiBinary,
    Policy,
)
from arena_core.domain.errors import NotFinite, Rejected, TooLarge, Unavailable
from arena_core.domain.values import Family
from unit.exact_models import exact
from unit.models import described, load, of

import bundles
import onnx_models


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return load(bundles.cartpole(tmp_path_factory.mktemp("policy")))


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    return load(bundles.pendulum(tmp_path_factory.mktemp("pendulum")))


@pytest.fixture(scope="module")
def regressor(tmp_path_factory):
    return load(bundles.regressor(tmp_path_factory.mktemp("regressor")))


def body(**leaves):
    encoded = {
        name: to_base64(leaf) if isinstance(leaf, np.ndarray) else leaf
        for name, leaf in leaves.items()
    }
    return json.dumps(encoded).encode()


def act(model, **leaves):
    answer = json.loads(inference.get_action(model, body(**leaves)))
    assert answer.keys() == {"action"}
    return from_base64(answer["action"], field="action")


def refused(call, model, request):
    with pytest.raises(Rejected) as caught:
        call(model, request)
    assert not set("[]") & set(str(caught.value))
    return caught.value


OBS = bundles.observations(5, 4)


# --- get_action --------------------------------------------------------------------


def test_the_greedy_action_of_every_row_is_answered(policy):
    actions = act(policy, obs=OBS)
    assert actions.tolist() == bundles.CARTPOLE(OBS).argmax(axis=1).tolist()
    assert actions.dtype == np.int64


def test_nulls_and_unknown_keys_change_nothing(policy):
    more = {"action_mask": None, "hidden_state": None, "batch_size": 5, "other": 1}
    assert act(policy, obs=OBS, **more).tolist() == act(policy, obs=OBS).tolist()


@pytest.mark.parametrize("dtype", ["bool", "int8", "float32", "float64"])
def test_a_mask_of_any_number_allows_what_is_not_zero(policy, dtype):
    greedy = bundles.CARTPOLE(OBS).argmax(axis=1)
    mask = (greedy[:, None] != np.arange(2)).astype(dtype)
    assert act(policy, obs=OBS, action_mask=mask).tolist() == (1 - greedy).tolist()
    everything = np.ones((5, 2), dtype)
    assert act(policy, obs=OBS, action_mask=everything).tolist() == greedy.tolist()


@given(st.data())
def test_no_action_that_a_mask_forbids_is_ever_taken(policy, data):
    rows = data.draw(st.integers(1, 4))
    mask = np.array(
        data.draw(
            st.lists(
                st.sampled_from([(0, 1), (1, 0), (1, 1)]), min_size=rows, max_size=rows
            )
        )
    )
    actions = act(policy, obs=bundles.observations(rows, 4), action_mask=mask)
    assert mask[np.arange(rows), actions].all()


def test_a_mask_that_allows_nothing_is_refused_and_names_the_first_such_row(policy):
    mask = np.ones((5, 2))
    mask[[2, 4]] = 0
    error = refused(inference.get_action, policy, body(obs=OBS, action_mask=mask))
    assert str(error) == "The action_mask allows no action in row 2."
    assert error.field == "action_mask"


@pytest.mark.parametrize("shape", [(5, 3), (4, 2), (2,), (5, 2, 1)])
def test_a_mask_of_another_shape_is_refused(policy, shape):
    request = body(obs=OBS, action_mask=np.ones(shape))
    error = refused(inference.get_action, policy, request)
    assert "action_mask must have" in str(error)


def test_a_mask_for_actions_that_are_not_chosen_by_scores_is_refused(pendulum):
    request = body(obs=bundles.observations(1, 3), action_mask=np.ones((1, 1)))
    error = refused(inference.get_action, pendulum, request)
    assert "leave it out" in str(error)


def test_a_box_of_actions_is_never_left(pendulum):
    obs = bundles.observations(7, 3)
    actions = act(pendulum, obs=obs)
    assert (actions.shape, actions.dtype) == ((7, 1), np.float32)
    raw = bundles.PENDULUM(obs)
    assert np.allclose(actions, np.clip(raw, -2, 2), rtol=1e-5)
    assert (np.abs(raw) > 2).any()


def test_a_batch_size_that_is_not_that_of_the_rows_is_refused(policy):
    error = refused(inference.get_action, policy, body(obs=OBS, batch_size=4))
    assert str(error) == "batch_size is 4, but obs has 5 rows."


@pytest.mark.parametrize(
    ("request_body", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"{}", None),
        (b'{"obs": "', None),
        (b"[" * 100_000, None),
        (b'{"obs": ["a"], "batch_size": "five"}', None),
        (b"\xff", None),
        (b'{"obs": "\xff"}', None),
        (b'{"obs": null}', "obs"),
        (b'{"obs": {"a": "b"}}', "obs"),
        (b'{"obs": [1, 2, 3, 4]}', "obs"),
        (b'{"obs": "????"}', "obs"),
        (b'{"obs": "", "action_mask": 7}', "obs"),
        (body(obs=OBS, action_mask=7), "action_mask"),
        (body(obs=OBS[:0]), "obs"),
        (body(obs=OBS[:, :3]), "obs"),
        (body(obs=OBS[0]), "obs"),
        (body(obs=np.full((1, 4), np.nan, "f4")), "obs"),
    ],
)
def test_what_is_malformed_is_refused_in_a_plain_sentence(policy, request_body, field):
    error = refused(inference.get_action, policy, request_body)
    assert error.field == field


def test_an_action_that_starts_elsewhere_is_counted_from_there(policy):
    space = Discrete(2, start=5, dtype="int32")
    shifted = described(policy, action_space=space)
    actions = act(shifted, obs=OBS)
    assert (actions - 5).tolist() == act(policy, obs=OBS).tolist()
    assert actions.dtype == np.int32


def test_weights_that_answer_the_action_itself_are_taken_at_their_word(policy):
    model = described(policy, head=Head.ACTION, action_space=MultiBinary((2,)))
    raw = bundles.CARTPOLE(OBS)
    assert act(model, obs=OBS).tolist() == raw.astype(np.int8).tolist()
    refused(inference.get_action, model, body(obs=OBS, action_mask=np.ones((5, 2))))


@pytest.mark.parametrize("parts", [[], [None], [[]], [to_base64(np.ones((5, 2)))] * 2])
def test_a_list_of_masks_has_one_for_each_part_of_the_action(policy, parts):
    for model in (policy, described(policy, action_space=MultiBinary(()))):
        asked = body(obs=OBS, action_mask=parts)
        error = refused(inference.get_action, model, asked)
        assert error.field == "action_mask"


# --- predict -----------------------------------------------------------------------


def predict(model, inputs):
    return json.loads(inference.predict(model, body(inputs=inputs)))


def test_a_prediction_has_a_result_for_every_row(regressor):
    inputs = bundles.observations(6, 3)
    answer = predict(regressor, inputs)
    assert answer.keys() == {"results", "batch_size", "inference_time_ms", "success"}
    assert (answer["batch_size"], answer["success"]) == (6, True)
    assert answer["inference_time_ms"] >= 0
    results = from_base64(answer["results"], field="results")
    assert np.allclose(results, bundles.REGRESSOR(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bool", "int64", "float64"])
def test_inputs_of_any_number_are_taken_as_the_weights_want_them(regressor, dtype):
    inputs = np.eye(3).astype(dtype)
    results = from_base64(predict(regressor, inputs)["results"], field="results")
    assert np.allclose(results, bundles.REGRESSOR(np.eye(3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (np.ones((2, 4), "f4"), "must have the shape (any, 3), not (2, 4)"),
        (np.ones(3, "f4"), "must have the shape (any, 3), not (3,)"),
        (np.ones((0, 3), "f4"), "must have the shape (any, 3), not (0, 3)"),
        (np.full((1, 3), np.inf, "f4"), "must hold finite numbers within the range"),
        (np.full((1, 3), 1e300), "within the range of float32, but row 0 does not"),
    ],
)
def test_inputs_that_the_weights_cannot_take_are_refused(regressor, inputs, said):
    error = refused(inference.predict, regressor, body(inputs=inputs))
    assert said in str(error)
    assert error.field == "inputs"


@pytest.mark.parametrize("inputs", [np.array([["a", "b", "c"]]), np.ones((1, 3), "c8")])
def test_inputs_that_are_no_numbers_are_refused(regressor, inputs):
    with pytest.raises(Rejected, match="inputs must hold numbers that fit float32"):
        regressor.single.observe(inputs, lambda leaf, _: leaf, field="inputs")


def test_a_fraction_is_not_cut_to_fit_whole_numbers():
    policy = Policy("p.onnx", onnx_models.PICK, Head.OUTPUT)
    manifest = Manifest(1, "Supervised", Family.SUPERVISED, {"policy": policy})
    model = of(manifest, "0" * 64, lambda _: onnx_models.pick_policy())
    results = from_base64(predict(model, np.array([1, 0]))["results"], field="results")
    assert results.tolist() == [[0, 1], [1, 0]]
    error = refused(inference.predict, model, body(inputs=np.array([0.5])))
    assert "must hold numbers that fit int64, not float64" in str(error)


SEQUENCES = Policy("p.onnx", onnx_models.SEQUENCE, Head.OUTPUT)


@pytest.fixture(scope="module")
def sequences():
    """A model of which the second axis is free."""
    manifest = Manifest(1, "Supervised", Family.SUPERVISED, {"policy": SEQUENCES})
    return of(manifest, "0" * 64, lambda _: onnx_models.sequence_model())


def predictions(model, several, watch=unwatched):
    calls = [PREDICT.read(model, body(inputs=one), GREEDY, None) for one in several]
    return PREDICT.answer(model, calls, watch)


def results_of(answer):
    return from_base64(json.loads(answer)["results"], field="results")


def test_predictions_of_different_lengths_are_answered_each_as_alone(sequences):
    several = [
        np.arange(rows * length * 3, dtype="f4").reshape(rows, length, 3)
        for rows, length in [(1, 2), (2, 5), (3, 2), (1, 1), (1, 5)]
    ]
    watched = []
    answers = predictions(sequences, several, lambda *told: watched.append(told))
    for one, answer in zip(several, answers, strict=True):
        expected = results_of(predictions(sequences, [one])[0])
        assert results_of(answer).tolist() == expected.tolist()
        assert json.loads(answer)["batch_size"] == len(one)
    assert [turns[SINGLE].rows for turns, _ in watched] == [4, 3, 1]


def test_predictions_together_are_those_of_each_alone(regressor):
    several = [bundles.observations(rows, 3) for rows in (1, 4, 2)]
    watched = []
    answers = predictions(regressor, several, lambda *told: watched.append(told))
    for one, answer in zip(several, answers, strict=True):
        expected = bundles.REGRESSOR(one)
        assert np.allclose(results_of(answer), expected, rtol=1e-4, atol=1e-5)
    ((turns, acted),) = watched
    assert turns[SINGLE].observed[""].tolist() == np.concatenate(several).tolist()
    assert len(acted[SINGLE].actions) == turns[SINGLE].rows == 7


@pytest.mark.parametrize(
    ("mode", "seed"),
    [("sample", -1), ("sample", 2**64), ("sample", "x"), ("greedy", 1), ("sample", "")],
)
def test_a_seed_is_a_whole_number_and_goes_with_sampling(mode, seed):
    with pytest.raises(Rejected, match="The seed must be") as caught:
        Choice.of(mode, seed)
    assert caught.value.field == "seed"
    assert Choice.of("sample", str(2**64 - 1)).seed == 2**64 - 1


# --- several at once ---------------------------------------------------------------


def acted(model, several, watch=unwatched):
    calls = [GET_ACTION.read(model, one, GREEDY, None) for one in several]
    return GET_ACTION.answer(model, calls, watch)


@given(st.lists(st.sampled_from(["fine", "huge"]), max_size=9))
def test_one_that_cannot_be_answered_spoils_no_other(kinds):
    model = exact("discrete")
    obs = {"fine": OBS, "huge": np.full((2, 4), 3e38, "f4")}
    watched = []
    answers = acted(
        model,
        [body(obs=obs[kind]) for kind in kinds],
        lambda *told: watched.append(told),
    )
    expected = {"fine": bytes, "huge": NotFinite}
    assert [type(answer) for answer in answers] == [expected[kind] for kind in kinds]
    alone = inference.get_action(model, body(obs=OBS))
    assert {answer for answer in answers if isinstance(answer, bytes)} <= {alone}
    assert len(watched) == kinds.count("fine")


def test_weights_that_are_gone_are_gone_for_all(tmp_path):
    model = load(bundles.cartpole(tmp_path))
    model.close()
    for answer in acted(model, [body(obs=OBS)] * 3):
        assert isinstance(answer, Unavailable)


# --- which call is for which model, and its status ---------------------------------


def test_a_prediction_is_not_sampled(regressor):
    asked = body(inputs=bundles.observations(1, 3))
    with pytest.raises(Rejected, match="not sampled") as caught:
        inference.predict(regressor, asked, Choice.of("sample"))
    assert caught.value.field == "mode"


def test_a_large_body_of_few_parts_is_answered(policy):
    rows = np.tile(OBS, (13_000, 1))
    asked = body(obs=rows)
    assert len(asked) > inference.LARGE_BODY_BYTES
    assert len(json.loads(inference.get_action(policy, asked))["action"]) > len(rows)


def test_a_body_of_too_many_parts_is_refused_before_it_is_decoded(policy):
    many = b'{"obs": [' + b"[]," * inference.MOST_PARTS + b"[]]}"
    many += b" " * inference.LARGE_BODY_BYTES
    assert isinstance(refused(inference.get_action, policy, many), TooLarge)


def test_each_kind_of_model_has_its_own_call(policy, regressor):
    error = refused(inference.predict, policy, body(inputs=OBS))
    assert str(error) == "This deployment acts: call get_action, not predict."
    error = refused(inference.get_action, regressor, body(obs=OBS))
    assert str(error) == "This deployment predicts: call predict, not get_action."


def test_rule_52_a_language_model_neither_acts_nor_predicts(regressor):
    manifest = evolve(regressor.manifest, family=Family.LLM)
    language_model = evolve(regressor, manifest=manifest)
    inputs = bundles.observations(1, 3)
    for call, request in (
        (inference.predict, body(inputs=inputs)),
        (inference.get_action, body(obs=OBS)),
    ):
        assert "language model" in str(refused(call, language_model, request))


@pytest.mark.parametrize(
    ("algorithm", "family", "true"),
    [
        ("PPO", Family.RL, set()),
        ("Recurrent PPO", Family.RL, {"recurrent"}),
        ("MADDPG", Family.RL, {"multi_agent"}),
        ("Supervised", Family.SUPERVISED, {"supervised"}),
        ("LatentPPO", Family.LATENT, {"supervised"}),
        ("GRPO", Family.LLM, {"llm"}),
    ],
)
def test_a_status_has_exactly_the_keys_that_clients_know(
    policy, algorithm, family, true
):
    manifest = evolve(policy.manifest, algorithm=algorithm, family=family)
    if "multi_agent" in true:
        manifest = evolve(manifest, agents={"one": "policy"})
    if "recurrent" in true:
        states = evolve(manifest.policy, hidden_states=(HiddenState("h", "h"),))
        manifest = evolve(manifest, policies={"policy": states})
    model = evolve(policy, manifest=manifest)
    found = json.loads(inference.status(model, deployment_id="d", instance_id="i"))
    flags = dict.fromkeys(["multi_agent", "llm", "recurrent", "supervised"], False)
    assert found == {
        "success": True,
        "deployment_id": "d",
        "instance_id": "i",
        "agent": {"algo": algorithm} | flags | dict.fromkeys(true, True),
    }


def test_a_model_that_was_closed_answers_no_more(tmp_path):
    model = load(bundles.cartpole(tmp_path))
    model.close()
    model.close()
    with pytest.raises(Unavailable):
        inference.get_action(model, body(obs=OBS))


def test_a_box_without_bounds_keeps_every_action(pendulum):
    space = Box((1,), "float32", (None,), (None,))
    model = described(pendulum, action_space=space)
    obs = bundles.observations(7, 3)
    raw = bundles.PENDULUM(obs)
    assert np.allclose(act(model, obs=obs), raw, rtol=1e-4, atol=1e-5)
