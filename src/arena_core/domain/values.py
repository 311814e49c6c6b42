"""Values that several aggregates share, and the checks that keep them true."""

import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Protocol, TypeVar, assert_never

from attrs import Attribute, field, frozen

from arena_core.domain.errors import Rejected
from arena_core.domain.ids import Digest, OrganisationId, TokenId, WorkerId

LONGEST_NAME = 200
LONGEST_DESCRIPTION = 10_000
LONGEST_SHOWN = 50
UNPRINTABLE = ("Cc", "Cs")
"""Unicode categories: control characters and surrogates."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def shown(text: str) -> str:
    """Return what somebody wrote, short and plain enough to be quoted in an error.

    Clients print errors through markup that takes square brackets for its own.
    """
    plain = "".join(
        "?" if unicodedata.category(c) in UNPRINTABLE or c in "[]" else c
        for c in text[:LONGEST_SHOWN]
    )
    return plain if len(text) <= LONGEST_SHOWN else plain + "..."


def trimmed(name: str, *, field: str = "name") -> str:
    """Return `name` without surrounding space.  Raises `Rejected` if none is left."""
    name = name.strip()
    if not name:
        raise Rejected(
            f"The {field} is missing: give at least one character.", field=field
        )
    if len(name) > LONGEST_NAME:
        raise Rejected(
            f"The {field} has {len(name)} characters: use at most {LONGEST_NAME}.",
            field=field,
        )
    if any(unicodedata.category(c) in UNPRINTABLE for c in name):
        raise Rejected(f"The {field} holds a control character.", field=field)
    return name


def login_name(name: str) -> str:
    """Return the name that a user signs in with, which can be a part of an address."""
    name = trimmed(name, field="user")
    if "/" in name or not any(character.isalnum() for character in name):
        raise Rejected(
            "The user must have a letter or a digit, and no slash.", field="user"
        )
    return name


def described(description: str) -> str:
    """Return `description` without surrounding space, if it is short enough."""
    description = description.strip()
    if len(description) > LONGEST_DESCRIPTION:
        raise Rejected(
            f"The description has {len(description)} characters: "
            f"use at most {LONGEST_DESCRIPTION}.",
            field="description",
        )
    return description


def optional_text(given: str | None, before: str, *, field: str) -> str:
    """Return what was given, which may be nothing at all; None: what was before."""
    if given is None:
        return before
    return trimmed(given, field=field) if given.strip() else ""


def finite(_: object, attribute: "Attribute[float]", value: float | None) -> None:
    """Refuse NaN and infinity: JSON has neither, so an event with one is lost."""
    if value is not None and not math.isfinite(value):
        raise Rejected(f"The {attribute.name} must be finite.", field=attribute.name)


def natural(_: object, attribute: "Attribute[int]", value: int | None) -> None:
    """Refuse numbers below zero."""
    if value is not None and value < 0:
        raise Rejected(
            f"The {attribute.name} must not be negative.", field=attribute.name
        )


def said(_: object, attribute: "Attribute[str]", value: str) -> None:
    """Refuse a text that says nothing."""
    if not value.strip():
        raise Rejected(f"The {attribute.name} is missing.", field=attribute.name)


def sha256(_: object, attribute: "Attribute[Digest]", value: str | None) -> None:
    """Refuse what is not a SHA-256 in 64 lower-case hex digits."""
    if value is not None and not _SHA256.fullmatch(value):
        raise Rejected(f"The {attribute.name} is no SHA-256.", field=attribute.name)


class ProjectKind(Enum):
    """What a project is for; chosen at creation, for ever.  Agents have it too."""

    CLASSIC = "classic"
    ADVANCED = "advanced"

    @property
    def title(self) -> str:
        return "Classic RL" if self is ProjectKind.CLASSIC else "Advanced Training"


class Family(Enum):
    """What a checkpoint answers: actions, predictions or text."""

    RL = "rl"
    SUPERVISED = "supervised"
    LATENT = "latent"
    LLM = "llm"


class SourceKind(Enum):
    GYM = "gym"
    DATASET = "dataset"


def _source_name(name: str) -> str:
    return trimmed(name, field="source")


@frozen
class Source:
    """Where an experiment's experience comes from."""

    kind: SourceKind
    name: str = field(converter=_source_name)


@frozen
class Scores:
    """What the metrics say at a checkpoint's step; None where they say nothing."""

    training: float | None = field(default=None, validator=finite)
    evaluation: float | None = field(default=None, validator=finite)


class CheckpointType(Enum):
    BEST = "best"
    FINAL = "final"
    SPECIFIC = "specific"


@frozen
class CheckpointChoice:
    """How an agent's checkpoint is picked.

    `best` takes the highest evaluation score, `final` the largest step, and
    `specific` the step that is named.  For the first two a named step is ignored.
    """

    type: CheckpointType
    step: int | None = None


class Scored(Protocol):
    """A checkpoint as `choose` sees it."""

    @property
    def step(self) -> int: ...

    @property
    def scores(self) -> Scores: ...


C = TypeVar("C", bound=Scored)


def choose(choice: CheckpointChoice, checkpoints: Sequence[C]) -> C:
    """Return the one of `checkpoints` that `choice` means.

    Ties of `best` go to the larger step; a checkpoint without an evaluation score
    never beats one that has it.  Raises `Rejected` if nothing fits.
    """
    if not checkpoints:
        raise Rejected(
            "The experiment has no checkpoints: train it first, or record one.",
            field="experiment_id",
        )
    match choice.type:
        case CheckpointType.BEST:
            return _best(checkpoints)
        case CheckpointType.FINAL:
            return max(checkpoints, key=lambda c: c.step)
        case CheckpointType.SPECIFIC:
            return _specific(choice.step, checkpoints)
        case _:
            assert_never(choice.type)


def _best(checkpoints: Sequence[C]) -> C:
    scored = [
        (c.scores.evaluation, c.step, c)
        for c in checkpoints
        if c.scores.evaluation is not None
    ]
    if not scored:
        raise Rejected(
            "No checkpoint has an evaluation score, so none is the best: record the "
            "metric fitness at a checkpoint's step, or choose final or specific.",
            field="checkpoint",
        )
    return max(scored, key=lambda entry: entry[:2])[2]


def _specific(step: int | None, checkpoints: Sequence[C]) -> C:
    if step is None:
        raise Rejected("A specific checkpoint needs its step.", field="checkpoint.step")
    for checkpoint in checkpoints:
        if checkpoint.step == step:
            return checkpoint
    steps = ", ".join(str(c.step) for c in sorted(checkpoints, key=lambda c: c.step))
    raise Rejected(
        f"There is no checkpoint at step {step}: choose one of {steps}.",
        field="checkpoint.step",
    )


class Role(Enum):
    """What a caller may do in an organisation: read, change, or administer."""

    VIEWER = "viewer"
    MEMBER = "member"
    MANAGER = "manager"

    def covers(self, needed: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)

    def at_most(self, most: "Role") -> "Role":
        """Return the lesser of the two."""
        return self if most.covers(self) else most


class ActorKind(Enum):
    USER = "user"
    EXTERNAL = "external"
    """A user of whoever holds an organisation's key, known to them and not to us."""
    OPERATOR = "operator"
    """Whoever is at the terminal of the machine that has the store."""
    LIBRARY = "library"
    SYSTEM = "system"


@frozen
class Actor:
    """By whose hand: a user (through which token), an operator, the library..."""

    kind: ActorKind
    name: str
    token_id: TokenId | None = None

    def __str__(self) -> str:
        return (
            self.name
            if self.kind is ActorKind.LIBRARY
            else f"{self.kind.value}:{self.name}"
        )


LIBRARY = Actor(ActorKind.LIBRARY, "library")


def system(policy: str) -> Actor:
    """Return the actor of one of our own policies."""
    return Actor(ActorKind.SYSTEM, policy)


@frozen
class Claim:
    """A worker's right to record the outcome, until somebody else claims.

    `number` never falls in the life of what is claimed, so that the outcome of an
    earlier claim of the same worker is told from that of the present one.
    """

    worker: WorkerId
    lease_until: datetime
    number: int


@frozen
class Caller:
    """Who asks, for which organisation, with which rights."""

    organisation: OrganisationId
    actor: Actor
    role: Role


Choice = TypeVar("Choice", bound=Enum)


def one_of(kind: type[Choice], value: Choice | str, *, field: str) -> Choice:
    """Return the member of `kind` that `value` is or names.  Raises `Rejected`."""
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(str(member.value) for member in kind)
        raise Rejected(
            f"The {field} {shown(str(value))} is not known: use one of {known}.",
            field=field,
        ) from error
