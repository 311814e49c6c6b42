"""Ray Serve, optimised for throughput, behind HAProxy: one replica.

The switches are variables of the environment: see `catalogue.py`.
"""

import signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from peers import codec
from peers.policy import Policy, asked

MAX_ONGOING = 1000
"""Its default, 5, would queue most of the requests in front of the replica."""


class Act:
    def __init__(self, weights: str) -> None:
        self._policy = Policy(weights)

    async def __call__(self, request: Request) -> Response:
        actions = self._policy.act(codec.decode(await request.body()))
        return Response(codec.encode(actions), media_type=codec.CONTENT_TYPE)


def main() -> None:
    weights, port, _ = asked()
    ray.init(include_dashboard=False, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(Act, max_ongoing_requests=MAX_ONGOING)
    serve.run(deployment.bind(weights), route_prefix="/get_action")
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    signal.sigwait(stops)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
