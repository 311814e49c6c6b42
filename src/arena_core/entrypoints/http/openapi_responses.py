"""The answers that /openapi.json promises: of success, and of each known refusal."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from arena_core.domain.values import Role
from arena_core.entrypoints.http.endpoints import JSON, Endpoint, ListOf, Nothing
from arena_core.entrypoints.http.errors import PLAIN, PROBLEM, Plain, Problem

_REFUSALS = {
    HTTPStatus.BAD_REQUEST: "The head, the cursor or the form cannot be read",
    HTTPStatus.UNAUTHORIZED: "The credential is missing, unknown, rotated or revoked",
    HTTPStatus.FORBIDDEN: "The role does not allow it",
    HTTPStatus.NOT_FOUND: "There is no such thing, or it is somebody else's",
    HTTPStatus.CONFLICT: "The state of things does not allow it",
    HTTPStatus.PRECONDITION_FAILED: "It has changed since: If-Match does not fit",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than the server allows",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is of another kind",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field is wrong: errors names it",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many bad credentials: see Retry-After",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not now: see Retry-After",
}
_LOCATION = {
    "description": "Where the thing is",
    "schema": {"type": "string", "format": "uri-reference"},
}
_ETAG = {
    "description": "What it is at these versions, for If-Match and If-None-Match",
    "schema": {"type": "string"},
}


def of(endpoint: Endpoint, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the responses of an endpoint, by status."""
    answers = {endpoint.status: endpoint.answer}
    if endpoint.also is not None:
        answers[endpoint.also] = endpoint.also_answer or endpoint.answer
    if endpoint.also_made:
        answers[HTTPStatus.CREATED] = endpoint.answer
    refusal = _refusal(endpoint, by_type)
    return {
        **{
            str(int(status)): {**refusal, "description": _REFUSALS[status]}
            for status in _refused(endpoint)
        },
        **{
            str(int(status)): _success(endpoint, status, answer, by_type)
            for status, answer in answers.items()
        },
        **_unchanged(endpoint),
        "default": {**refusal, "description": "What is wrong, and what to do"},
    }


def _unchanged(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.method != "GET" or not isinstance(endpoint.needs, Role):
        return {}
    return {"304": {"description": "The answer is the one that If-None-Match names"}}


def _success(
    endpoint: Endpoint, status: HTTPStatus, answer: object, by_type: Mapping[Any, Any]
) -> dict[str, Any]:
    success: dict[str, Any] = {"description": endpoint.summary}
    if status is HTTPStatus.NO_CONTENT:
        return success
    schema = _schema(answer, by_type)
    if endpoint.also_shows is not None:
        schema = {"anyOf": [schema, by_type[endpoint.also_shows]]}
    success["content"] = {
        kind: {"schema": schema if kind == JSON else _of_kind(kind)}
        for kind in endpoint.media_types
    }
    headers: dict[str, Any] = {}
    if status in {HTTPStatus.CREATED, HTTPStatus.ACCEPTED}:
        headers["Location"] = _LOCATION
    if endpoint.versioned is not None:
        headers["ETag"] = _ETAG
    if headers:
        success["headers"] = headers
    return success


def _of_kind(media_type: str) -> dict[str, Any]:
    """Return the schema of a body that is something else than the resource in JSON."""
    return {} if media_type.endswith("+json") else {"type": "string"}


def _refused(endpoint: Endpoint) -> Iterator[HTTPStatus]:
    """Yield the statuses that a caller of this endpoint has to reckon with."""
    changes = endpoint.method != "GET"
    carries = endpoint.upload or endpoint.body is not Nothing
    if isinstance(endpoint.needs, Role):
        yield HTTPStatus.UNAUTHORIZED
        yield HTTPStatus.FORBIDDEN
        yield HTTPStatus.TOO_MANY_REQUESTS
    if "{" in endpoint.path or (changes and carries):
        yield HTTPStatus.NOT_FOUND
    if changes:
        yield HTTPStatus.CONFLICT
        yield HTTPStatus.PRECONDITION_FAILED
    if carries:
        yield HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        yield HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    yield HTTPStatus.BAD_REQUEST
    yield HTTPStatus.UNPROCESSABLE_ENTITY
    yield HTTPStatus.SERVICE_UNAVAILABLE


def _refusal(endpoint: Endpoint, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    if endpoint.path.startswith(PLAIN):
        return {"content": {JSON: {"schema": by_type[Plain]}}}
    return {"content": {PROBLEM: {"schema": by_type[Problem]}}}


def _schema(answer: object, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    if not isinstance(answer, ListOf):
        schema: dict[str, Any] = by_type[answer]
        return schema
    items = {"type": "array", "items": by_type[answer.item]}
    cursor = {"type": ["string", "null"]}
    return {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {"items": items, "next_cursor": cursor},
    }
