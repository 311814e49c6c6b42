"""What a confined process says to the one that started it, and what that makes of it.

Whoever wrote the file that is being read may have come to write the messages too.
"""

import signal

import msgspec

from arena_core.adapters.confined.confinement import Limits
from arena_core.domain.errors import Rejected, StorageFull, TooLarge

_LONGEST_FIELD = 200
_LONGEST_DETAIL = 1_000


class Ended(Exception):  # noqa: N818 -- says what became of it
    """The child came to no end of its own: `str` is why, as a predicate."""


class Failed(Ended):
    """The function raised what it should not, or the child broke off."""


class Message(msgspec.Struct):
    """What a child says: one of these at a time."""

    walls: list[str] | None = None
    doing: str | None = None
    done: bool = False
    error: str | None = None
    detail: str = ""
    field: str | None = None


def raised(message: Message, limits: Limits) -> Exception:
    """Return the error that the child has ended with."""
    detail = plain(message.detail, _LONGEST_DETAIL)
    field = None if message.field is None else plain(message.field, _LONGEST_FIELD)
    match message.error:
        case "rejected":
            return Rejected(detail, field=field)
        case "too large":
            return TooLarge(detail, field=field)
        case "storage full":
            return StorageFull("No space is left: free some and try again.")
        case "memory":
            return Ended(f"needed more than {size(limits.memory_bytes)} of memory")
        case "file size":
            return Ended(f"wrote a file of more than {size(limits.file_bytes)}")
    return Failed("failed")


def broken_off(returncode: int, limits: Limits) -> Ended:
    """Return why a child ended that has said no last word."""
    match -returncode:
        case signal.SIGXCPU:
            return Ended(f"needed more than {limits.cpu_s} seconds of processor time")
        case signal.SIGKILL:
            return Ended("was killed, as happens where a machine has too little memory")
    return Failed("broke off")


def size(count: int) -> str:
    """Return `count` bytes as a person would say it."""
    gib = count / (1 << 30)
    return f"{gib:g} GiB" if gib >= 1 else f"{count / (1 << 20):g} MiB"


def plain(text: str, longest: int) -> str:
    """Return what a child has said as it may stand in an error or a log."""
    return "".join(
        c if c.isprintable() and c not in "[]" else "?" for c in text[:longest]
    )
