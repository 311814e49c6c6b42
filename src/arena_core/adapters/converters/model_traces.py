"""Golden traces of models that are functions of arrays."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, cast

from attrs import evolve, frozen

from arena_core.adapters.converters import computed_traces
from arena_core.adapters.converters.networks import Network
from arena_core.application import golden
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.application.ports import Array, Tensors
from arena_core.domain.checkpoint import Head, Policy, Signature

Run: TypeAlias = Callable[[Sequence[Array]], Sequence[Array]]
"""Makes outputs, in their order, of inputs in theirs, with any number of rows."""


@frozen(eq=False)
class _ByName:
    """The model as `computed_traces` runs a network."""

    answer: Run
    signature: Signature

    def run(self, inputs: Tensors) -> dict[str, Array]:
        arrays = self.answer([inputs[spec.name] for spec in self.signature.inputs])
        names = [spec.name for spec in self.signature.outputs]
        return dict(zip(names, arrays, strict=True))


def trace(recorded: Path, policy: Policy, run: Run) -> tuple[GoldenTrace, str]:
    """Return the golden trace of the policy, and where it comes from.

    It is read from the file `recorded` if that is there, or else what `run` answers.
    """
    if recorded.exists():
        return golden.read(recorded.read_bytes()), "recorded in training"
    network = cast("Network", _ByName(run, policy.signature))
    origin = "computed from the weights"
    if policy.head is not Head.OUTPUT:
        return computed_traces.trace(policy, network), origin
    # What is answered is the output itself, as if it were an action without bounds.
    acting = evolve(policy, head=Head.ACTION, action_space=None)
    return _predicted(computed_traces.trace(acting, network)), origin


def _predicted(trace: GoldenTrace) -> GoldenTrace:
    """Return the trace in the words of predictions."""
    return GoldenTrace(
        tuple(
            Case(case.name, tuple(Step(_renamed(step.recorded)) for step in case.steps))
            for case in trace.cases
        )
    )


def _renamed(recorded: Tensors) -> dict[str, Array]:
    words = {"obs": "inputs", "action": "results"}
    renamed = {}
    for name, array in recorded.items():
        first, slash, rest = name.partition("/")
        renamed[words.get(first, first) + slash + rest] = array
    return renamed
