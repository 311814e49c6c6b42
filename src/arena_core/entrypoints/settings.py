"""The settings of a process: one frozen object, read from the environment once."""

from collections.abc import Mapping
from pathlib import Path

from attrs import Attribute, field, frozen

from arena_core.application.ports import Device
from arena_core.domain.errors import Rejected
from arena_core.domain.values import one_of

MEMORY = "memory:"
SQLITE = "sqlite:///"
MIB = 1024 * 1024


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
    if not isinstance(value, int) or value < 1:
        raise Rejected(
            f"{attribute.name} must be a whole number above 0.", field=attribute.name
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
            threads=_number(environ, "ARENA_THREADS", 1),
            max_body_bytes=_number(environ, "ARENA_MAX_BODY_BYTES", 64 * MIB),
            max_upload_bytes=_number(environ, "ARENA_MAX_UPLOAD_BYTES", 4096 * MIB),
        )


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, str(default))
    if not text.isdigit() or int(text) == 0:
        raise Rejected(f"{name} must be a whole number above 0.", field=name)
    return int(text)
