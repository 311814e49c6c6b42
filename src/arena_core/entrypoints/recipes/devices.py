"""The device that a training asks for."""

import torch

from arena_core.domain.errors import Rejected


def use_one_thread() -> None:
    """Let PyTorch compute with one thread.

    Networks of this size are no faster with more, which on a busy machine wait for
    each other, and how many there are would show in the last bits of the weights.
    """
    torch.set_num_threads(1)


def device_of(name: str) -> torch.device:
    """Return the device; `auto`: that of CUDA, if there is one.

    Raises `Rejected` if CUDA is asked for and is not there.
    """
    has_cuda = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise Rejected(
            "There is no device of CUDA here: choose cpu or auto.",
            field="config.device",
        )
    return torch.device("cuda" if has_cuda else "cpu")
