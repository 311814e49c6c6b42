"""What a checkpoint says of itself: its manifest, and the spaces it was trained in.

The bundle that carries it, and its JSON form, are described in `docs/bundle.md`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family, shown

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip
"""Names of NumPy's fixed-size numeric dtypes, the only ones that travel."""


def _dtype(_: object, attribute: object, value: str) -> None:
    del attribute
    if value not in DTYPES:
        raise Rejected(
            f"The dtype {shown(value)} is not supported: "
            f"use one of {', '.join(DTYPES)}.",
            field="dtype",
        )


@frozen
class Box:
    """A box in R^n.  A bound of None is infinite; bounds are in C order, flat."""

    shape: tuple[int, ...]
    dtype: str = field(validator=_dtype)
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@frozen
class Discrete:
    """The integers `start`, ..., `start + n - 1`."""

    n: int
    start: int = 0
    dtype: str = field(default="int64", validator=_dtype)


@frozen
class MultiDiscrete:
    """Vectors of integers: entry i is one of `nvec[i]` from `start[i]` on."""

    nvec: tuple[int, ...]
    start: tuple[int, ...]
    dtype: str = field(default="int64", validator=_dtype)


@frozen
class MultiBinary:
    """Arrays of zeros and ones, int8."""

    shape: tuple[int, ...]


@frozen
class Dict:
    """One space for each key."""

    spaces: Mapping[str, "Space"]


@frozen
class Tuple:
    """One space for each place."""

    spaces: tuple["Space", ...]


LeafSpace: TypeAlias = Box | Discrete | MultiDiscrete | MultiBinary
"""A space whose elements are one array."""
Space: TypeAlias = LeafSpace | Dict | Tuple


class Head(Enum):
    """What the first output of the weights means, hence how an answer comes of it.

    LOGITS: float, (B, n) for a Discrete, (B, sum of nvec) for a MultiDiscrete, the
    shape of the space for a MultiBinary; the greedy action is the most likely one.
    Q_VALUES: float (B, n), the greedy action is the first of the largest.
    ACTION: the action itself, (B, ...) as the action space has it; for a Box what
    its transform makes of it, clipped to the bounds.
    OUTPUT: a prediction, passed on as it is (supervised).
    """

    LOGITS = "logits"
    Q_VALUES = "q_values"
    ACTION = "action"
    OUTPUT = "output"


@frozen
class TensorSpec:
    """One input or output of the weights.

    `shape` begins with the batch axis; None is a free axis.
    """

    name: str
    dtype: str = field(validator=_dtype)
    shape: tuple[int | None, ...]


@frozen
class Signature:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@frozen
class Normaliser:
    """How one array of an observation is prepared before the weights see it.

    y = clip((x - mean) / sqrt(variance + epsilon), -clip, clip); each of `mean`
    and `variance` has one number for each element of the array, in C order.
    """

    mean: tuple[float, ...]
    variance: tuple[float, ...]
    epsilon: float = 1e-8
    clip: float | None = None


class Squash(Enum):
    """A function that brings what the weights say of an action into an interval."""

    TANH = "tanh"


@frozen
class ActionTransform:
    """How an action of a Box comes of the first output.

    First `squash`, then `rescale_from` = (a, b), which maps a to the lower bound of
    the space and b to the upper one, in a straight line.  Each can be left out.
    """

    squash: Squash | None = None
    rescale_from: tuple[float, float] | None = None


@frozen
class HiddenState:
    """One array that a recurrent policy hands from a step to the next.

    The output of this step is the input of the next; zeros begin an episode.  Both
    have the batch as their first axis, one dtype and one shape.
    """

    input: str
    output: str


@frozen
class Policy:
    """One file of weights, and how an answer comes of an observation by them."""

    weights: str
    """The name of the file in the bundle that holds the weights."""
    signature: Signature
    """First the arrays of an observation, in the order of its space, then the hidden
    states; the first output is the one that the head is about."""
    head: Head
    observation_space: Space | None = None
    action_space: LeafSpace | None = None
    normalisers: Mapping[str, Normaliser] = field(factory=dict)
    """By the path of the array in the observation; `""` if that is one array."""
    transform: ActionTransform = ActionTransform()
    log_std: str | None = None
    """The output with the logarithm of the standard deviation of a Box action, before
    its transform; None: such an action cannot be sampled."""
    hidden_states: tuple[HiddenState, ...] = ()


@frozen
class Decoder:
    """Frozen weights that make the answer of what a latent policy says."""

    weights: str
    signature: Signature


@frozen
class Manifest:
    """The content of `checkpoint.json`, understood."""

    format_version: int
    algorithm: str
    family: Family
    policies: Mapping[str, Policy]
    """By name; a single-agent checkpoint has one, called `policy`."""
    agents: Mapping[str, str] = field(factory=dict)
    """The policy of each agent, by the id of the agent; none if single-agent."""
    decoder: Decoder | None = None
    golden: bool = False
    """Whether the bundle holds a golden trace, `golden.npz`."""

    @property
    def policy(self) -> Policy:
        """The only policy of a single-agent checkpoint."""
        (policy,) = self.policies.values()
        return policy

    @property
    def weights(self) -> Mapping[str, Signature]:
        """The signature of each file of weights, by its name."""
        files = {part.weights: part.signature for part in self.policies.values()}
        if self.decoder is not None:
            files[self.decoder.weights] = self.decoder.signature
        return files

    @property
    def is_multi_agent(self) -> bool:
        return bool(self.agents)

    @property
    def is_recurrent(self) -> bool:
        return any(policy.hidden_states for policy in self.policies.values())
