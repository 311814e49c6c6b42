"""What users do with tritonclient[http], told as JSON.

Runs where that package is and nothing of ours (see `environments.py`).  Each line of
stdin is a JSON object, a scenario with its arguments; each line of stdout is what
became of it.
"""

import json
import sys
import traceback

import gevent
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

CLIENTS = {}


def client(address, concurrency=1):
    """Return a client, the same one each time: one connection is one caller."""
    key = (address, concurrency)
    if key not in CLIENTS:
        CLIENTS[key] = triton.InferenceServerClient(address, concurrency=concurrency)
    return CLIENTS[key]


def outcome(call, *args, **options):
    """Return what a call came to: what it returned, or which error it raised."""
    try:
        return {"returned": call(*args, **options)}
    except InferenceServerException as error:
        return {"status": error.status(), "text": error.message(), "shown": str(error)}


def told(array):
    shape, dtype = list(array.shape), str(array.dtype)
    return {"shape": shape, "dtype": dtype, "values": array.ravel().tolist()}


def taken(said):
    return np.array(said["values"], said["dtype"]).reshape(said["shape"])


def inputs(arrays, *, binary=True):
    """Return the inputs, as binary data unless told otherwise."""
    made = []
    for name, said in arrays.items():
        array = taken(said)
        made.append(
            triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        )
        made[-1].set_data_from_numpy(array, binary_data=binary)
    return made


def results(answer):
    said = answer.get_response()
    arrays = {o["name"]: told(answer.as_numpy(o["name"])) for o in said["outputs"]}
    model = (said["model_name"], said["model_version"])
    return {"arrays": arrays, "model": model, "id": said.get("id")}


def bearing(key):
    return None if key is None else {"Authorization": f"Bearer {key}"}


# --- scenarios -------------------------------------------------------------------


def look(address, key, model):
    """Ask for all that can be seen of a server and a model."""
    server, headers = client(address), bearing(key)
    return {
        "live": server.is_server_live(),
        "ready": server.is_server_ready(),
        "server": outcome(server.get_server_metadata, headers=headers),
        "model ready": server.is_model_ready(model, headers=headers),
        "model": outcome(server.get_model_metadata, model, headers=headers),
        "index": outcome(server.get_model_repository_index, headers=headers),
    }


def infer(address, key, model, arrays, *, form="binary", outputs=None, **options):
    """Ask once; `outputs`: whether each is wanted in bytes, by name."""
    asked = inputs(arrays, binary=form == "binary")
    wanted = None
    if outputs is not None:
        wanted = [
            triton.InferRequestedOutput(name, binary_data=binary)
            for name, binary in outputs.items()
        ]
    server, headers = client(address), bearing(key)
    return outcome(
        lambda: results(
            server.infer(model, asked, outputs=wanted, headers=headers, **options)
        )
    )


def play(address, key, model, steps, sequence, **options):
    """Play an episode whose memory the server keeps; return each action."""
    server, headers = client(address), bearing(key)
    acted = []
    for number, said in enumerate(steps):
        answer = server.infer(
            model,
            inputs({"obs": said}),
            headers=headers,
            sequence_id=sequence,
            sequence_start=number == 0,
            sequence_end=number == len(steps) - 1,
            **options,
        )
        acted.append(told(answer.as_numpy("action")))
    return acted


def step(address, key, model, said, sequence, **place):
    """Ask for one step of an episode."""
    return infer(address, key, model, {"obs": said}, sequence_id=sequence, **place)


def ask_at_once(address, key, model, batches):
    """Ask for several batches at the same time."""
    server, headers = client(address, concurrency=4), bearing(key)
    asked = [
        server.async_infer(model, inputs({"obs": said}), headers=headers)
        for said in batches
    ]
    return [results(each.get_result()) for each in asked]


def order(address, key, model, what):
    """Load or unload a model."""
    server = client(address)
    call = server.load_model if what == "load" else server.unload_model
    return {
        "ordered": outcome(call, model, headers=bearing(key)),
        "ready": server.is_model_ready(model, headers=bearing(key)),
    }


SCENARIOS = {
    each.__name__: each for each in (look, infer, play, step, ask_at_once, order)
}


def main():
    for line in sys.stdin:
        said = json.loads(line)
        try:
            met = SCENARIOS[said.pop("scenario")](**said)
        except Exception:  # noqa: BLE001 -- whoever reads it decides
            met = {"defect": traceback.format_exc()}
        sys.stdout.write(json.dumps(met) + "\n")
        sys.stdout.flush()
        gevent.sleep(0)


if __name__ == "__main__":
    main()
