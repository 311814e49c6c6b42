"""What is left of a pickle when nothing that it names is looked up.

What names a class or a function becomes a `Global`, which is two strings, and what
calls one becomes a `Stub`, which remembers with what.  The few that only hold data are
rebuilt by functions of our own, from a table.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from attrs import Factory, define, frozen

from arena_core.application.filenames import shown

UNKNOWN = object()
"""What a rebuilding function returns for arguments that it makes nothing of."""


@frozen
class Global:
    """The name of a class, a function or a constant, not the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return shown(f"{self.module}.{self.name}")


@define(eq=False)
class Stub:
    """An object of an unknown class: how it would have been made, and of what."""

    module: str
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = Factory(dict)
    state: Any = None
    """What would have been given to `__setstate__`, or put into `__dict__`."""
    items: list[Any] = Factory(list)
    """What would have been appended or added to it."""
    entries: list[tuple[Any, Any]] = Factory(list)
    """What would have been set in it by key."""

    def __str__(self) -> str:
        return shown(f"{self.module}.{self.name}")


Rebuild: TypeAlias = Callable[[tuple[Any, ...]], Any]
"""Makes an object of the arguments of a call, or returns `UNKNOWN`: it stays a stub."""
Restore: TypeAlias = Callable[[Stub], Any]
"""Makes an object of a stub that has its state, or returns `UNKNOWN`."""


@frozen
class Known:
    """What is rebuilt, by module and name; names of old releases are turned first."""

    calls: Mapping[tuple[str, str], Rebuild]
    states: Mapping[tuple[str, str], Restore]


class Malformed(Exception):  # noqa: N818 -- says what the pickle is
    """Why it can't be read, as the predicate of a sentence about it."""
