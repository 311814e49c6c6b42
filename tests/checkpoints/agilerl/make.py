"""Trains small agents with AgileRL and records what it answers itself.

The tests need only what this wrote.  To write it again, in an environment with
`agilerl==2.58.0 torch==2.13.0 gymnasium==1.4.0 mpe2==1.1.1 peft transformers`:

    python make.py [name ...]

For each name it writes `<name>.pt`, by `agent.save_checkpoint`, and `<name>.npz`, a
golden trace: what AgileRL answers in evaluation mode, and what the network of the
actor says before the activation of its output.  PPO and IPPO always sample, and
MADDPG and MATD3 always add Gumbel noise to discrete actions, so for them it is the
most likely action.  `ppo_cartpole_returns.json` has the returns of such a loop, one
episode for each seed from 1000 to 1019.  `versions.txt` says with what it was made.
"""

import copy
import json
import random
import sys
from collections import OrderedDict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from agilerl.algorithms import (
    DDPG,
    DQN,
    IPPO,
    MADDPG,
    MATD3,
    PPO,
    TD3,
    RainbowDQN,
    RecurrentPPO,
)
from agilerl.components import ReplayBuffer
from agilerl.networks.actors import DeterministicActor, StochasticActor
from agilerl.training.train_multi_agent_off_policy import train_multi_agent_off_policy
from agilerl.training.train_multi_agent_on_policy import train_multi_agent_on_policy
from agilerl.training.train_off_policy import train_off_policy
from agilerl.training.train_on_policy import train_on_policy
from agilerl.wrappers.agent import RSNorm
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from mpe2 import simple_speaker_listener_v4, simple_spread_v3, simple_tag_v3

FOLDER = Path(__file__).parent
LIBRARIES = ("agilerl", "torch", "gymnasium", "mpe2", "pettingzoo", "numpy", "dill")
BATCHES = (1, 7)
EPISODE = 4
"""Steps that are recorded of a recurrent policy."""
SEEDS = range(1000, 1020)
GOOD = 475
"""The return from which on CartPole counts as solved."""


class Noise(gym.Env):
    """Observations at random, in episodes of eight steps."""

    def __init__(self, observation_space, action_space):
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = 8
        return self.observation_space.sample(), {}

    def step(self, action):
        self.left -= 1
        reward = float(np.mean(action))
        return self.observation_space.sample(), reward, False, self.left == 0, {}


# --- training ------------------------------------------------------------------------


QUIET = {"eval_loop": 1, "eval_steps": 20, "verbose": False}
COUNT = 4
"""Environments side by side."""


def small(**other):
    return {
        "latent_dim": 12,
        "encoder_config": {"hidden_size": [16]},
        "head_config": {"hidden_size": [16]},
    } | other


def several(make, count=COUNT):
    env = gym.vector.SyncVectorEnv([make] * count)
    env.reset(seed=1)
    return env


def noise(observation_space, action_space):
    return several(lambda: Noise(observation_space, action_space))


def on_policy(algorithm, env, steps, **settings):
    settings = {"learn_step": 256, "num_envs": env.num_envs} | settings
    agent = algorithm(env.single_observation_space, env.single_action_space, **settings)
    return train(agent, env, steps)


def train(agent, env, steps):
    evo = agent.learn_step
    train_on_policy(env, "", "", [agent], max_steps=steps, evo_steps=evo, **QUIET)
    return agent


def until_good(agent):
    """Train for CartPole until the greedy actions balance it."""
    env = cartpole(agent.num_envs)
    for steps in range(80_000, 600_000, 20_000):
        train(agent, env, steps)
        agent.set_training_mode(False)
        if np.mean(returns(agent, range(10))) >= GOOD:
            return agent
    raise RuntimeError("CartPole was not learnt")


def sharpened(agent):
    """Make probabilities of atoms as small as long training does.

    AgileRL raises them to 0.001, which shows only then.
    """
    for name, weights in agent.actor.named_parameters():
        if name.endswith("layer_output.weight_mu"):
            weights.data.mul_(20)
    return agent


def off_policy(algorithm, env, steps, wrapper=lambda agent: agent, **settings):
    agent = wrapper(
        algorithm(env.single_observation_space, env.single_action_space, **settings)
    )
    memory = ReplayBuffer(max_size=10_000)
    train_off_policy(
        env, "", "", [agent], memory, max_steps=steps, evo_steps=500, **QUIET
    )
    return agent


def many(algorithm, env, **settings):
    env.reset(seed=0)
    names = env.possible_agents
    return algorithm(
        spaces.Dict({name: env.observation_space(name) for name in names}),
        spaces.Dict({name: env.action_space(name) for name in names}),
        **settings,
    )


def many_on_policy(algorithm, env, steps, **settings):
    agent = many(algorithm, env, learn_step=200, **settings)
    train_multi_agent_on_policy(
        env, "", "", [agent], max_steps=steps, evo_steps=200, **QUIET
    )
    return agent


def many_off_policy(algorithm, env, steps, **settings):
    agent = many(algorithm, env, **settings)
    memory = ReplayBuffer(max_size=5_000)
    train_multi_agent_off_policy(
        env, "", "", [agent], memory, max_steps=steps, evo_steps=200, **QUIET
    )
    return agent


# --- the agents ----------------------------------------------------------------------


def cartpole(count=COUNT):
    return several(partial(gym.make, "CartPole-v1"), count)


def pendulum():
    return several(partial(gym.make, "Pendulum-v1"))


LSTM = {
    "latent_dim": 12,
    "encoder_config": {"hidden_state_size": 16, "num_layers": 2},
    "head_config": {"hidden_size": [16]},
}
CNN = {"channel_size": [4, 4], "kernel_size": [3, 3], "stride_size": [2, 1]}
IMAGE = spaces.Box(0, 255, (12, 10, 3), np.uint8)
IMAGE_FIRST = spaces.Box(0, 255, (2, 11, 13), np.uint8)
MANY_KINDS = spaces.Dict(
    OrderedDict(
        position=spaces.Box(-1, 1, (3,), np.float32),
        image=spaces.Box(0, 255, (12, 12, 1), np.uint8),
        cell=spaces.Discrete(4),
        depth=spaces.Box(0, 5, (1, 9, 9), np.float32),
        flags=spaces.MultiDiscrete([3, 2]),
    )
)

AGENTS = {
    "ppo_cartpole": lambda: until_good(on_policy(
        PPO, cartpole(8), 60_000, learn_step=2048, lr=1e-3, batch_size=256,
        update_epochs=8, net_config=small(
            latent_dim=16, encoder_config={"hidden_size": [32], "activation": "Tanh"}
        ),
    )),
    "ppo_pendulum": lambda: on_policy(
        PPO, pendulum(), 1_000, share_encoders=False,
        net_config=small(
            encoder_config={"hidden_size": [16], "activation": "GELU",
                            "layer_norm": False},
        ),
    ),
    "ppo_pendulum_squashed": lambda: on_policy(
        PPO, pendulum(), 1_000, net_config=small(squash_output=True)
    ),
    "ppo_image": lambda: on_policy(
        PPO, noise(IMAGE, spaces.MultiDiscrete([3, 2])), 500,
        net_config=small(encoder_config=CNN | {"layer_norm": True}),
    ),
    "ppo_dict": lambda: on_policy(
        PPO, noise(MANY_KINDS, spaces.MultiBinary(3)), 500,
        net_config=small(encoder_config={
            "latent_dim": 8, "vector_space_mlp": True, "cnn_config": CNN,
            "mlp_config": {"hidden_size": [16]},
        }),
    ),
    "ppo_cells": lambda: on_policy(
        PPO, noise(spaces.MultiDiscrete([4, 3]), spaces.Discrete(3)), 500,
        net_config=small(encoder_config={"hidden_size": [16], "activation": "ELU"}),
    ),
    "recurrent_ppo_cartpole": lambda: on_policy(
        RecurrentPPO, cartpole(), 1_000, max_seq_len=8, net_config=copy.deepcopy(LSTM)
    ),
    "recurrent_ppo_image": lambda: on_policy(
        RecurrentPPO, noise(IMAGE_FIRST, spaces.Box(-3, 1, (2,), np.float32)), 500,
        max_seq_len=8, share_encoders=False, net_config=small(
            encoder_config=CNN | {"hidden_state_size": 8}
        ),
    ),
    "dqn_cartpole": lambda: off_policy(DQN, cartpole(), 4_000, net_config=small()),
    "dqn_image": lambda: off_policy(
        DQN, noise(IMAGE_FIRST, spaces.Discrete(4)), 1_000,
        net_config=small(encoder_config=dict(CNN)),
    ),
    "dqn_cell": lambda: off_policy(
        DQN, noise(spaces.Discrete(6), spaces.Discrete(3)), 1_000,
        net_config=small(encoder_config={"hidden_size": [16], "activation": "PReLU"}),
    ),
    "dqn_tuple": lambda: off_policy(
        DQN,
        noise(
            spaces.Tuple([
                spaces.Box(-1, 1, (2,), np.float32),
                spaces.Box(0, 1, (2, 9, 9), np.float32),
                spaces.Discrete(3),
            ]),
            spaces.Discrete(3),
        ),
        1_000,
        net_config=small(encoder_config={"latent_dim": 8, "cnn_config": CNN}),
    ),
    "rainbow_cartpole": lambda: sharpened(off_policy(
        RainbowDQN, cartpole(), 2_000, num_atoms=21, v_min=0.0, v_max=100.0,
        net_config=small(latent_dim=8),
    )),
    "ddpg_pendulum": lambda: off_policy(
        DDPG, pendulum(), 2_000, vect_noise_dim=COUNT, net_config=small()
    ),
    "ddpg_pendulum_normalized": lambda: off_policy(
        DDPG, pendulum(), 2_000, wrapper=RSNorm, vect_noise_dim=COUNT,
        net_config=small(),
    ),
    "td3_pendulum": lambda: off_policy(
        TD3, pendulum(), 2_000, vect_noise_dim=COUNT, net_config={
            "latent_dim": 8, "simba": True,
            "encoder_config": {"hidden_size": 8, "num_blocks": 1},
            "head_config": {"hidden_size": [8], "output_activation": "Sigmoid"},
        },
    ),
    "ippo_tag": lambda: many_on_policy(
        IPPO, simple_tag_v3.parallel_env(max_cycles=25), 600, net_config=small()
    ),
    "maddpg_speaker_listener": lambda: many_off_policy(
        MADDPG, simple_speaker_listener_v4.parallel_env(), 600, net_config=small()
    ),
    "matd3_spread": lambda: many_off_policy(
        MATD3, simple_spread_v3.parallel_env(N=2, continuous_actions=True), 600,
        net_config=small(latent_dim=8),
    ),
}  # fmt: skip
MASKED = {
    "ppo_image", "ppo_dict", "ppo_cells", "recurrent_ppo_cartpole", "dqn_cartpole",
    "dqn_tuple", "rainbow_cartpole", "ippo_tag", "maddpg_speaker_listener",
}  # fmt: skip


# --- what they answer ----------------------------------------------------------------


def numpy(tensor):
    return tensor.detach().cpu().numpy()


def likeliest(logits, space, mask):
    """Return the mode of the distribution that AgileRL makes of `logits`."""
    if mask is not None:
        logits = np.where(mask, logits, -1e8)
    match space:
        case spaces.Discrete():
            return logits.argmax(axis=1)
        case spaces.MultiDiscrete():
            parts = np.split(logits, np.cumsum(space.nvec)[:-1], axis=1)
            return np.stack([part.argmax(axis=1) for part in parts], axis=1)
        case spaces.MultiBinary():
            return (logits > 0).astype(np.int8)


def stochastic(actor, seen, mask, hidden):
    """Return what a `StochasticActor` says, and the next hidden state."""
    latent = actor.extract_features(seen, hidden_state=hidden)
    if hidden is not None:
        latent, hidden = latent
    actor.forward_head(latent, sample=False)
    said, space = actor.head_net.dist, actor.action_space
    if said.mu is None:
        logits = numpy(said.logits)
        outputs = {"action": likeliest(logits, space, mask), "outputs/logits": logits}
        return outputs, hidden
    if actor.squash_output:
        action = numpy(actor.scale_action(torch.tanh(said.mu)))
    else:
        action = numpy(said.mu).clip(space.low, space.high)
    return {
        "action": action,
        "outputs/action": numpy(said.mu),
        "outputs/log_std": numpy(said.log_std),
    }, hidden


def before_activation(actor, seen):
    """Return what the last layer of a `DeterministicActor` says."""
    said = []
    layer = actor.head_net.get_output_dense()
    hook = layer.register_forward_hook(lambda *call: said.append(call[-1]))
    actor(seen)
    hook.remove()
    return numpy(said[0])


def deterministic(actor, seen, mask, answer):
    if isinstance(actor.action_space, spaces.Discrete):
        logits = before_activation(actor, seen)
        action = likeliest(logits, actor.action_space, mask)
        return {"action": action, "outputs/logits": logits}
    # Only this activation is not part of the weights that are served.
    is_tanh = actor.output_activation == "Tanh"
    said = before_activation(actor, seen) if is_tanh else numpy(actor(seen))
    return {"action": answer(), "outputs/action": said}


def q_values(agent, obs, mask):
    greedy = {"training": False} if isinstance(agent, RainbowDQN) else {"epsilon": 0.0}
    action = agent.get_action(obs, action_mask=mask, **greedy)
    agent.actor.eval()
    values = numpy(agent.actor(agent.preprocess_observation(obs)))
    return {"action": np.asarray(action), "outputs/q_values": values}


def single(agent, obs, mask, hidden):
    """Return what `agent` says, and the next hidden state."""
    if isinstance(agent.actor, StochasticActor):
        seen = agent.preprocess_observation(obs)
        return stochastic(agent.actor, seen, mask, hidden)
    if isinstance(agent.actor, DeterministicActor):
        normalised = obs
        if isinstance(agent, RSNorm):
            normalised = agent.normalize_observation(torch.as_tensor(obs))
        seen = agent.preprocess_observation(normalised)
        answer = partial(agent.get_action, obs, training=False)
        return deterministic(agent.actor, seen, mask, answer), None
    return q_values(agent, obs, mask), None


def one_of_many(agent, name, observations, mask):
    network = agent.get_network_id(name)
    seen = agent.preprocess_observation({name: observations[name]}, [network])[network]
    actor = agent.actors[network]
    if isinstance(actor, StochasticActor):
        return stochastic(actor, seen, mask, None)[0]
    return deterministic(
        actor, seen, mask, lambda: agent.get_action(observations)[0][name]
    )


# --- the golden trace ----------------------------------------------------------------


def mask_of(space, rows, rng):
    match space:
        case spaces.Discrete():
            mask = rng.random((rows, space.n)) < 0.6
            mask[np.arange(rows), rng.integers(space.n, size=rows)] = True
        case spaces.MultiDiscrete():
            parts = [mask_of(spaces.Discrete(n), rows, rng) for n in space.nvec]
            mask = np.concatenate(parts, axis=1)
        case _:
            mask = rng.random((rows, *space.shape)) < 0.6
    return mask.astype(np.int8)


def sampled(space, rows, seed):
    batched = batch_space(space, rows)
    batched.seed(seed)
    sample = batched.sample()
    if isinstance(space, spaces.Dict):
        # In the order in which environments have them, which AgileRL goes by.
        return {key: sample[key] for key in space}
    return sample


def leaves(obs, path="obs"):
    match obs:
        case dict():
            return {
                name: leaf
                for key, inner in obs.items()
                for name, leaf in leaves(inner, f"{path}/{key}").items()
            }
        case tuple():
            return leaves({str(i): inner for i, inner in enumerate(obs)}, path)
        case _:
            return {path: obs}


def cases(masked):
    """Yield the number of rows of each case, and whether it has masks."""
    for case, (mask, rows) in enumerate((m, r) for m in masked for r in BATCHES):
        yield f"case{case}", rows, mask, np.random.default_rng(case)


def trace_of_one(agent, masked):
    space, trace = agent.env_observation_space, {}
    for case, rows, with_mask, rng in cases(masked):
        recurrent = getattr(agent, "recurrent", False)
        hidden = agent.get_initial_hidden_state(rows) if recurrent else None
        for step in range(EPISODE if recurrent else 1):
            obs = sampled(space, rows, int(rng.integers(2**31)))
            mask = mask_of(agent.action_space, rows, rng) if with_mask else None
            said, hidden = single(agent, obs, mask, hidden)
            said |= leaves(obs) | ({} if mask is None else {"action_mask": mask})
            for key, state in (hidden or {}).items():
                if not key.startswith("critic"):
                    letter = key.rsplit("_", 1)[1]
                    said[f"outputs/{letter}_next"] = numpy(state).swapaxes(0, 1)
            trace |= {f"{case}/step{step}/{what}": it for what, it in said.items()}
    return trace


def trace_of_many(agent, masked):
    trace = {}
    for case, rows, with_mask, rng in cases(masked):
        observations = {
            name: sampled(space, rows, int(rng.integers(2**31)))
            for name, space in agent.env_observation_spaces.items()
        }
        for name in agent.agent_ids:
            space = agent.possible_action_spaces[name]
            mask = mask_of(space, rows, rng) if with_mask else None
            said = one_of_many(agent, name, observations, mask)
            said |= leaves(observations[name])
            said |= {} if mask is None else {"action_mask": mask}
            place = f"{case}/step0/agents/{name}"
            trace |= {f"{place}/{what}": it for what, it in said.items()}
    return trace


@torch.no_grad()
def returns(agent, seeds):
    """Return the sum of rewards of an episode for each of `seeds`."""
    sums = []
    for seed in seeds:
        env = gym.make("CartPole-v1")
        obs, _ = env.reset(seed=seed)
        over, total = False, 0.0
        while not over:
            said, _ = single(agent, obs[None], None, None)
            obs, reward, terminated, truncated, _ = env.step(int(said["action"][0]))
            total, over = total + float(reward), terminated or truncated
        sums.append(total)
    return sums


@torch.no_grad()
def record(name, agent):
    agent.set_training_mode(False)
    masked = (False, True) if name in MASKED else (False,)
    trace = trace_of_many if hasattr(agent, "agent_ids") else trace_of_one
    np.savez_compressed(FOLDER / f"{name}.npz", **trace(agent, masked))
    if name == "ppo_cartpole":
        sums = returns(agent, SEEDS)
        text = json.dumps({"seeds": list(SEEDS), "returns": sums})
        (FOLDER / "ppo_cartpole_returns.json").write_text(text + "\n")


def main(names):
    torch.set_num_threads(1)
    for name in names or AGENTS:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 -- AgileRL draws from it
        torch.manual_seed(1)
        agent = AGENTS[name]()
        agent.save_checkpoint(str(FOLDER / f"{name}.pt"))
        record(name, agent)
    lines = [f"{library}=={version(library)}\n" for library in LIBRARIES]
    (FOLDER / "versions.txt").write_text("".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
