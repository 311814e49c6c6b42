"""The ASGI app for all that is below /v2.

Nothing but health is public: who asks for anything else is authorised as the data
plane does it, before it is told what there is.
"""

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from arena_core.application import decoding
from arena_core.application.agents import Agents
from arena_core.application.model_tensors import Tensor
from arena_core.application.ports import Row
from arena_core.domain.errors import (
    ArenaError,
    NotFound,
    Rejected,
    Unavailable,
)
from arena_core.domain.release import VERSION
from arena_core.entrypoints.http import bodies, health
from arena_core.entrypoints.http.endpoints import Call, path_of
from arena_core.entrypoints.http.errors import (
    OPEN_INFERENCE,
    detail_of,
    log,
    without_frames,
)
from arena_core.entrypoints.http.inference import (
    DataPlane,
    Reply,
    header_of,
    send_reply,
)
from arena_core.entrypoints.http.lanes import clock, headers_of
from arena_core.entrypoints.http.open_inference import repository
from arena_core.entrypoints.http.open_inference.infer import (
    Inference,
    Named,
    verb_of,
)
from arena_core.entrypoints.http.open_inference.models import (
    Models,
    check_version,
    version_of,
)
from arena_core.entrypoints.http.open_inference.replies import (
    defect,
    refusal,
    reply,
    wrong_method,
)
from arena_core.entrypoints.http.tracing import current, traced
from arena_core.entrypoints.library import Arena

NAME = "arena-core"
EXTENSIONS = ("binary_tensor_data", "sequence", "model_repository")
MOST_ORDER_BYTES = 64 * 1024
T = TypeVar("T")


class _Request(NamedTuple):
    scope: Scope
    receive: Receive
    named: Named


class _Route(NamedTuple):
    method: str
    pattern: "re.Pattern[str]"
    template: str
    """What it is called in the metrics."""
    handle: Callable[[_Request], Awaitable[Reply]]


class OpenInference:
    """Answers requests below /v2 by what the data plane serves."""

    def __init__(self, arena: Arena, plane: DataPlane) -> None:
        self._arena = arena
        self._plane = plane
        self._models = Models(arena, plane)
        self._inference = Inference(arena, plane)
        ordered = "/v2/repository/models"
        self._routes = (  # the first that fits is taken
            _route("POST", "/v2/models/{model}/infer", self._infer),
            _route("GET", "/v2/models/{model}/ready", self._ready),
            _route("GET", "/v2/models/{model}", self._metadata),
            _route("GET", "/v2", self._server),
            _route("GET", "/v2/health/live", self._health),
            _route("GET", "/v2/health/ready", self._health),
            _route("POST", "/v2/repository/index", self._index),
            _route("POST", f"{ordered}/{{model}}/load", self._load),
            _route("POST", f"{ordered}/{{model}}/unload", self._unload),
        )

    @staticmethod
    def serves(scope: Scope) -> bool:
        """Say whether a request is for the protocol."""
        return f"{path_of(scope)}/".startswith(f"{OPEN_INFERENCE}/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if path_of(scope).endswith("/infer"):  # of which there are as many as of steps
            await self._respond(scope, receive, send)
        else:
            await traced(self._respond, scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except ClientDisconnect:
            return  # nobody is there to read it
        except Exception:  # noqa: BLE001 -- what nobody has foreseen is not for callers
            log.exception("Defect below %s", OPEN_INFERENCE)
            answer = defect()
        await send_reply(send, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        begun, method = clock(), scope["method"]
        for route in self._routes:
            fit = route.pattern.fullmatch(path_of(scope))
            if fit is None:
                continue
            if method != route.method and (method, route.method) != ("HEAD", "GET"):
                return wrong_method(route.method)
            if (request := current()) is not None:
                request.route = route.template
            asked = _Request(scope, receive, Named(**fit.groupdict("")))
            answer = await self._handled(route, asked)
            if route.handle != self._infer:  # which counts by itself
                telemetry, taken = self._arena.application.telemetry, clock() - begun
                telemetry.handled(method, route.template, answer.status, taken)
            return answer
        return refusal(NotFound("There is nothing at this address."))

    async def _handled(self, route: _Route, asked: _Request) -> Reply:
        try:
            return await route.handle(asked)
        except ArenaError as error:
            error = without_frames(error)
            return refusal(self._plane.judge(error, asked.scope, None, ""))

    # --- the server ------------------------------------------------------------------

    async def _health(self, asked: _Request) -> Reply:
        is_live = asked.scope["path"].endswith("/live")
        call = Call(self._arena.on_behalf_of(self._arena.anonymous))
        seen = await run_in_threadpool(health.readyz, call)
        body = {"live": True, "ready": seen.resource.ready}
        return reply(body, HTTPStatus.OK if is_live else seen.status)

    async def _server(self, asked: _Request) -> Reply:
        await self._models.asker(asked.scope)
        return reply({"name": NAME, "version": VERSION, "extensions": EXTENSIONS})

    # --- a model ---------------------------------------------------------------------

    async def _infer(self, asked: _Request) -> Reply:
        live, asker = await self._models.live(asked.named.model, asked.scope)
        try:
            return await self._inference.infer(live, asker.caller, *asked)
        except ArenaError as error:
            error = without_frames(error)
            judged = self._plane.judge(error, asked.scope, live, verb_of(live))
            return refusal(judged, headers_of(live))

    async def _metadata(self, asked: _Request) -> Reply:
        live, _ = await self._models.live(asked.named.model, asked.scope)
        check_version(live, asked.named.version)
        tensors = self._inference.tensors(live.model)
        return reply(
            {
                "name": asked.named.model,
                "versions": [version_of(live)],
                "platform": live.model.runtime,
                "inputs": [_described(each) for each in tensors.inputs.values()],
                "outputs": [_described(each) for each in tensors.outputs.values()],
            }
        )

    async def _ready(self, asked: _Request) -> Reply:
        asker = await self._models.asker(asked.scope)
        await run_in_threadpool(self._models.agent, asked.named.model, asker)
        answer: dict[str, Any] = {"name": asked.named.model, "ready": True}
        try:
            live, _ = await self._models.live(asked.named.model, asked.scope)
        except (NotFound, Unavailable) as error:
            answer |= {"ready": False, "error": detail_of(error)}
            return reply(answer, HTTPStatus.SERVICE_UNAVAILABLE)
        check_version(live, asked.named.version)
        return reply(answer)

    # --- the repository --------------------------------------------------------------

    async def _index(self, asked: _Request) -> Reply:
        wanted = await self._body(asked, repository.Filter)
        asker = await self._models.asker(asked.scope)
        entries = await run_in_threadpool(repository.index, self._arena, asker, wanted)
        return reply(entries)

    async def _load(self, asked: _Request) -> Reply:
        order = await self._body(asked, repository.Order)
        await repository.load(*await self._ordered(asked), order)
        return Reply(HTTPStatus.OK, b"")

    async def _unload(self, asked: _Request) -> Reply:
        await self._body(asked, repository.Order)
        await repository.unload(*await self._ordered(asked))
        return Reply(HTTPStatus.OK, b"")

    async def _ordered(self, asked: _Request) -> tuple[Agents, Row]:
        """Return who gives an order, to agents, and which agent it is for."""
        asker, name = await self._models.asker(asked.scope), asked.named.model
        agents = self._models.member(asker, asked.scope).agents
        return agents, await run_in_threadpool(self._models.agent, name, asker)

    async def _body(self, asked: _Request, form: type[T]) -> T:
        """Return a small body; who sends it is authorised before it is read, too."""
        await self._models.asker(asked.scope)
        body = await bodies.read(
            asked.receive,
            header_of(asked.scope, b"content-length"),
            limit_bytes=MOST_ORDER_BYTES,
            timeout_s=self._arena.settings.body_timeout_s,
        )
        try:
            return decoding.decoder(form).decode(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise Rejected(f"The body does not fit: {error}.", field="body") from error


def _route(
    method: str, template: str, handle: Callable[[_Request], Awaitable[Reply]]
) -> _Route:
    # The name of an agent may have slashes.
    model = r"(?P<model>.+?)"
    if template.startswith("/v2/models"):
        model += r"(?:/versions/(?P<version>[^/]+))?"
    pattern = re.compile(template.replace("{model}", model) + "/?")
    return _Route(method, pattern, template, handle)


def _described(tensor: Tensor) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
    }
    return told | ({"parameters": {"optional": True}} if tensor.is_optional else {})
