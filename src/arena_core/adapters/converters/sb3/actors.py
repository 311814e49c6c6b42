"""The part of a policy of Stable-Baselines3 that acts, put together from its weights.

Only it is served: critics, target networks and optimisers are left out, by name.
"""

from collections.abc import Callable, Mapping

from attrs import frozen

from arena_core.adapters.converters import lstm
from arena_core.adapters.converters.activations import TANH
from arena_core.adapters.converters.layers import Clip, Repeat, Reshape
from arena_core.adapters.converters.networks import Input, Value, chain
from arena_core.adapters.converters.sb3.models import Architecture, Model
from arena_core.adapters.converters.weights import Weights, refuse
from arena_core.application import spaces
from arena_core.domain.checkpoint import (
    ActionTransform,
    Box,
    Discrete,
    Head,
    HiddenState,
    Squash,
    TensorSpec,
)

_LOG_STD_LIMITS = (-20.0, 2.0)
"""Of SAC, whatever its settings."""
_AS_IT_IS = ActionTransform()
_SQUASHED = ActionTransform(Squash.TANH, (-1.0, 1.0))
_SCALED = ActionTransform(None, (-1.0, 1.0))
_LSTM = "lstm_actor"
_FEATURES, _ACTORS_OWN = "features_extractor.", "pi_features_extractor."


@frozen(eq=False)
class Actor:
    """What the weights make of the features."""

    head: Head
    outputs: Mapping[str, Value]
    """By name, the one of the head first."""
    transform: ActionTransform = _AS_IT_IS
    log_std: str | None = None
    memory: tuple[Input, ...] = ()
    hidden_states: tuple[HiddenState, ...] = ()


def features_prefix(weights: Weights, architecture: Architecture) -> str:
    """Return where the weights that make features for the actor are."""
    match architecture:
        case Architecture.Q_NETWORK:
            return "q_net.features_extractor."
        case Architecture.GAUSSIAN | Architecture.DETERMINISTIC:
            return "actor.features_extractor."
        case _ if weights.has(_ACTORS_OWN):
            weights.drop(_FEATURES)  # the same ones once more, by their old name
            return _ACTORS_OWN
        case _:
            return _FEATURES


def actor(weights: Weights, model: Model, features: Value) -> Actor:
    """Take the actor's weights and drop those that only training needs."""
    made = _ACTORS[model.architecture](weights, model, features)
    weights.drop(*_TRAINING_ONLY[model.architecture])
    return made


def _actor_critic(weights: Weights, model: Model, features: Value) -> Actor:
    layers = weights.perceptron(
        "mlp_extractor.policy_net", model.activation, ends_linear=False
    )
    answer = chain(features, *layers, weights.linear("action_net"))
    if not isinstance(model.action_space, Box):
        return Actor(Head.LOGITS, {"logits": answer})
    mean = _shaped(answer, model.action_space)
    if model.uses_sde:
        # Its noise is a matrix, not a deviation: the mean alone is served.
        weights.take("log_std")
        transform = _SQUASHED if model.squashes else _AS_IT_IS
        return Actor(Head.ACTION, {"mean": mean}, transform)
    row = weights.take("log_std")
    if row.size != len(model.action_space.low):
        refuse("its log_std is not that of its action_space")
    log_std = Repeat(row.reshape(model.action_space.shape))(features)
    outputs = {"mean": mean, "log_std": log_std}
    return Actor(Head.ACTION, outputs, log_std="log_std")


def _recurrent(weights: Weights, model: Model, features: Value) -> Actor:
    cells = _cells(weights)
    shape = (None, len(cells), cells[0].size)
    h, c = (Input(TensorSpec(name, "float32", shape)) for name in ("h", "c"))
    output, h_next, c_next = lstm.step(features, h, c, cells)
    plain = _actor_critic(weights, model, output)
    return Actor(
        plain.head,
        {**plain.outputs, "h_next": h_next, "c_next": c_next},
        plain.transform,
        plain.log_std,
        (h, c),
        (HiddenState("h", "h_next"), HiddenState("c", "c_next")),
    )


def _cells(weights: Weights) -> list[lstm.Cell]:
    cells: list[lstm.Cell] = []
    while weights.has(f"{_LSTM}.weight_ih_l{len(cells)}"):
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        names = [f"{_LSTM}.{part}_l{len(cells)}" for part in parts]
        cells.append(lstm.Cell(*(weights.take(name) for name in names)))
    if not cells:
        refuse("it lacks the weights of its LSTM")
    return cells


def _q_network(weights: Weights, model: Model, features: Value) -> Actor:
    if not isinstance(model.action_space, Discrete):
        refuse("the action_space of a DQN is no Discrete")
    layers = weights.perceptron("q_net.q_net", model.activation, ends_linear=True)
    return Actor(Head.Q_VALUES, {"q_values": chain(features, *layers)})


def _gaussian(weights: Weights, model: Model, features: Value) -> Actor:
    layers = weights.perceptron("actor.latent_pi", model.activation, ends_linear=False)
    latent = chain(features, *layers)
    space = _box(model)
    if not model.uses_sde:
        log_std = chain(latent, weights.linear("actor.log_std"), Clip(*_LOG_STD_LIMITS))
        mean = weights.linear("actor.mu")(latent)
        outputs = {"mean": _shaped(mean, space), "log_std": _shaped(log_std, space)}
        return Actor(Head.ACTION, outputs, _SQUASHED, "log_std")
    weights.take("actor.log_std")
    if model.clip_mean > 0:
        bounds = Clip(-model.clip_mean, model.clip_mean)
        mean = bounds(weights.linear("actor.mu.0")(latent))
    else:
        mean = weights.linear("actor.mu")(latent)
    return Actor(Head.ACTION, {"mean": _shaped(mean, space)}, _SQUASHED)


def _deterministic(weights: Weights, model: Model, features: Value) -> Actor:
    layers = weights.perceptron("actor.mu", model.activation, ends_linear=True)
    action = _shaped(chain(features, *layers, TANH), _box(model))
    return Actor(Head.ACTION, {"action": action}, _SCALED)


def _box(model: Model) -> Box:
    if not isinstance(model.action_space, Box):
        refuse(f"the action_space of a {model.algorithm} is no Box")
    return model.action_space


def _shaped(actions: Value, space: Box) -> Value:
    """Return flat actions in the shape of the space."""
    shape = spaces.shape(space)
    return actions if len(shape) == 1 else Reshape(shape)(actions)


_ACTORS: Mapping[Architecture, Callable[[Weights, Model, Value], Actor]] = {
    Architecture.ACTOR_CRITIC: _actor_critic,
    Architecture.MASKABLE: _actor_critic,
    Architecture.RECURRENT: _recurrent,
    Architecture.Q_NETWORK: _q_network,
    Architecture.GAUSSIAN: _gaussian,
    Architecture.DETERMINISTIC: _deterministic,
}
_CRITIC = ("mlp_extractor.value_net.", "value_net.", "vf_features_extractor.")
_TRAINING_ONLY: Mapping[Architecture, tuple[str, ...]] = {
    Architecture.ACTOR_CRITIC: _CRITIC,
    Architecture.MASKABLE: _CRITIC,
    Architecture.RECURRENT: (*_CRITIC, "lstm_critic.", "critic."),
    Architecture.Q_NETWORK: ("q_net_target.",),
    Architecture.GAUSSIAN: ("critic.", "critic_target."),
    Architecture.DETERMINISTIC: ("actor_target.", "critic.", "critic_target."),
}
"""What the names of their weights begin with."""
