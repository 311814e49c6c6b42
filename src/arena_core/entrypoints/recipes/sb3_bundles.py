"""What is kept of a model of Stable-Baselines3: a bundle, and what to go on from."""

from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecTransposeImage,
    is_vecenv_wrapped,
)

from arena_core.adapters.converters import child, sb3
from arena_core.application import golden
from arena_core.application.conversion import (
    MODEL_FILE,
    STATISTICS_FILE,
    TRACE_FILE,
    Converted,
    Options,
)
from arena_core.application.golden import GoldenTrace
from arena_core.entrypoints.recipes.sb3_environments import normalised


def save(model: BaseAlgorithm, folder: Path, trace: GoldenTrace) -> None:
    """Write into `folder` all that it takes to go on from here, but experience."""
    save_model(model, folder)
    (folder / TRACE_FILE).write_bytes(golden.write(trace))


def save_model(model: BaseAlgorithm, folder: Path) -> None:
    """Write into `folder` what a bundle is made of."""
    with (folder / MODEL_FILE).open("wb") as file:
        model.save(file)
    scaler = model.get_vec_normalize_env()
    if scaler is not None:
        scaler.save(str(folder / STATISTICS_FILE))


def bundle(saved: Path, model: BaseAlgorithm, folder: Path) -> None:
    """Write the bundle of what was saved in `saved` into `folder`."""
    child.write(folder, converted(saved, model))


def converted(saved: Path, model: BaseAlgorithm) -> Converted:
    """Return the parts of the bundle.  Raises `Rejected` for what has no ONNX here."""
    env = model.get_env()
    turned = env is not None and is_vecenv_wrapped(env, VecTransposeImage)
    return sb3.convert(saved, Options(channels_last=turned), lambda _: None)


def restored(
    kind: type[BaseAlgorithm], saved: Path, env: VecEnv, device: str
) -> BaseAlgorithm:
    """Return the model that was saved, in new episodes of `env`, without experience.

    What it reads is pickled: only what this recipe has saved itself.
    """
    statistics = saved / STATISTICS_FILE
    if statistics.exists():
        env = normalised(env, training=True, statistics=statistics)
    with (saved / MODEL_FILE).open("rb") as file:
        return kind.load(file, env=env, device=device)
