"""The recipe `supervised`, which trains something real within seconds."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest

from arena_core.application import bundles
from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected
from arena_core.domain.parity import Verdict
from arena_core.entrypoints.recipes import running
from arena_core.entrypoints.recipes.datasets import Choice, load
from arena_core.entrypoints.recipes.supervised_networks import moments
from arena_core.entrypoints.recipes.supervised_training import train
from unit import dataset_recipes
from unit.dataset_recipes import Trained, resuming, variables

pytestmark = pytest.mark.slow

QUICK = {"epochs": 8, "checkpoint_every": 2}


def trained(*args, **kwargs):
    return dataset_recipes.trained(train, *args, **kwargs)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A classifier of iris, with a seed of its own."""
    folder = tmp_path_factory.mktemp("supervised") / "run"
    return trained(folder, "supervised", "iris", seed=3)


def predicted(done, rows: Array):
    loaded = done.loaded()
    results, _ = loaded.model.predict({"": np.asarray(rows, np.float32)})
    loaded.model.close()
    return results


def test_a_classifier_learns_and_says_how_well(flowers):
    assert [point["step"] for point in flowers.points] == list(range(1, 61))
    assert flowers.steps == [15, 30, 45, 60]
    first, last = flowers.points[0], flowers.points[-1]
    assert set(first) == {"step", "loss", "score", "fitness"}
    assert last["score"] > 0.95
    assert last["fitness"] > 0.85
    assert last["loss"] < first["loss"] / 5


def test_every_checkpoint_is_served_as_it_was_trained(flowers):
    for step in flowers.steps:
        loaded = flowers.loaded(step)
        assert loaded.parity.verdict is Verdict.PASSED
        assert loaded.parity.values_compared == 8 * (3 + 3 + 8)
        loaded.model.close()


def test_a_trace_of_other_weights_would_be_seen(flowers, tmp_path):
    forged = tmp_path / "forged"
    forged.mkdir()
    for name in ("checkpoint.json", "policy.onnx"):
        (forged / name).write_bytes((flowers.bundle(60) / name).read_bytes())
    (forged / "golden.npz").write_bytes(
        (flowers.bundle(15) / "golden.npz").read_bytes()
    )
    loaded = dataset_recipes.load_bundle(forged)
    assert loaded.parity.verdict is Verdict.FAILED
    loaded.model.close()


def test_it_answers_raw_rows_with_probabilities(flowers):
    iris = load(Choice("iris"), None)
    answers = predicted(flowers, iris.inputs)
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert (answers.argmax(axis=1) == iris.targets).mean() > 0.9


def test_a_checkpoint_says_where_it_comes_from(flowers):
    provenance = flowers.manifest()["provenance"]
    iris = load(Choice("iris"), None)
    assert provenance["dataset"] == json.loads(json.dumps(iris.provenance()))
    assert provenance["dataset"]["sha256"] == iris.sha256
    assert provenance["seed"] == 3
    assert {"arena-core", "numpy", "onnx", "python", "scikit-learn", "torch"} == set(
        provenance["versions"]
    )


def test_the_latent_vector_is_a_tensor_of_that_name(flowers):
    model = onnx.load(flowers.bundle() / "policy.onnx")
    assert [output.name for output in model.graph.output] == ["probabilities", "latent"]
    (consumer,) = (node for node in model.graph.node if "latent" in node.input)
    assert consumer.op_type == "Gemm"


def digest(done, step=None):
    return bundles.listing(done.bundle(step)).digest


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    one, same, other = (
        trained(tmp_path / str(n), "supervised", "wine", QUICK, seed=seed)
        for n, seed in enumerate([5, 5, 6])
    )
    assert [digest(one, step) for step in one.steps] == [
        digest(same, step) for step in same.steps
    ]
    assert digest(one) != digest(other)


def test_what_is_resumed_ends_as_if_it_had_never_stopped(tmp_path):
    whole = trained(tmp_path / "whole", "supervised", "wine", QUICK, seed=5)
    rest = trained(
        tmp_path / "rest", "supervised", "wine", QUICK, seed=5, **resuming(whole, 6)
    )
    assert rest.steps == [8]
    assert [point["step"] for point in rest.points] == [7, 8]
    assert digest(rest) == digest(whole)


def test_without_its_state_it_goes_on_from_the_weights(tmp_path):
    whole = trained(tmp_path / "whole", "supervised", "wine", QUICK, seed=5)
    told = resuming(whole, 8, state=False)
    rest = trained(
        tmp_path / "rest", "supervised", "wine", QUICK, seed=5, max_steps=10, **told
    )
    assert rest.steps == [10]
    assert rest.points[0]["loss"] < whole.points[0]["loss"] / 2
    assert rest.points[0]["score"] >= whole.points[-1]["score"] - 0.05


def test_what_has_made_all_its_steps_makes_as_many_again(tmp_path):
    whole = trained(tmp_path / "whole", "supervised", "wine", QUICK)
    more = trained(tmp_path / "more", "supervised", "wine", QUICK, **resuming(whole, 8))
    assert more.steps == [10, 12, 14, 16]
    assert (whole.total, more.total) == (8, 16)


def test_it_begins_with_the_weights_of_another_checkpoint(flowers, tmp_path):
    told = {"start_checkpoint": flowers.bundle()}
    further = trained(tmp_path / "run", "supervised", "iris", QUICK, **told)
    assert further.points[0]["step"] == 1
    assert further.points[0]["score"] > 0.95
    assert flowers.points[0]["score"] < 0.9


@pytest.mark.parametrize("config", [{"latent_dim": 3}, {"layers": [16]}])
def test_weights_of_another_network_are_refused(flowers, tmp_path, config):
    told = {"start_checkpoint": flowers.bundle()}
    with pytest.raises(Rejected, match="another network") as caught:
        trained(tmp_path / "run", "supervised", "iris", config, **told)
    assert caught.value.field == "start"


def test_a_regression_learns_numbers(tmp_path):
    config = {"epochs": 30, "layers": [16], "checkpoint_every": 30}
    done = trained(tmp_path / "run", "supervised", "diabetes", config)
    assert done.points[-1]["fitness"] > 0.3
    diabetes = load(Choice("diabetes"), None)
    answers = predicted(done, diabetes.inputs)
    assert answers.shape == (len(diabetes.targets), 1)
    # In the units of the target, not standardised.
    assert abs(answers.mean() - diabetes.targets.mean()) < 20


def test_only_a_column_that_never_differs_is_not_scaled():
    wide = np.full((150, 1), 1e9 / 3, np.float32)
    assert moments(wide, (0,))[1].tolist() == [1.0]
    rows = np.array([[1e-13, 0.0, 1e9], [3e-13, 0.0, 1.1e9]], np.float32)
    _, scale = moments(rows, (0,))
    assert scale.numpy() == pytest.approx([1e-13, 1.0, 5e7], rel=1e-4)


def test_numbers_of_any_size_are_learned(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(100, 2))
    np.savez(tmp_path / "large.npz", x=x * 1e-14, y=x[:, 0] * 1e20)
    monkeypatch.setenv("ARENA_DATASETS", str(tmp_path))
    done = trained(tmp_path / "run", "supervised", "large.npz")
    assert done.points[-1]["score"] > 0.9


def test_images_are_learned_by_convolutions(tmp_path):
    config = {"epochs": 12, "channels": [8, 16]}
    done = trained(tmp_path / "run", "supervised", "digits", config)
    assert done.points[-1]["fitness"] > 0.9
    model = onnx.load(done.bundle() / "policy.onnx")
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 2
    loaded = done.loaded()
    assert loaded.parity.verdict is Verdict.PASSED
    loaded.model.close()


def test_images_with_channels_are_learned_from_a_file(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    red = random.integers(0, 2, 60)
    pixels = random.integers(0, 50, (60, 7, 6, 3)).astype(np.uint8)
    pixels[red == 1, :, :, 0] += 100
    names = np.where(red == 1, "red", "grey")
    np.savez(tmp_path / "images.npz", x=pixels, y=names)
    monkeypatch.setenv("ARENA_DATASETS", str(tmp_path))
    done = trained(tmp_path / "run", "supervised", "images.npz", {"epochs": 20})
    assert done.points[-1]["fitness"] == 1
    assert done.manifest()["provenance"]["dataset"]["classes"] == ["grey", "red"]
    assert (predicted(done, pixels).argmax(axis=1) == red).all()


def test_a_table_with_words_is_learned_from_a_file(tmp_path, monkeypatch):
    lines = [f"{n % 7},{'wet' if n % 2 else 'dry'},{n % 2}" for n in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["n,ground,rain", *lines]))
    monkeypatch.setenv("ARENA_DATASETS", str(tmp_path))
    done = trained(tmp_path / "run", "supervised", "a.csv", {"epochs": 20})
    assert done.points[-1]["fitness"] == 1
    columns = done.manifest()["provenance"]["dataset"]["columns"]
    assert columns == ["n", "ground=dry", "ground=wet"]


# --- as a program ------------------------------------------------------------------


def begun(folder, dataset, config=None, **told):
    environ = variables(folder, "supervised", dataset, config, **told)
    program = "arena_core.entrypoints.recipes.supervised"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", program],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_stop_leaves_a_last_checkpoint(tmp_path):
    config = {"epochs": 1_000_000, "checkpoint_every": 1_000_000}
    with begun(tmp_path / "run", "iris", config) as process:
        metrics = tmp_path / "run" / "metrics.jsonl"
        while process.poll() is None and not metrics.exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    said = load(Choice("iris"), None).described()
    assert (process.returncode, output, errors) == (0, f"{said}\n", "")
    done = Trained(tmp_path / "run")
    assert done.steps == [done.points[-1]["step"]]
    loaded = done.loaded()
    assert loaded.parity.verdict is Verdict.PASSED
    loaded.model.close()


def test_what_is_wrong_is_one_sentence_and_an_exit_code(tmp_path):
    with begun(tmp_path / "run", "no-such.csv") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert errors.startswith("The dataset no-such.csv is not one of breast_cancer")
    assert errors.count("\n") == 1
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_settings_that_are_not_known_are_named(tmp_path):
    with pytest.raises(Rejected, match="config") as caught:
        trained(tmp_path / "run", "supervised", "iris", {"epochs": 0})
    assert caught.value.field == "config.epochs"


def test_the_log_begins_with_what_is_sent_and_what_is_answered(tmp_path, capsys):
    trained(tmp_path / "run", "supervised", "iris", {"epochs": 1})
    columns, classes = capsys.readouterr().out.splitlines()
    assert columns.startswith("columns: sepal length (cm), sepal width (cm), ")
    assert classes == "classes: setosa, versicolor, virginica"


def test_what_is_not_installed_is_answered_with_the_extra(capsys):
    assert running.run("a_package_that_is_nowhere", "supervised") == 1
    said = capsys.readouterr().err
    assert said == (
        "a_package_that_is_nowhere is not installed here: "
        "pip install 'arena-core[supervised]'\n"
    )
