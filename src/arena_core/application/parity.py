"""The parity gate: the served path must answer as the code that trained it did.

A golden trace holds inputs and what training answered to them.  They are replayed
through the very functions that answer requests, wire encoding included, as a caller
would who plays an episode: a hidden state is handed back from step to step.  The raw
outputs of the weights are compared as well where the trace has them, which finds what
an argmax would hide.  A batch is replayed a second time with its rows in reverse,
which finds rows that see each other, and a third time with a request for each row, all
answered together, as those of many callers are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from attrs import frozen

from arena_core.application import golden, inference, npy
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.application.inference import json_of, unwatched
from arena_core.application.models import SINGLE, Model
from arena_core.application.observations import Arrays
from arena_core.application.plain_rows import PlainRows
from arena_core.application.ports import Array
from arena_core.application.spaces import unflatten
from arena_core.domain.errors import Rejected
from arena_core.domain.parity import Difference, Parity, Verdict

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-5
"""Another runtime may differ from training in the last digits, no more.  Integers
must be equal."""

UNCHECKED = Parity(Verdict.UNCHECKED)


@frozen(eq=False)
class _Comparison:
    output: str
    expected: Array
    served: Array


@frozen(eq=False)
class _Served:
    """What a step was answered with."""

    comparisons: Sequence[_Comparison]
    hidden_state: Any = None
    """As it came over the wire."""


def check(model: Model, trace: GoldenTrace | None) -> Parity:
    """Replay `trace`; return the verdict, with the first difference if there is one.

    Raises `Rejected` for a trace that does not go with the model.
    """
    if trace is None:
        return UNCHECKED
    compared = 0
    for case in trace.cases:
        for again, order in enumerate(_orders(case)):
            for comparison, where in _replay(model, case, order):
                compared += 0 if again else comparison.expected.size
                difference = _difference(comparison, where, order)
                if difference is not None:
                    return Parity(Verdict.FAILED, compared, difference)
        for comparison, where in _apart(model, case):
            difference = _difference(comparison, where, np.arange(case.steps[0].rows))
            if difference is not None:
                return Parity(Verdict.FAILED, compared, difference)
    return Parity(Verdict.PASSED, compared)


def _orders(case: Case) -> Iterator[Array]:
    """Yield the orders of the rows in which a case is replayed."""
    rows = np.arange(max(step.rows for step in case.steps))
    yield rows
    if len(rows) > 1:
        yield rows[::-1]


def _replay(
    model: Model, case: Case, order: Array
) -> Iterator[tuple[_Comparison, str]]:
    """Yield what was recorded beside what is served; raw outputs come first."""
    answer = _action if model.acts else _results
    hidden_state = None
    for number, step in enumerate(case.steps):
        where = f"{case.name}/step{number}"
        permuted = {
            name: a[order] for name, a in _of_length(step, order, where).items()
        }
        served = answer(model, Step(permuted), hidden_state, where)
        hidden_state = served.hidden_state
        for comparison in served.comparisons:
            yield comparison, where


def _of_length(step: Step, order: Array, where: str) -> Mapping[str, Array]:
    if step.rows != len(order):
        raise _unfit(where, "must have as many rows as the steps before it")
    return step.recorded


def _apart(model: Model, case: Case) -> Iterator[tuple[_Comparison, str]]:
    """Yield the actions of a first step whose rows are requests, answered together."""
    if not model.acts:
        return
    step, where = case.steps[0], f"{case.name}/step0"
    alone = [
        Step({name: a[row : row + 1] for name, a in step.recorded.items()}).by_agent()
        for row in range(step.rows)
    ]
    answers = _answered([_body(model, own, None, where) for own in alone], model)
    for agent, own in step.by_agent().items():
        rows = []
        for answer in answers:
            leaf = answer["action"][agent] if agent else answer["action"]
            rows.append(npy.from_base64(leaf, field="action"))
        at = f"agents/{agent}/" if agent else ""
        yield _Comparison(f"{at}action", own["action"], np.concatenate(rows)), where


def _answered(bodies: Sequence[bytes], model: Model) -> list[Any]:
    """Return what requests that have come at the same time are answered."""
    plain = PlainRows.of(model)
    calls = [] if plain is None else [plain.read(body) for body in bodies]
    quick = [call for call in calls if call is not None]
    if plain is not None and len(quick) == len(bodies):
        answers = plain.answer(quick, unwatched)
    else:
        verb = inference.GET_ACTION
        read = [verb.read(model, body, inference.GREEDY, None) for body in bodies]
        answers = verb.answer(model, read, unwatched)
    return [msgspec.json.decode(json_of(answer)) for answer in answers]


# --- one step ------------------------------------------------------------------------


def _action(model: Model, step: Step, hidden_state: Any, where: str) -> _Served:  # noqa: ANN401
    recorded = step.by_agent()
    body = _body(model, recorded, hidden_state, where)
    asked = inference.read_action_request(model, body)
    acted = model.act(asked.turns)
    answer = msgspec.json.decode(inference.action_answer(model, asked, acted))
    comparisons: list[_Comparison] = []
    for agent, own in recorded.items():
        at = f"agents/{agent}/" if agent else ""
        comparisons += _raw(own, acted[agent].outputs, at, where)
    for agent, own in recorded.items():
        at = f"agents/{agent}/" if agent else ""
        leaf = answer["action"][agent] if agent else answer["action"]
        comparisons.append(_compared(f"{at}action", own["action"], leaf))
    return _Served(comparisons, answer.get("hidden_state"))


def _results(model: Model, step: Step, hidden_state: object, where: str) -> _Served:
    del hidden_state
    own = step.by_agent().get(SINGLE, {})
    if "results" not in own:
        raise _unfit(where, "must hold inputs and results")
    inputs = _tree(model, SINGLE, own, "inputs", where)
    body = msgspec.json.encode({"inputs": inputs})
    results, outputs = model.predict(inference.read_predict_request(model, body))
    answer = msgspec.json.decode(inference.predict_answer(results, 0.0))
    return _Served(
        [
            *_raw(own, outputs, "", where),
            _compared("results", own["results"], answer["results"]),
        ]
    )


def _body(
    model: Model,
    recorded: Mapping[str, Arrays],
    hidden_state: object,
    where: str,
) -> bytes:
    """Return the request that a caller would have sent."""
    unknown = recorded.keys() - model.agents.keys()
    if unknown or not all("action" in own for own in recorded.values()):
        raise _unfit(where, "must hold obs and action, of agents that there are")

    def told(what: str) -> Any:  # noqa: ANN401
        leaves = {
            agent: npy.to_base64(own[what])
            for agent, own in recorded.items()
            if what in own
        }
        return leaves if model.manifest.is_multi_agent else leaves.get(SINGLE)

    trees = {
        agent: _tree(model, agent, own, "obs", where) for agent, own in recorded.items()
    }
    return msgspec.json.encode(
        {
            "obs": trees if model.manifest.is_multi_agent else trees[SINGLE],
            "action_mask": told("action_mask"),
            "env_defined_actions": told("env_defined_action"),
            "hidden_state": hidden_state,
        }
    )


def _tree(model: Model, agent: str, own: Arrays, what: str, where: str) -> object:
    """Return the observation as it is sent."""
    space = model.agents[agent].policy.observation_space
    arrays = golden.leaves(own, what)
    leaves = {path: npy.to_base64(array) for path, array in arrays.items()}
    try:
        return leaves[""] if space is None else unflatten(leaves, space)
    except KeyError as error:
        raise _unfit(where, f"must hold {what}, every part of it") from error


def _raw(
    own: Arrays, outputs: Mapping[str, Array], at: str, where: str
) -> Iterator[_Comparison]:
    for name, values in own.items():
        output = name.removeprefix("outputs/")
        if output == name:
            continue
        if output not in outputs:
            raise _unfit(where, f"names the output {output}, which the weights lack")
        yield _Comparison(f"{at}{name}", values, outputs[output])


def _compared(output: str, expected: Array, leaf: str) -> _Comparison:
    return _Comparison(output, expected, npy.from_base64(leaf, field=output))


def _unfit(where: str, problem: str) -> Rejected:
    return Rejected(f"golden.npz: {where} {problem}.", field="golden.npz")


# --- what differs --------------------------------------------------------------------


def _difference(comparison: _Comparison, where: str, order: Array) -> Difference | None:
    expected, served = comparison.expected, comparison.served
    if expected.shape != served.shape:
        # An index that exists on one side only.
        pairs = zip(expected.shape, served.shape, strict=False)
        index = tuple(0 if a == b else min(a, b) for a, b in pairs)
        return Difference(where, comparison.output, index, 0.0, None)
    equal = _equal(expected, served)
    if equal.all():
        return None
    at = tuple(int(i) for i in np.argwhere(~equal)[0])
    wanted, got = float(expected[at]), float(served[at])
    if not np.isfinite(wanted):
        raise _unfit(
            where,
            f"says that a number in {comparison.output} is not finite: record what is",
        )
    return Difference(
        where,
        comparison.output,
        (int(order[at[0]]), *at[1:]),
        wanted,
        got if np.isfinite(got) else None,
    )


def _equal(expected: Array, served: Array) -> Array:
    if expected.dtype.kind in "biu":
        return np.equal(expected, served)
    with np.errstate(over="ignore"):  # of the distance between two huge numbers
        return np.isclose(
            served, expected, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE
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
