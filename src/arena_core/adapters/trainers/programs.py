"""What is started for a training, and what it may use."""

import os
from collections.abc import Mapping, Sequence

from attrs import field, frozen

PASSED_ON = (
    "CUDA_VISIBLE_DEVICES", "DYLD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL",
    "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TZ", "USER", "VIRTUAL_ENV",
)  # fmt: skip
"""Variables of the server that a training gets too: none of them is a secret."""


@frozen
class Program:
    """A program and what is added to its environment."""

    argv: Sequence[str]
    """The program, found by PATH or a path, and its arguments."""
    environment: Mapping[str, str] = field(factory=dict)
    """Beside the variables of the run protocol, which it cannot change."""


@frozen
class Limits:
    """What one training may use before it is ended."""

    wall_s: float | None = None
    folder_bytes: int = 20 << 30
    """Of all that it writes into its own folder."""
    files: int = 100_000
    file_bytes: int = 20 << 30
    """Of one file, wherever it writes it."""
    open_files: int = 4096
    memory_bytes: int | None = None
    """Of all its processes together, without what they share with files; where the
    system says it."""
    log_bytes: int = 16 << 20
    """Of what it prints, of which the end is kept."""
    grace_s: float = 10.0
    """Between the request to stop and the end by force."""
    threads: int = 2
    """That a library of mathematics starts, unless the program sets it otherwise."""


def environment(
    program: Program, variables: Mapping[str, str], limits: Limits
) -> dict[str, str]:
    """Return all variables that a training gets, and no other ones."""
    own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    threads = str(limits.threads)
    return {
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
        "PYTHONUNBUFFERED": "1",  # or its log would lag behind
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        **own,
        **program.environment,
        **variables,
    }
