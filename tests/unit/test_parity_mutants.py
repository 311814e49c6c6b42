"""The gate by mutation: each known way in which serving goes wrong is caught.

First by bundles whose weights or manifest are wrong, then by changes to the code that
serves.  Each goes the whole way: a checkpoint is added, an agent is made of it and
connected, and what the log says of it is looked at.
"""

import json
from functools import partial

import numpy as np
import pytest
from attrs import evolve
from onnx import TensorProto, helper, numpy_helper

from arena_core.application import (
    forced_actions,
    golden,
    heads,
    hidden_states,
    inference,
    models,
    plain_rows,
    policies,
)
from arena_core.application import parity as gate
from arena_core.domain.deployment import Status
from arena_core.domain.parity import Parity, Verdict
from unit import recurrent_bundles
from unit.recurrent_bundles import TwoStates
from unit.scenes import Scene

import bundles
import shapes
from onnx_models import model, value


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene.open(tmp_path_factory.mktemp("scene"))
    yield scene
    scene.arena.close()


def connected(scene, folder) -> Parity:
    """Connect an agent of the bundle; return what the log says of its parity."""
    algorithm = json.loads((folder / "checkpoint.json").read_text())["algorithm"]
    said = {"of": algorithm, "algorithm": algorithm, "bundle": folder}
    family = json.loads((folder / "checkpoint.json").read_text())["family"]
    make = scene.agent if family == "rl" else scene.saved_model
    view = scene.live(make(f"agent {next(scene._numbers)}", **said))
    found = [
        event.data.parity
        for event in scene.use.audit.timeline(view.id)
        if event.name == "deployment.parity_checked"
    ]
    assert len(found) == 1, view.deployment.reason
    assert view.deployment.parity == found[0]
    passed = found[0].verdict is Verdict.PASSED
    wanted = Status.DEPLOYED if passed else Status.FAILED
    assert view.deployment.status is wanted
    assert passed or view.deployment.reason == gate.sentence(found[0])
    return found[0]


def first_difference(parity: Parity):
    assert parity.verdict is Verdict.FAILED
    assert parity.difference.expected != parity.difference.served
    return parity.difference.case, parity.difference.output, parity.difference.index


def manifest_changed(folder, **changes):
    described = bundles.manifest(folder)
    bundles.write_manifest(folder, described | changes)
    return folder


def without_raw_outputs(folder):
    """Take the raw outputs out of the trace: what was answered must give it away."""
    trace = golden.read((folder / "golden.npz").read_bytes())
    cases = tuple(
        evolve(
            case,
            steps=tuple(
                golden.Step(
                    {n: a for n, a in step.recorded.items() if "outputs" not in n}
                )
                for step in case.steps
            ),
        )
        for case in trace.cases
    )
    (folder / "golden.npz").write_bytes(golden.write(golden.GoldenTrace(cases)))
    return folder


WRITERS = {
    "cartpole": bundles.cartpole,
    "normalised": partial(bundles.cartpole, normalised=True),
    "masked": partial(bundles.cartpole, masked=True),
    "pendulum": bundles.pendulum,
    "dict": shapes.dict_policy,
    "tuple": shapes.tuple_policy,
    "image": shapes.image_policy,
    "multi_discrete": shapes.multi_discrete_policy,
    "multi_binary": shapes.multi_binary_policy,
    "scaled": shapes.scaled_policy,
    "recurrent": shapes.recurrent_policy,
    "recurrent_masked": partial(shapes.recurrent_policy, masked=True),
    "two_states": recurrent_bundles.two_states_policy,
    "several": shapes.multi_agent_policy,
    "team": recurrent_bundles.team_policy,
    "latent": shapes.latent_policy,
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_original_passes(scene, name):
    folder = WRITERS[name](scene.folder / f"original {name}")
    found = connected(scene, folder)
    assert found.verdict is Verdict.PASSED
    assert found.difference is None
    assert found.values_compared >= 8


# --- weights that are wrong ----------------------------------------------------------


def weights(folder, content: bytes, name="policy.onnx"):
    (folder / name).write_bytes(content)
    return folder


def rounded_to_half(network):
    return bundles.Network(
        {n: w.astype("f2").astype("f4") for n, w in network.weights.items()}
    )


def drawing_policy() -> bytes:
    """Return CartPole's policy with the action drawn in the graph."""
    w = bundles.CARTPOLE.weights
    return model(
        [
            helper.make_node("Gemm", ["obs", "w0", "b0"], ["h0"]),
            helper.make_node("Tanh", ["h0"], ["h1"]),
            helper.make_node("Gemm", ["h1", "w1", "b1"], ["logits"]),
            helper.make_node(
                "Multinomial", ["logits"], ["drawn"], dtype=TensorProto.INT64, seed=3.0
            ),
            helper.make_node("Squeeze", ["drawn", "one"], ["answer"]),
        ],
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("answer", TensorProto.INT64, ["batch"])],
        [
            *(numpy_helper.from_array(array, n) for n, array in w.items()),
            numpy_helper.from_array(np.array([1]), "one"),
        ],
    ).SerializeToString()


def greedy_policy() -> bytes:
    """Return CartPole's policy with the best action chosen in the graph."""
    w = bundles.CARTPOLE.weights
    return model(
        [
            helper.make_node("Gemm", ["obs", "w0", "b0"], ["h0"]),
            helper.make_node("Tanh", ["h0"], ["h1"]),
            helper.make_node("Gemm", ["h1", "w1", "b1"], ["logits"]),
            helper.make_node("ArgMax", ["logits"], ["answer"], axis=1, keepdims=0),
        ],
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("answer", TensorProto.INT64, ["batch"])],
        [numpy_helper.from_array(array, n) for n, array in w.items()],
    ).SerializeToString()


def deciding(folder, content: bytes):
    """Write CartPole's policy as one whose weights answer the action itself."""
    without_raw_outputs(bundles.cartpole(folder))
    signature = {
        "inputs": [{"name": "obs", "dtype": "float32", "shape": [None, 4]}],
        "outputs": [{"name": "answer", "dtype": "int64", "shape": [None]}],
    }
    return weights(
        manifest_changed(folder, head="action", signature=signature), content
    )


def noisy_pendulum() -> bytes:
    w = bundles.PENDULUM.weights
    return model(
        [
            helper.make_node("Gemm", ["obs", "w0", "b0"], ["h0"]),
            helper.make_node("Tanh", ["h0"], ["h1"]),
            helper.make_node("Gemm", ["h1", "w1", "b1"], ["mean"]),
            helper.make_node("RandomNormalLike", ["mean"], ["noise"], seed=1.0),
            helper.make_node("Add", ["mean", "noise"], ["answer"]),
        ],
        [value("obs", TensorProto.FLOAT, ["batch", 3])],
        [value("answer", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(array, n) for n, array in w.items()],
    ).SerializeToString()


def gossiping(kind: str) -> bytes:
    """Return a linear policy whose rows see each other.

    `mean`: each row is moved by its distance from the mean of the batch, which is none
    for one row alone.  `place`: each is moved by how many rows are before it.
    """
    moved = {
        "mean": [
            helper.make_node("ReduceMean", ["own", "zero"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["mean", "own"], ["moved"]),
        ],
        "place": [
            helper.make_node("Mul", ["own", "nought"], ["nothing"]),
            helper.make_node("Add", ["nothing", "step"], ["steps"]),
            helper.make_node("CumSum", ["steps", "axis"], ["moved"], exclusive=1),
        ],
    }[kind]
    constants = {
        "w": LINEAR, "zero": np.array([0]), "axis": np.array(0),
        "nought": np.float32(0), "step": np.float32(0.1),
    }  # fmt: skip
    return model(
        [
            helper.make_node("MatMul", ["obs", "w"], ["own"]),
            *moved,
            helper.make_node("Add", ["own", "moved"], ["logits"]),
        ],
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    ).SerializeToString()


LINEAR = np.random.default_rng(11).normal(size=(4, 2)).astype("f4")


def linear(folder, content: bytes, *, by_place: bool = False):
    """Write a linear policy; its trace is the truth, or what the mutant says itself."""
    bundles.cartpole(folder, with_golden=False)
    cases = []
    for rows in bundles.BATCHES:
        obs = bundles.observations(rows, 4)
        logits = obs @ LINEAR
        if by_place:
            logits += np.float32(0.1) * np.arange(rows, dtype="f4")[:, None]
        action = logits.argmax(axis=1)
        cases.append({"obs": obs, "action": action, "outputs/logits": logits})
    bundles.write_golden(folder, *cases)
    return weights(folder, content)


CASE0, CASE1 = "case0/step0", "case1/step0"
CROSSED = (("h", "c_next"), ("c", "h_next"))
BUNDLES = {
    "the normaliser is dropped": (
        lambda f: manifest_changed(WRITERS["normalised"](f), normaliser=None),
        (CASE0, "outputs/logits", (0, 0)),
    ),
    "a normaliser of another run": (
        lambda f: manifest_changed(
            WRITERS["normalised"](f),
            normaliser=bundles.NORMALISER | {"mean": [0.0] * 4},
        ),
        (CASE0, "outputs/logits", (0, 0)),
    ),
    "weights that ignore their hidden state": (
        lambda f: shapes.recurrent_policy(
            f, network=evolve(shapes.RECURRENT, feeds_back=False)
        ),
        ("case0/step1", "outputs/h_next", (0, 0, 0)),
    ),
    "two hidden states that are fed crosswise": (
        lambda f: recurrent_bundles.two_states_policy(f, fed=CROSSED),
        ("case0/step1", "outputs/logits", (0, 0)),
    ),
    "hidden states that see each other": (
        lambda f: recurrent_bundles.two_states_policy(f, network=TwoStates(gossip=0.5)),
        ("case1/step1", "outputs/logits", (0, 0)),
    ),
    "an image that is reshaped where it should be turned": (
        lambda f: weights(
            shapes.image_policy(f), evolve(shapes.IMAGE, axes=None).onnx()
        ),
        (CASE0, "outputs/logits", (0, 0)),
    ),
    "an image whose height and width are swapped": (
        lambda f: weights(
            shapes.image_policy(f), evolve(shapes.IMAGE, axes=(3, 2, 1)).onnx()
        ),
        (CASE0, "outputs/logits", (0, 0)),
    ),
    "an image that is not scaled": (
        lambda f: weights(
            shapes.image_policy(f), evolve(shapes.IMAGE, scale=1.0).onnx()
        ),
        (CASE0, "outputs/logits", (0, 0)),
    ),
    "weights in half precision": (
        lambda f: weights(
            bundles.cartpole(f), rounded_to_half(bundles.CARTPOLE).onnx(answer="logits")
        ),
        None,
    ),
    "weights of another step": (
        lambda f: weights(
            bundles.cartpole(f), bundles.CARTPOLE.perturbed(1e-3).onnx(answer="logits")
        ),
        (CASE0, "outputs/logits", (0, 0)),
    ),
    "weights of another seed, answers only": (
        lambda f: weights(
            without_raw_outputs(bundles.cartpole(f)),
            bundles.Network.of(4, 2, seed=5).onnx(answer="logits"),
        ),
        None,
    ),
    "an action that is drawn where it should be chosen": (
        lambda f: deciding(f, drawing_policy()),
        None,
    ),
    "a continuous action with noise": (
        lambda f: weights(bundles.pendulum(f), noisy_pendulum()),
        None,
    ),
    "an action that is not squashed": (
        lambda f: manifest_changed(
            shapes.scaled_policy(f), action_transform={"rescale_from": [-1.0, 1.0]}
        ),
        (CASE0, "action", (0, 0)),
    ),
    "an action that is not rescaled": (
        lambda f: manifest_changed(
            shapes.scaled_policy(f), action_transform={"squash": "tanh"}
        ),
        (CASE0, "action", (0, 0)),
    ),
    "an action that is rescaled from other bounds": (
        lambda f: manifest_changed(
            shapes.scaled_policy(f),
            action_transform={"squash": "tanh", "rescale_from": [0.0, 1.0]},
        ),
        (CASE0, "action", (0, 0)),
    ),
    "an action that starts elsewhere": (
        lambda f: manifest_changed(
            shapes.dict_policy(f), action_space={"type": "Discrete", "n": 3}
        ),
        (CASE0, "action", (0,)),
    ),
    "parts of an action that are divided elsewhere": (
        lambda f: manifest_changed(
            without_raw_outputs(_unmasked_parts(f)),
            action_space={"type": "MultiDiscrete", "nvec": [3, 2], "start": [0, 4]},
        ),
        None,
    ),
    "rows that see each other, right for one row": (
        lambda f: linear(f, gossiping("mean")),
        (CASE1, "outputs/logits", (0, 0)),
    ),
    "rows that see where they are, recorded so": (
        lambda f: linear(f, gossiping("place"), by_place=True),
        (CASE1, "outputs/logits", (6, 0)),
    ),
    "an agent with the weights of another": (
        lambda f: weights(
            shapes.multi_agent_policy(f),
            evolve(shapes.LISTENER, seed=9).onnx(),
            "listener.onnx",
        ),
        (CASE0, "agents/listener_0/action", (0, 0)),
    ),
    "a decoder of another run": (
        lambda f: weights(
            shapes.latent_policy(f),
            evolve(shapes.DECODER, seed=9).onnx(),
            "decoder.onnx",
        ),
        (CASE0, "results", (0, 0)),
    ),
}


def _unmasked_parts(folder):
    shapes.multi_discrete_policy(folder)
    cases = []
    for rows in shapes.BATCHES:
        obs = shapes.vectors(rows, 4)
        logits = shapes.MULTI_DISCRETE({"obs": obs})["logits"]
        everything = np.ones_like(logits, bool)
        action = shapes.multi_discrete(logits, everything)
        cases.append({"obs": obs, "action": action})
    bundles.write_golden(folder, *cases)
    return folder


@pytest.mark.parametrize("name", BUNDLES)
def test_a_wrong_bundle_is_caught_at_its_first_wrong_value(scene, name):
    write, where = BUNDLES[name]
    found = first_difference(connected(scene, write(scene.folder / name)))
    assert where is None or found == where


def test_an_action_chosen_in_the_graph_passes(scene):
    folder = deciding(scene.folder / "deciding", greedy_policy())
    assert connected(scene, folder).verdict is Verdict.PASSED


def test_the_policies_of_two_files_are_told_apart(scene):
    folder = shapes.multi_agent_policy(scene.folder / "exchanged")
    described = bundles.manifest(folder)
    # Both listeners would act as before; one has a policy of its own now.
    own = described["policies"]["listener"] | {"weights": "own.onnx"}
    described["policies"]["own"] = own
    described["agents"]["listener_1"] = "own"
    bundles.write_manifest(folder, described)
    weights(folder, shapes.LISTENER.onnx(), "own.onnx")
    assert connected(scene, folder).verdict is Verdict.PASSED
    weights(folder, evolve(shapes.LISTENER, seed=8).onnx(), "own.onnx")
    found = first_difference(connected(scene, folder))
    assert found == (CASE0, "agents/listener_1/action", (0, 0))


# --- code that is wrong --------------------------------------------------------------


def always_sampling(original):
    def choose(self, outputs, legal, random):
        return original(self, outputs, legal, random or np.random.default_rng(0))

    return choose


def without_mask(original):
    del original
    return lambda *_, **__: None


def forgetting(original):
    def recall(self, tree, rows, decode, *, field):
        original(self, tree, rows, decode, field=field)
        return self.beginning(rows)

    return recall


def repeating_the_first_row(original):
    def run(self, observed, hidden):
        outputs = original(self, observed, hidden)
        return {name: np.repeat(a[:1], len(a), axis=0) for name, a in outputs.items()}

    return run


def reversing_rows(original):
    def run(self, observed, hidden):
        return {name: a[::-1] for name, a in original(self, observed, hidden).items()}

    return run


def in_half_precision(original):
    def run(self, observed, hidden):
        halves = {n: a.astype("f2").astype(a.dtype) for n, a in observed.items()}
        return original(self, halves, hidden)

    return run


def forgetting_what_it_carries(original):
    def carry(self, outputs):
        return {n: a * np.array(0, a.dtype) for n, a in original(self, outputs).items()}

    return carry


def carrying_another_row(original):
    def carry(self, outputs):
        return {
            name: np.roll(a, 1, axis=0) for name, a in original(self, outputs).items()
        }

    return carry


def stacking_backwards(original):
    return lambda parts: original(parts[::-1])


def unforced(original):
    del original
    return lambda self, chosen: chosen  # noqa: ARG005


def without_bounds(original):
    def bounds(space):
        low, high = original(space)
        return low * 0 - 1e9, high * 0 + 1e9

    return bounds


def taking_the_worst(original):
    return lambda scores, legal, random: original(-scores, legal, random)


def misreading_columns(original):
    """Take rows in C order for such in Fortran order."""

    def leaf(text, name):
        array = original(text, name)
        return np.stack([row.ravel().reshape(row.shape, order="F") for row in array])

    return leaf


def mixing_callers(original):
    return lambda self, calls, watch: original(self, calls[::-1], watch)


def answering_all_alike(original):
    return lambda self, calls, actions: original(
        self, calls, actions[:1].repeat(len(calls))
    )


def undecoded(original):
    def predict(self, observed):
        _, outputs = original(self, observed)
        return outputs["latent"][:, [0, 1, 0, 1, 0, 1]], outputs

    return predict


CODE = {
    "the normaliser is not applied": (
        policies, "_normaliser", lambda _: lambda *_: None, ["normalised"],
    ),
    "a hidden state is forgotten when it comes back": (
        hidden_states.Memory, "recall", forgetting,
        ["recurrent", "recurrent_masked", "two_states", "team"],
    ),
    "a hidden state is forgotten when it goes out": (
        hidden_states.Memory, "carry", forgetting_what_it_carries,
        ["recurrent", "recurrent_masked", "two_states", "team"],
    ),
    "a hidden state of another row goes out": (
        hidden_states.Memory, "carry", carrying_another_row,
        ["recurrent", "two_states", "team"],
    ),
    "a mask is ignored": (
        heads._Categorical, "legal", without_mask, ["masked", "recurrent_masked"],
    ),
    "the mask of several parts is ignored": (
        heads._MultiCategorical, "legal", without_mask, ["multi_discrete"],
    ),
    "an action is drawn": (
        heads._Categorical, "choose", always_sampling,
        ["dict", "recurrent", "several", "cartpole"],
    ),
    "the parts of an action are drawn": (
        heads._MultiCategorical, "choose", always_sampling, ["multi_discrete"],
    ),
    "bits are drawn": (heads._Bernoulli, "choose", always_sampling, ["multi_binary"]),
    "a continuous action is drawn": (
        heads._Continuous, "choose", always_sampling, ["scaled", "tuple"],
    ),
    "the worst action is taken": (
        heads, "_pick", taking_the_worst, ["cartpole", "dict", "image"],
    ),
    "an action is not clipped": (
        heads, "bounds", without_bounds, ["pendulum", "scaled", "several"],
    ),
    "every row is answered as the first": (
        policies.LoadedPolicy, "run", repeating_the_first_row, list(WRITERS),
    ),
    "rows are answered in another order": (
        policies.LoadedPolicy, "run", reversing_rows, list(WRITERS),
    ),
    "observations are in half precision": (
        policies.LoadedPolicy, "run", in_half_precision,
        ["cartpole", "normalised", "tuple", "recurrent", "latent", "scaled"],
    ),
    "agents that share a policy are mixed up": (
        models, "_stacked", stacking_backwards, ["several", "team"],
    ),
    "an action that the environment has chosen is not taken": (
        forced_actions.Forced, "over", unforced, ["several"],
    ),
    "arrays are read in the wrong order": (
        inference, "_leaf", misreading_columns, ["image"],
    ),
    "callers are answered each other's actions": (
        plain_rows.PlainRows, "_act", mixing_callers, ["pendulum"],
    ),
    "all callers of a batch are answered alike": (
        plain_rows.PlainRows, "_single_actions", answering_all_alike, ["image"],
    ),
    "the mask of a caller is lost in the batch": (
        plain_rows.PlainRows, "_legal", lambda _: lambda *_: None, ["masked"],
    ),
    "what a latent policy says is not decoded": (
        models.Model, "predict", undecoded, ["latent"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("mutant", "name"),
    [(mutant, name) for mutant, (*_, names) in CODE.items() for name in names],
)
def test_wrong_code_is_caught(scene, monkeypatch, mutant, name):
    owner, attribute, wrong, _ = CODE[mutant]
    monkeypatch.setattr(owner, attribute, wrong(getattr(owner, attribute)))
    folder = WRITERS[name](scene.folder / f"{mutant} {name}")
    first_difference(connected(scene, folder))


def test_rows_in_reverse_are_what_catches_rows_that_know_their_place(
    scene, monkeypatch
):
    monkeypatch.setattr(gate, "_orders", lambda case: [np.arange(case.steps[0].rows)])
    folder = linear(scene.folder / "in order", gossiping("place"), by_place=True)
    assert connected(scene, folder).verdict is Verdict.PASSED
