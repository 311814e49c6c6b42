"""The settings of a process: one frozen object, read from the environment once."""

import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from attrs import Attribute, field, fields, frozen
from attrs.validators import optional

from arena_core.application.ports import Device
from arena_core.domain.errors import Rejected
from arena_core.domain.values import one_of
from arena_core.entrypoints.addresses import all_hosts, all_origins, listed

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


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)


class LogFormat(Enum):
    TEXT = "text"
    JSON = "json"


class LogLevel(Enum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _log_format(form: LogFormat | str) -> LogFormat:
    return one_of(LogFormat, form, field="log_format")


def _log_level(level: LogLevel | str) -> LogLevel:
    return one_of(LogLevel, level, field="log_level")


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
class Tls:
    """What a server proves by who it is: files in PEM."""

    certificate: Path
    key: Path
    password: str | None = field(repr=False)


@frozen
class Settings:
    """Where things are kept, and the limits.

    `store`: `memory:`, or `sqlite:///` and a path, or just a path.  `blobs`: the
    folder of the checkpoints, beside the store by default.  `secret_key`: the master
    secret; made at the first start, in a file of mode 0600 beside the store, where it
    is None.
    """

    store: str = field(converter=_store)
    blobs: Path | None = field(default=None, converter=_path)
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
    episode_idle_s: float = field(default=60.0, validator=_above_zero)
    """How long an episode whose memory the server keeps may pause between two steps."""
    runs: Path | None = field(default=None, converter=_path)
    """The folder of what trains; beside the store where it is None."""
    datasets: Path | None = field(default=None, converter=_path)
    """The folder of the files that experiments may name as their dataset; beside the
    store where it is None."""
    trainings: int | None = field(default=None, validator=optional(_positive))
    """Trainings that run at the same time; None: one for every two processors."""
    training_time_limit_s: float | None = field(
        default=None, validator=optional(_above_zero)
    )
    """How long one training may take; None: as long as it needs."""
    max_training_bytes: int = field(default=20 * 1024 * MIB, validator=_positive)
    """What one training may have on the disk at the same time."""
    max_training_memory_bytes: int | None = field(
        default=None, validator=optional(_positive)
    )
    """The memory of all processes of one training; None: without a limit."""
    max_log_bytes: int = field(default=16 * MIB, validator=_positive)
    """How much is kept of what one training prints: the last of it."""
    allow_commands: bool = False
    """Whether callers over HTTP may have programs of their own run."""
    agilerl_python: Path | None = field(default=None, converter=_path)
    """The interpreter that has agilerl, if it is not the server's own."""
    workers: int = field(default=1, validator=_positive)
    """How many processes `serve` answers with."""
    allowed_hosts: tuple[str, ...] | None = field(
        default=None, converter=listed, validator=optional(all_hosts)
    )
    """Hosts that callers may address this server by; None, or a `*` in it: any.
    `serve` has others of its own where it listens on a loopback address."""
    allowed_origins: tuple[str, ...] | None = field(
        default=None, converter=listed, validator=optional(all_origins)
    )
    """Origins of web pages that may call, besides our own."""
    failed_auth_rate: float = field(default=10.0, validator=_zero_or_more)
    """Bad credentials a second that one address may try; 0: without a limit."""
    max_streams: int = field(default=256, validator=_positive)
    """Callers that may follow the log at the same time."""
    require_if_match: bool = False
    """Whether PATCH and DELETE must say, by If-Match, what they are a change of."""
    log_format: LogFormat = field(default=LogFormat.TEXT, converter=_log_format)
    """How `serve` says what happens: `text`, or `json` in one line each."""
    log_level: LogLevel = field(default=LogLevel.WARNING, converter=_log_level)
    """How much of it: at `info`, a line for every request of the control plane."""
    tls_certificate: Path | None = field(default=None, converter=_path)
    """What `serve` answers over TLS with: its certificate, and after it those that
    vouch for it, in one file."""
    tls_key: Path | None = field(default=None, converter=_path)
    tls_key_password: str | None = field(default=None, repr=False)
    """Of the key, where that is encrypted."""

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

    @property
    def runs_folder(self) -> Path | None:
        """The folder of what trains; None: one of no use to another process."""
        return self.runs or self._beside("runs")

    @property
    def datasets_folder(self) -> Path | None:
        """The folder of the files that experiments may name as their dataset."""
        return self.datasets or self._beside("datasets")

    def _beside(self, what: str) -> Path | None:
        path = self.store_path
        return None if path is None else path.with_name(f"{path.name}.{what}")

    @property
    def tls(self) -> Tls | None:
        """What `serve` answers over TLS with; None: it does not.

        Raises `Rejected` if one of its two files is not named.
        """
        certificate, key = self.tls_certificate, self.tls_key
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise Rejected(
                "TLS needs both a certificate and its key: name the other one too.",
                field="tls_key" if key is None else "tls_certificate",
            )
        return Tls(certificate, key, self.tls_key_password)

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
            episode_idle_s=_read(environ, "episode_idle_s", float),
            runs=environ.get("ARENA_RUNS") or None,
            datasets=environ.get("ARENA_DATASETS") or None,
            trainings=_read(environ, "trainings", int),
            training_time_limit_s=_read(environ, "training_time_limit_s", float),
            max_training_bytes=_read(environ, "max_training_bytes", int),
            max_training_memory_bytes=_read(environ, "max_training_memory_bytes", int),
            max_log_bytes=_read(environ, "max_log_bytes", int),
            allow_commands=_read_flag(environ, "allow_commands"),
            agilerl_python=environ.get("ARENA_AGILERL_PYTHON") or None,
            workers=_read(environ, "workers", int),
            allowed_hosts=environ.get("ARENA_ALLOWED_HOSTS") or None,
            allowed_origins=environ.get("ARENA_ALLOWED_ORIGINS") or None,
            failed_auth_rate=_read(environ, "failed_auth_rate", float),
            max_streams=_read(environ, "max_streams", int),
            require_if_match=_read_flag(environ, "require_if_match"),
            log_format=environ.get("ARENA_LOG_FORMAT") or LogFormat.TEXT,
            log_level=environ.get("ARENA_LOG_LEVEL") or LogLevel.WARNING,
            tls_certificate=environ.get("ARENA_TLS_CERTIFICATE") or None,
            tls_key=environ.get("ARENA_TLS_KEY") or None,
            tls_key_password=environ.get("ARENA_TLS_KEY_PASSWORD") or None,
        )


def _read_flag(environ: Mapping[str, str], name: str) -> bool:
    variable = f"ARENA_{name.upper()}"
    text = environ.get(variable) or "0"
    if text not in ("0", "1"):
        raise Rejected(f"{variable} must be 0 or 1.", field=variable)
    return text == "1"


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
