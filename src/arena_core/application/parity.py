"""The parity gate: the served path must answer as the code that trained it did.

A golden trace holds inputs and what training answered to them.  They are replayed
through the very functions that answer requests, wire encoding included; the raw
outputs of the weights are compared as well where the trace has them, which finds
what an argmax would hide.
"""

import json

import numpy as np
from attrs import frozen

from arena_core.application import inference, npy
from arena_core.application.golden import GoldenTrace, Step
from arena_core.application.inference import Model
from arena_core.application.ports import Array
from arena_core.domain.deployment import Difference, Parity, Verdict
from arena_core.domain.errors import Rejected

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-5
"""Another runtime may differ from training in the last digits, no more.  Integers
must be equal."""

UNCHECKED = Parity(Verdict.UNCHECKED)


@frozen
class _Comparison:
    output: str
    expected: Array
    served: Array


def check(model: Model, trace: GoldenTrace | None) -> Parity:
    """Replay `trace`; return the verdict, with the first difference if there is one."""
    if trace is None:
        return UNCHECKED
    compared = 0
    for case in trace.cases:
        for number, step in enumerate(case.steps):
            where = f"{case.name}/step{number}"
            for comparison in _replay(model, step, where):
                difference = _difference(comparison, where)
                compared += comparison.expected.size
                if difference is not None:
                    return Parity(Verdict.FAILED, compared, difference)
    return Parity(Verdict.PASSED, compared)


def _replay(model: Model, step: Step, where: str) -> list[_Comparison]:
    """Return what was recorded beside what is served; raw outputs come first."""
    recorded = step.recorded
    asked, answered = ("obs", "action") if model.acts else ("inputs", "results")
    if asked not in recorded or answered not in recorded:
        raise Rejected(
            f"golden.npz: {where} must hold {asked} and {answered}.", field="golden.npz"
        )
    leaf = npy.to_base64(recorded[asked])
    raw = model.outputs(model.observe(leaf, name=asked))
    comparisons = [
        _Comparison(name, values, _named(raw, name.removeprefix("outputs/"), where))
        for name, values in recorded.items()
        if name.startswith("outputs/")
    ]
    body = {asked: leaf}
    if "action_mask" in recorded:
        body["action_mask"] = npy.to_base64(recorded["action_mask"])
    answer = inference.get_action if model.acts else inference.predict
    served = json.loads(answer(model, json.dumps(body).encode()))[answered]
    comparisons.append(
        _Comparison(
            answered, recorded[answered], npy.from_base64(served, field=answered)
        )
    )
    return comparisons


def _named(outputs: dict[str, Array], name: str, where: str) -> Array:
    if name not in outputs:
        raise Rejected(
            f"golden.npz: {where} names the output {name}, which the weights lack.",
            field="golden.npz",
        )
    return outputs[name]


def _difference(comparison: _Comparison, where: str) -> Difference | None:
    expected, served = comparison.expected, comparison.served
    if expected.shape != served.shape:
        # An index that exists on one side only.
        pairs = zip(expected.shape, served.shape, strict=False)
        index = tuple(0 if a == b else min(a, b) for a, b in pairs)
        return Difference(where, comparison.output, index, 0.0, None)
    exact = expected.dtype.kind in "biu"
    equal = (
        expected == served
        if exact
        else np.isclose(
            served, expected, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE
        )
    )
    if equal.all():
        return None
    index = tuple(int(i) for i in np.argwhere(~equal)[0])
    got = float(served[index])
    return Difference(
        where,
        comparison.output,
        index,
        float(expected[index]),
        got if np.isfinite(got) else None,
    )


def sentence(parity: Parity) -> str:
    """Return why the gate was not passed, for the deployment's reason."""
    difference = parity.difference
    if difference is None:
        return "The golden trace was not answered as in training."
    served = "missing or not finite"
    if difference.served is not None:
        served = f"{difference.served:g}"
    return (
        f"Parity failed: {difference.output} of {difference.case} at index "
        f"{difference.index} is {served}, in training it was {difference.expected:g}."
    )
