"""The networks that act: what their heads say, and how an action comes of it."""

import math
from collections.abc import Callable, Mapping

from attrs import field, frozen

from arena_core.adapters.converters.agilerl import modules, observing
from arena_core.adapters.converters.agilerl.encoders import encode
from arena_core.adapters.converters.agilerl.saved import SavedActor
from arena_core.adapters.converters.agilerl.settings import Settings
from arena_core.adapters.converters.layers import Add, Clip, Repeat, Reshape
from arena_core.adapters.converters.networks import Network, Value, chain
from arena_core.adapters.converters.norms import Centre, Softmax, WeightedSum
from arena_core.adapters.converters.weights import Weights, refuse
from arena_core.application import spaces
from arena_core.domain.checkpoint import (
    ActionTransform,
    Box,
    Discrete,
    Head,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Policy,
    Squash,
)

_LEAST_PROBABILITY = 1e-3
"""Of an atom of Rainbow's distribution: AgileRL raises smaller ones to it."""
_RANDOM = "GumbelSoftmax"
_RANGES = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Softsign": (-1.0, 1.0),
           "Tanh": (-1.0, 1.0)}  # fmt: skip
"""Where the outputs of an actor are, which AgileRL stretches to the action space."""


@frozen(eq=False)
class Said:
    """What a head says."""

    head: Head
    value: Value
    log_std: Value | None = None
    transform: ActionTransform = field(factory=ActionTransform)


def policy_of(
    actor: SavedActor,
    weights_file: str,
    *,
    normalises_images: bool,
    channels_last: bool,
) -> tuple[Policy, Network]:
    """Return how the actor is served.  Raises `Rejected` for what is not known."""
    leaves = observing.leaves(
        actor.served_space,
        actor.seen_space,
        actor.statistics,
        channels_last=channels_last,
    )
    settings, weights = actor.settings, actor.weights
    _check_actions(actor.action_space)
    encoded = encode(settings, weights, leaves, normalises_images=normalises_images)
    said = _head(actor)(encoded.latent, settings, weights, actor.action_space)
    weights.check_none_left()
    outputs = {said.head.value: said.value}
    if said.log_std is not None:
        outputs["log_std"] = said.log_std
    network = Network(encoded.inputs, {**outputs, **encoded.next_states})
    _check_width(network, said.head, actor.action_space)
    return Policy(
        weights=weights_file,
        signature=network.signature,
        head=said.head,
        observation_space=observing.served_space(actor.served_space, leaves),
        action_space=actor.action_space,
        normalisers={
            leaf.path: leaf.normaliser for leaf in leaves if leaf.normaliser is not None
        },
        transform=said.transform,
        log_std=None if said.log_std is None else "log_std",
        hidden_states=encoded.hidden_states,
    ), network


def _head(
    actor: SavedActor,
) -> Callable[[Value, Settings, Weights, LeafSpace], Said]:
    head = _HEADS.get(actor.kind)
    if head is None:
        refuse(f"its actor is a {actor.kind}")
    return head


def _check_actions(space: LeafSpace) -> None:
    match space:
        case Box(shape=shape, dtype=dtype):
            if len(shape) != 1:
                refuse("its actions are no vectors")
            if not dtype.startswith("float"):
                refuse(f"its actions are of {dtype}, but AgileRL answers with floats")
        case Discrete(start=0) | MultiBinary():
            pass
        case MultiDiscrete(start=starts) if not any(starts):
            pass
        case _:
            refuse("its actions do not begin at 0, as they do for AgileRL")


def _check_width(network: Network, head: Head, space: LeafSpace) -> None:
    wanted = spaces.shape(space) if head is Head.ACTION else spaces.scores(space)
    if network.signature.outputs[0].shape[1:] != wanted:
        refuse("its network does not fit its action space")


# --- the heads -----------------------------------------------------------------------


def _stochastic(
    latent: Value, settings: Settings, weights: Weights, space: LeafSpace
) -> Said:
    config = settings.part("head_config")
    said = modules.perceptron(latent, config, weights, "head_net._wrapped.model.actor")
    if not isinstance(space, Box):
        if isinstance(space, MultiBinary):
            said = Reshape(space.shape)(said)
        return Said(Head.LOGITS, said)
    row = weights.take("head_net.log_std").reshape(-1)
    if row.shape != space.shape:
        refuse("its log_std is not that of its actions")
    log_std = Repeat(row)(latent)
    if not settings.flag("squash_output"):
        return Said(Head.ACTION, said, log_std)
    if not _is_bounded(space):
        refuse("its actions are squashed between bounds that are infinite")
    return Said(Head.ACTION, said, log_std, ActionTransform(Squash.TANH, (-1.0, 1.0)))


def _is_bounded(space: Box) -> bool:
    return None not in space.low and None not in space.high


def _deterministic(
    latent: Value, settings: Settings, weights: Weights, space: LeafSpace
) -> Said:
    """Leave out what the manifest says instead, and the noise of Gumbel-Softmax."""
    config, at = settings.part("head_config"), "head_net.model.actor"
    said = modules.perceptron(latent, config, weights, at)
    name = config.text("output_activation", "Identity")
    if isinstance(space, Discrete) and name in {_RANDOM, "Softmax"}:
        return Said(Head.LOGITS, said)
    if name not in _RANGES:
        refuse(f"the activation of its output is {name}")
    range_ = _RANGES[name] if isinstance(space, Box) and _is_bounded(space) else None
    if isinstance(space, Box) and name == "Tanh":
        return Said(Head.ACTION, said, None, ActionTransform(Squash.TANH, range_))
    said = modules.activation(name, weights, f"{at}_activation_output")(said)
    if isinstance(space, Box):
        return Said(Head.ACTION, said, None, ActionTransform(None, range_))
    return Said(Head.LOGITS, said)


def _q_values(
    latent: Value, settings: Settings, weights: Weights, space: LeafSpace
) -> Said:
    _check_discrete(space)
    config = settings.part("head_config")
    said = modules.perceptron(latent, config, weights, "head_net.model.value")
    return Said(Head.Q_VALUES, said)


def _rainbow(
    latent: Value, settings: Settings, weights: Weights, space: LeafSpace
) -> Said:
    """Return the expectation of the distribution that the two streams make up."""
    _check_discrete(space)
    config, support = settings.part("head_config"), settings.array("support")
    streams = [
        Reshape((-1, support.size))(modules.perceptron(latent, config, weights, at))
        for at in ("head_net.model.value", "head_net.advantage_net.advantage")
    ]
    value, advantage = streams
    values = chain(
        Add()(value, Centre()(advantage)),
        Softmax(),
        Clip(_LEAST_PROBABILITY, math.inf),
        WeightedSum(support.reshape(-1)),
    )
    return Said(Head.Q_VALUES, values)


def _check_discrete(space: LeafSpace) -> None:
    if not isinstance(space, Discrete):
        refuse("its values are of actions that are not Discrete")


_HEADS: Mapping[str, Callable[[Value, Settings, Weights, LeafSpace], Said]] = {
    "DeterministicActor": _deterministic,
    "QNetwork": _q_values,
    "RainbowQNetwork": _rainbow,
    "StochasticActor": _stochastic,
}
