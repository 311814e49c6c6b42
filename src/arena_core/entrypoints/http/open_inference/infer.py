"""infer: a request of the protocol becomes one of the data plane, and back.

What is asked goes through the same lane as raw arrays do, and in their form: so
admission, batches, deadlines, checks and figures are those of the data plane.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from attrs import evolve, frozen
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope

from arena_core.application import npy, open_inference, raw_arrays
from arena_core.application.episodes import Episode, Episodes, Whose
from arena_core.application.model_tensors import ModelTensors
from arena_core.application.models import Model
from arena_core.application.open_inference import InferRequest, Sequence
from arena_core.application.ports import Array
from arena_core.application.raw_arrays import RawAnswer
from arena_core.application.serving import Live
from arena_core.domain.errors import ArenaError, Rejected
from arena_core.domain.values import Caller
from arena_core.entrypoints.http.asking import Asking
from arena_core.entrypoints.http.inference import (
    JSON,
    DataPlane,
    Reply,
    answered,
    header_of,
)
from arena_core.entrypoints.http.lanes import Lane, clock
from arena_core.entrypoints.http.open_inference.encodings import FIELD, inflated
from arena_core.entrypoints.http.open_inference.models import (
    check_version,
    version_of,
)
from arena_core.entrypoints.http.open_inference.replies import refusal
from arena_core.entrypoints.http.open_inference.sequences import TurnTaking
from arena_core.entrypoints.http.threads import Threads
from arena_core.entrypoints.library import Arena

JSON_LENGTH = "Inference-Header-Content-Length"
BINARY = (b"content-type", b"application/octet-stream")
INLINE_BYTES = 64 * 1024
"""Of what is read and written on the event loop; for more there are threads."""
MOST_INFLATING = 2
"""Compressed bodies that are read at the same time: a few bytes may become many."""
_LENGTH = re.compile(r"[0-9]{1,12}")
_Arrays: TypeAlias = Mapping[str, Array]
T = TypeVar("T")


@frozen
class Named:
    """The model that a request names."""

    model: str = ""
    version: str = ""
    """Empty: whichever answers."""


@frozen(eq=False)
class _Call:
    """A request that was received."""

    named: Named
    live: Live
    asking: Asking
    request: InferRequest
    begun: float

    def check(self, tensors: ModelTensors) -> None:
        tensors.check(self.request.inputs, self.request.wanted)


class Inference:
    """Answers `infer`.  For one event loop."""

    def __init__(self, arena: Arena, plane: DataPlane) -> None:
        self._plane = plane
        self._registry = arena.application.registry
        self._settings = arena.settings
        self._tensors: WeakKeyDictionary[Model, ModelTensors] = WeakKeyDictionary()
        idle_s = arena.settings.episode_idle_s
        self._episodes = Episodes(self._registry.pin, idle_s=idle_s)
        self._turns = TurnTaking()
        self._inflating = Threads(MOST_INFLATING)
        self._sweeps_on: asyncio.AbstractEventLoop | None = None

    def tensors(self, model: Model) -> ModelTensors:
        """Return what a model takes and gives."""
        known = self._tensors.get(model)
        if known is None:
            known = self._tensors[model] = ModelTensors.of(model)
        return known

    async def infer(
        self,
        live: Live,
        caller: Caller | None,
        scope: Scope,
        receive: Receive,
        named: Named,
    ) -> Reply:
        """Answer a request of `caller`, who was authorised; None: by the key."""
        begun = clock()
        asking = self._plane.asking(str(live.deployment_id), verb_of(live), scope)
        live, body = await self._plane.received(live, asking, scope, receive, begun)
        request = await self._read(body, scope)
        timeout_s = asking.timeout_s or request.timeout_s
        if (request.choice, timeout_s) != (asking.choice, asking.timeout_s):
            asking = evolve(asking, choice=request.choice, timeout_s=timeout_s)
        call = _Call(named, live, asking, request, begun)
        if request.sequence is not None and live.model.manifest.is_recurrent:
            return await self._step(call, request.sequence, caller)
        check_version(live, named.version)
        call.check(self.tensors(live.model))
        lane = self._lane(live, asking)
        return await _reply(call, lane, await _asked(call, lane, request.inputs))

    async def _read(self, body: bytes, scope: Scope) -> InferRequest:
        encoding = header_of(scope, FIELD.encode())
        said = header_of(scope, JSON_LENGTH.lower().encode())

        def read() -> InferRequest:
            limit_bytes = self._settings.max_body_bytes
            whole = inflated(body, encoding, limit_bytes=limit_bytes)
            return open_inference.read(whole, _json_bytes(said))

        if encoding is None:
            return await _aside(len(body), read)
        return await self._inflating.run(read)

    # --- episodes --------------------------------------------------------------------

    def _sweep_later(self) -> None:
        """See to it that episodes are forgotten though nobody asks any more."""
        loop = asyncio.get_running_loop()
        if self._sweeps_on is not loop:
            self._sweeps_on = loop
            loop.call_later(self._settings.episode_idle_s, self._sweep)

    def _sweep(self) -> None:
        self._episodes.sweep(clock())
        self._sweeps_on = None
        if len(self._episodes):
            self._sweep_later()

    async def _step(
        self, call: _Call, sequence: Sequence, caller: Caller | None
    ) -> Reply:
        principal = "" if caller is None else str(caller.actor)
        whose = Whose(call.live.deployment_id, principal, sequence.id)
        until = self._lane(call.live, call.asking).deadline(call.asking, call.begun)
        async with self._turns.turn(whose, until - clock()):
            if sequence.start:
                episode = self._episodes.begin(whose, call.live, clock())
            else:
                episode = self._episodes.going_on(whose, clock())
            try:
                return await self._in_turn(call, whose, episode, is_last=sequence.end)
            finally:
                if episode.rows is None:  # it has not begun after all
                    self._episodes.end(whose)
                self._sweep_later()

    async def _in_turn(
        self, call: _Call, whose: Whose, episode: Episode, *, is_last: bool
    ) -> Reply:
        check_version(episode.live, call.named.version)
        call.check(self.tensors(episode.live.model))
        lane = self._lane(episode.live, call.asking)
        arrays = await _asked(call, lane, episode.asked(call.request.inputs))
        if isinstance(arrays, ArenaError):
            return refusal(arrays, lane.headers)
        rest = self._episodes.answered(whose, episode, arrays, clock())
        if is_last:
            self._episodes.end(whose)
        # What is remembered is of use to nobody, but for who asks for it by name.
        told = rest if call.request.wanted.by_name is None else arrays
        return await _reply(call, lane, told)

    def _lane(self, live: Live, asking: Asking) -> Lane:
        """Return the lane for the weights of `live`, which others may have replaced."""
        lanes, now = self._plane.lanes(), self._registry.live(asking.deployment_id)
        if now is not None and now.model is live.model:
            return lanes.of(now, asking)
        return lanes.new(evolve(live, mirror=None), asking.verb)


def verb_of(live: Live) -> str:
    """Return which call of the data plane answers for a model."""
    return "get_action" if live.model.acts else "predict"


async def _asked(
    call: _Call, lane: Lane, inputs: _Arrays
) -> dict[str, Array] | ArenaError:
    """Return what comes of `inputs`; a refusal has been counted."""
    size = sum(array.nbytes for array in inputs.values())
    body = await _aside(size, lambda: b"".join(map(npy.encode, inputs.values())))
    asking = evolve(call.asking, names=tuple(inputs))
    answer = await answered(lane, asking, body, call.begun)
    if isinstance(answer, ArenaError):
        return answer
    assert isinstance(answer, RawAnswer)  # noqa: S101 -- arrays are answered in arrays
    return raw_arrays.arrays_in(answer)


async def _reply(call: _Call, lane: Lane, arrays: _Arrays | ArenaError) -> Reply:
    if isinstance(arrays, ArenaError):
        return refusal(arrays, lane.headers)
    size = sum(array.nbytes for array in arrays.values())
    version = version_of(lane.live)
    answer = await _aside(
        size,
        lambda: open_inference.answer(arrays, call.request, call.named.model, version),
    )
    if answer.json_bytes is None:
        return Reply(HTTPStatus.OK, answer.body, (JSON, *lane.headers))
    length = (JSON_LENGTH.encode(), str(answer.json_bytes).encode())
    return Reply(HTTPStatus.OK, answer.body, (BINARY, length, *lane.headers))


async def _aside(size: int, work: Callable[[], T]) -> T:
    """Do what takes longer, the more bytes there are, where it holds up nobody."""
    return work() if size <= INLINE_BYTES else await run_in_threadpool(work)


def _json_bytes(said: str | None) -> int | None:
    if said is None:
        return None
    if not _LENGTH.fullmatch(said):
        raise Rejected(
            f"The header {JSON_LENGTH} must be a number of bytes.",
            field=JSON_LENGTH.lower(),
        )
    return int(said)
