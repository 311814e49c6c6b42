"""Which algorithm is of which family, and what its name says about its shape."""

from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family, shown

_RL = (
    "A2C", "CQN", "DDPG", "DQN", "IPPO", "MADDPG", "MATD3", "MaskablePPO", "NeuralTS",
    "NeuralUCB", "PPO", "QRDQN", "Rainbow DQN", "Recurrent PPO", "SAC", "TD3", "TQC",
    "TRPO",
)  # fmt: skip
_LLM = (
    "CISPO", "DPO", "GRPO", "GSPO", "LLMPPO", "LLMREINFORCE", "SFT", "TokenPPO",
    "TokenREINFORCE", "TurnPPO", "TurnREINFORCE",
)  # fmt: skip
_MULTI_AGENT = ("IPPO", "MADDPG", "MATD3")


def _plain(algorithm: str) -> str:
    return "".join(c for c in algorithm.lower() if c.isalnum())


_FAMILIES = {
    **{_plain(name): Family.RL for name in _RL},
    **{_plain(name): Family.LLM for name in _LLM},
    "supervised": Family.SUPERVISED,
    "latentppo": Family.LATENT,
}


def family_of(algorithm: str) -> Family:
    """Return the family of a known algorithm.  Raises `Rejected` for another."""
    family = _FAMILIES.get(_plain(algorithm))
    if family is None:
        names = ", ".join(f.value for f in Family)
        raise Rejected(
            f"The family of the algorithm {shown(algorithm)} is not known: "
            f"name it, one of {names}.",
            field="family",
        )
    return family


def is_same(one: str, other: str) -> bool:
    """Say whether two names are of one algorithm: `Rainbow DQN` and `RainbowDQN`."""
    return _plain(one) == _plain(other)


def is_recurrent(algorithm: str) -> bool:
    """Say whether the name means a policy that carries a hidden state."""
    return _plain(algorithm).startswith("recurrent")


def is_multi_agent(algorithm: str) -> bool:
    return _plain(algorithm) in {_plain(name) for name in _MULTI_AGENT}


def is_of_language(algorithm: str) -> bool:
    """Say whether the name is that of an algorithm for language models."""
    return _FAMILIES.get(_plain(algorithm)) is Family.LLM
