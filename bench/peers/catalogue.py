"""Every server that is measured, and how each is started in its best modes."""

import sys
from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from peers.environments import python_of
from peers.forms import ECHO, LIST, OBJECT, RAW_TENSOR, TEXT_TENSOR
from peers.policy import MAX_BATCH, MAX_WAIT_MS
from peers.server import BENCH, Launch

BEARER = {"Authorization": f"Bearer {'x' * 100}"}
"""The size of ours, so that all parse as much."""


@frozen
class Peer:
    """A server of others.  `modes` makes its environment first, if need be."""

    name: str
    label: str
    modes: Callable[[], Sequence[Launch]]
    serves_frames: bool = False
    """Whether it is measured with frames as well."""


def echo() -> Launch:
    command = [sys.executable, str(BENCH / "echo.py"), "{port}"]
    return Launch("echo", command, "/echo", ECHO, BEARER)


def fastapi() -> list[Launch]:
    return [
        _served("fastapi", "raw request", "/get_action"),
        _served("fastapi", "declared body", "/declared"),
    ]


def litserve() -> list[Launch]:
    plain = _served("litserve", "fast queue", "/predict")
    return [plain, _batching(plain)]


def bentoml() -> list[Launch]:
    command = [
        *(_program("bentoml"), "serve", "peers.bentoml.serve:Act"),
        *("--host", "127.0.0.1", "--port", "{port}"),
    ]
    silent = {"BENTOML_DO_NOT_TRACK": "True"}
    return [
        Launch("bentoml, async", command, "/get_action", OBJECT, BEARER, silent),
        Launch("bentoml, batchable", command, "/get_actions", LIST, BEARER, silent),
    ]


def mlserver() -> list[Launch]:
    plain = Launch(
        "mlserver, one process",
        [_program("mlserver"), "start", str(BENCH / "peers" / "mlserver")],
        "/v2/models/mlserver/infer",
        TEXT_TENSOR,
        BEARER,
        {"MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "0"},
    )
    batching = {
        "MLSERVER_MODEL_MAX_BATCH_SIZE": str(MAX_BATCH),
        "MLSERVER_MODEL_MAX_BATCH_TIME": str(MAX_WAIT_MS / 1000),
    }
    variables = {**plain.variables, **batching}
    return [plain, evolve(plain, name="mlserver, adaptive", variables=variables)]


def mosec() -> list[Launch]:
    plain = _served("mosec", "one by one", "/inference")
    options = ["--address", "127.0.0.1", "--port", "{port}", "--log-level", "error"]
    plain = evolve(plain, command=[*plain.command, *options])
    return [plain, _batching(plain)]


def ray() -> list[Launch]:
    switches = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    served = _served("ray", "HAProxy", "/get_action")
    return [evolve(served, variables=switches, starts_within_s=120.0)]


def pytriton() -> list[Launch]:
    # The release of Triton's own interpreter, whose standard library it is to share.
    python = python_of("pytriton", "/usr/bin/python3.11")
    command = [str(python), "-m", "peers.pytriton.serve"]
    path = "/v2/models/policy/infer"
    return [Launch("pytriton, dynamic batcher", command, path, RAW_TENSOR, BEARER)]


def _served(peer: str, mode: str, path: str) -> Launch:
    command = [str(python_of(peer)), "-m", f"peers.{peer}.serve"]
    return Launch(f"{peer}, {mode}", command, path, OBJECT, BEARER)


def _batching(plain: Launch) -> Launch:
    peer = plain.name.partition(",")[0]
    name = f"{peer}, batch {MAX_BATCH} / {MAX_WAIT_MS} ms"
    return evolve(plain, name=name, variables={"PEER_BATCHING": "1"})


def _program(peer: str) -> str:
    return str(python_of(peer).with_name(peer))


FASTAPI = Peer("fastapi", "FastAPI", fastapi)
PEERS = (
    FASTAPI,
    Peer("litserve", "LitServe", litserve, serves_frames=True),
    Peer("bentoml", "BentoML", bentoml),
    Peer("mlserver", "MLServer", mlserver),
    Peer("ray", "Ray Serve", ray),
    Peer("pytriton", "PyTriton", pytriton),
    Peer("mosec", "mosec", mosec, serves_frames=True),
)
