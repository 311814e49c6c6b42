"""Loaded checkpoints: what the weights see of an observation, and what they run on."""

from functools import partial

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from arena_core.adapters.blobs.memory import MemoryBlobStore
from arena_core.application.action_requests import ActionRequest, understood
from arena_core.application.bundles import check
from arena_core.application.loading import Runtimes, assemble
from arena_core.application.loading import load as load_stored
from arena_core.application.models import SINGLE, Model, Turn
from arena_core.application.pace import UNKNOWN
from arena_core.application.policies import MOST_ANSWER_BYTES
from arena_core.domain.checkpoint import (
    Box,
    Head,
    Manifest,
    Normaliser,
    Policy,
    Signature,
    TensorSpec,
)
from arena_core.domain.errors import NotFinite, Rejected, TooLarge, Unavailable
from arena_core.domain.ids import Digest
from arena_core.domain.values import Family
from unit import recurrent_bundles
from unit.calls import action, ask, refusal
from unit.exact_models import exact
from unit.models import RUNTIMES, described, load, of

import bundles
import onnx_models
import shapes
from every_shape import ACTING, EVERY_SHAPE
from onnx_models import value
from shapes import vectors

DIGEST = Digest("0" * 64)


@pytest.fixture(scope="module")
def normalised(tmp_path_factory):
    return load(
        bundles.cartpole(tmp_path_factory.mktemp("normalised"), normalised=True)
    )


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    return load(shapes.dict_policy(tmp_path_factory.mktemp("trees")))


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    return load(shapes.latent_policy(tmp_path_factory.mktemp("latent")))


def tree(rows):
    leaves = shapes.dict_observations(rows)
    return {
        "level": leaves["level"],
        "position": leaves["position"],
        "inner": [leaves["inner/0"], leaves["inner/1"]],
        "image": leaves["image"],
    }


# --- what the weights see ------------------------------------------------------------


def test_observations_are_normalised_and_clipped(normalised):
    obs = bundles.observations(7, 4)
    scaled = (obs - np.array(bundles.MEAN)) / np.sqrt(bundles.VARIANCE)
    seen = np.clip(scaled, -bundles.CLIP, bundles.CLIP).astype("f4")
    assert (seen != scaled).any()
    expected = bundles.CARTPOLE(seen).argmax(axis=1)
    assert action(normalised, obs=obs).tolist() == expected.tolist()


def test_each_leaf_has_a_normaliser_of_its_own(trees):
    normaliser = Normaliser((0.1, -0.2), (1e-8, 4e-8), epsilon=0.0)
    model = described(trees, normalisers={"position": normaliser})
    leaves = shapes.dict_observations(7)
    seen = leaves | {"position": (leaves["position"] - [0.1, -0.2]) / [1e-4, 2e-4]}
    expected = shapes.DICT(seen)["logits"].argmax(axis=1) - 1
    plain = action(trees, obs=tree(7)).tolist()
    assert action(model, obs=tree(7)).tolist() == expected.tolist() != plain


def test_a_tree_is_fed_by_the_names_of_its_leaves_in_whatever_order_it_comes(trees):
    expected = shapes.DICT(shapes.dict_observations(7))["logits"].argmax(axis=1) - 1
    assert action(trees, obs=tree(7)).tolist() == expected.tolist()


@given(st.integers(1, 6), st.integers(0, 5))
def test_rows_do_not_see_each_other(trees, rows, seed):
    order = np.random.default_rng(seed).permutation(rows)
    whole = tree(rows)

    def taken(part, at):
        if isinstance(part, dict):
            return {key: taken(inner, at) for key, inner in part.items()}
        if isinstance(part, list):
            return [taken(inner, at) for inner in part]
        return part[at]

    straight = action(trees, obs=whole)
    assert action(trees, obs=taken(whole, order)).tolist() == straight[order].tolist()
    for row in range(rows):
        alone = action(trees, obs=taken(whole, [row]))
        assert alone.tolist() == [straight[row]]


@pytest.mark.parametrize(
    ("space", "seen", "normaliser"),
    [
        (Box((4,), "float64", (None,) * 4, (None,) * 4), 1e300, None),
        (Box((4,), "float32", (None,) * 4, (None,) * 4), 3e38, 1e-300),
        (Box((4,), "float64", (None,) * 4, (None,) * 4), -1.7e308, 1.0),
    ],
)
def test_a_number_beyond_those_of_the_weights_is_refused(
    normalised, space, seen, normaliser
):
    normalisers = {}
    if normaliser is not None:
        mean, variance = (1.7e308,) * 4, (normaliser,) * 4
        normalisers = {"": Normaliser(mean, variance, epsilon=0.0)}
    model = described(normalised, observation_space=space, normalisers=normalisers)
    error = refusal(model, obs=np.full((1, 4), seen, space.dtype))
    assert isinstance(error, Rejected)
    assert "beyond the float32 of the weights" in str(error)


def test_what_is_clipped_may_be_as_large_as_it_likes(normalised):
    space = Box((4,), "float64", (None,) * 4, (None,) * 4)
    normalisers = {"": Normaliser((0.0,) * 4, (1.0,) * 4, clip=2.0)}
    model = described(normalised, observation_space=space, normalisers=normalisers)
    huge, two = (np.full((1, 4), number) for number in (1e308, 2.0))
    assert action(model, obs=huge).tolist() == action(model, obs=two).tolist()


# --- inputs of which no space is known -----------------------------------------------


def predictor(spec: TensorSpec, weights: bytes, out: TensorSpec) -> Model:
    policy = Policy("p.onnx", Signature((spec,), (out,)), Head.OUTPUT)
    manifest = Manifest(1, "Supervised", Family.SUPERVISED, {"policy": policy})
    return of(manifest, DIGEST, lambda _: weights)


def cast_to_float(dtype: int) -> bytes:
    return onnx_models.model(
        [helper.make_node("Cast", ["obs"], ["out"], to=TensorProto.FLOAT)],
        [value("obs", dtype, ["batch", 2])],
        [value("out", TensorProto.FLOAT, ["batch", 2])],
    ).SerializeToString()


def predicted(model, array):
    observed = model.single.observe(array, lambda leaf, _: leaf, field="inputs")
    return model.predict(observed)[0]


@pytest.mark.parametrize(
    ("code", "dtype", "fine", "beyond"),
    [
        (TensorProto.INT8, "int8", [-128, 127], [0, 128]),
        (TensorProto.UINT8, "uint8", [0, 255], [0, -1]),
        (TensorProto.BOOL, "bool", [0, 1], [0, 2]),
        (TensorProto.INT64, "int64", [-(2**63), 2**62], [2**63, 2**63]),
    ],
)
def test_an_integer_is_never_wrapped_around(code, dtype, fine, beyond):
    spec = TensorSpec("obs", dtype, (None, 2))
    out = TensorSpec("out", "float32", (None, 2))
    model = predictor(spec, cast_to_float(code), out)
    assert predicted(model, np.array([fine])).tolist() == [[float(n) for n in fine]]
    with pytest.raises(Rejected, match="must hold whole numbers from"):
        predicted(model, np.array([beyond]))


def test_an_axis_that_is_free_may_have_any_size_but_none():
    model = predictor(
        onnx_models.SEQUENCE.inputs[0],
        onnx_models.sequence_model(),
        onnx_models.SEQUENCE.outputs[0],
    )
    for length in (1, 5):
        assert predicted(model, np.ones((2, length, 3))).shape == (2, length, 3)
    for shape in [(2, 0, 3), (2**40, 0, 3), (0, 2, 3)]:
        with pytest.raises(Rejected, match=r"must have the shape \(any, any, 3\)"):
            predicted(model, np.ones(shape, "f4"))


def windowed() -> bytes:
    """Return weights that need three steps at least along their free axis."""
    return onnx_models.model(
        [
            helper.make_node("Slice", ["tokens", "from", "to", "axis"], ["begin"]),
            helper.make_node("Reshape", ["begin", "three"], ["scaled"]),
        ],
        [value("tokens", TensorProto.FLOAT, ["batch", "length", 3])],
        [value("scaled", TensorProto.FLOAT, ["batch", 3, 3])],
        [
            numpy_helper.from_array(np.array(numbers), name)
            for name, numbers in [
                ("from", [0]), ("to", [3]), ("axis", [1]), ("three", [-1, 3, 3]),
            ]
        ],
    ).SerializeToString()  # fmt: skip


def test_weights_that_cannot_take_an_axis_of_1_load_and_their_pace_is_unknown():
    out = TensorSpec("scaled", "float32", (None, 3, 3))
    model = predictor(onnx_models.SEQUENCE.inputs[0], windowed(), out)
    assert model.pace == UNKNOWN
    assert predicted(model, np.ones((2, 3, 3), "f4")).shape == (2, 3, 3)


# --- several requests at once --------------------------------------------------------


def turns_of(model, name, rows, step):
    """Return turns of a shape, as they are understood of a request."""
    seen = {
        "team": lambda: recurrent_bundles.team_seen(rows, step),
        "two states": lambda: vectors(rows, 3, seed=step),
        "recurrent": lambda: vectors(rows, 3, seed=step),
    }
    obs = seen.get(name, lambda: EVERY_SHAPE[name].observe(rows))()
    mask = None
    if name in {"recurrent", "dict"}:
        mask = np.eye(3)[np.arange(rows) % 3]
    if name == "multi discrete" and step % 2:
        mask = shapes.multi_discrete_mask(rows)
    request = ActionRequest(listed(obs), action_mask=mask)
    if name == "agents":
        request.env_defined_actions = {"listener_1": np.full((rows, 2), 0.5)}
        request.obs.pop(["speaker_0", "listener_0"][step % 2])
    return understood(model, request, lambda leaf, _: leaf).turns


def listed(part):
    if isinstance(part, dict):
        return {key: listed(inner) for key, inner in part.items()}
    return [listed(inner) for inner in part] if isinstance(part, tuple) else part


def assert_acted_alike(found, expected):
    assert list(found) == list(expected)
    for agent, acted in expected.items():
        exactly = acted.actions.dtype.kind != "f"
        tolerance = 0 if exactly else 1e-5
        assert found[agent].actions.dtype == acted.actions.dtype
        np.testing.assert_allclose(
            found[agent].actions, acted.actions, rtol=tolerance, atol=tolerance
        )
        assert found[agent].outputs.keys() == acted.outputs.keys()
        for name, output in acted.outputs.items():
            np.testing.assert_allclose(
                found[agent].outputs[name], output, rtol=1e-5, atol=1e-5
            )


ACTORS = {name: EVERY_SHAPE[name].write for name in ACTING} | {
    "team": recurrent_bundles.team_policy,
    "two states": recurrent_bundles.two_states_policy,
}
DRAWN = set(ACTING) - {"agents"}


@pytest.mark.parametrize("name", ACTORS)
def test_many_requests_together_are_answered_as_one_by_one(tmp_path, name):
    model = load(ACTORS[name](tmp_path / "bundle"))
    asked = [turns_of(model, name, rows, rows) for rows in (1, 3, 1, 5, 2)]
    together = model.act_together([(turns, None) for turns in asked])
    for turns, found in zip(asked, together, strict=True):
        assert list(found) == list(turns)
        assert_acted_alike(found, model.act(turns))


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_each_request_is_sampled_by_a_generator_of_its_own(tmp_path, name):
    """What one draws does not change with who else asks, or with what order."""
    model = load(ACTORS[name](tmp_path / "bundle"))
    asked = [turns_of(model, name, 4, step) for step in range(3)]
    seeds = (7, None, 7)

    def generators():
        return [None if s is None else np.random.default_rng(s) for s in seeds]

    together = model.act_together(list(zip(asked, generators(), strict=True)))
    for turns, random, found in zip(asked, generators(), together, strict=True):
        assert_acted_alike(found, model.act(turns, random))


def test_the_hidden_state_of_each_request_is_its_own(tmp_path):
    model = load(shapes.recurrent_policy(tmp_path))
    hidden = [np.full((1, 1, 4), part, "f4") for part in (-0.5, 0.0, 0.5)]
    obs = vectors(1, 3)
    asked = [{SINGLE: Turn({"": obs}, 1, hidden={"h": h})} for h in hidden]
    together = model.act_together([(turns, None) for turns in asked])
    for h, found in zip(hidden, together, strict=True):
        expected = shapes.RECURRENT(obs, h)[1]
        assert np.allclose(found[SINGLE].outputs["h_next"], expected, atol=1e-5)


def test_nobody_asks_nothing(trees):
    assert trees.act_together([]) == []


# --- whose fault it is ---------------------------------------------------------------


def test_numbers_that_the_weights_overflow_on_are_the_fault_of_who_sent_them():
    error = refusal(exact("discrete"), obs=np.full((1, 4), 3e38, "f4"))
    assert type(error) is NotFinite
    assert error.field == "obs"


def test_a_prediction_that_overflows_is_the_fault_of_who_asked(tmp_path):
    model = load(bundles.regressor(tmp_path))
    blind = _Overflowing(model.single.runtime)
    single = evolve(model.single, runtime=blind)
    model = evolve(model, agents={SINGLE: single})
    with pytest.raises(NotFinite) as caught:
        predicted(model, np.ones((1, 3), "f4"))
    assert caught.value.field == "inputs"


class _Overflowing:
    """Weights that answer all but zeros with a number that is not finite."""

    def __init__(self, runtime):
        self.runtime = runtime

    def run(self, inputs):
        outputs = self.runtime.run(inputs)
        beyond = any(array.any() for array in inputs.values())
        return {n: a + np.inf if beyond else a for n, a in outputs.items()}


@pytest.mark.parametrize("output", ["logits", "h_next"])
def test_weights_that_answer_zeros_with_no_number_are_unavailable(tmp_path, output):
    """Whether what fails is what the head reads, or what the next step depends on."""
    broken = recurrent_with(output, np.nan)
    model = load(shapes.recurrent_policy(tmp_path, network=broken))
    error = refusal(model, obs=vectors(1, 3))
    assert type(error) is Unavailable
    assert "weights answered" in str(error)


def recurrent_with(output, number):
    """Return weights of which one output is never a number."""
    weights = shapes.Recurrent().matrices
    matrix = {"logits": "c", "h_next": "a"}[output]

    class Broken(shapes.Recurrent):
        @property
        def matrices(self):
            return {**weights, matrix: weights[matrix] * np.float32(number)}

    return Broken()


# --- the decoder ---------------------------------------------------------------------


def test_what_a_latent_policy_says_is_decoded(latent):
    inputs = vectors(5, 4)
    results, outputs = latent.predict({"": inputs})
    expected = shapes.ENCODER({"obs": inputs})["latent"]
    assert np.allclose(outputs["latent"], expected, atol=1e-5)
    decoded = shapes.DECODER({"latent": expected})["boxes"]
    assert np.allclose(results, decoded, rtol=1e-4, atol=1e-5)


def test_a_decoder_that_answers_with_no_number_is_no_answer(latent):
    blind = evolve(latent, decoder=_Blind(latent.decoder.signature))
    with pytest.raises(Unavailable, match="decoder"):
        blind.predict({"": vectors(1, 4)})


class _Blind:
    """A decoder, whose every number is none."""

    def __init__(self, signature):
        self.signature = signature

    def run(self, inputs):
        (rows,) = {len(array) for array in inputs.values()}
        return {"boxes": np.full((rows, 6), np.nan)}


# --- what it is made of --------------------------------------------------------------


def test_a_model_says_what_runs_it_once_for_all_its_files(tmp_path, latent):
    several = load(shapes.multi_agent_policy(tmp_path))
    for model in (several, latent):
        assert model.runtime.startswith("onnxruntime ")
        assert "," not in model.runtime
        assert model.device == "cpu"
        assert model.pace != UNKNOWN
        assert model.pace.seconds(1) > 0


def test_files_of_several_kinds_are_all_named(latent):
    other = _Blind(latent.decoder.signature)
    other.name, other.device = "another 1.0", "tpu:0"
    mixed = evolve(latent, decoder=other)
    assert mixed.runtime == f"another 1.0, {latent.runtime}"
    assert mixed.device == "cpu, tpu:0"


def test_every_file_of_weights_is_closed(tmp_path):
    model = load(shapes.multi_agent_policy(tmp_path))
    model.close()
    for agent, obs in shapes.meeting(1).items():
        assert isinstance(refusal(model, obs={agent: obs}), Unavailable)


def test_what_is_loaded_already_is_closed_when_the_rest_cannot_be(tmp_path):
    folder = shapes.multi_agent_policy(tmp_path)
    opened = []

    class Noting:
        def __init__(self, runtime):
            self.runtime, self.closed = runtime, False

        def close(self):
            self.closed = True

    def loader(signature, weights):
        if opened:
            raise Rejected("The second cannot be loaded.")
        opened.append(Noting(RUNTIMES.load("a.onnx", signature, weights)))
        return opened[0]

    read = partial(_content, folder)
    with pytest.raises(Rejected, match="second"):
        assemble(Runtimes({".onnx": loader}), check(folder), DIGEST, read)
    assert [runtime.closed for runtime in opened] == [True]


def test_a_model_that_is_held_stays_open_though_its_trace_cannot_be_replayed(tmp_path):
    folder = bundles.cartpole(tmp_path)
    obs = bundles.observations(1, 4)
    bundles.write_golden(folder, {"obs": obs, "outputs/logits": obs})
    blobs, held = MemoryBlobStore(), load(folder)
    with pytest.raises(Rejected, match="must hold obs and action"):
        load_stored(blobs, RUNTIMES, blobs.put(folder), held)
    assert len(action(held, obs=obs)) == 1


def _content(folder, name):
    return (folder / name).read_bytes()


def test_weights_of_an_unknown_kind_are_refused_with_the_kinds_that_are_known():
    with pytest.raises(Rejected, match=r"use a file whose name ends in \.onnx"):
        RUNTIMES.load("policy.xyz", onnx_models.POLICY, b"")


# --- the four keys that the first clients always send --------------------------------


@pytest.mark.parametrize(
    ("write", "seen"),
    [
        (bundles.cartpole, bundles.observations(1, 4)),
        (shapes.scaled_policy, vectors(1, 3)),
        (shapes.recurrent_policy, vectors(1, 3)),
        (shapes.multi_binary_policy, vectors(1, 4)),
        (shapes.dict_policy, tree(1)),
        (shapes.multi_agent_policy, shapes.meeting(1)),
    ],
)
def test_the_keys_of_the_first_clients_are_accepted_with_nulls(tmp_path, write, seen):
    model = load(write(tmp_path))
    nulls = {"hidden_state": None, "action_mask": None, "batch_size": 1}
    assert set(ask(model, obs=seen, **nulls)) <= {"action", "hidden_state"}


def test_a_small_request_cannot_ask_for_a_huge_answer(tmp_path):
    """Every row of a recurrent policy is answered with all that it remembers."""
    wide = shapes.Recurrent(observed=1, width=4096)
    folder = tmp_path / "wide"
    shapes.recurrent_policy(folder)
    described = bundles.manifest(folder) | wide.manifest()
    bundles.write_manifest(folder, described)
    (folder / "policy.onnx").write_bytes(wide.onnx())
    (folder / "golden.npz").unlink()
    model = load(folder)
    most = MOST_ANSWER_BYTES // (4 * 4096 + 4 * 3)
    rows = np.zeros((most + 1, 1), "int8")
    with pytest.raises(TooLarge, match=f"takes {most} at most") as caught:
        ask(model, obs=rows)
    assert caught.value.field == "obs"
    assert ask(model, obs=rows[:3])["hidden_state"]["h"].shape == (3, 1, 4096)
