"""What the public client is answered has no key too many, whatever it asks.

Its models forbid what they do not know, its command line prints what it finds, and
takes square brackets for markup: each answer is held against a closed schema.
"""

import json
from functools import cache
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from end_to_end.processes import Answer
from end_to_end.public_client import encoded
from every_shape import EVERY_SHAPE, whole_request

pytestmark = pytest.mark.slow

SHAPES = ("image", "recurrent", "agents", "supervised")
POSTED = ("get_action", "predict", "generate", "generate_stream")
SESSIONS = (("GET", "sessions"), ("GET", "sessions/mine"), ("DELETE", "sessions/mine"))
FLAGS = {"multi_agent", "llm", "recurrent", "supervised"}
PAGES = (
    "projects",
    "experiments/list",
    "experiments/jobs/checkpoints",
    "experiments/metrics",
    "inference/deployments/list",
    "inference/deployments/one",
)
ORDERS = (
    "projects/create",
    "experiments/jobs/submit",
    "experiments/jobs/resume",
    "experiments/jobs/stop",
    "inference/deploy",
)


@pytest.fixture(scope="module")
def live(platform, tmp_path_factory):
    """Puts an agent of a shape live when it is first asked for; gives its row."""

    @cache
    def put_live(shape: str) -> dict:
        kind = EVERY_SHAPE[shape]
        folder = kind.write(tmp_path_factory.mktemp("bundle"))
        project = platform.project(kind="advanced" if kind.predicts else "classic")
        name = platform.experiment(folder, project=project, algorithm=kind.algorithm)
        return platform.row(platform.live(name))

    return put_live


# --- closed schemas ------------------------------------------------------------------


def is_tree(value: object) -> bool:
    """Say whether the public client can read it: leaves are texts or null."""
    if isinstance(value, dict):
        return all(map(is_tree, value.values()))
    if isinstance(value, list):
        return all(map(is_tree, value))
    return value is None or isinstance(value, str)


def check_sentence(detail: object) -> None:
    assert isinstance(detail, str)
    assert detail.endswith(".")
    assert not set("[]\n") & set(detail), detail
    assert "://" not in detail, detail


def check_refusal(answer: Answer, keys: set[str]) -> None:
    assert 400 <= answer.status < 500 or answer.status == 503, answer
    assert answer.headers["content-type"] == "application/json"
    body = answer.body
    assert body.keys() == keys, body
    check_sentence(body["detail"])


def check_acted(body: dict) -> None:
    assert {"action"} <= body.keys() <= {"action", "hidden_state"}
    assert body["action"] is not None
    assert all(map(is_tree, body.values()))


def check_predicted(body: dict) -> None:
    assert body.keys() == {"results", "batch_size", "inference_time_ms", "success"}
    assert body["results"] is not None
    assert is_tree(body["results"])
    assert type(body["batch_size"]) is int
    assert body["inference_time_ms"] >= 0
    assert body["success"] is True


def check_answer(answer: Answer, verb: str) -> None:
    if answer.status != 200:
        check_refusal(answer, {"detail"})
        return
    assert answer.headers["content-type"] == "application/json"
    (check_acted if verb == "get_action" else check_predicted)(answer.body)


# --- the data plane ------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_the_status_has_four_keys_and_five_more(platform, live, shape):
    path = urlsplit(live(shape)["url"]).path
    for key in (live(shape)["api_key"], "nonsense"):
        status = platform.control.ask("GET", f"{path}/status", token=key).expect(200)
        assert status.keys() == {"success", "deployment_id", "instance_id", "agent"}
        assert status["success"] is True
        assert UUID(status["deployment_id"])
        assert UUID(status["instance_id"])
        agent = status["agent"]
        assert agent.keys() == {"algo", *FLAGS}
        assert agent["algo"] == EVERY_SHAPE[shape].algorithm
        assert {f for f in FLAGS if agent[f]} == set(EVERY_SHAPE[shape].flags)


def mutated(request: dict, spoiled: dict) -> dict:
    return {k: v for k, v in {**request, **spoiled}.items() if v != "left out"}


arrays = st.sampled_from(
    [encoded(np.zeros(shape, kind)) for shape in ((1, 4), (2, 3), ()) for kind in "f?i"]
)
junk = st.recursive(
    st.sampled_from([None, True, 0, -1, 10**30, 0.5, "", "AAAA", "left out"]) | arrays,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["obs", "agent_0", "[/x]"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)
KEYS = ("obs", "inputs", "hidden_state", "action_mask", "batch_size", "odd [key]")
spoiled = st.dictionaries(st.sampled_from(KEYS), junk, max_size=2)


@settings(deadline=None, max_examples=200)
@given(shape=st.sampled_from(SHAPES), verb=st.sampled_from(POSTED), spoiled=spoiled)
def test_whatever_is_asked_no_answer_has_a_key_too_many(
    platform, live, shape, verb, spoiled
):
    row = live(shape)
    body = mutated(whole_request(shape), spoiled)
    path = f"{urlsplit(row['url']).path}/{verb}"
    answer = platform.control.ask("POST", path, body, token=row["api_key"])
    check_answer(answer, verb)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_good_request_is_answered_by_one_route_alone(platform, live, shape):
    row, path = live(shape), urlsplit(live(shape)["url"]).path
    answers = {
        verb: platform.control.ask(
            "POST", f"{path}/{verb}", whole_request(shape), token=row["api_key"]
        )
        for verb in POSTED
    }
    for verb, answer in answers.items():
        check_answer(answer, verb)
    own = EVERY_SHAPE[shape].verb
    statuses = {verb: answer.status for verb, answer in answers.items()}
    assert statuses == {verb: 200 if verb == own else 400 for verb in POSTED}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_agent_holds_conversations(platform, live, shape):
    row, path = live(shape), urlsplit(live(shape)["url"]).path
    for method, route in SESSIONS:
        answer = platform.control.ask(method, f"{path}/{route}", token=row["api_key"])
        assert answer.status == 400
        check_refusal(answer, {"detail"})


@pytest.mark.parametrize("key", ["", "nonsense", "arena_dep_x", "arena_pat_x_y"])
def test_no_key_is_named_in_a_refusal(platform, live, key):
    path = urlsplit(live("image")["url"]).path
    answer = platform.control.ask("POST", f"{path}/get_action", {}, token=key)
    assert answer.status == 401
    check_refusal(answer, {"detail"})
    assert not key or key not in answer.body["detail"]


# --- the control plane ---------------------------------------------------------------

WORDS = ("experiment_name", "name", "project", "manifest", "checkpoint", "max_steps")
texts = st.sampled_from(
    ["", " ", "[bold]", "no such thing", "[/x]", "http://h/api/v1/"]
)
odd = st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=1)
order = st.dictionaries(
    st.sampled_from([*WORDS, "memoryScope", "description", "llm_based", "[odd]"]),
    odd | st.dictionaries(st.sampled_from(["algorithm", "environment"]), odd),
    max_size=4,
)


@example(route="experiments/jobs/stop", order={"experiment_name": "http://h/api/v1/"})
@settings(deadline=None, max_examples=200)
@given(route=st.sampled_from(ORDERS), order=order)
def test_whatever_is_ordered_it_is_done_or_refused_plainly(platform, route, order):
    answer = platform.control.ask("POST", f"/api/cli/v1/{route}", order)
    if answer.status != 200:
        check_refusal(answer, {"detail", "error_code"})
        return
    lines = answer.raw.decode().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_lists_or_plain_refusals(platform, page):
    answer = platform.control.ask("GET", f"/api/cli/v1/{page}")
    if answer.status == 200:
        assert isinstance(answer.body, list)
    else:
        check_refusal(answer, {"detail", "error_code"})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["environments/list", "datasets", "models/x/y", "on-prem/classes/create"]
)
@pytest.mark.parametrize("key", ["", "nonsense"])
def test_what_there_is_not_is_not_found_whoever_asks(platform, method, path, key):
    answer = platform.control.ask(method, f"/api/cli/v1/{path}", token=key)
    assert answer.status == 404
    check_refusal(answer, {"detail", "error_code"})
