"""`checkpoint.json`, parsed by type and put into the words of the domain.

Every refusal is a `Rejected` whose `field` is the path within the file, such as
`signature.inputs 0.dtype`.
"""

import re
from typing import Any

import msgspec

from arena_core.application import consistency, strict_json
from arena_core.application.filenames import shown
from arena_core.application.policy_manifests import (
    StoredDecoder,
    StoredPolicy,
    Strict,
    choice,
    decoder,
    policy,
)
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.values import Family, trimmed

FORMAT_VERSION = 1
MOST_BYTES = 1 << 20
MOST_LEVELS = 32
MOST_AGENTS = 1_000
SINGLE = "policy"
"""What the only policy of a single-agent checkpoint is called."""
_SEVERAL = frozenset({"policies", "agents"})
AGENT_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class _Framework(msgspec.Struct, frozen=True):
    name: str
    version: str


class _SingleAgent(StoredPolicy, frozen=True, kw_only=True):
    format_version: int
    algorithm: str
    family: str
    framework: _Framework
    decoder: StoredDecoder | None = None
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)


class _MultiAgent(Strict, frozen=True, kw_only=True):
    format_version: int
    algorithm: str
    family: str
    framework: _Framework
    policies: dict[str, StoredPolicy]
    agents: dict[str, str]
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)


class _Version(msgspec.Struct, frozen=True):
    """All that is read before it is certain that the rest can be."""

    format_version: int


def parse(data: bytes) -> Manifest:
    """Return what `data` say, with `golden` false.  Raises `Rejected`."""
    if len(data) > MOST_BYTES:
        raise TooLarge(f"It has {len(data)} bytes: use at most {MOST_BYTES}.")
    obj = strict_json.decode(data, most_levels=MOST_LEVELS)
    if strict_json.convert(obj, _Version).format_version != FORMAT_VERSION:
        raise Rejected(
            f"The format_version must be {FORMAT_VERSION}, the only one that this "
            "release reads: write that one, or update the server.",
            field="format_version",
        )
    has_agents = isinstance(obj, dict) and not _SEVERAL.isdisjoint(obj)
    manifest = _multi_agent(obj) if has_agents else _single_agent(obj)
    consistency.check(manifest)
    return manifest


def _single_agent(obj: object) -> Manifest:
    stored = strict_json.convert(obj, _SingleAgent)
    return Manifest(
        format_version=stored.format_version,
        algorithm=trimmed(stored.algorithm, field="algorithm"),
        family=choice(Family, stored.family, field="family"),
        policies={SINGLE: policy(stored, "")},
        decoder=None if stored.decoder is None else decoder(stored.decoder),
    )


def _multi_agent(obj: object) -> Manifest:
    stored = strict_json.convert(obj, _MultiAgent)
    _check_names(stored)
    return Manifest(
        format_version=stored.format_version,
        algorithm=trimmed(stored.algorithm, field="algorithm"),
        family=choice(Family, stored.family, field="family"),
        policies={
            name: policy(part, f"policies.{name}.")
            for name, part in stored.policies.items()
        },
        agents=stored.agents,
    )


def _check_names(stored: _MultiAgent) -> None:
    if not 0 < len(stored.agents) <= MOST_AGENTS:
        raise Rejected(
            f"There are {len(stored.agents)} agents: name 1 to {MOST_AGENTS}.",
            field="agents",
        )
    for field, names in (("agents", stored.agents), ("policies", stored.policies)):
        for name in names:
            if not AGENT_NAME.fullmatch(name):
                raise Rejected(
                    f"The name {shown(name)} in {field} is not allowed: use 1 to 100 "
                    "letters, digits, dots, colons, underscores and hyphens.",
                    field=field,
                )
    if set(stored.agents.values()) != stored.policies.keys():
        raise Rejected(
            "Each of agents must name one of policies, and each of policies must be "
            "named by one of agents at least.",
            field="agents",
        )
