"""What a reply looks like on its way: encoded, with its ETag and the page after it."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from attrs import evolve
from starlette.responses import Response

from arena_core.entrypoints.http.endpoints import (
    JSON,
    Endpoint,
    Listed,
    Nothing,
    Public,
    Reply,
    encoded,
)
from arena_core.entrypoints.http.idempotency import REPLAYED, without_secret
from arena_core.entrypoints.http.parsed_requests import ParsedRequest
from arena_core.entrypoints.http.preconditions import Versions, weak_tag

REVALIDATED = "private, no-cache"
"""Whoever keeps an answer asks whether it still holds before it is used again."""


def represented(
    endpoint: Endpoint, asked: ParsedRequest, reply: Reply, seen: Sequence[int]
) -> Response:
    """Return the response that carries a reply.

    `seen`: the versions, just before, of what the path names.
    """
    response = encoded(_with_next_page(asked, reply))
    if asked.session.attempt.repetition is not None:
        if reply.secret:
            raise without_secret()
        response.headers[REPLAYED] = "true"
    tag = _tag(endpoint, asked, reply, seen, bytes(response.body))
    if tag is None:
        return response
    response.headers["ETag"] = tag
    if endpoint.method != "GET":
        return response
    response.headers.setdefault("Cache-Control", REVALIDATED)
    if not asked.conditions.is_known(tag):
        return response
    held = ("etag", "cache-control", "link", "vary")
    headers = {k: v for k, v in response.headers.items() if k in held}
    return Response(None, HTTPStatus.NOT_MODIFIED, headers)


def _with_next_page(asked: ParsedRequest, reply: Reply) -> Reply:
    """Return the reply with an opaque cursor, and a link to the page that it names."""
    listed = reply.resource
    if (
        not isinstance(listed, Listed)
        or listed.next_cursor is None
        or asked.cursors is None
    ):
        return reply
    cursor = asked.cursors.seal(listed.next_cursor, asked.session.as_of)
    kept = [each for each in asked.parameters if each[0] != "cursor"]
    query = urlencode([*kept, ("cursor", cursor)])
    link = f'<{asked.call.base_url}{asked.path}?{query}>; rel="next"'
    return evolve(
        reply,
        resource=evolve(listed, next_cursor=cursor),
        headers={**reply.headers, "Link": link},
    )


def _tag(
    endpoint: Endpoint,
    asked: ParsedRequest,
    reply: Reply,
    seen: Sequence[int],
    body: bytes,
) -> str | None:
    if reply.secret or reply.goes_on is not None or endpoint.answer is Nothing:
        return None
    if isinstance(endpoint.needs, Public):
        return None
    if reply.media_type != JSON:
        return weak_tag(body) if endpoint.method == "GET" else None
    versions = asked.versions or _made(endpoint, asked, reply.resource)
    if versions is None:
        return weak_tag(body) if endpoint.method == "GET" else None
    session = asked.session
    if session.as_of is not None:
        return versions.tag(versions.seen(session), body)
    return versions.tag(versions.written(session, seen), body)


def _made(
    endpoint: Endpoint,
    asked: ParsedRequest,
    resource: Any,  # noqa: ANN401 -- any resource
) -> Versions | None:
    """Return the versions of what was made just now, for no path has named it."""
    if endpoint.versioned is None:
        return None
    return endpoint.versioned.of(asked.call.ids, resource)
