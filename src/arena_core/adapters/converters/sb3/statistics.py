"""The running statistics that `VecNormalize.save` writes, a pickle of the object."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from arena_core.adapters.converters.pickles import Stub
from arena_core.adapters.converters.torch_files import read_pickle
from arena_core.application.conversion import STATISTICS_FILE
from arena_core.domain.checkpoint import Normaliser
from arena_core.domain.errors import Rejected

_NORMALIZE = ("stable_baselines3.common.vec_env.vec_normalize", "VecNormalize")
_MEAN = ("stable_baselines3.common.running_mean_std", "RunningMeanStd")


def read(data: bytes) -> Mapping[str, Normaliser]:
    """Return how each array of an observation is normalised, by its key in the Dict.

    The key is `""` if the observation is one array.  Raises `Rejected`, which names
    the file of statistics, if `data` is no pickle of a `VecNormalize`.
    """
    try:
        state = _state(read_pickle(data), _NORMALIZE)
    except Rejected as error:
        raise _unreadable() from error
    try:
        if not state["norm_obs"]:
            return {}
        statistics = state["obs_rms"]
        if not isinstance(statistics, dict):
            return {"": _normaliser(statistics, state)}
        return {str(key): _normaliser(part, state) for key, part in statistics.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unreadable() from error


def _normaliser(found: object, settings: Mapping[str, Any]) -> Normaliser:
    state = _state(found, _MEAN)
    mean, variance = (
        np.asarray(state[name], np.float64).ravel() for name in ("mean", "var")
    )
    epsilon, clip = float(settings["epsilon"]), float(settings["clip_obs"])
    if (
        not np.isfinite([*mean, *variance, epsilon]).all()
        or mean.shape != variance.shape
        or (variance < 0).any()
        or np.isnan(clip)
    ):
        raise _unreadable()
    return Normaliser(
        tuple(mean.tolist()),
        tuple(variance.tolist()),
        epsilon,
        clip if np.isfinite(clip) else None,
    )


def _state(found: object, name: tuple[str, str]) -> dict[str, Any]:
    if isinstance(found, Stub) and (found.module, found.name) == name:
        state = found.state
        if isinstance(state, dict):
            return state
    raise _unreadable()


def _unreadable() -> Rejected:
    return Rejected(
        "The statistics file is damaged, or not that of a VecNormalize: save it with "
        "VecNormalize.save and give that.",
        field=STATISTICS_FILE,
    )
