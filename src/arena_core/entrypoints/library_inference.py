"""Calls of one live agent, in this process, on arrays."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from attrs import frozen

from arena_core.application.action_requests import ActionRequest, understood
from arena_core.application.heads import MASK
from arena_core.application.inference import Choice, Mode
from arena_core.application.models import SINGLE, Acted, Model, Turn
from arena_core.application.ports import Array
from arena_core.application.serving import Live, Registry
from arena_core.domain.checkpoint import Dict, Tuple
from arena_core.domain.errors import NotFinite, Rejected, Unavailable
from arena_core.domain.ids import AgentId, deployment_of

Tree: TypeAlias = Any
"""An array or what NumPy makes one of; a dict for a Dict space or several agents, a
tuple for a Tuple space.  None: an agent that is dead."""


@frozen
class Inference:
    """Calls of one live agent, in this process, on arrays.  Safe to share.

    Without `batched` there is one observation, and answers have no batch axis; with
    it every array has B rows, and so has every answer.
    """

    _registry: Registry
    _agent_id: AgentId

    def get_action(  # noqa: PLR0913 -- what a call can say
        self,
        observation: Tree,
        *,
        batched: bool = False,
        action_mask: Tree = None,
        env_defined_actions: Mapping[str, Any] | None = None,
        mode: Mode | str = Mode.GREEDY,
        seed: int | None = None,
    ) -> Any:  # noqa: ANN401 -- an array, or one for each agent
        """Return the action, shape (*action shape), or (B, ...) if `batched`.

        With several agents it is a dict of them, None for those that are dead.
        `observation`: of the agent's observation space.  `action_mask`: (n,) or
        (B, n), non-zero where an action is legal.  `mode`: `greedy`, or `sample` with
        an optional `seed`.  Raises `Rejected` for what is wrong, `Unavailable` if the
        agent is not live.  A recurrent policy wants `get_action_and_state`.
        """
        if self._live().model.manifest.is_recurrent:
            raise Rejected(
                "This policy is recurrent: call get_action_and_state, and hand back "
                "the state that it returns."
            )
        action, _ = self.get_action_and_state(
            observation,
            None,
            batched=batched,
            action_mask=action_mask,
            env_defined_actions=env_defined_actions,
            mode=mode,
            seed=seed,
        )
        return action

    def get_action_and_state(  # noqa: PLR0913 -- what a call can say
        self,
        observation: Tree,
        hidden_state: Tree,
        *,
        batched: bool = False,
        action_mask: Tree = None,
        env_defined_actions: Mapping[str, Any] | None = None,
        mode: Mode | str = Mode.GREEDY,
        seed: int | None = None,
    ) -> tuple[Any, Tree]:
        """Return the action, as `get_action` does, and the hidden state after it.

        `hidden_state`: what the step before has returned; None begins an episode.
        Raises `Conflict` for one that other weights have made.
        """
        live = self._live()
        model = live.model
        if not model.acts:
            raise Rejected("This agent predicts: call predict, not get_action.")
        _check_axes(model, observation, "obs", batched=batched)
        asked = understood(
            model,
            ActionRequest(
                observation,
                None,
                _parts(action_mask),
                hidden_state,
                env_defined_actions,
            ),
            _decoder(batched=batched),
        )
        random = Choice.of(mode, seed).random()
        acted = _watched(live, asked.turns, lambda: model.act(asked.turns, random))
        return _answer(model, acted, asked.dead, batched=batched)

    def predict(self, inputs: Tree, *, batched: bool = False) -> Array:
        """Return the results, one for each row of `inputs` if `batched`."""
        live = self._live()
        model = live.model
        if model.acts:
            raise Rejected("This agent acts: call get_action, not predict.")
        _check_axes(model, inputs, "inputs", batched=batched)
        decode = _decoder(batched=batched)
        observed = model.single.observe(inputs, decode, field="inputs")
        turn = Turn(observed, len(next(iter(observed.values()))))
        done = _watched(
            live, {SINGLE: turn}, lambda: {SINGLE: Acted(*model.predict(observed))}
        )
        results = done[SINGLE].actions
        return results if batched else results[0]

    def wait(self, timeout_s: float) -> None:
        """Return once this process answers for the agent.  Raises `Unavailable`."""
        if not self._registry.wait_for(self._deployment, timeout_s):
            raise Unavailable("This process does not serve the agent.")

    @property
    def _deployment(self) -> str:
        return str(deployment_of(self._agent_id))

    def _live(self) -> Live:
        live = self._registry.live(self._deployment)
        if live is None:
            raise Unavailable("The agent is not live: connect it first.")
        return live


def _watched(
    live: Live,
    turns: Mapping[str, Turn],
    answer: Callable[[], Mapping[str, Acted]],
) -> Mapping[str, Acted]:
    """Return the answer, of which a guard or a shadow learns as of one over HTTP."""
    mirror = live.mirror
    if mirror is None:
        return answer()
    begun_s = time.perf_counter()
    try:
        acted = answer()
    except Exception as error:
        if not isinstance(error, Rejected) or isinstance(error, NotFinite):
            mirror.failed()
        raise
    mirror.answered(turns, acted, latencies_s=(time.perf_counter() - begun_s,))
    return acted


def _answer(
    model: Model,
    acted: Mapping[str, Acted],
    dead: Sequence[str],
    *,
    batched: bool,
) -> tuple[Any, Tree]:
    def shown(array: Array) -> Array:
        return array if batched else array[0]

    agents = model.agents
    actions = {name: shown(done.actions) for name, done in acted.items()}
    states = {
        name: {
            key: shown(array)
            for key, array in agents[name].memory.carry(done.outputs).items()
        }
        for name, done in acted.items()
        if agents[name].memory.is_kept
    }
    if not model.manifest.is_multi_agent:
        return actions[SINGLE], states.get(SINGLE)
    return {**actions, **dict.fromkeys(dead)}, states or None


def _decoder(*, batched: bool) -> Callable[[object, str], Array]:
    def decode(leaf: object, field: str) -> Array:
        try:
            array = np.asarray(leaf)
        except ValueError as error:
            raise Rejected(
                f"{field} is no array: its rows differ.", field=field
            ) from error
        return array if batched else array[np.newaxis]

    return decode


def _parts(mask: Tree) -> Tree:
    """Return a mask of which only a tuple is a list of parts."""
    if isinstance(mask, dict):
        return {agent: _parts(own) for agent, own in mask.items()}
    if isinstance(mask, tuple):
        return list(mask)
    return mask if mask is None else _decoder(batched=True)(mask, MASK)


def _check_axes(model: Model, tree: Tree, field: str, *, batched: bool) -> None:
    """Refuse several rows that are not said to be, where that is certain."""
    if batched or model.manifest.is_multi_agent:
        return
    policy = model.single.policy
    if isinstance(policy.observation_space, Dict | Tuple):
        return
    shape = _decoder(batched=True)(tree, field).shape
    if len(shape) == len(policy.signature.inputs[0].shape):
        raise Rejected(
            f"There is an axis too many, the shape is {shape}: say batched=True for "
            "several rows."
        )
