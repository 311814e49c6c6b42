"""What users may say to a recipe: its settings, with their limits and defaults."""

import re
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Seed: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Width: TypeAlias = Annotated[int, Meta(ge=1, le=4096)]
Layers: TypeAlias = Annotated[tuple[Width, ...], Meta(max_length=16)]
Rate: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Share: TypeAlias = Annotated[float, Meta(ge=0.05, le=0.5)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=10**9)]
Device: TypeAlias = Literal["auto", "cpu", "cuda"]


Steps: TypeAlias = Annotated[int, Meta(ge=1, le=10**15)]
Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4096)]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)
Arguments: TypeAlias = Annotated[dict[str, Any], Meta(max_length=100)]


class Command(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the recipe `command`.

    `argv`: the program and its arguments; no shell reads them.  `env`: variables that
    it gets beside those of the run protocol.
    """

    argv: Annotated[list[Word], Meta(min_length=1, max_length=1000)]
    env: Annotated[dict[str, Word], Meta(max_length=200)] = {}
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no operating system takes."""
        if not all(map(_VARIABLE.fullmatch, self.env)):
            raise ValueError("name variables in env by letters, digits and underscores")
        if "\0" in "".join([*self.argv, *self.env.values()]):
            raise ValueError("leave NUL characters out of argv and env")


class Sb3(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the recipe `sb3`.  A step is one of the environment.

    `total_steps`: unless the training itself was given a number.  `n_envs`: copies of
    the environment, side by side.  `policy`: the kind of network; `auto` goes by the
    observations.  `activation`: between layers; the algorithm's own if it is left out.
    `hyperparameters`: arguments of the algorithm, by its own names for them.
    `env_kwargs`: arguments of the environment.  `normalise`: whether observations and
    rewards are scaled by their running mean and spread.  `evaluate_every` and
    `checkpoint_every`: steps; a tenth of all if left out.  `eval_episodes`: of the
    greedy policy, in each evaluation.  `max_replay_bytes`: of the experience that is
    kept with a checkpoint to go on with; a larger one is collected anew.
    """

    total_steps: Steps = 50_000
    n_envs: Annotated[int, Meta(ge=1, le=256)] = 1
    policy: Literal["auto", "mlp", "cnn", "multi_input"] = "auto"
    activation: Literal["elu", "leaky_relu", "relu", "tanh"] | None = None
    hyperparameters: Arguments = {}
    env_kwargs: Arguments = {}
    normalise: bool = False
    evaluate_every: Steps | None = None
    eval_episodes: Annotated[int, Meta(ge=1, le=1000)] = 10
    checkpoint_every: Steps | None = None
    max_replay_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 64 << 20
    seed: Seed = 0
    device: Device = "cpu"


class Agilerl(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the recipe `agilerl`.  A step is one of an environment.

    `manifest`: as `arena experiments submit` sends it.  `resource_id`, `num_nodes`:
    the machines that the client has asked for; kept, and not used.
    `checkpoint_every`: steps; a tenth of all if it is left out.
    """

    manifest: dict[str, Any]
    resource_id: str | int | None = None
    num_nodes: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    checkpoint_every: Steps | None = None
    seed: Seed = 0
    device: Device = "cpu"


class Supervised(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the recipe `supervised`.  A step is an epoch: every row once.

    `task`: `auto` sees it from the target: words, or a few whole numbers, are
    classes.  `target`: the column that is learned; the last one if it is left out.
    `layers`: widths before the latent vector, for images after the convolutions.
    `latent_dim`: the width of the latent vector.  `channels`: of the convolutions,
    for images.  `validation`: the share of the rows that is held back.
    `checkpoint_every`: epochs; a quarter of them if it is left out.
    """

    task: Literal["auto", "classification", "regression"] = "auto"
    target: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    layers: Layers = (64,)
    channels: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=6)] = (16, 32)
    latent_dim: Annotated[int, Meta(ge=1, le=1024)] = 8
    epochs: Count = 60
    batch_size: Annotated[int, Meta(ge=1, le=65536)] = 32
    learning_rate: Rate = 3e-3
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 1e-4
    validation: Share = 0.2
    checkpoint_every: Count | None = None
    seed: Seed = 0
    device: Device = "auto"


class LatentPpo(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the recipe `latent_ppo`.  A step is one row that the policy has answered.

    `penalty`: how much the mean square of a latent action costs, beside the reward
    of the answer that the decoder makes of it.  `rows`: answered before each update,
    `passes`: how often an update goes through them.  `checkpoint_every`: steps; a
    quarter of all if it is left out.  The rest as in `supervised`.
    """

    task: Literal["auto", "classification", "regression"] = "auto"
    target: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    layers: Layers = (64, 64)
    total_steps: Count = 20_480
    rows: Annotated[int, Meta(ge=8, le=65536)] = 512
    passes: Annotated[int, Meta(ge=1, le=100)] = 10
    batch_size: Annotated[int, Meta(ge=2, le=65536)] = 64
    learning_rate: Rate = 1e-3
    clip_range: Annotated[float, Meta(gt=0, le=1)] = 0.2
    entropy: Annotated[float, Meta(ge=0, le=1)] = 0.0
    penalty: Annotated[float, Meta(ge=0, le=10)] = 0.01
    validation: Share = 0.2
    checkpoint_every: Count | None = None
    seed: Seed = 0
    device: Device = "cpu"
