"""PyTriton: NVIDIA's Triton in front of Python, with its dynamic batcher.

It speaks KServe's protocol, here with Triton's binary extension: arrays are raw bytes
behind a JSON head, and Triton decodes them in C++.
"""

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from peers.codec import Array
from peers.policy import MAX_BATCH, Policy, asked


def main() -> None:
    weights, port, _ = asked()
    policy = Policy(weights)

    @batch
    def act(obs: Array) -> dict[str, Array]:
        return {"action": policy.act(obs)[:, None]}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port,
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            "policy",
            act,
            inputs=[Tensor(name="obs", dtype=np.float32, shape=(4,))],
            outputs=[Tensor(name="action", dtype=np.int64, shape=(1,))],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher()),
        )
        triton.serve()


if __name__ == "__main__":
    main()
