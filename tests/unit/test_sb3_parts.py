"""Parts of the converter of Stable-Baselines3 that no recorded checkpoint reaches."""

import numpy as np
import pytest
from attrs import evolve

from arena_core.adapters.converters.activations import RELU
from arena_core.adapters.converters.networks import Input, Network
from arena_core.adapters.converters.sb3 import statistics
from arena_core.adapters.converters.sb3.actors import actor
from arena_core.adapters.converters.sb3.models import Architecture, Model
from arena_core.adapters.converters.sb3.observations import is_image, leaves
from arena_core.adapters.converters.weights import Weights
from arena_core.domain.checkpoint import Box, Dict, Discrete, Normaliser, TensorSpec
from arena_core.domain.errors import Rejected

from sb3_files import pickled

SAC = Model(
    algorithm="SAC",
    architecture=Architecture.GAUSSIAN,
    observation_space=Box((2,), "float32", (None,) * 2, (None,) * 2),
    action_space=Box((2,), "float32", (-1.0,) * 2, (1.0,) * 2),
    activation=RELU,
    normalize_images=True,
    uses_sde=False,
    squashes=False,
    clip_mean=2.0,
)
ZEROS = np.zeros((2, 2), np.float32)


def answers(model, arrays):
    """Return what an actor of these weights says of an observation of zeros."""
    obs = Input(TensorSpec("obs", "float32", (None, 2)))
    weights = Weights({name: np.asarray(a, "float32") for name, a in arrays.items()})
    made = actor(weights, model, obs)
    weights.check_none_left()
    outputs = Network((obs,), made.outputs).run({"obs": np.zeros((1, 2), "float32")})
    return {name: array[0].tolist() for name, array in outputs.items()}


def test_the_deviation_of_sac_is_bounded():
    said = answers(
        SAC,
        {
            "actor.mu.weight": ZEROS,
            "actor.mu.bias": [50, -50],
            "actor.log_std.weight": ZEROS,
            "actor.log_std.bias": [50, -50],
        },
    )
    assert said == {"mean": [50, -50], "log_std": [2, -20]}


def sde(clip_mean, name):
    return answers(
        evolve(SAC, uses_sde=True, clip_mean=clip_mean),
        {
            f"actor.{name}.weight": ZEROS,
            f"actor.{name}.bias": [50, -50],
            "actor.log_std": ZEROS,
        },
    )


def test_the_mean_of_sac_is_bounded_if_its_noise_depends_on_the_state():
    assert sde(1.5, "mu.0") == {"mean": [1.5, -1.5]}


def test_such_a_mean_is_not_bounded_if_training_did_not():
    assert sde(0.0, "mu") == {"mean": [50, -50]}


def test_a_deviation_of_another_size_is_refused():
    model = evolve(SAC, architecture=Architecture.ACTOR_CRITIC, algorithm="PPO")
    with pytest.raises(Rejected, match="log_std is not that of its action_space"):
        answers(
            model,
            {
                "action_net.weight": ZEROS,
                "action_net.bias": [0, 0],
                "log_std": [0, 0, 0],
            },
        )


def test_critics_are_left_out():
    arrays = {
        "actor.mu.weight": ZEROS,
        "actor.mu.bias": [0, 0],
        "actor.log_std.weight": ZEROS,
        "actor.log_std.bias": [0, 0],
        "critic.qf0.0.weight": ZEROS,
        "critic_target.qf0.0.weight": ZEROS,
    }
    assert answers(SAC, arrays) == {"mean": [0, 0], "log_std": [0, 0]}


# --- observations ----------------------------------------------------------------

PIXELS = Box((2, 1, 3), "uint8", (0,) * 6, (255,) * 6)


def test_an_image_is_of_bytes_that_use_their_whole_range():
    assert is_image(PIXELS)
    assert not is_image(evolve(PIXELS, high=(127,) * 6))
    assert not is_image(evolve(PIXELS, low=(1,) * 6))
    assert not is_image(evolve(PIXELS, dtype="float32"))
    assert not is_image(evolve(PIXELS, shape=(2, 3)))
    assert not is_image(Discrete(255))


def test_all_that_is_said_of_an_image_is_turned_with_it():
    box = Box((2, 1, 3), "float32", (0, 1, 2, 3, 4, 5), (10, 11, 12, 13, 14, 15))
    normaliser = Normaliser((20, 21, 22, 23, 24, 25), (30, 31, 32, 33, 34, 35))
    (leaf,) = leaves(box, {"": normaliser}, {""})
    assert leaf.served == Box(
        (1, 3, 2), "float32", (0, 3, 1, 4, 2, 5), (10, 13, 11, 14, 12, 15)
    )
    assert leaf.served_normaliser == Normaliser(
        (20, 23, 21, 24, 22, 25), (30, 33, 31, 34, 32, 35)
    )
    assert leaf.spec.shape == (None, 1, 3, 2)


def test_what_is_normalised_reaches_the_weights_as_floats():
    normaliser = Normaliser((0.0,) * 6, (1.0,) * 6)
    (plain,), (prepared,) = (
        leaves(PIXELS, {}, set()),
        leaves(PIXELS, {"": normaliser}, set()),
    )
    assert (plain.spec.dtype, prepared.spec.dtype) == ("uint8", "float32")


@pytest.mark.parametrize(
    "space",
    [
        Discrete(1),
        Dict({"x": Discrete(1)}),
        Dict({"y": Box((1,), "float32", (None,), (None,))}),
        Dict({"x": Box((2,), "float32", (None,) * 2, (None,) * 2)}),
    ],
)
def test_a_normaliser_of_something_else_is_refused(space):
    with pytest.raises(Rejected, match="does not fit the observation_space"):
        leaves(space, {"x": Normaliser((0.0,), (1.0,))}, set())


# --- statistics ------------------------------------------------------------------


def saved(**changes):
    """Return the pickle of a VecNormalize whose statistics are of one number."""
    state = {
        "norm_obs": True,
        "clip_obs": 10.0,
        "epsilon": 1e-8,
        "obs_rms": {"mean": np.array([1.0]), "var": np.array([4.0]), "count": 9.0},
        **changes,
    }
    mean = pickled(
        "stable_baselines3.common.running_mean_std", "RunningMeanStd",
        **state.pop("obs_rms"),
    )  # fmt: skip
    rest = pickled(
        "stable_baselines3.common.vec_env.vec_normalize", "VecNormalize", **state
    )
    # One more attribute, just before the end: the other object.
    assert rest.endswith(b"ub.")
    return rest[:-3] + b"X\x07\x00\x00\x00obs_rms" + mean[2:-1] + b"ub."


def test_statistics_are_read():
    assert statistics.read(saved()) == {"": Normaliser((1.0,), (4.0,), 1e-8, 10.0)}


def test_statistics_that_were_not_used_are_none():
    assert statistics.read(saved(norm_obs=False)) == {}


def test_statistics_may_be_clipped_nowhere():
    assert statistics.read(saved(clip_obs=float("inf")))[""].clip is None


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": "small"},
        {"clip_obs": None},
        {"clip_obs": float("nan")},
        {"epsilon": 2**1024 - 1},
        {"obs_rms": {"mean": np.array([1.0])}},
        {"obs_rms": {"mean": np.array([1.0]), "var": np.array([1.0, 1.0])}},
        {"obs_rms": {"mean": np.array([1.0]), "var": np.array([-1.0])}},
        {"obs_rms": {"mean": np.array([np.nan]), "var": np.array([1.0])}},
    ],
)
def test_statistics_that_are_damaged_are_refused(changes):
    with pytest.raises(Rejected, match="not that of a VecNormalize"):
        statistics.read(saved(**changes))
