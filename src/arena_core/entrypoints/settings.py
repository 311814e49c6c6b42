"""The settings of a process: one frozen object, read from the environment once."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from attrs import Attribute, field, fields, frozen
from attrs.validators import optional

from arena_core.application.ports import Device
from arena_core.domain.errors import Rejected
from arena_core.domain.values import one_of

MEMORY = "memory:"
SQLITE = "sqlite:///"
MIB = 1024 * 1024
N = TypeVar("N", int, float)
CALLED = {int: "whole number", float: "number"}


def data_directory(environ: Mapping[str, str]) -> Path:
    """Return where a user's data belongs (XDG base directory specification)."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or ".")
    base = environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
    return Path(base) / "arena-core"


def _store(store: object) -> str:
    if not isinstance(store, str | Path) or not str(store):
        raise Rejected("The store must be memory: or a path.", field="store")
    return str(store)


def _folder(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)


def _device(device: Device | str) -> Device:
    return one_of(Device, device, field="device")


def _positive(_: object, attribute: "Attribute[int]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Rejected(
            f"{attribute.name} must be a whole number above 0.", field=attribute.name
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _above_zero(_: object, attribute: "Attribute[float]", value: float) -> None:
    if not _is_number(value) or value <= 0:
        raise Rejected(
            f"{attribute.name} must be a number above 0.", field=attribute.name
        )


def _zero_or_more(_: object, attribute: "Attribute[float]", value: float) -> None:
    if not _is_number(value) or value < 0:
        raise Rejected(
            f"{attribute.name} must be 0 or a number above it.", field=attribute.name
        )


def _beyond_default(settings: "Settings", _: object, value: int) -> None:
    if value < settings.deadline_ms:
        raise Rejected(
            f"max_deadline_ms is {value}, below the deadline_ms of "
            f"{settings.deadline_ms}: raise the one or lower the other.",
            field="max_deadline_ms",
        )


@frozen
class Settings:
    """Where things are kept, and the limits.

    `store`: `memory:`, or `sqlite:///` and a path, or just a path.  `blobs`: the
    folder of the checkpoints, beside the store by default.  `secret_key`: the master
    secret; made at the first start, in a file of mode 0600 beside the store, where it
    is None.
    """

    store: str = field(converter=_store)
    blobs: Path | None = field(default=None, converter=_folder)
    secret_key: str | None = field(default=None, repr=False)
    public_url: str | None = None
    """How callers reach this server, if not as they address it."""
    device: Device = field(default=Device.AUTO, converter=_device)
    threads: int = field(default=1, validator=_positive)
    """Threads that one call of a model may use."""
    inspect_apart: bool = False
    """Whether weights are loaded in a confined process first, as `serve` does it: what
    takes too much time or memory, or crashes, does so there.  A third of a second."""
    max_body_bytes: int = field(default=64 * MIB, validator=_positive)
    """The largest request body, of everything but uploads of bundles."""
    max_upload_bytes: int = field(default=4096 * MIB, validator=_positive)
    """The largest bundle, packed and unpacked."""
    deadline_ms: int = field(default=1000, validator=_positive)
    """By when a call of an agent is begun, or refused, if it does not say so."""
    max_deadline_ms: int = field(default=60_000, validator=[_positive, _beyond_default])
    """The latest deadline that a call may ask for."""
    max_batch: int | None = field(default=None, validator=optional(_positive))
    """The most rows of several requests that are run together; None: as many as pay."""
    rate_limit: float | None = field(default=None, validator=optional(_above_zero))
    """Calls of agents a second that each credential may make; None: without a limit."""
    body_timeout_s: float = field(default=10.0, validator=_above_zero)
    """How long a body may pause before its next part comes."""
    keep_warm_s: float = field(default=600.0, validator=_zero_or_more)
    """How long the weights that a swap has replaced stay loaded, for a rollback:
    a minute at least."""
    probe_interval_s: float = field(default=10.0, validator=_zero_or_more)
    """How often each model that is live is asked whether it answers; 0: never."""
    workers: int = field(default=1, validator=_positive)
    """How many processes `serve` answers with."""

    @property
    def store_path(self) -> Path | None:
        """The file of the event log; None if it is kept in memory."""
        if self.store == MEMORY:
            return None
        if "://" in self.store and not self.store.startswith(SQLITE):
            scheme = self.store.partition("://")[0]
            raise Rejected(
                f"The store {scheme} is not supported: use memory: or "
                "sqlite:/// and a path.",
                field="store",
            )
        return Path(self.store.removeprefix(SQLITE)).expanduser().absolute()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read every `ARENA_...` variable, with defaults for what is not there."""
        blobs = environ.get("ARENA_BLOBS")
        return cls(
            store=environ.get("ARENA_STORE")
            or SQLITE + str(data_directory(environ) / "arena.db"),
            blobs=Path(blobs) if blobs else None,
            secret_key=environ.get("ARENA_SECRET_KEY") or None,
            public_url=environ.get("ARENA_PUBLIC_URL") or None,
            device=environ.get("ARENA_DEVICE", "auto"),
            threads=_read(environ, "threads", int),
            max_body_bytes=_read(environ, "max_body_bytes", int),
            max_upload_bytes=_read(environ, "max_upload_bytes", int),
            deadline_ms=_read(environ, "deadline_ms", int),
            max_deadline_ms=_read(environ, "max_deadline_ms", int),
            max_batch=_read(environ, "max_batch", int),
            rate_limit=_read(environ, "rate_limit", float),
            body_timeout_s=_read(environ, "body_timeout_s", float),
            keep_warm_s=_read(environ, "keep_warm_s", float),
            probe_interval_s=_read(environ, "probe_interval_s", float),
            workers=_read(environ, "workers", int),
        )


def _read(environ: Mapping[str, str], name: str, kind: type[N]) -> N:
    """Return a number of the environment, or the field's default without one."""
    variable = f"ARENA_{name.upper()}"
    text = environ.get(variable)
    if not text:
        default: N = getattr(fields(Settings), name).default
        return default
    try:
        return kind(text)
    except ValueError as error:
        raise Rejected(
            f"{variable} must be a {CALLED[kind]}.", field=variable
        ) from error
