"""The data plane: /inference/<deployment>/status, get_action and predict.

A plain ASGI app, since every microsecond here is paid on every step of every episode.
Under our own server most requests do not even come here: see `protocol`, which answers
them by the same lanes.  Errors are `{"detail": "<one plain sentence>"}`, as the public
client expects.
"""

import asyncio
import hmac
from contextlib import suppress
from http import HTTPStatus
from uuid import UUID

import anyio
import msgspec
from attrs import frozen
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from arena_core.application import raw_arrays
from arena_core.application.batching import Job
from arena_core.application.callers import REFUSAL, require_role
from arena_core.application.identity import EXTERNAL_USER, authenticate
from arena_core.application.inference import VERBS, Answer
from arena_core.application.keys import PREFIX
from arena_core.application.serving import Live
from arena_core.domain import deployment
from arena_core.domain.errors import (
    ArenaError,
    Forbidden,
    NotFound,
    RateLimited,
    Rejected,
    TooLarge,
    TooSlow,
    Unauthenticated,
    Unavailable,
)
from arena_core.domain.values import Caller, Role
from arena_core.entrypoints.http import bodies
from arena_core.entrypoints.http.asking import RAW_ARRAYS, Asking, read_head
from arena_core.entrypoints.http.endpoints import bearer
from arena_core.entrypoints.http.errors import (
    HIDDEN,
    detail_of,
    log,
    retry_after,
    status_of,
    without_frames,
)
from arena_core.entrypoints.http.failures import FailedAuthentications
from arena_core.entrypoints.http.known_callers import KnownCallers
from arena_core.entrypoints.http.lanes import Lane, Lanes, clock, headers_of, outcome_of
from arena_core.entrypoints.library import Arena

LANGUAGE_MODEL_VERBS = ("generate", "generate_stream", "sessions")
ROOT = "/inference/"
MOST_HEADS = 1024
ARRIVAL_S = 5.0
POLL_S = 0.01
NOT_YET = "The deployment is being put live: try again."
GONE = "Nothing is served at this address."
FOREIGN = (
    "This credential is not for this deployment: use its own key, or a token whose "
    "current organisation has it."
)
JSON = (b"content-type", b"application/json")
RAW = (b"content-type", RAW_ARRAYS.encode())
Headers = tuple[tuple[bytes, bytes], ...]


@frozen
class Reply:
    status: int
    body: bytes
    headers: Headers = (JSON,)


class DataPlane:
    """An ASGI app for all that is below /inference.

    It does its own authorisation: `status` alone is public.
    """

    def __init__(self, arena: Arena) -> None:
        self.settings = arena.settings
        self.failures = FailedAuthentications(
            arena.settings.failed_auth_rate / arena.settings.workers,
            arena.application.telemetry,
        )
        self._arena = arena
        self._registry = arena.application.registry
        self._telemetry = arena.application.telemetry
        self._lanes: Lanes | None = None
        self._known: dict[tuple[object, ...], Asking] = {}
        self._callers = KnownCallers(arena.application.core.views)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._answer(scope, receive)
        except ClientDisconnect:
            return  # nobody is there to read it
        except Exception:  # noqa: BLE001 -- what nobody has foreseen is not for callers
            log.exception("Defect in the data plane")
            reply = Reply(HTTPStatus.INTERNAL_SERVER_ERROR, _detail(HIDDEN))
        await send_reply(send, reply)

    @staticmethod
    def serves(scope: Scope) -> bool:
        """Say whether a request is for the data plane."""
        root: str = scope.get("root_path", "")
        return bool(scope["path"].startswith(ROOT, len(root)))

    def lane(self, asking: Asking, lanes: Lanes) -> Lane | None:
        """Return the lane of a request that bears the very key of what is live.

        Or the token of a user who is known.  None for all others: to find out why not
        takes longer.
        """
        live = self._registry.live(asking.deployment_id)
        if live is None:
            return None
        lane = lanes.of(live, asking)
        is_good = hmac.compare_digest(asking.bearer, lane.authorization)
        if is_good or self._callers.get(asking.bearer, live.organisation) is not None:
            return lane
        return None

    def is_live(self) -> bool:
        """Say whether anything is live here."""
        return bool(self._registry.all_live())

    def lanes(self) -> Lanes:
        """Return the lanes of the event loop that is running."""
        lanes, loop = self._lanes, asyncio.get_running_loop()
        if lanes is None or lanes.loop is not loop:
            live = self._registry.all_live
            lanes = Lanes(loop, self.settings, self._telemetry, live)
            self._lanes = lanes
        return lanes

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        below = len(scope.get("root_path", "")) + len(ROOT)
        deployment_id, _, verb = scope["path"][below:].partition("/")
        live: Live | None = None
        try:
            live = self._registry.live(deployment_id)
            if live is None:
                live = await self.arriving(deployment_id)
            return await self._of(live, verb, scope, receive)
        except ArenaError as error:
            judged = self.judge(without_frames(error), scope, live, verb)
            return refusal(judged, () if live is None else headers_of(live))

    def judge(
        self, error: ArenaError, scope: Scope, live: Live | None, verb: str
    ) -> ArenaError:
        """Count a request that was refused before it had a lane; return the answer."""
        if isinstance(error, Unauthenticated):
            error = self.failures.judge(error, scope)
        if live is not None and verb in VERBS:
            self._telemetry.of(live, verb).answered(outcome_of(error), 0.0)
        return error

    async def _of(self, live: Live, verb: str, scope: Scope, receive: Receive) -> Reply:
        if verb == "status":
            if scope["method"] not in {"GET", "HEAD"}:
                return _wrong_method(live, b"GET, HEAD")
            return Reply(HTTPStatus.OK, live.status, (JSON, *headers_of(live)))
        if verb in VERBS:
            if scope["method"] != "POST":
                return _wrong_method(live, b"POST")
            return await self._call(live, verb, scope, receive)
        if verb.partition("/")[0] in LANGUAGE_MODEL_VERBS:
            await self.authorise(live, scope)
            raise Rejected("This deployment is no language model.")
        raise NotFound(GONE)

    async def _call(
        self, live: Live, verb: str, scope: Scope, receive: Receive
    ) -> Reply:
        begun = clock()
        await self.authorise(live, scope)
        asking = self.asking(str(live.deployment_id), verb, scope)
        live, body = await self.received(live, asking, scope, receive, begun)
        lane = self.lanes().of(live, asking)
        return reply_of(await answered(lane, asking, body, begun), lane.headers)

    async def received(
        self, live: Live, asking: Asking, scope: Scope, receive: Receive, begun: float
    ) -> tuple[Live, bytes]:
        """Return who answers, and the body of a request that was authorised.

        It is read only if there is a prospect of answering in time.
        """
        lanes = self.lanes()
        lanes.limit(asking, begun)
        lane = lanes.of(live, asking)
        lane.batcher.admit(begun, lane.deadline(asking, begun))
        try:
            body = await bodies.read(
                receive,
                header_of(scope, b"content-length"),
                limit_bytes=self.settings.max_body_bytes,
                timeout_s=self.settings.body_timeout_s,
            )
            # A body takes its time: the key may have been rotated meanwhile, the
            # weights replaced, or all of it taken off.
            live = self._registry.live(asking.deployment_id) or (
                await self.arriving(asking.deployment_id)
            )
            await self.authorise(live, scope)
        finally:
            lane.batcher.withdraw()
        return live, body

    def asking(self, deployment_id: str, verb: str, scope: Scope) -> Asking:
        """Return what a head says; one that has come before is not read again."""
        head = (deployment_id, verb, scope["query_string"], *scope["headers"])
        asking = self._known.get(head)
        if asking is None:
            query: bytes = scope["query_string"]
            asking = read_head(deployment_id, verb, query, scope["headers"])
            if len(self._known) >= MOST_HEADS:
                self._known.clear()
            self._known[head] = asking
        return asking

    async def authorise(self, live: Live, scope: Scope) -> Caller | None:
        """Return who asks; None: whoever bears the key of the deployment.

        Raises `Unauthenticated`, or `Forbidden` for who may not call it.
        """
        header = header_of(scope, b"authorization")
        if header is not None and _equal(header, live.authorization):
            return None
        token = bearer(header)
        if token.startswith(PREFIX):
            self._check_key(live, token)
            return None
        authorization = (header or "").encode("latin-1")
        position = self._callers.position  # before it is looked up
        known = self._callers.get(authorization, live.organisation)
        if known is not None:
            return known
        caller = await run_in_threadpool(self.authenticated, scope)
        if caller.organisation != live.organisation:
            raise Forbidden(FOREIGN)
        require_role(caller, Role.MEMBER)
        self._callers.add(authorization, caller, position)
        return caller

    def authenticated(self, scope: Scope) -> Caller:
        """Return who bears the access token.  Raises `Unauthenticated`."""
        return authenticate(
            self._arena.application.core,
            bearer(header_of(scope, b"authorization")),
            external_user=header_of(scope, EXTERNAL_USER.lower().encode()),
        )

    def _check_key(self, live: Live, token: str) -> None:
        if _equal(token, live.key):
            return
        other = self._registry.live(deployment_in(token))
        if other is not None and _equal(token, other.key):
            raise Forbidden(FOREIGN)
        raise Unauthenticated(REFUSAL)

    async def arriving(self, deployment_id: str) -> Live:
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


def header_of(scope: Scope, name: bytes) -> str | None:
    """Return the first header of that name; cheaper than a mapping of all."""
    for found, value in scope["headers"]:
        if found == name:
            text: str = value.decode("latin-1")
            return text
    return None


async def answered(lane: Lane, asking: Asking, body: bytes, begun: float) -> Answer:
    """Return what comes of a request that was received, and count it."""
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def done(answer: Answer) -> None:
        if not future.done():
            future.set_result(answer)

    lane.batcher.promise()
    # Who has named no deadline is not charged for the way of the body.
    asked = clock() if asking.timeout_s is None else begun
    job = Job(done, lane.deadline(asking, asked))
    lane.begin(job, asking, body)
    try:
        answer = await future
    finally:
        job.is_wanted = False
    lane.answered(answer, clock() - begun)
    return answer


def reply_of(answer: Answer, headers: Headers) -> Reply:
    """Return the reply that carries an answer; `headers` say whose it is."""
    if isinstance(answer, ArenaError):
        return refusal(answer, headers)
    if isinstance(answer, bytes):
        return Reply(HTTPStatus.OK, answer, (JSON, *headers))
    try:
        named = (b"arena-arrays", raw_arrays.header(answer).encode())
    except Rejected as error:
        return refusal(error, headers)
    return Reply(HTTPStatus.OK, answer.body, (RAW, named, *headers))


def refusal(error: ArenaError, headers: Headers = ()) -> Reply:
    """Return the reply that says why there is no answer."""
    body = _detail(detail_of(error))
    if isinstance(error, Rejected) and not isinstance(error, TooLarge):
        # The public contract has one status for everything malformed.
        return Reply(HTTPStatus.BAD_REQUEST, body, (JSON, *headers))
    if isinstance(error, Unauthenticated):
        challenge = (b"www-authenticate", b'Bearer realm="arena"')
        headers = (*headers, challenge)
    if isinstance(error, Unavailable | RateLimited):
        headers = (*headers, (b"retry-after", retry_after(error).encode()))
    if isinstance(error, TooSlow):
        headers = (*headers, (b"connection", b"close"))
    return Reply(status_of(error), body, (JSON, *headers))


def _wrong_method(live: Live, allowed: bytes) -> Reply:
    body = _detail(f"Use {allowed.decode()} here.")
    headers = (JSON, (b"allow", allowed), *headers_of(live))
    return Reply(HTTPStatus.METHOD_NOT_ALLOWED, body, headers)


def _detail(sentence: str) -> bytes:
    return msgspec.json.encode({"detail": sentence})


def _equal(token: str, key: str) -> bool:
    return hmac.compare_digest(token.encode(), key.encode())


def deployment_in(key: str) -> str:
    """Return the deployment that a key says it is for."""
    with suppress(ValueError, IndexError):
        return str(UUID(hex=key.split("_")[2]))
    return ""


async def send_reply(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send(
        {"type": "http.response.start", "status": reply.status, "headers": headers}
    )
    await send({"type": "http.response.body", "body": reply.body})
