"""Which algorithm trained a saved model, and what its policy was made of."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import frozen

from arena_core.adapters.converters.activations import ACTIVATIONS, RELU, TANH
from arena_core.adapters.converters.gymnasium_spaces import space_of
from arena_core.adapters.converters.networks import Layer
from arena_core.adapters.converters.pickles import Global
from arena_core.adapters.converters.sb3.files import SavedModel
from arena_core.adapters.converters.weights import refuse
from arena_core.application.filenames import shown
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Discrete,
    LeafSpace,
    MultiDiscrete,
    Space,
    Tuple,
)


class Architecture(Enum):
    """How the policy's actor is built, hence how its weights are called."""

    ACTOR_CRITIC = "features, a perceptron, a distribution"
    MASKABLE = "likewise, with action masks"
    RECURRENT = "likewise, with an LSTM behind the features"
    Q_NETWORK = "a value for each action"
    GAUSSIAN = "a mean and a deviation, squashed"
    DETERMINISTIC = "an action from -1 to 1"


_ON_POLICY = (
    "ActorCriticPolicy",
    "ActorCriticCnnPolicy",
    "MultiInputActorCriticPolicy",
)
_POLICIES: Mapping[str, tuple[Architecture, tuple[str, ...]]] = {
    "stable_baselines3.common.policies": (Architecture.ACTOR_CRITIC, _ON_POLICY),
    "sb3_contrib.common.maskable.policies": (
        Architecture.MASKABLE,
        (
            "MaskableActorCriticPolicy",
            "MaskableActorCriticCnnPolicy",
            "MaskableMultiInputActorCriticPolicy",
        ),
    ),
    "sb3_contrib.common.recurrent.policies": (
        Architecture.RECURRENT,
        (
            "RecurrentActorCriticPolicy",
            "RecurrentActorCriticCnnPolicy",
            "RecurrentMultiInputActorCriticPolicy",
        ),
    ),
    "stable_baselines3.dqn.policies": (
        Architecture.Q_NETWORK,
        ("DQNPolicy", "CnnPolicy", "MultiInputPolicy"),
    ),
    "stable_baselines3.sac.policies": (
        Architecture.GAUSSIAN,
        ("SACPolicy", "CnnPolicy", "MultiInputPolicy"),
    ),
    "sb3_contrib.tqc.policies": (
        Architecture.GAUSSIAN,
        ("TQCPolicy", "CnnPolicy", "MultiInputPolicy"),
    ),
    "stable_baselines3.td3.policies": (
        Architecture.DETERMINISTIC,
        ("TD3Policy", "CnnPolicy", "MultiInputPolicy"),
    ),
}
_TANH_BY_DEFAULT = (
    Architecture.ACTOR_CRITIC, Architecture.MASKABLE, Architecture.RECURRENT,
)  # fmt: skip
_EXTRACTORS = ("FlattenExtractor", "NatureCNN", "CombinedExtractor")


@frozen(eq=False)
class Model:
    """All that decides how the weights of a policy are put together."""

    algorithm: str
    architecture: Architecture
    observation_space: Space
    action_space: LeafSpace
    activation: Layer
    normalize_images: bool
    """Whether pixels are divided by 255."""
    uses_sde: bool
    """Whether it explores with noise that depends on the state."""
    squashes: bool
    """Whether such a policy of the first three architectures squashes its mean."""
    clip_mean: float
    """What such a Gaussian bounds its mean by; 0: by nothing."""


def understand(saved: SavedModel) -> Model:
    """Return what is known of the model.  Raises `Rejected` for what is not."""
    architecture = _architecture(saved.attribute("policy_class"))
    settings = saved.attribute("policy_kwargs", {})
    if not isinstance(settings, dict):
        refuse("its policy_kwargs are no dict")
    _check_extractor(settings.get("features_extractor_class"))
    return Model(
        algorithm=_algorithm(architecture, saved),
        architecture=architecture,
        observation_space=_observation_space(saved),
        action_space=_action_space(saved),
        activation=_activation(architecture, settings.get("activation_fn")),
        normalize_images=_flag(settings, "normalize_images", default=True),
        uses_sde=saved.attribute("use_sde") is True or _flag(settings, "use_sde"),
        squashes=_flag(settings, "squash_output"),
        clip_mean=_number(settings, "clip_mean", default=2.0),
    )


def _architecture(policy: object) -> Architecture:
    module, name = _named(policy)
    architecture, classes = _POLICIES.get(module, (None, ()))
    if architecture is None or name not in classes:
        refuse(f"its policy class, {shown(name) or 'one of its own'}, is not known")
    return architecture


def _named(found: object) -> tuple[str, str]:
    """Return the module and the name of a class out of a pickle; `""` if it is none."""
    return (found.module, found.name) if isinstance(found, Global) else ("", "")


def _algorithm(architecture: Architecture, saved: SavedModel) -> str:
    match architecture:
        case Architecture.MASKABLE:
            return "MaskablePPO"
        case Architecture.RECURRENT:
            return "Recurrent PPO"
        case Architecture.Q_NETWORK:
            return "DQN"
        case Architecture.GAUSSIAN:
            return "TQC" if "top_quantiles_to_drop_per_net" in saved else "SAC"
        case Architecture.DETERMINISTIC:
            # DDPG is a TD3 that neither waits nor adds noise that is clipped.
            plain = (
                saved.attribute("policy_delay"),
                saved.attribute("target_noise_clip"),
            )
            return "DDPG" if plain == (1, 0.0) else "TD3"
        case Architecture.ACTOR_CRITIC:
            if "cg_max_steps" in saved:
                return "TRPO"
            return "PPO" if "clip_range" in saved else "A2C"


def _check_extractor(extractor: object) -> None:
    if extractor is None:
        return
    module, name = _named(extractor)
    if module != "stable_baselines3.common.torch_layers" or name not in _EXTRACTORS:
        refuse("it has a features extractor of its own")


def _activation(architecture: Architecture, function: object) -> Layer:
    if function is None:
        return TANH if architecture in _TANH_BY_DEFAULT else RELU
    module, name = _named(function)
    if not module.startswith("torch.nn.modules.") or name not in ACTIVATIONS:
        refuse("its activation function is not known")
    return ACTIVATIONS[name]


def _flag(settings: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = settings.get(name, default)
    if not isinstance(value, bool):
        refuse(f"{name} in its policy_kwargs is neither true nor false")
    return value


def _number(settings: Mapping[str, Any], name: str, *, default: float) -> float:
    value = settings.get(name, default)
    if not isinstance(value, int | float):
        refuse(f"{name} in its policy_kwargs is no number")
    return float(value)


def _observation_space(saved: SavedModel) -> Space:
    field = "observation_space"
    space = space_of(saved.attribute(field), field=field)
    parts = space.spaces.values() if isinstance(space, Dict) else [space]
    for part in parts:
        if isinstance(part, Dict | Tuple):
            refuse("its observation_space is nested")
        _check_start(part, field)
    return space


def _action_space(saved: SavedModel) -> LeafSpace:
    space = space_of(saved.attribute("action_space"), field="action_space")
    if isinstance(space, Dict | Tuple):
        refuse("its action_space is a Dict or a Tuple")
    if isinstance(space, Box) and not space.dtype.startswith("float"):
        refuse(
            f"its action_space is a Box of {space.dtype}, for which Stable-Baselines3 "
            "answers with floats"
        )
    _check_start(space, "action_space")
    return space


def _check_start(space: LeafSpace, field: str) -> None:
    match space:
        case Discrete():
            starts: tuple[int, ...] = (space.start,)
        case MultiDiscrete():
            starts = space.start
        case _:
            return
    if any(starts):
        refuse(f"its {field} does not begin at 0, as Stable-Baselines3 expects")
