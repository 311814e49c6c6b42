"""The recipe `latent_ppo`: a policy over the latent space of a frozen decoder."""

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from arena_core.application import bundles
from arena_core.domain.errors import Rejected
from arena_core.domain.parity import Verdict
from arena_core.entrypoints.recipes import latent_ppo_training, supervised_training
from arena_core.entrypoints.recipes.datasets import Choice, load
from unit.dataset_recipes import resuming, trained

pytestmark = pytest.mark.slow

QUICK = {"total_steps": 1536, "rows": 256, "checkpoint_every": 512, "passes": 4}


def classifier(folder, dataset="iris", **config):
    settings = {"epochs": 25, "checkpoint_every": 25, **config}
    return trained(
        supervised_training.train, folder, "supervised", dataset, settings, seed=3
    )


def over(decoder, folder, config=None, *, dataset="iris", **told):
    if decoder is not None:
        told["decoder_checkpoint"] = decoder.bundle()
    return trained(
        latent_ppo_training.train, folder, "latent_ppo", dataset, config, **told
    )


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("decoder") / "run")


@pytest.fixture(scope="module")
def policy(decoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "run"
    return over(decoder, folder, {"total_steps": 10_240})


def parameters(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def digest(done, step=None):
    return bundles.listing(done.bundle(step)).digest


def test_it_learns_to_choose_what_the_decoder_makes_the_right_answer_of(policy):
    first, last = policy.points[0], policy.points[-1]
    assert set(first) == {"step", "loss", "score", "fitness"}
    assert first["score"] < 0.5  # by chance it would be a third
    assert last["score"] > 0.85
    assert last["fitness"] > 0.8
    assert last["step"] == 10_240


def test_what_is_served_is_what_policy_and_decoder_answered(policy):
    for step in policy.steps:
        loaded = policy.loaded(step)
        assert loaded.parity.verdict is Verdict.PASSED
        assert loaded.parity.values_compared == 8 * (3 + 8)
        loaded.model.close()


def test_predict_answers_what_the_decoder_does(policy):
    iris = load(Choice("iris"), None)
    loaded = policy.loaded()
    results, _ = loaded.model.predict({"": iris.inputs})
    loaded.model.close()
    assert results.shape == (150, 3)
    assert np.allclose(results.sum(axis=1), 1, atol=1e-5)
    assert (results.argmax(axis=1) == iris.targets).mean() > 0.8


def test_the_decoder_stays_as_it_was(decoder, policy):
    before = parameters(onnx.load(decoder.bundle() / "policy.onnx"))
    for step in policy.steps:
        weights = (policy.bundle(step) / "decoder.onnx").read_bytes()
        after = parameters(onnx.load_from_string(weights))
        assert set(after) == {name for name in before if name.startswith("decoder.")}
        assert all(np.array_equal(after[name], before[name]) for name in after)
        provenance = policy.manifest(step)["provenance"]
        assert provenance["decoder_sha256"] == hashlib.sha256(weights).hexdigest()


def test_the_same_seed_gives_the_same_bytes(decoder, tmp_path):
    one, same, other = (
        over(decoder, tmp_path / str(n), QUICK, seed=seed)
        for n, seed in enumerate([4, 4, 5])
    )
    assert one.steps == [512, 1024, 1536]
    assert one.total == 1536
    assert [digest(one, s) for s in one.steps] == [digest(same, s) for s in same.steps]
    assert digest(one) != digest(other)


def test_what_is_resumed_ends_as_if_it_had_never_stopped(decoder, tmp_path):
    whole = over(decoder, tmp_path / "whole", QUICK, seed=4)
    rest = over(decoder, tmp_path / "rest", QUICK, seed=4, **resuming(whole, 1024))
    assert rest.steps == [1536]
    assert digest(rest) == digest(whole)


def test_one_follows_another_with_its_weights_and_its_decoder(policy, tmp_path):
    told = {"start_checkpoint": policy.bundle()}
    further = over(None, tmp_path / "run", QUICK, **told)
    assert further.points[0]["score"] > 0.7
    kept, taken = ((p.bundle() / "decoder.onnx") for p in (further, policy))
    assert kept.read_bytes() == taken.read_bytes()


def test_a_regression_has_a_latent_space_too(tmp_path):
    decoder = classifier(tmp_path / "decoder", "diabetes", layers=[16])
    config = {"total_steps": 6144}
    done = over(decoder, tmp_path / "run", config, dataset="diabetes")
    assert done.points[-1]["score"] > done.points[0]["score"] + 0.5
    assert done.points[-1]["fitness"] > 0.1
    loaded = done.loaded()
    assert loaded.parity.verdict is Verdict.PASSED
    loaded.model.close()


def test_images_are_seen_too(tmp_path):
    decoder = classifier(tmp_path / "decoder", "digits", epochs=4, channels=[8])
    done = over(decoder, tmp_path / "run", QUICK, dataset="digits")
    loaded = done.loaded()
    assert loaded.parity.verdict is Verdict.PASSED
    loaded.model.close()


# --- what cannot be a decoder ------------------------------------------------------


def refused(folder, decoder=None, config=None, dataset="iris", **told):
    with pytest.raises(Rejected) as caught:
        over(decoder, folder / "run", config or QUICK, dataset=dataset, **told)
    assert not (folder / "run" / "checkpoints").exists()
    return str(caught.value)


def test_without_a_decoder_it_is_told_where_to_get_one(tmp_path):
    assert "put a stage that trains Supervised before it" in refused(tmp_path)


def test_a_decoder_of_other_classes_is_refused(decoder, tmp_path):
    sentence = refused(tmp_path, decoder, dataset="wine")
    assert "other classes apart" in sentence
    assert "answers with" in refused(tmp_path / "2", decoder, dataset="digits")


def altered(decoder, tmp_path, change):
    """Return a decoder whose weights are `change`d, under the same names."""
    copy = tmp_path / "altered" / "checkpoints" / "1"
    shutil.copytree(decoder.bundle(), copy)
    model = onnx.load(copy / "policy.onnx")
    change(model)
    onnx.save(model, copy / "policy.onnx")
    return type(decoder)(tmp_path / "altered")


def renamed(model, old="latent", new="hidden"):
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for output in model.graph.output:
        output.name = new if output.name == old else output.name


def test_a_decoder_without_a_latent_tensor_is_refused(decoder, tmp_path):
    sentence = refused(tmp_path, altered(decoder, tmp_path, renamed))
    assert "no tensor of its weights is called latent" in sentence


def unsure(model):
    """Take the softmax away: what is answered are no probabilities."""
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Relu"
            del node.attribute[:]


def test_a_decoder_that_answers_no_probabilities_is_refused(decoder, tmp_path):
    sentence = refused(tmp_path, altered(decoder, tmp_path, unsure))
    assert "probability of each class" in sentence


def test_a_checkpoint_of_another_family_is_refused(decoder, tmp_path):
    copy = tmp_path / "other" / "checkpoints" / "1"
    shutil.copytree(decoder.bundle(), copy)
    manifest = json.loads((copy / "checkpoint.json").read_bytes())
    (copy / "checkpoint.json").write_text(json.dumps(manifest | {"family": "llm"}))
    assert "of the family llm" in refused(tmp_path, type(decoder)(tmp_path / "other"))


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    told = {"start_checkpoint": tmp_path}
    assert "cannot be read" in refused(tmp_path, **told)
