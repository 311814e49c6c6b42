"""mosec: its Rust front, and one worker process."""

from collections.abc import Sequence

import mosec

from peers import codec
from peers.codec import Array
from peers.policy import MAX_BATCH, MAX_WAIT_MS, Policy, asked


class Worker(mosec.Worker):
    def __init__(self) -> None:
        self.policy = Policy(asked().weights)

    def deserialize(self, data: bytes) -> Array:
        return codec.decode(data)

    def serialize(self, data: Array) -> bytes:
        return codec.encode(data)


class One(Worker):
    def forward(self, data: Array) -> Array:
        return self.policy.act(data)


class Batch(Worker):
    def forward(self, data: Sequence[Array]) -> list[Array]:
        return codec.split(self.policy.act(codec.join(data)), data)


def main() -> None:
    server = mosec.Server()
    if asked().batching:
        server.append_worker(Batch, max_batch_size=MAX_BATCH, max_wait_time=MAX_WAIT_MS)
    else:
        server.append_worker(One)
    server.run()


if __name__ == "__main__":
    main()
