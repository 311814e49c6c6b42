"""The data plane's calls, from the bytes of a request to the bytes of its answer.

Reading and answering are apart: requests that were read wait for each other, and those
to one model are answered together.  One that cannot be answered spoils no other.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
from attrs import frozen

from arena_core.application import npy, raw_arrays
from arena_core.application.action_requests import ActionRequest, Asked, understood
from arena_core.application.models import SINGLE, Acted, Model, Turn
from arena_core.application.observations import Arrays
from arena_core.application.ports import Array
from arena_core.application.raw_arrays import Names, RawAnswer
from arena_core.domain.errors import ArenaError, Rejected, TooLarge
from arena_core.domain.values import Family, one_of


class PredictRequest(msgspec.Struct):
    """Body of `predict`."""

    inputs: Any


class Mode(Enum):
    """How an action is taken from a policy's distribution."""

    GREEDY = "greedy"
    SAMPLE = "sample"


@frozen
class Choice:
    """How actions are chosen: sampling draws the same for the same seed and request."""

    mode: Mode = Mode.GREEDY
    seed: int | None = None

    @classmethod
    def of(cls, mode: Mode | str, seed: int | str | None = None) -> "Choice":
        """Return the choice.  Raises `Rejected`; `seed` is from 0 to 2^64 - 1."""
        wanted = one_of(Mode, mode, field="mode")
        if seed is None:
            return cls(wanted)
        number = int(seed) if str(seed).isdecimal() and len(str(seed)) <= 20 else -1  # noqa: PLR2004 -- digits of 2^64
        if not 0 <= number < 2**64 or wanted is Mode.GREEDY:
            raise Rejected(
                "The seed must be a whole number from 0 to 2^64 - 1, and goes with "
                "the mode sample.",
                field="seed",
            )
        return cls(wanted, number)

    def random(self) -> np.random.Generator | None:
        """Return what draws; None: greedy."""
        return None if self.mode is Mode.GREEDY else np.random.default_rng(self.seed)


GREEDY = Choice()
LARGE_BODY_BYTES = 1 << 20
MOST_PARTS = 100_000
"""Of the JSON of a large body: its values and keys, about."""


R = TypeVar("R")
C = TypeVar("C")
_ACTION = msgspec.json.Decoder(ActionRequest)
_PREDICT = msgspec.json.Decoder(PredictRequest)
_encode = msgspec.json.Encoder().encode

Answer: TypeAlias = bytes | RawAnswer | ArenaError
"""What comes of one request: the body of an answer, or why there is none."""
Watch: TypeAlias = Callable[[Mapping[str, Turn], Mapping[str, Acted]], None]
"""Is told what was asked and what came of it, batch by batch."""


class Call(NamedTuple):
    """A request that was read, and has yet to be answered."""

    rows: int
    question: Any
    """What the verb has read."""
    choice: Choice
    names: Names | None
    """Of the raw arrays that it came as; None: it came as JSON."""


@frozen
class Verb:
    """One call of the data plane: how it is read, and how several are answered."""

    name: str
    read: Callable[[Model, bytes, Choice, Names | None], Call]
    """Raises `Rejected`, or `Conflict` for the hidden state of other weights."""
    answer: Callable[[Model, Sequence[Call], Watch], list[Answer]]


def unwatched(turns: Mapping[str, Turn], acted: Mapping[str, Acted]) -> None:
    """Take no notice."""


def one_by_one_if_need_be(
    answer: Callable[[Sequence[C]], list[Answer]], calls: Sequence[C]
) -> list[Answer]:
    """Answer `calls` together; if that fails, halve them until who fails is alone."""
    try:
        return answer(calls)
    except ArenaError as error:
        if len(calls) == 1:
            return [error]
    middle = len(calls) // 2
    return [
        *one_by_one_if_need_be(answer, calls[:middle]),
        *one_by_one_if_need_be(answer, calls[middle:]),
    ]


def _alone(verb: Verb, model: Model, body: bytes, choice: Choice) -> bytes:
    (answer,) = verb.answer(model, [verb.read(model, body, choice, None)], unwatched)
    return json_of(answer)


def json_of(answer: Answer) -> bytes:
    """Return the body of an answer to what was asked in JSON, or raise why not."""
    if isinstance(answer, ArenaError):
        raise answer
    assert isinstance(answer, bytes)  # noqa: S101 -- what is asked in JSON is so answered
    return answer


# --- get_action --------------------------------------------------------------------


def get_action(model: Model, body: bytes, choice: Choice = GREEDY) -> bytes:
    """Answer a `get_action` request.  Raises `Rejected` for a bad one.

    Raises `Conflict` for the hidden state of other weights.
    """
    return _alone(GET_ACTION, model, body, choice)


def _read_action(
    model: Model, body: bytes, choice: Choice, names: Names | None
) -> Call:
    if names is None:
        asked = read_action_request(model, body)
    else:
        _check_route(model, "get_action")
        request = raw_arrays.action_request(model, names, body)
        asked = understood(model, request, raw_arrays.as_given)
    return Call(sum(turn.rows for turn in asked.turns.values()), asked, choice, names)


def read_action_request(model: Model, body: bytes) -> Asked:
    """Return what a request asks.  Raises `Rejected` or `Conflict`."""
    _check_route(model, "get_action")
    return understood(model, _decoded(_ACTION, body), _leaf)


def _act(model: Model, calls: Sequence[Call], watch: Watch) -> list[Answer]:
    def answer(calls: Sequence[Call]) -> list[Answer]:
        asked = [(call.question.turns, call.choice.random()) for call in calls]
        done = list(zip(calls, model.act_together(asked), strict=True))
        answers: list[Answer] = [_told(model, call, acted) for call, acted in done]
        for call, acted in done:
            watch(call.question.turns, acted)
        return answers

    return one_by_one_if_need_be(answer, calls)


def _told(model: Model, call: Call, acted: Mapping[str, Acted]) -> bytes | RawAnswer:
    asked: Asked = call.question
    if call.names is None:
        return action_answer(model, asked, acted)
    return raw_arrays.action_answer(model, acted)


def action_answer(model: Model, asked: Asked, acted: Mapping[str, Acted]) -> bytes:
    """Return the body that says what the agents do."""
    if not model.manifest.is_multi_agent:
        done, memory = acted[SINGLE], model.single.memory
        action = npy.to_base64(done.actions)
        if not memory.is_kept:
            return _encode({"action": action})
        state = _encoded(memory.carry(done.outputs))
        return _encode({"action": action, "hidden_state": state})
    actions = {name: npy.to_base64(done.actions) for name, done in acted.items()}
    answer = {"action": {**actions, **dict.fromkeys(asked.dead)}}
    if not model.manifest.is_recurrent:
        return _encode(answer)
    hidden = {
        name: _encoded(model.agents[name].memory.carry(done.outputs))
        for name, done in acted.items()
        if model.agents[name].memory.is_kept
    }
    return _encode({**answer, "hidden_state": hidden})


def _encoded(arrays: Mapping[str, Array]) -> dict[str, str]:
    return {name: npy.to_base64(array) for name, array in arrays.items()}


GET_ACTION = Verb("get_action", _read_action, _act)


# --- predict -----------------------------------------------------------------------


def predict(model: Model, body: bytes, choice: Choice = GREEDY) -> bytes:
    """Answer a `predict` request.  Raises `Rejected` for a bad one."""
    return _alone(PREDICT, model, body, choice)


def _read_prediction(
    model: Model, body: bytes, choice: Choice, names: Names | None
) -> Call:
    if choice != GREEDY:
        raise Rejected("A prediction is not sampled: leave mode out.", field="mode")
    if names is None:
        observed = read_predict_request(model, body)
    else:
        _check_route(model, "predict")
        inputs = raw_arrays.inputs(model, names, body)
        observed = model.single.observe(inputs, raw_arrays.as_given, field="inputs")
    return Call(len(next(iter(observed.values()))), observed, choice, names)


def read_predict_request(model: Model, body: bytes) -> Arrays:
    """Return the arrays that a request holds.  Raises `Rejected`."""
    _check_route(model, "predict")
    request = _decoded(_PREDICT, body)
    return model.single.observe(request.inputs, _leaf, field="inputs")


def _predict(model: Model, calls: Sequence[Call], watch: Watch) -> list[Answer]:
    answered: dict[int, Answer] = {}
    for places in _alike(calls):
        alike = one_by_one_if_need_be(
            partial(_predict_alike, model, watch), [calls[place] for place in places]
        )
        answered.update(zip(places, alike, strict=True))
    return [answered[place] for place in range(len(calls))]


def _alike(calls: Sequence[Call]) -> Iterable[Sequence[int]]:
    """Return the places of those that can be joined: their free axes are alike."""
    places: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place, call in enumerate(calls):
        shapes = tuple(array.shape[1:] for array in call.question.values())
        places.setdefault(shapes, []).append(place)
    return places.values()


def _predict_alike(model: Model, watch: Watch, calls: Sequence[Call]) -> list[Answer]:
    parts: list[Arrays] = [call.question for call in calls]
    together = parts[0]
    if len(parts) > 1:
        together = {n: np.concatenate([part[n] for part in parts]) for n in together}
    begun = time.perf_counter()
    results, outputs = model.predict(together)
    took_ms = (time.perf_counter() - begun) * 1000
    rows = len(results)
    watch({SINGLE: Turn(together, rows)}, {SINGLE: Acted(results, outputs)})
    answers: list[Answer] = []
    begin = 0
    for call in calls:
        own = results[begin : begin + call.rows]
        begin += call.rows
        answers.append(_predicted(call, own, took_ms))
    return answers


def _predicted(call: Call, results: Array, took_ms: float) -> Answer:
    if call.names is None:
        return predict_answer(results, took_ms)
    return raw_arrays.answer({"results": results})


def predict_answer(results: Array, took_ms: float) -> bytes:
    return _encode(
        {
            "results": npy.to_base64(results),
            "batch_size": len(results),
            "inference_time_ms": round(took_ms, 3),
            "success": True,
        }
    )


PREDICT = Verb("predict", _read_prediction, _predict)
VERBS = {verb.name: verb for verb in (GET_ACTION, PREDICT)}


# --- status ------------------------------------------------------------------------


def status(model: Model, *, deployment_id: str, instance_id: str) -> bytes:
    """Return the body of `status`: exactly these keys, for clients forbid others."""
    manifest = model.manifest
    return _encode(
        {
            "success": True,
            "deployment_id": deployment_id,
            "instance_id": instance_id,
            "agent": {
                "algo": manifest.algorithm,
                "multi_agent": manifest.is_multi_agent,
                "llm": manifest.family is Family.LLM,
                "recurrent": manifest.is_recurrent,
                "supervised": manifest.family in (Family.SUPERVISED, Family.LATENT),
            },
        }
    )


def _check_route(model: Model, called: str) -> None:
    """Refuse a call that is not the one of the checkpoint's family."""
    family = model.manifest.family
    if family is Family.LLM:
        raise Rejected(f"This deployment is a language model: {called} is not for it.")
    if model.acts and called != "get_action":
        raise Rejected(f"This deployment acts: call get_action, not {called}.")
    if not model.acts and called != "predict":
        raise Rejected(f"This deployment predicts: call predict, not {called}.")


def _decoded(decoder: msgspec.json.Decoder[R], body: bytes) -> R:
    if len(body) > LARGE_BODY_BYTES:
        _check_parts(body)
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"The body does not fit: {_plain(error)}.") from error


def _check_parts(body: bytes) -> None:
    """Refuse what would be forty times its size once it is decoded: `[],[],[]`...

    Base64 has none of these characters, so that arrays are as large as they like.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise TooLarge(
            f"The body has more than {MOST_PARTS} parts: send fewer arrays, with more "
            "rows."
        )


def _plain(error: Exception) -> str:
    # Clients print through markup that takes square brackets for its own.
    return str(error).replace("[", "(").replace("]", ")")


def _leaf(leaf: object, name: str) -> Array:
    if not isinstance(leaf, str):
        raise Rejected(
            f"{name} must be one array, as base64 of a .npy file.", field=name
        )
    return npy.from_base64(leaf, field=name)
