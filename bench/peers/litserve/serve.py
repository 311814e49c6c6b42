"""LitServe with its fast queue: one HTTP process, one worker process."""

from collections.abc import Sequence

import litserve

from peers import codec
from peers.codec import Array
from peers.policy import MAX_BATCH, MAX_WAIT_MS, Policy, asked


class Act(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 -- LitServe's interface
        self._policy = Policy(asked().weights)

    def decode_request(self, request: dict[str, str]) -> Array:
        return codec.from_text(request["obs"])

    def predict(self, x: Array) -> Array:
        return self._policy.act(x)

    def encode_response(self, output: Array) -> dict[str, str]:
        return {"action": codec.to_text(output)}


class ActInBatches(Act):
    def batch(self, inputs: Sequence[Array]) -> Array:
        return codec.join(inputs)

    def unbatch(self, output: Array) -> list[Array]:
        return list(output[:, None])


def main() -> None:
    _, port, batching = asked()
    api = (
        ActInBatches(max_batch_size=MAX_BATCH, batch_timeout=MAX_WAIT_MS / 1000)
        if batching
        else Act()
    )
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
