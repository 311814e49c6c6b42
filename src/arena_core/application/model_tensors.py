"""Which tensors a model takes and gives, by the names that golden traces have.

`obs`, `action_mask`, `hidden_state/<name>` and `action`, or `inputs` and `results`;
with several agents each in `agents/<agent>/`.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from attrs import evolve, frozen

from arena_core.application import spaces, tensors
from arena_core.application.filenames import shown
from arena_core.application.hidden_states import MAKER
from arena_core.application.models import SINGLE, Model
from arena_core.application.open_inference import Wanted
from arena_core.application.policies import LoadedPolicy
from arena_core.domain.checkpoint import Box, Head, TensorSpec
from arena_core.domain.errors import Rejected

FREE = -1
"""The length of an axis that can be any."""
_BYTES_OF_A_DIGEST = 32


@frozen
class Tensor:
    """One input or output; its first axis is the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    agent: str = SINGLE
    is_optional: bool = False
    """Whether a request may leave it out."""

    @classmethod
    def of(
        cls, name: str, dtype: str, row: Iterable[int | None], agent: str = SINGLE
    ) -> "Tensor":
        shape = (FREE, *(FREE if size is None else size for size in row))
        return cls(name, tensors.datatype(np.dtype(dtype)), shape, agent)


@frozen(eq=False)
class ModelTensors:
    """All tensors of one model, by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: Model) -> "ModelTensors":
        if not model.acts:
            taken, given = list(_predicting(model.single)), [_results(model)]
        else:
            agents = model.agents.items()
            taken = [each for agent, own in agents for each in _acting(agent, own)]
            given = [each for agent, own in agents for each in _acted(agent, own)]
        return cls({t.name: t for t in taken}, {t.name: t for t in given})

    def check(self, names: Iterable[str], wanted: Wanted) -> None:
        """Raise `Rejected` unless a request may have these inputs, and want that."""
        given = set(names)
        for name in given - self.inputs.keys():
            raise Rejected(
                f"There is no input {shown(name)}: there are {', '.join(self.inputs)}.",
                field="inputs",
            )
        asked = {self.inputs[name].agent for name in given}
        for name, tensor in self.inputs.items():
            is_due = tensor.agent in asked or not asked
            if is_due and not tensor.is_optional and name not in given:
                raise Rejected(f"The input {name} is missing.", field=name)
        self._check_wanted(wanted, asked)

    def _check_wanted(self, wanted: Wanted, asked: set[str]) -> None:
        answered = [n for n, tensor in self.outputs.items() if tensor.agent in asked]
        for name in (wanted.by_name or {}).keys() - set(answered):
            raise Rejected(
                f"There is no output {shown(name)} to these inputs: there are "
                f"{', '.join(answered)}.",
                field="outputs",
            )


def _acting(agent: str, own: LoadedPolicy) -> Iterator[Tensor]:
    """Yield what one agent is asked with."""
    at, policy = _at(agent), own.policy
    yield from _observed(own, f"{at}obs", agent)
    space = own.action_space
    if policy.head is not Head.ACTION and not isinstance(space, Box):
        mask = Tensor.of(f"{at}action_mask", "bool", spaces.scores(space), agent)
        yield _optional(mask)
    if agent != SINGLE:
        name = f"{at}env_defined_action"
        yield _optional(Tensor.of(name, "float64", spaces.shape(space), agent))
    yield from map(_optional, _remembered(agent, own))


def _acted(agent: str, own: LoadedPolicy) -> Iterator[Tensor]:
    """Yield what one agent is answered with."""
    space = own.action_space
    name, dtype = f"{_at(agent)}action", spaces.dtype(space)
    yield Tensor.of(name, dtype, spaces.shape(space), agent)
    yield from _remembered(agent, own)


def _remembered(agent: str, own: LoadedPolicy) -> Iterator[Tensor]:
    if not own.memory.is_kept:
        return
    at = f"{_at(agent)}hidden_state/"
    specs = {spec.name: spec for spec in own.policy.signature.inputs}
    for state in own.policy.hidden_states:
        spec = specs[state.input]
        yield Tensor.of(f"{at}{spec.name}", spec.dtype, spec.shape[1:], agent)
    yield Tensor.of(f"{at}{MAKER}", "uint8", (_BYTES_OF_A_DIGEST,), agent)


def _predicting(own: LoadedPolicy) -> Iterator[Tensor]:
    return _observed(own, "inputs", SINGLE)


def _observed(own: LoadedPolicy, what: str, agent: str) -> Iterator[Tensor]:
    space = own.policy.observation_space
    if space is None:
        yield _specified(what, own.policy.signature.inputs[0])
        return
    for path, leaf in spaces.leaves(space).items():
        name = f"{what}/{path}" if path else what
        yield Tensor.of(name, spaces.dtype(leaf), spaces.shape(leaf), agent)


def _results(model: Model) -> Tensor:
    decoder = model.decoder
    signature = model.single.policy.signature if decoder is None else decoder.signature
    return _specified("results", signature.outputs[0])


def _specified(name: str, spec: TensorSpec) -> Tensor:
    return Tensor.of(name, spec.dtype, spec.shape[1:])


def _optional(tensor: Tensor) -> Tensor:
    return evolve(tensor, is_optional=True)


def _at(agent: str) -> str:
    return "" if agent == SINGLE else f"agents/{agent}/"
