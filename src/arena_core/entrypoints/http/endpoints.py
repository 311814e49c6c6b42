"""What an endpoint is, and what its handler is given and returns.

An endpoint declares who may call it; there is no default, so nothing is open by
omission.  Handlers are plain functions: they run in a thread, with the body already
parsed by its type.  How every endpoint is answered is told in `answering`.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from attrs import field, frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from arena_core.application.callers import REFUSAL
from arena_core.application.session import Page, Paging
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import Flaw, NotFound, Rejected, Unauthenticated
from arena_core.domain.values import LONGEST_NAME, Caller, Role
from arena_core.entrypoints.http import bodies
from arena_core.entrypoints.http.fields import Moment
from arena_core.entrypoints.http.preconditions import Versioned
from arena_core.entrypoints.library import Arena

JSON = "application/json"
LONGEST_WAIT_S = 60.0
"""What a caller may ask to wait for an answer."""
LARGEST_OF_STRANGERS = 1 << 14
"""Bytes of a body that anybody may send, without a credential."""
LARGEST = 1 << 20
"""Bytes of a body unless its endpoint says something else."""
NUMBERS = frozenset({"step"})
"""The parameters of paths that are natural numbers; those that are not are ids."""
TEXTS = frozenset({"organisation_id", "user"})
"""The parameters of paths that are texts of somebody's choice."""
_NATURAL = re.compile(r"[0-9]{1,18}")


class Public(Enum):
    """The role of nobody: an endpoint that needs no credential says so with this."""

    PUBLIC = "public"


PUBLIC = Public.PUBLIC


class Past(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The query of every GET: as of a position of the log, or a time."""

    as_of: Moment | None = None


class Listing(Past, kw_only=True):
    """The query of every list."""

    most: ClassVar[int] = bodies.MOST_ITEMS
    """How many may be asked for at once."""
    limit: Annotated[
        int,
        msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": bodies.MOST_ITEMS}),
    ] = 100
    cursor: str | None = None

    def paging(self) -> Paging:
        # Whoever answers has opened the cursor: it is the position that it holds.
        return Paging(int(self.cursor or 0), self.checked_limit())

    def checked_limit(self) -> int:
        if not 1 <= self.limit <= self.most:
            raise Rejected(f"limit must be between 1 and {self.most}.", field="limit")
        return self.limit


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A query or body without any fields."""


@frozen
class Listed:
    """The body of every list."""

    items: list[Any]
    next_cursor: str | None

    @classmethod
    def of(
        cls, page: Page[Any], show: Callable[[Any], Any] = lambda item: item
    ) -> "Listed":
        cursor = None if page.next_after is None else str(page.next_after)
        return cls([show(item) for item in page.items], cursor)


@frozen
class ListOf:
    """What a list carries, for its description."""

    item: type


@frozen
class Call:
    """One authenticated request, parsed."""

    use: UseCases
    ids: dict[str, Any] = field(factory=dict)
    query: Any = None
    body: Any = None
    """An instance of the endpoint's body type, or the folder that was uploaded."""
    base_url: str = ""
    """How the caller reaches this API, without a trailing slash."""
    accept: str = ""
    """The media types that the caller says it takes."""
    bearing: str | None = field(default=None, repr=False)
    """The Authorization header, for what is public and looks at it by itself."""


@frozen
class Reply:
    """What a handler answers: a resource, to be encoded as JSON, or bytes."""

    resource: Any
    status: HTTPStatus = HTTPStatus.OK
    location: str | None = None
    secret: bool = False
    """Whether it must not be stored anywhere on its way."""
    until: Callable[[], "Reply | None"] | None = None
    """Asked again and again until it returns a reply, which is then the answer."""
    wait_s: float = 0.0
    media_type: str = JSON
    """Of any other than JSON the resource is the body itself."""
    headers: Mapping[str, str] = field(factory=dict)
    goes_on: "Callable[[Request, Again], Awaitable[Response]] | None" = None
    """Makes the response, on the event loop, of what waits or has no end."""


Again = Callable[[], Caller]
"""Authenticates and authorises the caller of a request once more.  It takes a while."""


def _never(query: object) -> str | None:
    """Return how an upload that is no archive is called: it must be one."""
    del query
    return None


@frozen
class Endpoint:
    """One method of one path."""

    method: str
    path: str
    handle: Callable[[Call], Reply]
    needs: Role | Public
    summary: str
    answer: Any
    """The type of the resource that a success carries."""
    body: type[msgspec.Struct] = Nothing
    query: type[msgspec.Struct] = Nothing
    status: HTTPStatus = HTTPStatus.OK
    also: HTTPStatus | None = None
    """Another status of a success."""
    also_answer: Any = None
    """The type of its resource; None: the same."""
    also_made: bool = False
    """Whether a success may be 201 too, of another resource of the same type."""
    also_shows: Any = None
    """Another type that the resource may have, by what was asked; None: always one."""
    most_bytes: int = LARGEST
    """Of a body that is no upload, if the settings allow as many."""
    upload: bool = False
    """Whether the body is an archive, unpacked into a folder."""
    single: Callable[[Any], str | None] = _never
    """How one file, rather than an archive, is called in the folder, by the query;
    None: it must be an archive."""
    media_types: tuple[str, ...] = (JSON,)
    """Of the body of a success."""
    form: bool = False
    """Whether the body is a form (application/x-www-form-urlencoded), not JSON."""
    versioned: Versioned | None = None
    """What its answers show, if that has an ETag."""
    repeatable: bool = False
    """Whether to do it twice is to do it once, without any Idempotency-Key."""

    @property
    def takes_key(self) -> bool:
        """Whether an Idempotency-Key counts: where something is made or ordered."""
        return (
            self.method == "POST"
            and self.path.startswith("/api/v1/")
            and isinstance(self.needs, Role)
            and not (self.upload or self.form or self.repeatable)
        )

    def limit_bytes(self, allowed: int) -> int:
        """Return how large a body may be where the settings have allowed so much.

        Reading it holds up everybody, so nobody sends more than what they ask needs.
        """
        is_public = isinstance(self.needs, Public)
        return min(allowed, LARGEST_OF_STRANGERS if is_public else self.most_bytes)

    @property
    def takes_if_match(self) -> bool:
        """Whether If-Match is compared with what is changed."""
        return self.method != "GET" and self.versioned is not None and "{" in self.path


def encoded(reply: Reply) -> Response:
    """Return the response that carries a reply."""
    headers = dict(reply.headers)
    if reply.location is not None:
        headers["Location"] = reply.location
    if reply.secret:
        headers["Cache-Control"] = "no-store"
    if reply.status is HTTPStatus.NO_CONTENT:
        return Response(None, reply.status, headers)
    is_json = reply.media_type == JSON
    body = msgspec.json.encode(reply.resource) if is_json else reply.resource
    return Response(body, reply.status, headers, media_type=reply.media_type)


def bearer(header: str | None) -> str:
    """Return the credential of an `Authorization: Bearer` header."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(REFUSAL, flaw=Flaw.MISSING)
    return token.strip()


def base_url(arena: Arena, request: Request) -> str:
    """Return how callers reach this API: as it was set, or as this one reached it."""
    if arena.settings.public_url is not None:
        return arena.settings.public_url.rstrip("/")
    # `base_url` itself leaves out the prefix that this app is mounted under.
    root = request.base_url.replace(path=request.scope.get("root_path", ""))
    return str(root).rstrip("/")


def path_of(scope: Scope) -> str:
    """Return the path below whatever this app is mounted under."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def path_ids(request: Request) -> dict[str, Any]:
    """Return what the parameters of the path name.  Raises `NotFound`."""
    return {
        name: _parameter(name, value) for name, value in request.path_params.items()
    }


def _parameter(name: str, value: str) -> object:
    if name in NUMBERS:
        return _number(value)
    return _text(value) if name in TEXTS else _id(value)


def _text(value: str) -> str:
    if len(value) > LONGEST_NAME:
        raise NotFound("There is nothing with this name: it is too long for one.")
    return value


def _number(value: str) -> int:
    # Starlette's own `:int` fails on more digits than Python converts.
    if not _NATURAL.fullmatch(value):
        raise NotFound("There is nothing with this number: it is not even one.")
    return int(value)


def _id(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise NotFound("There is nothing with this id: it is not even one.") from error
