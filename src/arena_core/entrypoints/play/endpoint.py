"""One deployment as its callers see it, over one connection.

An array travels as a .npy file in base64, and its first axis is the batch; the batch
is one observation here, so that axis comes and goes in this module.
"""

import http.client
from collections.abc import Mapping
from typing import Any, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
from attrs import frozen

from arena_core.application import npy
from arena_core.domain.errors import (
    ArenaError,
    Conflict,
    Forbidden,
    NotFound,
    Rejected,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

TIMEOUT_S = 30.0

T = TypeVar("T")
Tree: TypeAlias = Any
"""An array or what becomes one, None, or a dict or a tuple of trees."""

_REFUSALS: Mapping[int, type[ArenaError]] = {
    400: Rejected,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
}


class _Agent(msgspec.Struct):
    algo: str = ""
    multi_agent: bool = False
    llm: bool = False
    supervised: bool = False


class Status(msgspec.Struct):
    """What `/status` says, as far as a player needs it."""

    agent: _Agent

    @property
    def acts(self) -> bool:
        return not (self.agent.llm or self.agent.supervised)

    @property
    def multi_agent(self) -> bool:
        return self.agent.multi_agent


class _Answered(msgspec.Struct):
    action: Any
    hidden_state: Any = None


class _Predicted(msgspec.Struct):
    results: Any


@frozen
class Answer:
    """The answer to one observation."""

    action: Tree
    """Without a batch axis; of a multi-agent deployment, by agent."""
    hidden_state: object = None
    """What to hand in with the next observation of the episode.  Opaque."""


class Endpoint:
    """A keep-alive connection to one deployment.  Not to be shared by threads.

    Every call raises the error that the answer stands for: `Rejected` for a request
    that does not fit the agent, `Unauthenticated` or `Forbidden` for the key,
    `NotFound`, `Conflict`, and `Unavailable` if no sensible answer comes.
    """

    def __init__(self, url: str, key: str) -> None:
        """Connect to nothing yet.  Raises `Rejected` for what is no HTTP address."""
        self._connection, self._path = _connection(url)
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
        }

    def status(self) -> Status:
        return _parsed(Status, self._exchange("GET", "/status", None))

    def get_action(
        self,
        observation: Tree,
        *,
        mask: Tree = None,
        forced: Mapping[str, Tree] | None = None,
        hidden_state: object = None,
        seed: int | None = None,
    ) -> Answer:
        """Return the action for one observation.

        Of a multi-agent deployment, `observation` and `mask` are by agent, with None
        for who is dead or has no mask; `forced` holds the actions that the
        environment has taken upon itself.  `hidden_state`: of the answer before, None
        at the beginning.  `seed`: draw the action; None: the greedy one.
        """
        body: dict[str, object] = {"obs": _packed(observation), "batch_size": 1}
        if mask is not None:
            body["action_mask"] = _packed(mask)
        if forced is not None:
            body["env_defined_actions"] = _packed(forced)
        if hidden_state is not None:
            body["hidden_state"] = hidden_state
        query = "" if seed is None else f"?mode=sample&seed={seed}"
        said = self._exchange("POST", f"/get_action{query}", msgspec.json.encode(body))
        answered = _parsed(_Answered, said)
        return Answer(_unpacked(answered.action), answered.hidden_state)

    def predict(self, inputs: Tree) -> Tree:
        """Return the results for one row of inputs, without a batch axis."""
        body = msgspec.json.encode({"inputs": _packed(inputs)})
        said = self._exchange("POST", "/predict", body)
        return _unpacked(_parsed(_Predicted, said).results)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            status, said = self._once(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"The server does not answer ({_reason(error)}): is it running, and "
                "is its URL right?"
            ) from error
        if status != http.client.OK:
            raise _refusal(status, said)
        return said

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            return self._ask(method, path, body)
        except (ConnectionError, http.client.HTTPException):
            # Servers close connections that were idle while an environment was slow.
            # Asking again is harmless: an answer changes nothing.
            self.close()
            return self._ask(method, path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, self._path + path, body, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection to the server of `url`, and the path there."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise Rejected(
            "The URL must begin with http or https, and name a host.", field="url"
        )
    kind = (
        http.client.HTTPSConnection
        if parts.scheme == "https"
        else http.client.HTTPConnection
    )
    return kind(host, port, timeout=TIMEOUT_S), parts.path.rstrip("/")


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error) or type(error).__name__


def _refusal(status: int, said: bytes) -> ArenaError:
    """Return the error that the answer stands for."""
    refused = _REFUSALS.get(status, Unavailable)
    try:
        return refused(msgspec.json.decode(said, type=dict[str, str])["detail"])
    except (KeyError, ValueError):
        return Unavailable(
            f"The server answers with the status {status} and without a sentence: is "
            "its URL right?"
        )


def _parsed(kind: type[T], said: bytes) -> T:
    try:
        return msgspec.json.decode(said, type=kind)
    except ValueError as error:
        raise Unavailable(
            "The answer is not what an agent answers: is the URL that of its endpoint?"
        ) from error


def _packed(tree: Tree) -> object:
    """Return a tree as it travels, with a batch axis on each of its arrays."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {str(key): _packed(child) for key, child in tree.items()}
    if isinstance(tree, tuple):
        return [_packed(child) for child in tree]
    array = np.asarray(tree)
    try:
        return npy.to_base64(array[np.newaxis])
    except TypeError as error:
        raise Rejected(
            "The environment gives something that is no array of numbers, a "
            f"{type(tree).__name__}: only numbers travel to an agent."
        ) from error


def _unpacked(tree: object) -> Tree:
    """Return what travelled, without the batch axis, free to be written to."""
    match tree:
        case None:
            return None
        case str():
            array = npy.from_base64(tree, field="answer")
            if array.ndim == 0 or len(array) != 1:
                raise Unavailable("The agent did not answer exactly one action.")
            return array[0].copy()
        case dict():
            return {key: _unpacked(child) for key, child in tree.items()}
        case list():
            return tuple(map(_unpacked, tree))
        case _:
            raise Unavailable("The agent answered something that is no array.")
