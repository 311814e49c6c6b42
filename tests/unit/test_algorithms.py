import pytest

from arena_core.domain.algorithms import family_of, is_multi_agent, is_recurrent
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family

CLASSIC_SINGLE = ("DQN", "Rainbow DQN", "PPO", "Recurrent PPO", "DDPG", "TD3")
CLASSIC_MULTI = ("MADDPG", "MATD3", "IPPO")
CLIENT_ONLY = ("CQN", "NeuralTS", "NeuralUCB")
LANGUAGE = (
    "GRPO", "GSPO", "CISPO", "DPO", "SFT", "TurnPPO", "TokenPPO", "TurnREINFORCE",
    "TokenREINFORCE", "LLMPPO", "LLMREINFORCE",
)  # fmt: skip


@pytest.mark.parametrize("name", CLASSIC_SINGLE + CLASSIC_MULTI + CLIENT_ONLY)
def test_rule_55_classic_algorithms_answer_with_actions(name):
    assert family_of(name) is Family.RL


@pytest.mark.parametrize("name", LANGUAGE)
def test_rule_56_language_algorithms_answer_with_text(name):
    assert family_of(name) is Family.LLM


def test_rule_57_supervised_fine_tuning_is_a_language_algorithm():
    assert family_of("SFT") is Family.LLM


def test_rule_58_supervised_and_latent_ppo_are_families_of_their_own():
    assert family_of("Supervised") is Family.SUPERVISED
    assert family_of("LatentPPO") is Family.LATENT


@pytest.mark.parametrize("name", ["rainbow_dqn", "RainbowDQN", "RAINBOW-DQN"])
def test_a_name_is_known_however_it_is_written(name):
    assert family_of(name) is Family.RL


def test_the_family_of_an_unknown_algorithm_must_be_named():
    with pytest.raises(Rejected, match="rl, supervised, latent, llm") as caught:
        family_of("AlphaZero")
    assert caught.value.field == "family"


@pytest.mark.parametrize("name", ["Recurrent PPO", "RecurrentPPO", "recurrent_ppo"])
def test_rule_53_a_recurrent_policy_is_known_by_its_name(name):
    assert is_recurrent(name)


@pytest.mark.parametrize("name", ["PPO", "Rainbow DQN", "LatentPPO"])
def test_other_policies_are_not_recurrent(name):
    assert not is_recurrent(name)


@pytest.mark.parametrize("name", [*CLASSIC_MULTI, "ippo"])
def test_rule_55_multi_agent_algorithms_are_known_by_their_names(name):
    assert is_multi_agent(name)


@pytest.mark.parametrize("name", CLASSIC_SINGLE)
def test_rule_55_the_others_have_one_agent(name):
    assert not is_multi_agent(name)
