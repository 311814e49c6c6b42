"""What a model cannot say of itself, as whoever imports it has written it down.

`spaces.json` holds keys of `checkpoint.json`: `observation_space` in any case,
`action_space` and `algorithm` for a policy, and whatever else the model leaves open.
Programs of torch have no names for what they return; `outputs` gives them.
"""

from pathlib import Path
from typing import Any

from msgspec import Struct

from arena_core.application import strict_json
from arena_core.application.conversion import SPACES_FILE, Options
from arena_core.application.manifests import MOST_BYTES, MOST_LEVELS
from arena_core.domain.algorithms import family_of
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.values import Family


class Framework(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: str
    version: str


class NextState(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    input: str
    output: str


class Description(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The content of `spaces.json`; None is left to the model."""

    observation_space: dict[str, Any] | None = None
    action_space: dict[str, Any] | None = None
    algorithm: str | None = None
    family: str | None = None
    head: str | None = None
    normaliser: dict[str, Any] | None = None
    hidden_state: list[NextState] | None = None
    action_transform: dict[str, Any] | None = None
    log_std: str | None = None
    outputs: list[str] | None = None
    framework: Framework | None = None
    provenance: dict[str, Any] | None = None


def read(folder: Path, options: Options) -> Description:
    """Return what is written in the folder of the order.

    `algorithm`, which `options` may say instead, and `family` are set in it.  Raises
    `Rejected`, which names the key and says what to write.
    """
    if options.channels_last:
        raise Rejected(
            "The order of the axes cannot be changed in a finished model: transpose "
            "inside of it before you export, and leave out channels_last.",
            field="channels_last",
        )
    described = _read(folder / SPACES_FILE)
    if described.observation_space is None:
        raise _missing("observation_space", "the space of what the model is given")
    algorithm = options.algorithm or described.algorithm
    if algorithm is None:
        raise _missing("algorithm", "what trained the model, such as PPO")
    family = described.family or family_of(algorithm).value
    if family not in {Family.RL.value, Family.SUPERVISED.value}:
        raise Rejected(
            f"The {SPACES_FILE} says an algorithm or a family that cannot be imported "
            "from a single model: write the family rl or supervised.",
            field="family",
        )
    if family == Family.RL.value and described.action_space is None:
        raise _missing("action_space", "the space of the actions")
    return Description(
        **{
            **{name: getattr(described, name) for name in described.__struct_fields__},
            "algorithm": algorithm,
            "family": family,
        }
    )


def _read(file: Path) -> Description:
    if not file.exists():
        raise Rejected(
            f"The file {SPACES_FILE} is missing: write the observation_space, the "
            "algorithm and, for a policy, the action_space into it, and give it with "
            "--spaces FILE on the command line, as spaces from Python, and over HTTP "
            f"as {SPACES_FILE} beside the model.",
            field=SPACES_FILE,
        )
    data = file.read_bytes()
    if len(data) > MOST_BYTES:
        raise TooLarge(
            f"The {SPACES_FILE} has {len(data)} bytes: use at most {MOST_BYTES}.",
            field=SPACES_FILE,
        )
    try:
        obj = strict_json.decode(data, most_levels=MOST_LEVELS)
    except Rejected as error:
        problem = str(error).removeprefix("It ")
        raise Rejected(f"The {SPACES_FILE} {problem}", field=SPACES_FILE) from error
    return strict_json.convert(obj, Description, at=SPACES_FILE)


def _missing(key: str, meaning: str) -> Rejected:
    return Rejected(
        f"The {key} is missing: write it into {SPACES_FILE}, {meaning}.", field=key
    )
