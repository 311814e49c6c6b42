import json

import gymnasium
import numpy as np
import onnxruntime
import pytest

from arena_core.application import bundles
from arena_core.domain.checkpoint import Box, Discrete, Head
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.demo import bundle, ppo


@pytest.fixture(scope="module")
def checkpoint() -> ppo.Checkpoint:
    brief = ppo.Settings(total_steps=4096, epochs=4)
    *_, last = ppo.train(brief, seed=7)
    assert last.checkpoint is not None
    return last.checkpoint


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "new" / "bundle"
    bundle.write_bundle(path, checkpoint, seed=7)
    return path


def test_the_bundle_passes_the_checks_of_an_upload(folder):
    manifest = bundles.check(folder)

    assert manifest.golden
    assert manifest.policy.head is Head.LOGITS
    assert manifest.policy.action_space == Discrete(2)
    assert manifest.policy.observation_space == Box(
        (4,),
        "float32",
        (-4.800000190734863, None, -0.41887903213500977, None),
        (4.800000190734863, None, 0.41887903213500977, None),
    )
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.json",
        "golden.npz",
        "policy.onnx",
    }


def test_the_bundle_says_where_it_comes_from(folder):
    provenance = json.loads((folder / "checkpoint.json").read_bytes())["provenance"]

    assert provenance["seed"] == 7
    assert provenance["step"] == 4096
    assert provenance["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_onnx_model_gives_the_logits_of_the_policy(checkpoint, folder, rows):
    session = onnxruntime.InferenceSession(
        folder / "policy.onnx", providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(rows)
    obs = rng.uniform(-2, 2, (rows, 4)).astype(np.float32)

    (logits,) = session.run(["logits"], {"obs": obs})

    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, checkpoint.policy(obs), rtol=0, atol=1e-5)


def test_the_golden_trace_holds_what_the_policy_answered(checkpoint, folder):
    with np.load(folder / "golden.npz") as golden:
        assert set(golden) == {
            f"case{case}/step0/{what}"
            for case in (0, 1)
            for what in ("obs", "action", "outputs/logits")
        }
        for case, rows in enumerate((1, 7)):
            obs = golden[f"case{case}/step0/obs"]
            action = golden[f"case{case}/step0/action"]
            logits = golden[f"case{case}/step0/outputs/logits"]
            assert (obs.shape, obs.dtype) == ((rows, 4), np.float32)
            assert (action.shape, action.dtype) == ((rows,), np.int64)
            assert (logits.shape, logits.dtype) == ((rows, 2), np.float32)
            assert (action == logits.argmax(axis=1)).all()
            assert (logits == checkpoint.policy(obs)).all()


def test_recorded_observations_differ_and_were_met_in_training(checkpoint):
    observations = checkpoint.observations

    assert len(np.unique(observations, axis=0)) == ppo.RECORDED_OBSERVATIONS
    assert np.abs(observations[:, 0]).max() < 2.4
    assert np.abs(observations).max() > 0.05, "not only first ones of an episode"


def test_the_same_training_gives_the_same_bundle(checkpoint, folder, tmp_path):
    bundle.write_bundle(tmp_path, checkpoint, seed=7)

    assert bundles.listing(tmp_path).digest == bundles.listing(folder).digest


def test_the_json_form_of_a_space_has_null_for_no_bound():
    box = gymnasium.spaces.Box(-np.inf, np.float32([[1, 2]]), (1, 2), np.float32)
    discrete = gymnasium.spaces.Discrete(3, start=-1)

    assert bundle.space_to_json(box) == {
        "type": "Box",
        "shape": [1, 2],
        "dtype": "float32",
        "low": None,
        "high": [1.0, 2.0],
    }
    assert bundle.space_to_json(discrete) == {
        "type": "Discrete",
        "n": 3,
        "start": -1,
        "dtype": "int64",
    }


def test_a_space_of_another_kind_is_refused():
    with pytest.raises(Rejected, match="MultiBinary"):
        bundle.space_to_json(gymnasium.spaces.MultiBinary(2))
