"""The data plane: /inference/<deployment>/status, get_action and predict.

A plain ASGI app, since every microsecond here is paid on every step of every episode.
Errors are `{"detail": "<one plain sentence>"}`, as the public client expects.
"""

import hmac
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from uuid import UUID

import anyio
import msgspec
from attrs import frozen
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from arena_core.application import inference
from arena_core.application.identity import REFUSAL, authenticate
from arena_core.application.inference import GREEDY, Choice, Understood
from arena_core.application.keys import PREFIX
from arena_core.application.models import Model
from arena_core.application.serving import Live
from arena_core.domain import deployment
from arena_core.domain.errors import (
    ArenaError,
    Forbidden,
    NotFound,
    Rejected,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from arena_core.domain.values import Role
from arena_core.entrypoints.http import bodies
from arena_core.entrypoints.http.endpoints import EXTERNAL_USER, bearer
from arena_core.entrypoints.http.errors import detail_of, status_of
from arena_core.entrypoints.library import Arena

CALLS: dict[str, Callable[[Model, bytes, Choice], Understood]] = {
    "get_action": inference.begin_action,
    "predict": inference.begin_prediction,
}
INLINE_BODY_BYTES = 2048
"""Of a body that is read on the event loop: what is larger has a thread from then."""
INLINE_ROWS = 8
"""Of a request that is answered on the event loop, if the model is quick."""
LANGUAGE_MODEL_VERBS = ("generate", "generate_stream", "sessions")
ARRIVAL_S = 5.0
POLL_S = 0.01
NOT_YET = "The deployment is being put live: try again."
GONE = "Nothing is served at this address."
FOREIGN = "This credential is not for this deployment."


@frozen
class _Reply:
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class DataPlane:
    """Mounted at /inference.  Does its own authorisation: `status` alone is public."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._registry = arena.application.registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._answer(scope, receive)
        except ArenaError as error:
            reply = _refusal(error)
        await _send(send, reply)

    async def _answer(self, scope: Scope, receive: Receive) -> _Reply:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        deployment_id, _, verb = path.lstrip("/").partition("/")
        live = self._registry.live(deployment_id)
        if live is None:
            live = await self._arriving(deployment_id)
        if verb == "status":
            if scope["method"] not in {"GET", "HEAD"}:
                return _wrong_method(b"GET, HEAD")
            return _Reply(HTTPStatus.OK, live.status)
        if verb in CALLS:
            return await self._call(live, CALLS[verb], scope, receive)
        if verb.partition("/")[0] in LANGUAGE_MODEL_VERBS:
            await self._authorise(live, scope)
            raise Rejected("This deployment is no language model.")
        raise NotFound(GONE)

    async def _call(
        self,
        live: Live,
        begin: Callable[[Model, bytes, Choice], Understood],
        scope: Scope,
        receive: Receive,
    ) -> _Reply:
        if scope["method"] != "POST":
            return _wrong_method(b"POST")
        await self._authorise(live, scope)
        choice = _choice(scope)
        limit = self._arena.settings.max_body_bytes
        announced = _header(scope, b"content-length")
        body = await bodies.read(receive, announced, limit_bytes=limit)
        # A body takes its time: the key may have been rotated meanwhile, the weights
        # replaced, or all of it taken off.
        deployment_id = str(live.deployment_id)
        live = self._registry.live(deployment_id) or await self._arriving(deployment_id)
        await self._authorise(live, scope)
        if len(body) > INLINE_BODY_BYTES:
            answered = await run_in_threadpool(
                lambda: begin(live.model, body, choice).answer()
            )
            return _Reply(HTTPStatus.OK, answered)
        understood = begin(live.model, body, choice)
        if live.model.quick and understood.rows <= INLINE_ROWS:
            return _Reply(HTTPStatus.OK, understood.answer())
        return _Reply(HTTPStatus.OK, await run_in_threadpool(understood.answer))

    async def _authorise(self, live: Live, scope: Scope) -> None:
        header = _header(scope, b"authorization")
        if header is not None and _equal(header, live.authorization):
            return
        token = bearer(header)
        if token.startswith(PREFIX):
            self._check_key(live, token)
            return
        caller = await run_in_threadpool(
            authenticate,
            self._arena.application.core,
            token,
            external_user=_header(scope, EXTERNAL_USER.encode()),
        )
        foreign = caller.organisation != live.organisation
        if foreign or not caller.role.covers(Role.MEMBER):
            raise Forbidden(FOREIGN)

    def _check_key(self, live: Live, token: str) -> None:
        if _equal(token, live.key):
            return
        other = self._registry.live(_deployment_in(token))
        if other is not None and _equal(token, other.key):
            raise Forbidden(FOREIGN)
        raise Unauthenticated(REFUSAL)

    async def _arriving(self, deployment_id: str) -> Live:
        """Return what is Deployed and about to answer here, or raise why nothing is.

        Between the event that says Connected and this process's answering for it
        there is a moment, longer if another process has put it live.
        """
        deployed = await run_in_threadpool(self._deployed, deployment_id)
        with anyio.move_on_after(ARRIVAL_S):
            while (live := self._registry.live(deployed)) is None:  # noqa: ASYNC110 -- a thread loads it
                await anyio.sleep(POLL_S)
            return live
        raise Unavailable(NOT_YET)

    def _deployed(self, deployment_id: str) -> str:
        """Return the id as the registry has it, or raise unless it is Deployed."""
        core = self._arena.application.core
        core.views.catch_up()
        row = None
        with suppress(ValueError):
            row = core.views.rows.get(UUID(deployment_id))
        if row is None or row.kind != deployment.KIND:
            raise NotFound(GONE)
        state: deployment.Deployment = row.state
        if state.deleted or state.status is deployment.Status.UNDEPLOYED:
            raise NotFound(GONE)
        if state.status is deployment.Status.FAILED:
            raise Unavailable(
                "The deployment has failed: the reason of its agent says why."
            )
        if state.status is deployment.Status.PENDING:
            raise Unavailable(NOT_YET)
        return str(state.id)


def _header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of that name; cheaper than a mapping of all."""
    for found, value in scope["headers"]:
        if found == name:
            text: str = value.decode("latin-1")
            return text
    return None


def _choice(scope: Scope) -> Choice:
    query = scope["query_string"]
    if not query:
        return GREEDY
    said = QueryParams(query)
    return Choice.of(said.get("mode", GREEDY.mode.value), said.get("seed"))


def _refusal(error: ArenaError) -> _Reply:
    body = _detail(detail_of(error))
    if isinstance(error, Rejected) and not isinstance(error, TooLarge):
        # The public contract has one status for everything malformed.
        return _Reply(HTTPStatus.BAD_REQUEST, body)
    if isinstance(error, Unauthenticated):
        challenge = (b"www-authenticate", b'Bearer realm="arena"')
        return _Reply(status_of(error), body, (challenge,))
    if isinstance(error, Unavailable):
        return _Reply(status_of(error), body, ((b"retry-after", b"1"),))
    return _Reply(status_of(error), body)


def _wrong_method(allowed: bytes) -> _Reply:
    body = _detail(f"Use {allowed.decode()} here.")
    return _Reply(HTTPStatus.METHOD_NOT_ALLOWED, body, ((b"allow", allowed),))


def _detail(sentence: str) -> bytes:
    return msgspec.json.encode({"detail": sentence})


def _equal(token: str, key: str) -> bool:
    return hmac.compare_digest(token.encode(), key.encode())


def _deployment_in(key: str) -> str:
    """Return the deployment that a key says it is for."""
    with suppress(ValueError, IndexError):
        return str(UUID(hex=key.split("_")[2]))
    return ""


async def _send(send: Send, reply: _Reply) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send(
        {"type": "http.response.start", "status": reply.status, "headers": headers}
    )
    await send({"type": "http.response.body", "body": reply.body})
