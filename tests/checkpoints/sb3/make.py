"""Trains the checkpoints beside this file, and records what SB3 itself answers.

Run it where the releases in `versions.txt` are installed (no arena-core is needed):

    pip install -r versions.txt
    python make.py                   # or: python make.py sac_pendulum ppo_dict

For each name it writes `<name>.zip`, as `model.save` does it, and `<name>.npz`, a
golden trace of `model.predict(deterministic=True)`; where observations are
normalised, also `<name>.pkl`, as `VecNormalize.save` does it.  Only the policy that
balances CartPole is really trained, and `ppo_cartpole_returns.json` holds what it
earns.  The state of the optimisers is left out, for it would be half of each file.
What cannot be converted lies in `refused/`, without a trace.
"""

import json
import platform
import sys
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

HERE = Path(__file__).parent
SEED = 3
BATCHES = (1, 7)
EPISODE_STEPS = 4
RETURNS_SEEDS = range(1000, 1020)
SMALL = {"net_arch": {"pi": [16, 16], "vf": [8]}}
TINY_ON_POLICY = {"n_steps": 32, "seed": SEED, "device": "cpu"}
TINY_OFF_POLICY = {
    "learning_starts": 100, "buffer_size": 1000, "seed": SEED, "device": "cpu",
    "train_freq": 4, "batch_size": 32,
}  # fmt: skip


class Noise(gymnasium.Env):
    """Random observations of any space, to be answered by actions of any other."""

    def __init__(self, observation_space, action_space):
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        del options
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        reward = float(np.sum(action))
        ended = bool(self.np_random.random() < 0.1)
        return self.observation_space.sample(), reward, ended, False, {}

    def action_masks(self):
        return _masks(self.action_space, 1, self.np_random)[0]


def _noise(observation_space, action_space):
    return make_vec_env(lambda: Noise(observation_space, action_space), seed=SEED)


def _masks(space, rows, rng):
    """Return random masks (rows, actions) in which each part has a legal action."""
    sizes = [space.n] if isinstance(space, spaces.Discrete) else list(space.nvec)
    parts = []
    for size in sizes:
        part = rng.random((rows, size)) < 0.5
        part[np.arange(rows), rng.integers(size, size=rows)] = True
        parts.append(part)
    return np.concatenate(parts, axis=1)


# --- the checkpoints -------------------------------------------------------------


def ppo_cartpole():
    model = PPO(
        "MlpPolicy", make_vec_env("CartPole-v1", n_envs=8, seed=SEED), n_steps=128,
        batch_size=256, n_epochs=10, learning_rate=1e-3, gae_lambda=0.9, gamma=0.98,
        policy_kwargs={"net_arch": {"pi": [32, 32], "vf": [32, 32]}}, seed=SEED,
        device="cpu",
    )  # fmt: skip
    test = make_vec_env("CartPole-v1", seed=99)
    for _ in range(20):
        model.learn(10_240, reset_num_timesteps=False)
        if evaluate_policy(model, test, 20)[0] == 500:
            break
    returns = _cartpole_returns(model)
    (HERE / "ppo_cartpole_returns.json").write_text(json.dumps(returns) + "\n")
    return model


def _cartpole_returns(model):
    """Return what each episode earns, from `reset(seed=...)` on."""
    env = gymnasium.make("CartPole-v1")
    returns = []
    for seed in RETURNS_SEEDS:
        obs, _ = env.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            action, _ = model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(int(action))
            total, ended = total + reward, terminated or truncated
        returns.append(total)
    return {"seeds": list(RETURNS_SEEDS), "returns": returns}


def a2c_multidiscrete():
    """Observations and actions of MultiDiscrete, ELU, an actor of one layer."""
    env = _noise(spaces.MultiDiscrete([3, 5]), spaces.MultiDiscrete([3, 2, 4]))
    kwargs = {"net_arch": {"pi": [16], "vf": [8, 8]}, "activation_fn": torch.nn.ELU}
    model = A2C("MlpPolicy", env, policy_kwargs=kwargs, **TINY_ON_POLICY)
    return model.learn(320)


def a2c_multibinary():
    """Discrete observations, MultiBinary actions, no shared features."""
    env = _noise(spaces.Discrete(6), spaces.MultiBinary(4))
    kwargs = {**SMALL, "share_features_extractor": False}
    return A2C("MlpPolicy", env, policy_kwargs=kwargs, **TINY_ON_POLICY).learn(320)


def ppo_pendulum_normalized():
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=SEED), clip_obs=5.0)
    model = PPO("MlpPolicy", env, policy_kwargs=SMALL, **TINY_ON_POLICY).learn(512)
    return model, env


def ppo_pendulum_sde():
    """State-dependent exploration, with a squashed mean."""
    env = make_vec_env("Pendulum-v1", seed=SEED)
    kwargs = {**SMALL, "squash_output": True}
    model = PPO("MlpPolicy", env, use_sde=True, policy_kwargs=kwargs, **TINY_ON_POLICY)
    return model.learn(128)


def dqn_cartpole():
    env = make_vec_env("CartPole-v1", seed=SEED)
    kwargs = {"net_arch": [32, 16]}
    return DQN("MlpPolicy", env, policy_kwargs=kwargs, **TINY_OFF_POLICY).learn(2000)


def sac_pendulum():
    return _pendulum(SAC)


def sac_pendulum_sde():
    return _pendulum(SAC, use_sde=True)


def td3_pendulum():
    return _pendulum(TD3)


def ddpg_pendulum():
    return _pendulum(DDPG)


def _pendulum(algorithm, **options):
    env = make_vec_env("Pendulum-v1", seed=SEED)
    kwargs = {"net_arch": {"pi": [16, 16], "qf": [8]}}
    model = algorithm(
        "MlpPolicy", env, policy_kwargs=kwargs, **TINY_OFF_POLICY, **options
    )
    return model.learn(600)


def tqc():
    """Actions of a matrix, each between bounds of its own."""
    low, high = np.array([[-1, 0], [2, -3]]), np.array([[1, 5], [2.5, -1]])
    actions = spaces.Box(low, high, dtype=np.float64)
    env = _noise(spaces.Box(-np.inf, np.inf, (3,), np.float32), actions)
    kwargs = {"net_arch": {"pi": [8], "qf": [8]}, "n_critics": 1, "n_quantiles": 5}
    return TQC("MlpPolicy", env, policy_kwargs=kwargs, **TINY_OFF_POLICY).learn(200)


def trpo():
    """Actions of a matrix, without any hidden layer."""
    actions = spaces.Box(-0.1, 0.1, (2, 2), np.float32)
    env = _noise(spaces.Box(0, 9, (4,), np.int32), actions)
    kwargs = {"net_arch": [], "log_std_init": -1.0}
    model = TRPO("MlpPolicy", env, policy_kwargs=kwargs, **TINY_ON_POLICY)
    return model.learn(256)


def qrdqn():
    env = make_vec_env("CartPole-v1", seed=SEED)
    kwargs = {"net_arch": [8], "n_quantiles": 3}
    return QRDQN("MlpPolicy", env, policy_kwargs=kwargs, **TINY_OFF_POLICY).learn(200)


def recurrent_ppo():
    """A critic with an LSTM of its own."""
    env = make_vec_env("CartPole-v1", n_envs=2, seed=SEED)
    kwargs = {**SMALL, "lstm_hidden_size": 12}
    model = RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=kwargs, **TINY_ON_POLICY)
    return model.learn(512)


def recurrent_ppo_shared():
    """Two layers that the critic uses too, and actions of a Box."""
    env = make_vec_env("Pendulum-v1", n_envs=2, seed=SEED)
    kwargs = {
        **SMALL, "lstm_hidden_size": 8, "n_lstm_layers": 2, "shared_lstm": True,
        "enable_critic_lstm": False,
    }  # fmt: skip
    model = RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=kwargs, **TINY_ON_POLICY)
    return model.learn(256)


def maskable_ppo():
    env = _noise(spaces.Box(-2, 2, (2, 3), np.float64), spaces.Discrete(5))
    model = MaskablePPO("MlpPolicy", env, policy_kwargs=SMALL, **TINY_ON_POLICY)
    return model.learn(256)


def maskable_ppo_multidiscrete():
    env = _noise(spaces.MultiBinary(3), spaces.MultiDiscrete([3, 4]))
    model = MaskablePPO("MlpPolicy", env, policy_kwargs=SMALL, **TINY_ON_POLICY)
    return model.learn(256)


def ppo_image():
    """Images of one channel, which SB3 turns to (1, 36, 36); features not shared."""
    env = _noise(spaces.Box(0, 255, (36, 36, 1), np.uint8), spaces.Discrete(3))
    kwargs = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}
    return PPO("CnnPolicy", env, policy_kwargs=kwargs, **TINY_ON_POLICY).learn(64)


def ppo_dict():
    """An image, a normalised vector and an integer."""
    space = spaces.Dict(
        {
            "vector": spaces.Box(-50, 50, (3,), np.float32),
            "a key": spaces.Discrete(4),
            "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
        }
    )
    env = VecNormalize(_noise(space, spaces.Discrete(3)), norm_obs_keys=["vector"])
    kwargs = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}
    model = PPO("MultiInputPolicy", env, policy_kwargs=kwargs, **TINY_ON_POLICY)
    return model.learn(64), env


CHECKPOINTS = (
    ppo_cartpole, a2c_multidiscrete, a2c_multibinary, ppo_pendulum_normalized,
    ppo_pendulum_sde, dqn_cartpole, sac_pendulum, sac_pendulum_sde, td3_pendulum,
    ddpg_pendulum, tqc, trpo, recurrent_ppo, recurrent_ppo_shared, maskable_ppo,
    maskable_ppo_multidiscrete, ppo_image, ppo_dict,
)  # fmt: skip
REFUSED = (qrdqn,)


# --- recording -------------------------------------------------------------------


def record(model, normalize):
    """Return the members of a golden trace, as SB3's own `predict` answers."""
    members = {}
    space = model.observation_space
    space.seed(SEED)
    rng = np.random.default_rng(SEED)
    for case, rows in enumerate(BATCHES):
        state, start = None, np.ones(rows, bool)
        for step in range(EPISODE_STEPS):
            obs = _batch(space, [space.sample() for _ in range(rows)])
            masks = None
            if isinstance(model, MaskablePPO):
                masks = _masks(model.action_space, rows, rng)
            action, state, outputs = _answer(model, normalize(obs), state, start, masks)
            start[:] = False
            recorded = {**_flat(obs), "action": action, **outputs}
            if masks is not None:
                recorded["action_mask"] = masks
            for what, array in recorded.items():
                members[f"case{case}/step{step}/{what}"] = array
            if state is None:
                break  # without a memory one step is as good as four
    return members


def _batch(space, samples):
    if isinstance(space, spaces.Dict):
        return {
            key: _batch(space[key], [sample[key] for sample in samples])
            for key in space.spaces
        }
    return np.stack(samples).astype(space.dtype)


def _flat(obs):
    if isinstance(obs, dict):
        return {f"obs/{_plain(key)}": array for key, array in obs.items()}
    return {"obs": obs}


def _plain(key):
    kept = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
    return "".join(c if c in kept else "_" for c in key)


def _answer(model, obs, state, start, masks):
    """Return the action, the next state, and what the last layers said meanwhile."""
    outputs, hooks = {}, []

    def keep(name):
        def hook(_module, _inputs, output):
            array = output.numpy().copy()
            if isinstance(model.action_space, spaces.Box):
                array = array.reshape(-1, *model.action_space.shape)
            outputs[f"outputs/{name}"] = array

        return hook

    for name, module in _last_layers(model).items():
        hooks.append(module.register_forward_hook(keep(name)))
    masked = {} if masks is None else {"action_masks": masks}
    action, state = model.predict(
        obs, state=state, episode_start=start, deterministic=True, **masked
    )
    for hook in hooks:
        hook.remove()
    if state is not None:
        for name, array in zip(("h_next", "c_next"), state, strict=True):
            outputs[f"outputs/{name}"] = array.swapaxes(0, 1).copy()
    return action, state, outputs


def _last_layers(model):
    policy = model.policy
    if isinstance(model, DQN):
        return {"q_values": policy.q_net.q_net}
    if isinstance(model, TD3):  # DDPG is one
        return {"action": policy.actor.mu}
    if isinstance(model, (SAC, TQC)):
        if model.use_sde:
            return {"mean": policy.actor.mu}
        return {"mean": policy.actor.mu, "log_std": policy.actor.log_std}
    is_box = isinstance(model.action_space, spaces.Box)
    return {"mean" if is_box else "logits": policy.action_net}


# --- writing ---------------------------------------------------------------------


def make(checkpoint):
    made = checkpoint()
    model, normalizer = made if isinstance(made, tuple) else (made, None)
    name = checkpoint.__name__
    _forget_optimisers(model)
    model.save(HERE / f"{name}.zip")
    if normalizer is None:
        trace = record(model, lambda obs: obs)
    else:
        normalizer.save(HERE / f"{name}.pkl")
        trace = record(model, normalizer.normalize_obs)
    np.savez_compressed(HERE / f"{name}.npz", **trace)


def make_refused(checkpoint):
    model = checkpoint()
    _forget_optimisers(model)
    model.save(HERE / "refused" / f"{checkpoint.__name__}.zip")


def _forget_optimisers(model):
    names, _ = model._get_torch_save_params()
    for name in names:
        if name.endswith("optimizer"):
            optimizer = model
            for part in name.split("."):
                optimizer = getattr(optimizer, part)
            optimizer.state.clear()


if __name__ == "__main__":
    torch.set_num_threads(1)
    # SB3 keeps these in each file, and the kernel at hand is no part of a policy.
    platform.platform = lambda: "an operating system"
    platform.version = lambda: "of some version"
    wanted = sys.argv[1:]
    for making, checkpoints in ((make, CHECKPOINTS), (make_refused, REFUSED)):
        for checkpoint in checkpoints:
            if not wanted or checkpoint.__name__ in wanted:
                making(checkpoint)
                sys.stdout.write(f"{checkpoint.__name__}\n")
