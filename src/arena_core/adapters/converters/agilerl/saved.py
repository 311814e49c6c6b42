"""What `save_checkpoint` has written, as far as acting needs it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from arena_core.adapters.converters.agilerl.settings import Settings
from arena_core.adapters.converters.gymnasium_spaces import space_of
from arena_core.adapters.converters.pickles import Global, Stub
from arena_core.adapters.converters.torch_files import read_torch
from arena_core.adapters.converters.weights import Weights, refuse
from arena_core.application.filenames import shown
from arena_core.application.manifests import SINGLE
from arena_core.domain.checkpoint import Dict, LeafSpace, Space, Tuple
from arena_core.domain.errors import Rejected

_SINGLE_AGENT = frozenset({"DDPG", "DQN", "PPO", "Rainbow DQN", "TD3"})
_MULTI_AGENT = frozenset({"IPPO", "MADDPG", "MATD3"})
_ONLY_FOR_TRAINING = ("actor_target", "critic")
"""How the names of networks begin that do not act."""
_NETWORKS = "agilerl.networks."
_HARMLESS_WRAPPERS = frozenset({"AsyncAgentsWrapper"})
"""They leave observations and actions as they are."""


@frozen(eq=False)
class SavedActor:
    """One network that acts, and its spaces."""

    kind: str
    """The name of its class."""
    settings: Settings
    weights: Weights
    served_space: Space
    """Of the observations of the environment."""
    seen_space: Space
    """Of the observations as the network has them: images with channels first."""
    action_space: LeafSpace
    statistics: object
    """Of the observations, where they are normalised by such; else None."""


@frozen(eq=False)
class Saved:
    algorithm: str
    version: str
    steps: int | None
    normalises_images: bool
    actors: Mapping[str, SavedActor]
    agents: Mapping[str, str]
    """The actor of each agent; none if single-agent."""


def read(data: bytes) -> Saved:
    """Return what the checkpoint holds.  Raises `Rejected` if it is not AgileRL's."""
    return understood(read_torch(data))


def understood(found: object) -> Saved:
    """Return what was saved, of the dict that was."""
    if not isinstance(found, dict) or not {"agilerl_version", "algo"} <= found.keys():
        raise Rejected(
            "The file is no checkpoint of AgileRL: give what agent.save_checkpoint "
            "has written."
        )
    algorithm = str(found["algo"])
    if algorithm in _SINGLE_AGENT:
        actors, agents = {SINGLE: _single(found)}, {}
    elif algorithm in _MULTI_AGENT:
        agents = _agents(found)
        actors = _several(found, agents)
    else:
        refuse(f"its algorithm {shown(algorithm)} is not known here")
    steps = found.get("steps")
    return Saved(
        algorithm="Recurrent PPO" if found.get("recurrent") is True else algorithm,
        version=str(found["agilerl_version"]),
        steps=steps if isinstance(steps, int) else None,
        normalises_images=found.get("normalize_images") is not False,
        actors=actors,
        agents=agents,
    )


def _single(found: Mapping[str, Any]) -> SavedActor:
    modules = _modules(found, "actor")
    served = found.get("env_observation_space", found.get("observation_space"))
    return _actor(
        modules["actor_cls"],
        modules["actor_init_dict"],
        modules["actor_state_dict"],
        space_of(served, field="observation space"),
        _statistics(found),
    )


def _several(
    found: Mapping[str, Any], agents: Mapping[str, str]
) -> dict[str, SavedActor]:
    modules = _modules(found, "actors")
    classes, arguments, weights = (
        _by_name(modules[f"actors_{part}"])
        for part in ("cls", "init_dict", "state_dict")
    )
    statistics = _statistics(found)
    if not classes.keys() == arguments.keys() == weights.keys() == set(agents.values()):
        refuse("its actors are not those of its agents")
    served = space_of(found.get("env_observation_spaces"), field="observation spaces")
    if not isinstance(served, Dict) or not agents.keys() <= served.spaces.keys():
        refuse("its agents are not those of its observation spaces")
    observed = {actor: served.spaces[agent] for agent, actor in agents.items()}
    return {
        name: _actor(
            kind,
            arguments[name],
            weights[name],
            observed[name],
            _of_actor(statistics, name),
        )
        for name, kind in classes.items()
    }


def _of_actor(statistics: object, name: str) -> object:
    if statistics is None:
        return None
    if not isinstance(statistics, dict) or name not in statistics:
        refuse("it normalises the observations of some agents only")
    return statistics[name]


def _agents(found: Mapping[str, Any]) -> dict[str, str]:
    """Return which actor is whose.  Agents such as a_0 and a_1 may share one, a."""
    names = found.get("agent_ids")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        refuse("its agents have no names")
    groups = {name: name.rsplit("_", 1)[0] for name in names}
    is_grouped = len(set(groups.values())) < len(names)
    return groups if is_grouped else {name: name for name in names}


def _modules(found: Mapping[str, Any], acting: str) -> dict[str, Any]:
    """Return what is saved of the networks.

    Raises `Rejected` unless each is the one called `acting`, or for training only.
    """
    info = found.get("network_info")
    names = info.get("network_names") if isinstance(info, dict) else None
    if not isinstance(names, list):
        refuse("it has no networks")
    for name in map(str, names):
        if name != acting and not name.startswith(_ONLY_FOR_TRAINING):
            refuse(f"nothing is known of its network {shown(name)}")
    modules = _by_name(found["network_info"].get("modules"))
    if not {f"{acting}_{part}" for part in ("cls", "init_dict", "state_dict")} <= (
        modules.keys()
    ):
        refuse("it has no actor")
    return modules


def _by_name(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        refuse("its networks are not saved by name")
    return found


def _actor(
    kind: object, arguments: object, weights: object, served: Space, statistics: object
) -> SavedActor:
    if not isinstance(kind, Global) or not kind.module.startswith(_NETWORKS):
        refuse(f"its network is a {kind}")
    settings = Settings.of(arguments)
    actions = space_of(settings["action_space"], field="action space")
    if isinstance(actions, Dict | Tuple):
        refuse("its actions are of several parts")
    return SavedActor(
        kind.name,
        settings,
        _weights(weights),
        served,
        space_of(settings["observation_space"], field="observation space"),
        actions,
        statistics,
    )


def _weights(found: object) -> Weights:
    weights = Weights(found)
    if not all(np.isfinite(array).all() for array in _by_name(found).values()):
        refuse("it has weights that are not finite, as training that diverged leaves")
    return weights


def _statistics(found: Mapping[str, Any]) -> object:
    """Return the running statistics of `RSNorm`, if the agent was wrapped in it."""
    wrapper = found.get("wrapper_cls")
    if wrapper is None or getattr(wrapper, "name", "") in _HARMLESS_WRAPPERS:
        return None
    attributes = found.get("wrapper_attrs")
    if (
        not isinstance(wrapper, Global)
        or wrapper.name != "RSNorm"
        or not isinstance(attributes, dict)
        or not isinstance(attributes.get("obs_rms"), Stub | dict | tuple)
    ):
        refuse(f"its agent is wrapped in {wrapper}")
    return attributes["obs_rms"]
