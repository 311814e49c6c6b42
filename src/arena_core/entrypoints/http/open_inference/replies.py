"""What is answered below /v2; a refusal has an `error`, which clients read."""

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from arena_core.domain.errors import ArenaError
from arena_core.entrypoints.http.errors import (
    HIDDEN,
    OPEN_INFERENCE,
    problem,
    respond,
)
from arena_core.entrypoints.http.inference import JSON, Headers, Reply

_LENGTH = b"content-length"


def reply(resource: Any, status: HTTPStatus = HTTPStatus.OK) -> Reply:  # noqa: ANN401 -- whatever JSON can say
    """Return what carries a resource as JSON."""
    return Reply(status, msgspec.json.encode(resource), (JSON,))


def refusal(error: ArenaError, headers: Headers = ()) -> Reply:
    """Return what says why there is no answer; `headers` say whose it would be."""
    return _refusing(problem(error, OPEN_INFERENCE), headers)


def wrong_method(allowed: str) -> Reply:
    status = HTTPStatus.METHOD_NOT_ALLOWED
    return _refusing(
        respond(
            OPEN_INFERENCE,
            status,
            "This address does not take this method.",
            code=status.name,
            headers={"Allow": allowed},
        )
    )


def defect() -> Reply:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return _refusing(respond(OPEN_INFERENCE, status, HIDDEN, code=status.name))


def _refusing(response: Response, headers: Headers = ()) -> Reply:
    own = tuple(header for header in response.raw_headers if header[0] != _LENGTH)
    return Reply(response.status_code, bytes(response.body), (*own, *headers))
