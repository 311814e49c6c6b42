"""The same observation in each form that the server takes: what a form costs.

One server, and forms that take turns of a second, so that whatever else the machine
does is the same for all.  What is printed are medians of the rounds: requests a second,
and the ratio to raw arrays on /inference.

    python bench/open_inference.py [--rounds 7] [--seconds 1] [--connections 1 16]
"""

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import pybase64
from attrs import frozen

from arena_core.application import npy
from arena_core.application.ports import Array

from load import Measured
from machine import describe, memory_backed_folder, write_policy
from policies import FRAME, write_dear
from served import Agent, ControlPlane, Prepared, Server, prepare, serving

HERE = Path(__file__).parent
RAW = "/inference, raw array"
OBSERVED = {
    "4 numbers": np.zeros((1, 4), np.float32),
    "an image": np.random.default_rng(0).integers(0, 256, (1, *FRAME), np.uint8),
}
DATATYPES = {"float32": "FP32", "uint8": "UINT8"}


@frozen
class Form:
    """One way of asking."""

    path: str
    headers: dict[str, str]
    body: bytes

    def measure(self, port: int, connections: int, seconds: float) -> Measured:
        """Ask in a closed loop, from a process of its own."""
        command = [sys.executable, str(HERE / "load.py"), str(port), self.path]
        said = {
            "headers": self.headers,
            "body": pybase64.b64encode_as_string(self.body),
        }
        done = subprocess.run(
            [*command, str(connections), str(seconds)],
            input=json.dumps(said).encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        measured = msgspec.json.decode(done.stdout, type=Measured)
        if measured.failures:
            raise SystemExit(f"{self.path}: {measured.failures} requests failed.")
        return measured


def forms(
    path: str, agent_id: str, key: str, token: str, array: Array
) -> dict[str, Form]:
    """Return the ways of asking with one array, by what they are called.

    `key`: the deployment's; `token`: a user's own, as the public client bears it.
    """
    bearing = {"Authorization": f"Bearer {key}"}
    model = f"/v2/models/{agent_id}/infer"
    tensor = {
        "name": "obs",
        "shape": array.shape,
        "datatype": DATATYPES[str(array.dtype)],
    }
    raw = array.tobytes()
    sized = {**tensor, "parameters": {"binary_data_size": len(raw)}}
    wanted = {"binary_data_output": True}
    head = msgspec.json.encode({"inputs": [sized], "parameters": wanted})
    listed = {**tensor, "data": array.ravel().tolist()}
    length = {"Inference-Header-Content-Length": str(len(head))}
    body = msgspec.json.encode({"obs": npy.to_base64(array)})
    return {
        RAW: Form(
            path, bearing | {"Content-Type": "application/x-npy"}, npy.encode(array)
        ),
        "/inference, JSON": Form(path, bearing, body),
        "the same, with a user's token": Form(
            path, {"Authorization": f"Bearer {token}"}, body
        ),
        "/v2, bytes": Form(model, bearing | length, head + raw),
        "/v2, JSON": Form(model, bearing, msgspec.json.encode({"inputs": [listed]})),
    }


async def agents(server: Server, prepared: Prepared) -> dict[str, dict[str, Form]]:
    """Put an agent for each observation live; return how each may be asked."""
    control, asked = ControlPlane.of(server), {}
    for step, (name, array) in enumerate(OBSERVED.items(), start=1):
        agent = await Agent.connected(
            control, prepared.experiment, step=step, name=f"agent {step}"
        )
        path, key = await agent.access()
        asked[name] = forms(path, agent.id, key, prepared.token, array)
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    given = parser.parse_args()
    print(f"{describe()}\n{given.rounds} rounds of {given.seconds:g} s\n")
    print("| observation | connections | form | requests/s | over raw | p50 ms |")
    print("|---|---|---|---|---|---|")
    with memory_backed_folder() as folder:
        bundles = [write_policy(folder / "cheap"), write_dear(folder / "dear")]
        prepared = prepare(folder, bundles)
        with serving(prepared) as server:
            for name, asked in asyncio.run(agents(server, prepared)).items():
                for connections in given.connections:
                    compare(name, asked, server.port, connections, given)


def compare(
    name: str,
    asked: dict[str, Form],
    port: int,
    connections: int,
    given: argparse.Namespace,
) -> None:
    rounds: list[dict[str, Measured]] = [
        {
            called: form.measure(port, connections, given.seconds)
            for called, form in asked.items()
        }
        for _ in range(given.rounds)
    ]
    for called in asked:
        rates = [each[called].requests / each[called].seconds for each in rounds]
        raw = [each[RAW].requests / each[RAW].seconds for each in rounds]
        ratio = median(a / b for a, b in zip(rates, raw, strict=True))
        p50_ms = median(each[called].p50_ms for each in rounds)
        cells = (name, connections, called, f"{median(rates):.0f}", f"{ratio:.2f}")
        print(f"| {' | '.join(map(str, cells))} | {p50_ms:.2f} |", flush=True)


if __name__ == "__main__":
    main()
