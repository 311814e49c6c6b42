"""How hosts and web pages are named, in settings and in the heads of requests."""

import re
from collections.abc import Iterable

from attrs import Attribute

from arena_core.domain.errors import Rejected

ANY_HOST = "*"
HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
"""What a host is called: a name, an address, or one of IPv6 in its brackets."""
ORIGIN = re.compile(rf"(https?)://({HOST.pattern})(?::[0-9]{{1,5}})?")


def listed(names: Iterable[str] | str | None) -> tuple[str, ...] | None:
    """Return what is listed, or separated by commas, in lower case."""
    if names is None:
        return None
    parts = names.split(",") if isinstance(names, str) else names
    return tuple(name.strip().lower() for name in parts if name.strip())


def all_hosts(
    _: object, attribute: "Attribute[tuple[str, ...]]", names: tuple[str, ...]
) -> None:
    if not all(name == ANY_HOST or HOST.fullmatch(name) for name in names):
        raise Rejected(
            f"{attribute.name} must be names or addresses of hosts without a port, or "
            "* for any.",
            field=attribute.name,
        )


def all_origins(
    _: object, attribute: "Attribute[tuple[str, ...]]", origins: tuple[str, ...]
) -> None:
    if not all(map(ORIGIN.fullmatch, origins)):
        raise Rejected(
            f"{attribute.name} must be origins: a scheme and a host, and a port if it "
            "is not the usual one.",
            field=attribute.name,
        )
