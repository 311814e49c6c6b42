"""The parity gate lets pass what answers as in training, and nothing else."""

from functools import partial

import numpy as np
import pytest
from onnx import TensorProto, helper

from arena_core.application import golden
from arena_core.application.parity import UNCHECKED, sentence
from arena_core.domain.deployment import Status
from arena_core.domain.errors import Rejected, Unavailable
from arena_core.domain.parity import Difference, Parity, Verdict
from unit.models import check
from unit.scenes import key_of

import bundles
import shapes
from onnx_models import model, value

WRITERS = {
    "cartpole": bundles.cartpole,
    "normalised": partial(bundles.cartpole, normalised=True),
    "masked": partial(bundles.cartpole, masked=True),
    "pendulum": bundles.pendulum,
    "regressor": bundles.regressor,
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cartpole", 8 * (2 + 1)),
        ("normalised", 8 * (2 + 1)),
        ("masked", 8 * (2 + 1)),
        ("pendulum", 8),
        ("regressor", 8 * 2),
    ],
)
def test_what_answers_as_in_training_passes_with_every_value_compared(
    tmp_path, name, values
):
    assert check(WRITERS[name](tmp_path)) == Parity(Verdict.PASSED, values)


@pytest.mark.parametrize("name", WRITERS)
def test_without_a_trace_nothing_is_said_to_be_checked(tmp_path, name):
    folder = WRITERS[name](tmp_path, with_golden=False)
    assert check(folder) == UNCHECKED


@pytest.mark.parametrize("name", ["cartpole", "normalised", "masked"])
def test_perturbed_weights_fail_at_the_first_value_that_differs(tmp_path, name):
    folder = WRITERS[name](tmp_path)
    bundles.write_weights(folder, bundles.CARTPOLE.perturbed(1e-2))
    found = check(folder)
    assert found.verdict is Verdict.FAILED
    difference = found.difference
    where = (difference.case, difference.output, difference.index)
    assert where == ("case0/step0", "outputs/logits", (0, 0))
    assert found.values_compared == 2


def test_the_difference_holds_what_was_expected_and_what_was_served(tmp_path):
    folder, other = bundles.cartpole(tmp_path), bundles.CARTPOLE.perturbed(1e-2)
    bundles.write_weights(folder, other)
    observed = bundles.observations(1, 4)
    difference = check(folder).difference
    assert difference.expected == pytest.approx(bundles.CARTPOLE(observed)[0, 0])
    assert difference.served == pytest.approx(other(observed)[0, 0], rel=1e-5)


def test_a_dropped_normaliser_fails(tmp_path):
    folder = bundles.cartpole(tmp_path, normalised=True)
    described = bundles.manifest(folder) | {"normaliser": None}
    bundles.write_manifest(folder, described)
    assert check(folder).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 0.5}, {"clip": 0.5}, {"clip": None}, {"mean": [0.0] * 4}]
)
def test_a_normaliser_with_one_other_number_fails(tmp_path, wrong):
    folder = bundles.cartpole(tmp_path, normalised=True)
    described = bundles.manifest(folder)
    described["normaliser"] = bundles.NORMALISER | wrong
    bundles.write_manifest(folder, described)
    assert check(folder).verdict is Verdict.FAILED


def test_actions_in_another_order_fail_though_no_output_was_recorded(tmp_path):
    folder = bundles.cartpole(tmp_path)
    cases = [bundles.observations(rows, 4) for rows in bundles.BATCHES]
    trained = [bundles.CARTPOLE(obs).argmax(axis=1) for obs in cases]
    bundles.write_golden(
        folder,
        *({"obs": o, "action": a} for o, a in zip(cases, trained, strict=True)),
    )
    assert check(folder).verdict is Verdict.PASSED
    bundles.write_weights(folder, bundles.CARTPOLE.swapped())
    difference = check(folder).difference
    assert difference == Difference(
        "case0/step0", "action", (0,), float(trained[0][0]), float(1 - trained[0][0])
    )


def test_the_first_of_many_rows_that_differs_is_named(tmp_path):
    folder, obs = bundles.cartpole(tmp_path), bundles.observations(7, 4)
    action = bundles.CARTPOLE(obs).argmax(axis=1)
    right = {"obs": obs, "action": action.copy()}
    action[4:6] = 1 - action[4:6]
    bundles.write_golden(folder, right, {"obs": obs, "action": action})
    found = check(folder)
    assert (found.difference.case, found.difference.index) == ("case1/step0", (4,))
    assert found.values_compared == 14


def test_a_mask_of_the_trace_is_enforced(tmp_path):
    folder, obs = bundles.cartpole(tmp_path), bundles.observations(7, 4)
    greedy = bundles.CARTPOLE(obs).argmax(axis=1)
    mask = greedy[:, None] != np.arange(2)
    recorded = {"obs": obs, "action_mask": mask, "action": 1 - greedy}
    bundles.write_golden(folder, recorded)
    assert check(folder).verdict is Verdict.PASSED
    bundles.write_golden(folder, recorded | {"action": greedy})
    difference = check(folder).difference
    assert (difference.output, difference.index) == ("action", (0,))
    assert difference.served == 1 - difference.expected


def test_actions_leave_their_box_in_training_and_must_be_recorded_clipped(tmp_path):
    folder, obs = bundles.pendulum(tmp_path), bundles.observations(7, 3)
    raw = bundles.PENDULUM(obs)
    (outside,) = np.nonzero(np.abs(raw[:, 0]) > 2)
    assert 0 < len(outside) < 7
    bundles.write_golden(folder, {"obs": obs, "action": raw})
    difference = check(folder).difference
    assert difference.index == (outside[0], 0)
    assert difference.served == np.sign(difference.expected) * 2


@pytest.mark.parametrize(
    ("shape", "index"), [((7, 1), (0,)), ((7, 2, 1), (0, 1)), ((7, 2), (0, 1))]
)
def test_answers_of_another_shape_fail_at_an_index_that_one_side_lacks(
    tmp_path, shape, index
):
    writer, answer = (
        (bundles.cartpole, np.zeros(shape, np.int64))
        if shape == (7, 1)
        else (bundles.pendulum, np.zeros(shape, np.float32))
    )
    folder = writer(tmp_path)
    width = 4 if shape == (7, 1) else 3
    bundles.write_golden(
        folder, {"obs": bundles.observations(7, width), "action": answer}
    )
    found = check(folder)
    assert found.difference == Difference("case0/step0", "action", index, 0.0, None)
    assert "is missing or not finite" in sentence(found)


def test_the_last_digits_may_differ_but_no_digit_of_an_integer(tmp_path):
    folder, obs = bundles.regressor(tmp_path), bundles.observations(1, 3)
    trained = bundles.REGRESSOR(obs)
    for off, verdict in [(5e-5, Verdict.PASSED), (1e-3, Verdict.FAILED)]:
        results = trained * np.float32(1 + off)
        bundles.write_golden(folder, {"inputs": obs, "results": results})
        assert check(folder).verdict is verdict


def test_a_trace_that_names_an_output_the_weights_lack_is_refused(tmp_path):
    folder, obs = bundles.cartpole(tmp_path), bundles.observations(1, 4)
    bundles.write_golden(
        folder, {"obs": obs, "action": np.zeros(1, int), "outputs/value": obs[:, 0]}
    )
    with pytest.raises(Rejected, match="names the output value, which the weights"):
        check(folder)


@pytest.mark.parametrize(
    ("writer", "recorded", "wanted"),
    [
        (bundles.cartpole, ("inputs", "results"), "obs and action"),
        (bundles.cartpole, ("obs", "outputs/logits"), "obs and action"),
        (bundles.regressor, ("obs", "action"), "inputs and results"),
    ],
)
def test_a_trace_of_another_call_is_refused(tmp_path, writer, recorded, wanted):
    folder = writer(tmp_path)
    array = bundles.observations(1, 4)
    bundles.write_golden(folder, dict.fromkeys(recorded, array))
    with pytest.raises(Rejected, match=f"case0/step0 must hold {wanted}"):
        check(folder)


def two_headed(folder, *, trained_value):
    """Write a policy whose second output is the logarithm of what it observes."""
    bundles.cartpole(folder)
    described = bundles.manifest(folder)
    described["signature"]["outputs"].append(
        {"name": "value", "dtype": "float32", "shape": [None, 4]}
    )
    described["signature"]["outputs"][0]["shape"] = [None, 2]
    bundles.write_manifest(folder, described)
    network = bundles.CARTPOLE.onnx(answer="logits")
    graph = model([], [], []).FromString(network)
    graph.graph.node.append(helper.make_node("Log", ["obs"], ["value"]))
    graph.graph.output.append(value("value", TensorProto.FLOAT, ["batch", 4]))
    (folder / "policy.onnx").write_bytes(graph.SerializeToString())
    obs = np.array([[1, 2, -1, 4]], "f4")
    bundles.write_golden(
        folder,
        {
            "obs": obs,
            "outputs/value": np.array([[0, np.log(2), trained_value, 0]], "f4"),
            "action": bundles.CARTPOLE(obs).argmax(axis=1),
        },
    )
    return folder


def test_a_served_value_that_is_not_finite_is_a_difference_without_a_number(tmp_path):
    found = check(two_headed(tmp_path, trained_value=5.0))
    assert found.difference == Difference(
        "case0/step0", "outputs/value", (0, 2), 5.0, None
    )
    assert sentence(found) == (
        "Parity failed: outputs/value of case0/step0 at index (0, 2) is missing or not "
        "finite, in training it was 5."
    )


def test_an_answer_that_is_not_finite_is_no_answer(tmp_path):
    folder = bundles.cartpole(tmp_path)
    bundles.write_weights(folder, bundles.CARTPOLE.perturbed(np.inf))
    with pytest.raises(Unavailable, match="not finite"):
        check(folder)


def test_the_verdict_is_kept_in_the_log_and_shown(scene):
    folder = scene.bundle()
    bundles.write_weights(folder, bundles.CARTPOLE.perturbed(1e-2))
    failed = scene.live(scene.agent(bundle=folder))
    (checked,) = [
        e.data
        for e in scene.use.audit.timeline(failed.id)
        if e.name == "deployment.parity_checked"
    ]
    assert checked.digest == failed.checkpoint.digest
    assert checked.parity == check(folder)
    assert failed.deployment.parity == checked.parity
    assert failed.deployment.status is Status.FAILED
    assert failed.deployment.reason == sentence(checked.parity)
    difference = checked.parity.difference
    assert failed.deployment.reason == (
        f"Parity failed: outputs/logits of case0/step0 at index (0, 0) is "
        f"{difference.served:g}, in training it was {difference.expected:g}."
    )


def test_a_bundle_without_a_trace_connects_and_says_that_it_is_unchecked(scene):
    live = scene.live(scene.agent(bundle=scene.bundle(with_golden=False)))
    assert live.deployment.connected
    assert live.deployment.parity == UNCHECKED


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_trace_of_numbers_that_are_not_finite_is_refused(tmp_path, number):
    folder, obs = bundles.cartpole(tmp_path), bundles.observations(1, 4)
    recorded = {"obs": obs, "action": bundles.CARTPOLE(obs).argmax(axis=1)}
    logits = np.full((1, 2), number, "f4")
    bundles.write_golden(folder, recorded | {"outputs/logits": logits})
    with pytest.raises(Rejected, match=r"case0/step0 .* outputs/logits is not finite"):
        check(folder)


def test_numbers_that_are_too_far_apart_to_be_subtracted_differ(tmp_path):
    folder, obs = bundles.regressor(tmp_path), bundles.observations(1, 3)
    bundles.write_golden(folder, {"inputs": obs, "results": np.full((1, 2), -3e38)})
    bundles.write_weights(folder, _enormous())
    difference = check(folder).difference
    assert (difference.expected, difference.index) == (-3e38, (0, 0))
    assert difference.served > 1e38


def _enormous():
    weights = {n: np.zeros_like(w) for n, w in bundles.REGRESSOR.weights.items()}
    return bundles.Network(weights | {"b1": np.full(2, 3e38, "f4")})


def test_a_trace_whose_steps_differ_in_their_rows_is_refused(tmp_path):
    folder = shapes.recurrent_policy(tmp_path)
    steps = list(shapes.episode(shapes.RECURRENT, 2))
    steps[2] = {name: array[:1] for name, array in steps[2].items()}
    shapes._write_trace(folder, [steps])
    with pytest.raises(Rejected, match="case0/step2 must have as many rows as"):
        check(folder)


def _trace(folder):
    return (folder / "golden.npz").read_bytes()


@pytest.mark.parametrize(
    ("write", "left_out"),
    [
        (shapes.dict_policy, "obs/inner/1"),
        (shapes.tuple_policy, "obs/1"),
        (shapes.recurrent_policy, "obs"),
        (shapes.latent_policy, "inputs"),
    ],
)
def test_a_trace_without_a_part_of_its_observations_is_refused(
    tmp_path, write, left_out
):
    folder = write(tmp_path)
    what, _, _ = left_out.partition("/")
    step = golden.read(_trace(folder)).cases[0].steps[0].recorded
    kept = {name: array for name, array in step.items() if name != left_out}
    kept.setdefault(f"{what}/other", np.zeros((1, 1)))
    bundles.write_golden(folder, kept)
    with pytest.raises(Rejected, match=f"case0/step0 must hold {what}, every part"):
        check(folder)


@pytest.mark.parametrize(
    ("write", "recorded"),
    [
        (shapes.multi_agent_policy, ("obs", "action")),
        (shapes.multi_agent_policy, ("agents/other/obs", "agents/other/action")),
        (
            shapes.multi_agent_policy,
            ("agents/speaker_0/obs", "agents/speaker_0/results"),
        ),
        (bundles.cartpole, ("agents/speaker_0/obs", "agents/speaker_0/action")),
    ],
)
def test_a_trace_of_other_agents_is_refused(tmp_path, write, recorded):
    folder = write(tmp_path)
    bundles.write_golden(folder, dict.fromkeys(recorded, np.zeros((1, 3))))
    with pytest.raises(Rejected, match="obs and action, of agents that there are"):
        check(folder)


def test_what_is_loaded_is_closed_when_its_trace_cannot_be_replayed(scene):
    folder = scene.bundle()
    bundles.write_golden(folder, {"obs": np.zeros((1, 4)), "outputs/x": np.zeros(1)})
    view = scene.live(scene.agent(bundle=folder))
    assert view.deployment.status is Status.FAILED
    assert "must hold obs and action" in view.deployment.reason
    assert scene.registry.live(key_of(view)) is None


def test_a_verdict_without_a_difference_is_told_plainly():
    plain = "The golden trace was not answered as in training."
    assert sentence(Parity(Verdict.FAILED)) == plain
