"""The settings of a process: one frozen object, read from the environment once."""

from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from arena_core.domain.errors import Rejected

MEMORY = "memory:"
SQLITE = "sqlite:///"
MIB = 1024 * 1024


def data_directory(environ: Mapping[str, str]) -> Path:
    """Return where a user's data belongs (XDG base directory specification)."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or ".")
    base = environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
    return Path(base) / "arena-core"


@frozen
class Settings:
    """Where things are kept, and the limits.

    `store`: `memory:`, or `sqlite:///` and a path, or just a path.  `blobs`: the
    folder of the checkpoints, beside the store by default.  `secret_key`: the master
    secret; made at the first start, in a file of mode 0600 beside the store, where it
    is None.
    """

    store: str
    blobs: Path | None = None
    secret_key: str | None = field(default=None, repr=False)
    public_url: str | None = None
    """How callers reach this server, if not as they address it."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    threads: int = 1
    """Threads that one call of a model may use."""
    max_body_bytes: int = 64 * MIB
    """The largest request body, of everything but uploads of bundles."""
    max_upload_bytes: int = 4096 * MIB
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
