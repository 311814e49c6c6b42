"""What a server process says of itself on its standard error, and never a secret.

In text for people, or as JSON, one object a line.  It is set up by the processes of
`serve`, never on import and never by the library: there it is the host's business.
"""

import logging
import re
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import msgspec

from arena_core.entrypoints.http import tracing
from arena_core.entrypoints.settings import LogFormat, LogLevel

log = logging.getLogger(__name__)

HIDDEN = "(secret)"
_SECRETS = re.compile(
    r"arena_(?:pat|org|dep|inv|ref|dvc|[a-z]{3}(?=_[0-9a-f]{32}))_[0-9A-Za-z_-]*"
    r"|eyJ[0-9A-Za-z_-]{8,}(?:\.[0-9A-Za-z_-]*)*"  # JSON Web Tokens, whole or cut
    r"|(?<=[Bb]earer )[^\s\"',\\]+"
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OURS = "arena_core"


def configure(form: LogFormat, level: LogLevel, stream: TextIO | None = None) -> None:
    """Have all that is logged written to `stream`: the standard error if None.

    `level` is that of our own; of others' only warnings are worth a line.  What ends a
    thread or the process is logged too.
    """
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_JSON() if form is LogFormat.JSON else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    own = getattr(logging, level.name)
    root.setLevel(max(own, logging.WARNING))
    logging.getLogger(_OURS).setLevel(own)
    sys.excepthook = _ended
    threading.excepthook = _thread_ended


def redacted(text: str) -> str:
    """Return `text` without whatever looks like a credential, of ours or of others."""
    return _SECRETS.sub(HIDDEN, text)


def _ended(
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
) -> None:
    log.critical("The process has ended", exc_info=(kind, error, traceback))


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    error = args.exc_value or args.exc_type()
    name = "" if args.thread is None else args.thread.name
    log.critical("The thread %s has ended", name, exc_info=error)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- as logging calls it
        """Say where it came from only: what could not be written may hold a secret.

        Where nothing can be written at all, whatever was being done goes on.
        """
        with suppress(OSError, ValueError):
            self.stream.write(f"A line of {record.name} could not be logged.\n")


class _Text(logging.Formatter):
    """`2026-01-31T14:03:00.000Z WARNING arena_core.x: what happened`."""

    def format(self, record: logging.LogRecord) -> str:
        said = _UNPRINTABLE.sub(_escaped, record.getMessage())
        line = f"{_time(record)} {record.levelname} {record.name}: {said}"
        if request := tracing.current():
            line += f" (request {request.id})"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return redacted(line)


class _JSON(logging.Formatter):
    """One object: time, level, logger, message, and what is known of the request."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _plain(record.getMessage()),
        }
        if request := tracing.current():
            said["request_id"] = request.id
            if request.traceparent is not None:
                said["traceparent"] = request.traceparent
        for name, value in getattr(record, "fields", {}).items():
            said[name] = _plain(value) if isinstance(value, str) else value
        if record.exc_info:
            said["exception"] = _plain(self.formatException(record.exc_info))
        return redacted(msgspec.json.encode(said).decode())


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


def _plain(text: str) -> str:
    """Return `text` as far as JSON can hold it: without halves of surrogate pairs."""
    return text.encode(errors="backslashreplace").decode()
