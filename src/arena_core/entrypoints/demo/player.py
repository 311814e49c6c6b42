"""Plays a deployed agent in a Gymnasium environment, through its HTTP endpoint."""

import http.client
import json
import time
from typing import Self
from urllib.parse import urlsplit

import gymnasium
import numpy as np
from attrs import frozen

from arena_core.application import npy
from arena_core.application.ports import Array
from arena_core.domain.errors import Unauthenticated, Unavailable

TIMEOUT_S = 30.0


@frozen
class Played:
    """What came of some episodes."""

    returns: list[float]
    latencies_ms: list[float]
    """Of every call, from before the request is written until its answer is read."""

    @property
    def mean_return(self) -> float:
        return float(np.mean(self.returns))


class Endpoint:
    """A keep-alive connection to one deployment.  Not to be shared by threads."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=TIMEOUT_S
        )
        self._path = f"{parts.path}/get_action"
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
        }

    def get_action(self, observation: Array) -> Array:
        """Return the action for one observation (without a batch axis).

        Raises `Unauthenticated` if the key is refused, `Unavailable` for any other
        answer than an action.
        """
        leaf = npy.to_base64(observation[np.newaxis])
        body = json.dumps({"obs": leaf, "batch_size": 1})
        self._connection.request("POST", self._path, body, self._headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status == http.client.UNAUTHORIZED:
            raise Unauthenticated(answer["detail"])
        if response.status != http.client.OK:
            raise Unavailable(answer["detail"])
        action: Array = npy.from_base64(answer["action"], field="action")[0]
        return action

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def play(endpoint: Endpoint, environment: str, *, episodes: int, seed: int) -> Played:
    """Play `episodes`, the first with `seed`, the next with the one after..."""
    returns, latencies = [], []
    with gymnasium.make(environment) as env:
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed + episode)
            total, over = 0.0, False
            while not over:
                begun = time.perf_counter()
                action = endpoint.get_action(observation)
                latencies.append((time.perf_counter() - begun) * 1000)
                observation, reward, ended, cut, _ = env.step(action)
                total, over = total + float(reward), ended or cut
            returns.append(total)
    return Played(returns, latencies)
