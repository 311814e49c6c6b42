import gymnasium
import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.entrypoints.demo import ppo
from arena_core.entrypoints.demo.network import (
    Adam,
    Network,
    clip_norm,
    initialise,
    orthogonal,
    parameter_count,
)
from arena_core.entrypoints.demo.objective import (
    Samples,
    advantages,
    chosen,
    log_softmax,
    policy_loss,
    value_loss,
)
from arena_core.entrypoints.demo.rollout import Collector, Rollout, evaluate

CLIP_RANGE = 0.2


def network(*sizes: int, dtype=np.float64, seed: int = 0) -> Network:
    made = Network(sizes, np.zeros(parameter_count(sizes), dtype))
    initialise(made, np.random.default_rng(seed), output_gain=1.0)
    return made


def batch(actor: Network, rows: int = 24, seed: int = 1) -> Samples:
    """Return samples whose probability ratios lie inside and outside of the clip."""
    rng = np.random.default_rng(seed)
    observations = rng.standard_normal((rows, actor.sizes[0]))
    actions = rng.integers(actor.sizes[-1], size=rows)
    now = chosen(log_softmax(actor(observations)), actions)
    return Samples(
        observations,
        actions,
        now - rng.uniform(-0.6, 0.6, rows),
        rng.standard_normal(rows),
        rng.standard_normal(rows),
    )


def slopes(model: Network, loss_of) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient by hand, and by central differences, of `loss_of`."""
    by_hand = Network(model.sizes, np.full_like(model.flat, np.nan))
    layers, slope = loss_of(model)
    model.backward(layers, slope, by_hand)
    measured, width = np.empty_like(model.flat), 1e-6
    for index in range(len(model.flat)):
        there = []
        for sign in (1, -1):
            moved = model.copy()
            moved.flat[index] += sign * width
            there.append(loss_of(moved, value=True))
        measured[index] = (there[0] - there[1]) / (2 * width)
    return by_hand.flat, measured


def policy_loss_of(samples: Samples):
    def loss_of(model: Network, *, value: bool = False):
        layers = model.activations(samples.observations)
        loss, slope = policy_loss(layers[-1], samples, CLIP_RANGE)
        return loss if value else (layers, slope)

    return loss_of


def value_loss_of(samples: Samples):
    def loss_of(model: Network, *, value: bool = False):
        layers = model.activations(samples.observations)
        loss, slope = value_loss(layers[-1], samples)
        return loss if value else (layers, slope)

    return loss_of


# --- gradients -------------------------------------------------------------------


def test_the_actors_gradient_is_what_central_differences_measure():
    actor = network(4, 8, 8, 3)
    samples = batch(actor)
    ratio = np.exp(
        chosen(log_softmax(actor(samples.observations)), samples.actions)
        - samples.log_probabilities
    )
    sides = {
        (side, advantage > 0)
        for side, advantage in zip(
            np.digitize(ratio, [1 - CLIP_RANGE, 1 + CLIP_RANGE]),
            samples.advantages,
            strict=True,
        )
    }
    assert len(sides) == 6, "below, within and above, for both signs"

    by_hand, measured = slopes(actor, policy_loss_of(samples))

    np.testing.assert_allclose(by_hand, measured, rtol=1e-6, atol=1e-9)


def test_the_critics_gradient_is_what_central_differences_measure():
    critic = network(4, 8, 8, 1)

    by_hand, measured = slopes(critic, value_loss_of(batch(network(4, 2))))

    np.testing.assert_allclose(by_hand, measured, rtol=1e-6, atol=1e-9)


def test_beyond_the_clip_range_nothing_pulls_further():
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    samples = Samples(
        np.empty((4, 0)),
        np.array([0, 0, 1, 1]),
        np.log([0.5, 0.5, 0.5, 0.5]),
        np.array([1.0, -1.0, 1.0, -1.0]),
        np.empty(4),
    )

    loss, slope = policy_loss(logits, samples, CLIP_RANGE)

    # The ratios are 1.8, 1.8, 0.2, 0.2.
    assert loss == pytest.approx(-(1.2 - 1.8 + 0.2 - 0.8) / 4)
    assert slope.any(axis=1).tolist() == [False, True, True, False]


# --- advantages ------------------------------------------------------------------

DISCOUNT, DECAY = 0.97, 0.9


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[Rollout, np.ndarray]:
    """Rollouts with episode ends of both kinds, each followed by a reset step."""
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    terminated, truncated = rng.random((2, *shape)) < draw(st.sampled_from([0.1, 0.4]))
    valid = np.ones(shape, bool)
    for t in range(1, shape[0]):
        valid[t] = ~(terminated[t - 1] | truncated[t - 1])
        terminated[t] &= valid[t]
        truncated[t] &= valid[t]
    rewards = np.where(valid, rng.standard_normal(shape), 0)
    rollout = Rollout(
        np.empty((shape[0] + 1, shape[1], 0)),
        np.zeros(shape, int),
        rewards,
        terminated,
        truncated,
        valid,
    )
    return rollout, rng.standard_normal((shape[0] + 1, shape[1]))


def mixed_returns(rollout: Rollout, values: np.ndarray, t: int, n: int) -> float:
    """Return the advantage as the mixture of k-step returns that defines it.

    (1 - lambda) sum of lambda^(k-1) G_k, where the last one, up to where the episode
    or the rollout ends, has all the weight that is left.
    """
    last = t
    while not (rollout.terminated[last, n] or rollout.truncated[last, n]):
        if last == len(rollout.rewards) - 1:
            break
        last += 1
    total, span = 0.0, last - t + 1
    for k in range(1, span + 1):
        gained = sum(DISCOUNT**i * rollout.rewards[t + i, n] for i in range(k))
        if not rollout.terminated[t + k - 1, n]:
            gained += DISCOUNT**k * values[t + k, n]
        total += DECAY ** (k - 1) * (1 if k == span else 1 - DECAY) * gained
    return total - values[t, n]


@given(rollouts())
@settings(deadline=None)
def test_advantages_are_the_mixture_of_returns_that_defines_them(drawn):
    rollout, values = drawn

    found = advantages(rollout, values, DISCOUNT, DECAY)

    for t, n in zip(*np.nonzero(rollout.valid), strict=True):
        assert found[t, n] == pytest.approx(mixed_returns(rollout, values, t, n))


@given(rollouts(), st.floats(-1e3, 1e3))
@settings(deadline=None)
def test_reset_steps_leave_no_trace_in_the_advantages_of_others(drawn, reward):
    rollout, values = drawn
    spoilt = evolve(rollout, rewards=np.where(rollout.valid, rollout.rewards, reward))

    found = advantages(spoilt, values, DISCOUNT, DECAY)

    right = advantages(rollout, values, DISCOUNT, DECAY)
    assert (found == right)[rollout.valid].all()


# --- acting ----------------------------------------------------------------------


def test_reset_steps_are_not_valid_and_all_others_are_worth_one():
    collector = Collector(4, np.random.default_rng(0))
    actor = network(4, 8, 2, dtype=np.float32)

    first, second = collector.collect(actor, 100), collector.collect(actor, 100)

    over = np.concatenate(
        [part.terminated | part.truncated for part in (first, second)]
    )
    valid = np.concatenate([first.valid, second.valid])
    assert over.sum() > 8
    assert valid[0].all()
    assert (valid[1:] == ~over[:-1]).all()
    assert (np.concatenate([first.rewards, second.rewards]) == valid).all()
    assert (second.observations[0] == first.observations[-1]).all()


def test_a_reset_step_leads_from_where_the_episode_ended_to_another_beginning():
    rollout = Collector(4, np.random.default_rng(0)).collect(network(4, 8, 2), 100)
    reset = ~rollout.valid

    ended, began = rollout.observations[:-1][reset], rollout.observations[1:][reset]

    assert len(ended) > 4
    assert ((abs(ended[:, 0]) > 2.4) | (abs(ended[:, 2]) > 0.2)).all()
    assert abs(began).max() <= 0.05


def test_the_score_is_the_mean_return_of_episodes_that_ended():
    collector = Collector(1, np.random.default_rng(0))
    actor = network(4, 8, 2)
    assert collector.score is None

    rollout = collector.collect(actor, 200)

    ends = np.flatnonzero(~rollout.valid[:, 0])
    starts = np.concatenate([[0], ends[:-1] + 1])
    assert collector.score == pytest.approx((ends - starts).mean())


def test_actions_are_drawn_as_often_as_their_probability_says():
    actor = network(4, 8, 2)
    actor.layers[-1][0][:] = 0
    actor.layers[-1][1][:] = np.log([0.2, 0.8])

    rollout = Collector(50, np.random.default_rng(0)).collect(actor, 200)

    assert rollout.actions.mean() == pytest.approx(0.8, abs=0.02)


def test_an_evaluation_is_what_single_environments_say():
    policy = network(4, 16, 2, seed=3)

    with gymnasium.make("CartPole-v1") as environment:
        lengths = [greedy_return(policy, environment, seed) for seed in range(60)]

    deviation = np.std(lengths) / np.sqrt(len(lengths))
    assert evaluate(policy, 200, seed=5) == pytest.approx(
        np.mean(lengths), abs=5 * deviation
    )


def greedy_return(policy: Network, environment, seed: int) -> float:
    observation, _ = environment.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        action = int(policy(observation[np.newaxis]).argmax())
        observation, reward, terminated, truncated, _ = environment.step(action)
        total, over = total + reward, terminated or truncated
    return total


# --- the optimiser and its surroundings ------------------------------------------


@pytest.mark.parametrize("shape", [(4, 64), (64, 64), (64, 2)])
def test_initial_weights_are_orthonormal_along_the_shorter_side(shape):
    matrix = orthogonal(np.random.default_rng(0), *shape)

    gram = matrix @ matrix.T if shape[0] < shape[1] else matrix.T @ matrix
    assert matrix.shape == shape
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-12)


def test_a_long_gradient_is_shortened_and_a_short_one_is_left():
    long, short = np.array([3.0, 4.0]), np.array([0.3, 0.4])

    clip_norm(long, 2.0)
    clip_norm(short, 2.0)

    np.testing.assert_allclose(long, [1.2, 1.6])
    assert short.tolist() == [0.3, 0.4]


def test_adam_moves_each_parameter_by_the_learning_rate_at_first():
    parameters = np.zeros(3)

    Adam(parameters).step(np.array([1e-3, -5.0, 0.0]), 0.1)

    np.testing.assert_allclose(parameters, [-0.1, 0.1, 0], atol=1e-5)


def test_adam_finds_the_bottom_of_a_bowl():
    parameters = np.array([3.0, -2.0])
    adam = Adam(parameters)

    for step in range(400):
        adam.step(parameters * [1.0, 100.0], 0.1 * (1 - step / 400))

    np.testing.assert_allclose(parameters, 0, atol=1e-3)


# --- training --------------------------------------------------------------------

SHORT = ppo.Settings(total_steps=8 * 1024, checkpoint_steps=2048)


@pytest.fixture(scope="module")
def news() -> list[ppo.Progress]:
    return list(ppo.train(SHORT, seed=7))


@pytest.fixture(scope="module")
def checkpoints(news) -> list[ppo.Checkpoint]:
    return [n.checkpoint for n in news if n.checkpoint is not None]


def test_a_few_thousand_steps_make_the_policy_better(news, checkpoints):
    untrained = Network(checkpoints[0].policy.sizes, checkpoints[0].policy.flat * 0)

    assert evaluate(untrained, 50, seed=1) < 15
    assert max(c.fitness for c in checkpoints) > 100
    assert news[-1].score > 2 * news[0].score


def test_training_says_where_it_is_and_takes_checkpoints_on_the_way(news, checkpoints):
    assert [n.step for n in news] == [1024 * (n + 1) for n in range(8)]
    assert {n.total_steps for n in news} == {8 * 1024}
    assert [c.step for c in checkpoints] == [2048, 4096, 6144, 8192]


def test_a_checkpoint_is_not_changed_by_the_training_that_follows(checkpoints):
    first, last = checkpoints[0], checkpoints[-1]

    assert (first.policy.flat != last.policy.flat).any()
    assert first.fitness == evaluate(
        first.policy, ppo.EVALUATION_EPISODES, ppo.EVALUATION_SEED
    )


def test_the_same_seed_gives_the_same_policy_and_another_one_another(checkpoints):
    again = [n.checkpoint for n in ppo.train(SHORT, seed=7) if n.checkpoint]
    other = [n.checkpoint for n in ppo.train(SHORT, seed=8) if n.checkpoint]

    assert (again[-1].policy.flat == checkpoints[-1].policy.flat).all()
    assert (other[-1].policy.flat != checkpoints[-1].policy.flat).any()
    assert again[-1].policy.flat.dtype == np.float32


def test_what_is_learnt_from_has_no_reset_steps():
    rng = np.random.default_rng(0)
    learner = ppo.Learner(ppo.Settings(), rng)
    rollout = Collector(4, rng).collect(learner.actor, 100)

    samples = learner.samples(rollout)

    assert len(samples) == rollout.valid.sum() < rollout.valid.size
    assert (samples.observations == rollout.observations[:-1][rollout.valid]).all()
    assert (samples.actions == rollout.actions[rollout.valid]).all()
    np.testing.assert_allclose(
        samples.log_probabilities,
        chosen(log_softmax(learner.actor(samples.observations)), samples.actions),
        rtol=1e-5,
    )


def test_training_ends_once_the_third_checkpoint_is_perfect(monkeypatch):
    monkeypatch.setattr(ppo, "evaluate", lambda *_: ppo.PERFECT_RETURN)

    news = list(ppo.train(evolve(SHORT, epochs=1), seed=0))

    assert [n.step for n in news if n.checkpoint] == [2048, 4096, 6144]
    assert news[-1].step == 6144


def test_the_defaults_solve_the_task_on_episodes_that_chose_nothing():
    found = [n.checkpoint for n in ppo.train(ppo.Settings(), seed=1) if n.checkpoint]
    best = max(found, key=lambda c: (c.fitness, c.step))

    with gymnasium.make("CartPole-v1") as environment:
        returns = [greedy_return(best.policy, environment, seed) for seed in range(20)]

    assert len(found) >= ppo.FEWEST_CHECKPOINTS
    assert found[0].fitness < best.fitness
    assert np.mean(returns) >= 475
