"""Actions that are drawn from a policy's distribution: `?mode=sample&seed=`."""

import numpy as np
import pytest

import bundles
import shapes
from end_to_end.http_world import assert_detail, wire
from end_to_end.shapes_over_http import (
    action,
    agents_of_every_shape,
    answered,
    received,
)
from every_shape import EVERY_SHAPE, assert_same, sent

SAMPLE = {"mode": "sample"}
SAMPLING = (
    "dict", "tuple", "image", "multi discrete", "multi binary", "box", "recurrent",
)  # fmt: skip
ROWS = 4000
FIVE_SIGMA = 5


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with agents_of_every_shape(tmp_path_factory) as live:
        yield live


def seeded(seed):
    return {**SAMPLE, "seed": str(seed)}


def repeated(row, rows=ROWS):
    return np.repeat(row, rows, axis=0)


def assert_frequencies(hits, probability):
    """Assert that so many of `ROWS` were hit as should be, but for chance."""
    deviation = np.sqrt(ROWS * probability * (1 - probability))
    np.testing.assert_array_less(
        np.abs(hits - ROWS * probability), FIVE_SIGMA * deviation + 1
    )


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


# --- seeds ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLING)
def test_the_same_seed_draws_the_same_and_others_do_not(agent, name):
    live, seen = agent(name), EVERY_SHAPE[name].observe(64)
    drawn = [answered(live, seen, params=seeded(seed)) for seed in (0, 1, 2**64 - 1)]
    assert len({str(body) for body in drawn}) == len(drawn)
    for seed, body in zip((0, 1, 2**64 - 1), drawn, strict=True):
        assert answered(live, seen, params=seeded(seed)) == body


@pytest.mark.parametrize("name", SAMPLING)
def test_without_a_seed_each_call_draws_anew(agent, name):
    live, seen = agent(name), EVERY_SHAPE[name].observe(640)
    drawn = {str(answered(live, seen, params=SAMPLE)) for _ in range(3)}
    assert len(drawn) == 3


@pytest.mark.parametrize("name", SAMPLING)
def test_greedy_is_what_is_done_unless_sampling_is_asked_for(agent, name):
    shape, live = EVERY_SHAPE[name], agent(name)
    seen = shape.observe(7)
    for params in (None, {"mode": "greedy"}, {"temperature": "2"}):
        assert_same(action(live, seen, params=params), shape.truth(seen))


@pytest.mark.parametrize(
    "seed",
    ["", "-1", "+1", "1.0", "1e3", "0x1", "1_0", " 1", "NaN", "one", 2**64, "9" * 5000],
)
def test_a_seed_that_is_no_number_of_64_bits_is_refused(agent, seed):
    body = {"obs": sent(EVERY_SHAPE["image"].observe(1))}
    answer = agent("image").post("get_action", json=body, params=seeded(seed))
    assert "seed" in assert_detail(answer, 400)


@pytest.mark.parametrize("params", [{"seed": "1"}, {"seed": "1", "mode": "greedy"}])
def test_a_seed_without_sampling_is_refused(agent, params):
    body = {"obs": sent(EVERY_SHAPE["image"].observe(1))}
    answer = agent("image").post("get_action", json=body, params=params)
    assert "sample" in assert_detail(answer, 400)


@pytest.mark.parametrize("mode", ["", "GREEDY", "Sample", "best", "sample,greedy"])
def test_a_mode_that_is_none_is_refused(agent, mode):
    body = {"obs": sent(EVERY_SHAPE["image"].observe(1))}
    answer = agent("image").post("get_action", json=body, params={"mode": mode})
    assert "greedy" in assert_detail(answer, 400)


# --- who has a distribution ----------------------------------------------------------


@pytest.fixture(scope="module")
def ranking(agent, tmp_path_factory):
    """A policy that ranks its actions: it has no distribution."""
    folder = bundles.cartpole(tmp_path_factory.mktemp("ranking"))
    described = bundles.manifest(folder)
    ranked = {**described, "head": "q_values", "algorithm": "DQN"}
    bundles.write_manifest(folder, ranked)
    return agent("image").world.live(folder, algorithm="DQN")


@pytest.fixture(scope="module")
def deterministic(agent, tmp_path_factory):
    folder = bundles.pendulum(tmp_path_factory.mktemp("deterministic"))
    return agent("image").world.live(folder, algorithm="TD3")


def test_what_has_no_distribution_is_not_sampled(ranking, deterministic, agent):
    listener = {"listener_0": shapes.meeting(1)["listener_0"]}
    for live, obs in (
        (ranking, bundles.observations(1, 4)),
        (deterministic, bundles.observations(1, 3)),
        (agent("agents"), listener),
        (agent("agents"), shapes.meeting(1)),
    ):
        for params in (SAMPLE, seeded(3)):
            body = {"obs": sent(obs)}
            answer = live.post("get_action", json=body, params=params)
            assert "distribution" in assert_detail(answer, 400)
        assert live.post("get_action", json=body).status_code == 200


@pytest.mark.parametrize("name", ["supervised", "latent"])
def test_a_prediction_is_not_sampled(agent, name):
    body = {"inputs": sent(EVERY_SHAPE[name].observe(1))}
    for params in (SAMPLE, seeded(1), {"seed": "1"}):
        answer = agent(name).post("predict", json=body, params=params)
        assert_detail(answer, 400)


def test_those_agents_that_can_be_sampled_can_be_by_themselves(agent):
    row = shapes.meeting(1)["speaker_0"]
    drawn = action(agent("agents"), {"speaker_0": repeated(row)}, params=seeded(1))
    expected = softmax(shapes.SPEAKER({"obs": row})["logits"][0])
    assert_frequencies(np.bincount(drawn["speaker_0"], minlength=3), expected)


# --- what is drawn -------------------------------------------------------------------


def test_actions_are_as_frequent_as_they_are_likely(agent):
    row = shapes.images(1)
    drawn = action(agent("image"), repeated(row), params=seeded(1))
    expected = softmax(shapes.IMAGE({"obs": row})["logits"][0])
    assert_frequencies(np.bincount(drawn, minlength=4), expected)


def test_a_mask_leaves_the_rest_as_likely_as_before_among_themselves(agent):
    row, mask = shapes.images(1), np.array([[True, False, True, True]])
    drawn = action(
        agent("image"),
        repeated(row),
        params=seeded(2),
        action_mask=wire(repeated(mask)),
    )
    logits = np.where(mask, shapes.IMAGE({"obs": row})["logits"], -np.inf)[0]
    hits = np.bincount(drawn, minlength=4)
    assert hits[1] == 0
    assert_frequencies(hits, softmax(logits))


def test_each_part_of_an_action_is_drawn_from_its_own_distribution(agent):
    row = shapes.vectors(1, 4)
    drawn = action(agent("multi discrete"), repeated(row), params=seeded(3))
    logits = shapes.MULTI_DISCRETE({"obs": row})["logits"][0]
    for part, begin, expected in (
        (drawn[:, 0], 0, softmax(logits[:2])),
        (drawn[:, 1], 4, softmax(logits[2:])),
    ):
        hits = np.bincount(part - begin, minlength=len(expected))
        assert_frequencies(hits, expected)


def test_no_part_that_is_masked_is_ever_drawn(agent):
    mask = shapes.multi_discrete_mask(ROWS)
    obs = shapes.vectors(ROWS, 4)
    drawn = action(
        agent("multi discrete"), obs, params=seeded(4), action_mask=wire(mask)
    )
    rows = np.arange(ROWS)
    assert mask[rows, drawn[:, 0]].all()
    assert mask[rows, drawn[:, 1] - 2].all()


def test_each_bit_is_one_as_often_as_it_is_likely(agent):
    row = shapes.vectors(1, 4)
    drawn = action(agent("multi binary"), repeated(row), params=seeded(5))
    logits = shapes.MULTI_BINARY({"obs": row})["logits"][0]
    assert_frequencies(drawn.sum(axis=0), 1 / (1 + np.exp(-logits.astype("f8"))))


def test_a_box_is_drawn_around_its_mean_and_stays_within_its_bounds(agent):
    row = np.array([[0.1, -0.2, 0.1]], "f4")
    drawn = action(agent("box"), repeated(row), params=seeded(6)).astype("f8")
    assert ((drawn >= shapes.LOW) & (drawn <= shapes.HIGH)).all()
    said = shapes.SCALED({"obs": row})
    unscaled = (drawn - shapes.LOW) / (shapes.HIGH - shapes.LOW) * 2 - 1
    normal = (np.arctanh(unscaled.clip(-0.9999999, 0.9999999)) - said["mean"]) / np.exp(
        said["log_std"]
    )
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=FIVE_SIGMA / ROWS**0.5)
    np.testing.assert_allclose(normal.std(axis=0), 1, atol=FIVE_SIGMA / ROWS**0.5)


def test_sampling_leaves_what_is_remembered_alone(agent):
    live, obs = agent("recurrent"), shapes.vectors(7, 3)
    greedy = answered(live, obs)
    drawn = answered(live, obs, params=seeded(7))
    assert received(drawn["action"]).tolist() != received(greedy["action"]).tolist()
    assert drawn["hidden_state"] == greedy["hidden_state"]


def test_a_sampled_action_is_of_the_space_like_a_greedy_one(agent):
    for name in SAMPLING:
        seen = EVERY_SHAPE[name].observe(7)
        greedy = action(agent(name), seen)
        drawn = action(agent(name), seen, params=seeded(8))
        assert (drawn.shape, drawn.dtype) == (greedy.shape, greedy.dtype)
