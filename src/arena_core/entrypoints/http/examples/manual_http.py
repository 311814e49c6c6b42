"""Calls with nothing but Python's standard library and NumPy, and with curl."""

import json
from collections.abc import Mapping

import numpy as np

from arena_core.application import npy
from arena_core.application.resources import Example, Language, Tab
from arena_core.entrypoints.http.examples.arena_client import unnamed
from arena_core.entrypoints.http.examples.arrays import Forbidding
from arena_core.entrypoints.http.examples.layout import (
    Code,
    Lines,
    array,
    call,
    indented,
    laid_out,
    mapping,
    mask,
    packed,
)
from arena_core.entrypoints.http.examples.literals import python, shell
from arena_core.entrypoints.http.examples.subject import Situation, Subject

MOST_TYPED_BYTES = 256
"""The largest array that is written out in a command."""
_PREAMBLE = """

def pack(array):
    file = io.BytesIO()
    np.save(file, array[np.newaxis])  # a batch of one
    return base64.b64encode(file.getvalue()).decode()


def unpack(text):
    return np.load(io.BytesIO(base64.b64decode(text)))[0]


def post(verb, body):
    request = urllib.request.Request(
        f"{ENDPOINT}/{verb}",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {API_KEY}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)

"""


def examples(subject: Subject) -> list[Example]:
    match subject.situation:
        case Situation.PREDICTING:
            return [_prediction(subject), *_typed(subject, "predict", "inputs")]
        case Situation.TOGETHER:
            return [_together(subject), _directed(subject)]
        case _:
            forbids = subject.forbidding
            masked = [] if forbids is None else [_masked(subject, forbids)]
            return [_alone(subject), *masked, *_typed(subject, "get_action", "obs")]


# --- Python ------------------------------------------------------------------------


def _alone(subject: Subject) -> Example:
    lines = [
        *laid_out("observation = ", packed(subject.observed)),
        *_asking(subject, {"obs": "observation"}, _ONE),
    ]
    return _example(subject, "Get an action", lines)


def _masked(subject: Subject, forbidding: Forbidding) -> Example:
    asked = {"obs": "observation", "action_mask": "pack(mask)"}
    lines = [
        *laid_out("observation = ", packed(subject.observed)),
        f"mask = {mask(forbidding)}  # forbids choice {forbidding.place}",
        *_answered("get_action", asked),
        *_ONE,
    ]
    return _example(subject, "Get an action under a mask", lines)


def _together(subject: Subject) -> Example:
    lines = [
        *unnamed(subject),
        *laid_out("observations = ", packed(subject.observed)),
        *_asking(subject, {"obs": "observations"}, _EACH),
    ]
    return _example(subject, "Get everybody's actions", lines)


def _directed(subject: Subject) -> Example:
    masks = {a: call("pack", mask(forbids)) for a, forbids in subject.masks.items()}
    lines = [
        *unnamed(subject),
        *laid_out("observations = ", packed(subject.observed)),
        *laid_out("masks = ", mapping(masks)),
        "# By the environment, not by the policy.",
        *laid_out("chosen = ", packed(subject.forced)),
        "body = {",
        '    "obs": observations,',
        '    "action_mask": masks,',
        '    "env_defined_actions": chosen,',
        '    "batch_size": 1,',
        "}",
        'answer = post("get_action", body)',
        *_EACH,
    ]
    title = "Mask actions, and choose some in the environment"
    return _example(subject, title, lines)


def _prediction(subject: Subject) -> Example:
    lines = [
        *laid_out("inputs = ", packed(subject.observed)),
        'answer = post("predict", {"inputs": inputs})',
        'print("Results:", unpack(answer["results"]))',
    ]
    return _example(subject, "Get a prediction", lines)


_ONE = ['print("Action:", unpack(answer["action"]))']
_EACH = [
    'for name, action in answer["action"].items():',
    '    print(f"{name}:", unpack(action))',
]


def _asking(subject: Subject, asked: Mapping[str, str], printing: Lines) -> Lines:
    if not subject.manifest.is_recurrent:
        return [*_answered("get_action", asked), *printing]
    carried = {**asked, "hidden_state": "hidden"}
    return [
        "hidden = None  # begins an episode",
        "for _ in range(3):",
        *indented(_answered("get_action", carried)),
        '    hidden = answer["hidden_state"]',
        *indented(printing),
    ]


def _answered(verb: str, asked: Mapping[str, Code]) -> Lines:
    body = mapping({**asked, "batch_size": "1"})
    return laid_out("answer = ", call("post", python(verb), body))


def _example(subject: Subject, title: str, lines: Lines) -> Example:
    modules = ("base64", "io", "json", "urllib.request")
    opening = [
        *(f"import {module}" for module in modules),
        "",
        "import numpy as np",
        "",
        *laid_out("ENDPOINT = ", python(subject.endpoint)),
        *laid_out("API_KEY = ", python(subject.api_key)),
    ]
    code = "\n".join([*opening, _PREAMBLE, *lines]) + "\n"
    return Example(Tab.MANUAL_HTTP, title, Language.PYTHON, code)


# --- curl --------------------------------------------------------------------------


def _typed(subject: Subject, verb: str, field: str) -> list[Example]:
    """Return a command that asks about one array, if that is small."""
    observed = subject.observed
    if not isinstance(observed, np.ndarray) or observed.nbytes > MOST_TYPED_BYTES:
        return []
    body = json.dumps({field: npy.to_base64(observed[None]), "batch_size": 1})
    lines = [
        f"# {field}: {array(observed)}",
        "# with the batch as a first axis, as numpy.save writes it, in base64.",
        f"curl --fail --silent --show-error {shell(f'{subject.endpoint}/{verb}')} \\",
        f"    -H {shell(f'Authorization: Bearer {subject.api_key}')} \\",
        "    -H 'Content-Type: application/json' \\",
        f"    -d {shell(body)}",
    ]
    title = "Get a prediction" if verb == "predict" else "Get an action"
    code = "\n".join(lines) + "\n"
    return [Example(Tab.MANUAL_HTTP, f"{title} with curl", Language.SHELL, code)]
