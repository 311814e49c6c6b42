"""Everything that can be refused or go wrong, in one tree.

ArenaError
├── Rejected             the request itself is wrong; names the field and the remedy
│   ├── TooLarge         it is over a limit
│   ├── UnsupportedMediaType its body is of a kind that is not understood
│   ├── InvalidCursor    it continues a list that is another, or nobody's
│   └── KeyReused        its idempotency key was another request's
├── TooSlow              the request did not come in time
├── NotFound             there is no such thing, or it is somebody else's
├── Conflict             the request is fine, but not now
│   ├── IllegalTransition    not from this status
│   ├── Ambiguous            a name fits several things
│   ├── ConcurrentWrite      somebody else was faster
│   ├── Overtaken            what it was decided on has changed meanwhile
│   ├── AlreadyExists        the stream has begun already
│   ├── PreconditionFailed   it is not as the caller saw it last
│   ├── AlreadyCarriedOut    the same request has been carried out
│   └── StillRunning         the same request is being carried out
├── PreconditionRequired a change must say what it is a change of
├── Unauthenticated      no credential, or a wrong or dead one
├── Forbidden            the credential is good, but not for this
├── Unavailable          not now; the same request may succeed later
│   ├── StorageFull      no space is left
│   └── Unloaded         the weights were freed
└── Corrupt              stored bytes are not what they were
    └── UnknownEvent     an event that this release can't read

What they mean over HTTP is said in one table, `entrypoints/http/errors.py`.
"""

from enum import Enum


class ArenaError(Exception):
    """The root.  `str(error)` is one plain sentence for the user."""


class Rejected(ArenaError):  # noqa: N818 -- reads as what happened to the request
    """The request is wrong.  `field` names the part of it that is, if one does."""

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class NotFinite(Rejected):
    """The weights answer this input with a number that is not finite."""


class TooLarge(Rejected):
    """A limit is exceeded."""


class UnsupportedMediaType(Rejected):
    """The body says of itself that it is of a kind that is not understood here."""


class InvalidCursor(Rejected):
    """The cursor is of another list, or was never given out."""


class KeyReused(Rejected):
    """The idempotency key has been used for a request that asked for something else."""


class TooSlow(ArenaError):  # noqa: N818
    """The request has begun, and the rest of it did not come in time."""


class NotFound(ArenaError):  # noqa: N818
    """There is no such thing in the caller's organisation."""


class Conflict(ArenaError):  # noqa: N818
    """The state of things does not allow it."""


class IllegalTransition(Conflict):
    """The status does not allow the command."""


class Ambiguous(Conflict):
    """A name fits more than one thing."""


class ConcurrentWrite(Conflict):
    """The stream is not at the version that the writer expected."""


class Overtaken(Conflict):
    """What it was decided on has changed meanwhile: decided anew, it may be fine."""


class AlreadyExists(Conflict):
    """Something with this id has been created before."""


class PreconditionFailed(Conflict):
    """What is to be changed is not any more what the caller saw."""


class AlreadyCarriedOut(Conflict):
    """The same request, under the same idempotency key, has been carried out."""


class StillRunning(Conflict):
    """The same request, under the same idempotency key, has not ended yet."""


class PreconditionRequired(ArenaError):  # noqa: N818
    """The server takes no change that does not say what it is a change of."""


class Flaw(Enum):
    """What is wrong with a credential.  Counted, and never told to its bearer."""

    MISSING = "missing"
    MALFORMED = "malformed"
    """It is none that was ever issued: its check sum does not fit."""
    UNKNOWN = "unknown"
    ROTATED = "rotated"
    REVOKED = "revoked"


class Unauthenticated(ArenaError):  # noqa: N818
    """No credential, or one that is unknown, rotated or revoked."""

    def __init__(self, detail: str, *, flaw: Flaw = Flaw.UNKNOWN) -> None:
        super().__init__(detail)
        self.flaw = flaw


class Forbidden(ArenaError):  # noqa: N818
    """The credential is good, but does not allow this."""


class Unavailable(ArenaError):  # noqa: N818
    """Not now.  The same request may succeed later."""


class StorageFull(Unavailable):
    """No space is left where the log or the checkpoints are kept."""


class Unloaded(Unavailable):
    """The weights were freed: whoever asks holds a model of the past."""


class Overloaded(Unavailable):
    """More is asked than can be answered in time; `retry_after_s` says when it may."""

    def __init__(self, detail: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class RateLimited(ArenaError):  # noqa: N818
    """The credential has used up its rate; `retry_after_s` says until when."""

    def __init__(self, detail: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ArenaError):  # noqa: N818
    """The caller's deadline was over before it was its turn."""


class Corrupt(ArenaError):  # noqa: N818
    """Stored bytes are not the bytes that were stored."""


class UnknownEvent(Corrupt):
    """A stored event has a name or version that this release does not know."""
