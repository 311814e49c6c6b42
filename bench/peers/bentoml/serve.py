"""BentoML: a service with one method, asynchronous, or batchable.

    bentoml serve peers.bentoml.serve:Act

Its access log and its metrics are turned off, as they cost more than the answer.
"""

import bentoml

from peers import codec
from peers.policy import MAX_BATCH, Policy, asked

MAX_LATENCY_MS = 50
"""What a batch may take in all; it answers 503 to what it thinks would take more."""


@bentoml.service(
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    traffic={"timeout": 60},
)
class Act:
    def __init__(self) -> None:
        self._policy = Policy(asked().weights)

    @bentoml.api
    async def get_action(self, obs: str) -> dict[str, str]:
        return {"action": codec.to_text(self._policy.act(codec.from_text(obs)))}

    @bentoml.api(
        batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS
    )
    async def get_actions(self, obs: list[str]) -> list[str]:
        arrays = [codec.from_text(text) for text in obs]
        actions = self._policy.act(codec.join(arrays))
        return [codec.to_text(rows) for rows in codec.split(actions, arrays)]
