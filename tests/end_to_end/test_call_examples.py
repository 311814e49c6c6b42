"""Every call example, as a server shows it, run as it stands by what it is for.

What it prints is what the library answers, in this process, to the same observation.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from attrs import frozen

from arena_core.application import npy
from unit import recurrent_bundles

import bundles
import shapes
from end_to_end.http_world import opened
from end_to_end.processes import (
    Client,
    Place,
    an_agent,
    connect,
    serving,
    tar_of,
    upload,
)
from end_to_end.public_client import NEW, OLD, python_of
from every_shape import EVERY_SHAPE, Tree, mapped

pytestmark = pytest.mark.slow

FLOAT, PIXEL = -0.5, 7
"""What observations hold here, rather than zeros: the nearest to zero that they may.

With these it shows whether a mask or a hidden state has arrived.
"""
CLIENTS = ("Arena client", "python")
CLI = ("Arena CLI", "shell")
HTTP = ("Manual HTTP", "python")
CURL = ("Manual HTTP", "shell")
WIDE = {"COLUMNS": "1000"}
"""So that the client breaks no line."""
DIRECTED = "Mask actions, and choose some in the environment"


@frozen
class Case:
    """A bundle, and what is known of an agent made of it."""

    algorithm: str
    write: Callable[[Path], Path]
    observation: Tree = None
    """The one that the examples show."""
    plays: str | None = None
    choices: int | None = None
    """How many there are, if they can be forbidden."""
    recurrent: bool = False
    masks: Tree = None
    """Those of several agents."""
    chosen: Tree = None


def nearest(array: np.ndarray) -> np.ndarray:
    """Return the observation like the first row of `array` that is shown."""
    number = {"float32": FLOAT, "uint8": PIXEL}.get(str(array.dtype), 0)
    return np.full(array.shape[1:], number, array.dtype)


def balancer(folder: Path) -> Path:
    return bundles.cartpole(folder, network=bundles.CARTPOLE.swapped())


CHOICES = {
    "dict": 3,
    "image": 4,
    "multi discrete": 5,
    "multi binary": 3,
    "recurrent": 3,
}
CASES = {
    **{
        name: Case(
            shape.algorithm,
            shape.write,
            mapped(nearest, shape.observe(1)),
            choices=CHOICES.get(name),
            recurrent="recurrent" in shape.flags,
        )
        for name, shape in EVERY_SHAPE.items()
    },
    "agents": Case(
        "MADDPG",
        shapes.multi_agent_policy,
        mapped(nearest, shapes.meeting(1)),
        masks={"speaker_0": np.arange(3) != 0},
        chosen={"listener_1": np.zeros(2, "f4")},
    ),
    "team": Case(
        "IPPO",
        recurrent_bundles.team_policy,
        mapped(nearest, recurrent_bundles.team_seen(1, 0)),
        recurrent=True,
        masks={"scout_0": np.arange(3) != 0, "guard": np.arange(2) != 0},
        chosen={"scout_1": np.array(0)},
    ),
    "supervised": Case("Supervised", bundles.regressor, np.zeros(3, "f4")),
    "cartpole": Case(
        "PPO", balancer, np.full(4, FLOAT, "f4"), "CartPole-v1", choices=2
    ),
    "pendulum": Case("TD3", bundles.pendulum, np.full(3, FLOAT, "f4"), "Pendulum-v1"),
}


def nasty(name: str) -> str:
    return f"-{name}'s \"\\$(exit 3) `exit 4` \u202e {{x}} %s #\u00e9"


def away(folder: Path) -> Path:
    """Let no observation be zero, where that can be."""
    described = bundles.manifest(folder)
    for policy in described.get("policies", {"": described}).values():
        _keep_away(policy["observation_space"])
    bundles.write_manifest(folder, described)
    return folder


def _keep_away(space) -> None:
    if space is None:
        return
    parts = space.get("spaces", ())
    for part in parts.values() if isinstance(parts, dict) else parts:
        _keep_away(part)
    if space["type"] == "Box":
        bound, number = ("low", PIXEL) if space["dtype"] == "uint8" else ("high", FLOAT)
        space[bound] = number


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        name: away(case.write(tmp_path_factory.mktemp("bundle")))
        for name, case in CASES.items()
    }


# --- who answers ---------------------------------------------------------------------


@frozen(eq=False)
class Server:
    """What is shown of each agent, by the case."""

    place: Place
    control: Client
    shown: dict[str, list]

    def examples(self, name: str, tab: tuple[str, str]) -> list[dict[str, str]]:
        return [x for x in self.shown[name] if (x["tab"], x["language"]) == tab]


@pytest.fixture(scope="module")
def server(tmp_path_factory, folders):
    place = Place(tmp_path_factory.mktemp("server"))
    with serving(place) as process, closing(process.client()) as control:
        shown = {
            name: deployed(control, folders[name], case, nasty(name))
            for name, case in CASES.items()
        }
        for twin in range(2):
            case = CASES["cartpole"]
            shown["twin"] = deployed(control, folders["cartpole"], case, "twin")
            assert twin == 0 or "twin" not in shown["twin"][0]["code"]
        yield Server(place, control, shown)


def deployed(control: Client, folder: Path, case: Case, name: str) -> list:
    """Put an agent of the bundle live; return the examples that are shown of it."""
    predicts = case.algorithm in {"Supervised", "LatentPPO"}
    kind = "advanced" if predicts else "classic"
    source = (
        {"kind": "dataset", "name": "rows"}
        if predicts
        else {"kind": "gym", "name": case.plays or "CartPole-v1"}
    )
    project = control.post("/api/v1/projects", {"name": "p", "kind": kind})
    described = {"project_id": project["id"], "algorithm": case.algorithm}
    made = control.post(
        "/api/v1/experiments", {**described, "name": "e", "source": source}
    )
    upload(control, made["id"], 10, tar_of(folder)).expect(201)
    agent_id = an_agent(control, made["id"], name=name)
    connect(control, agent_id)
    shown = control.get(f"/api/v1/agents/{agent_id}/access")["examples"]
    assert isinstance(shown, list)
    return shown


@pytest.fixture(scope="module")
def library(folders):
    """Give the calls of an agent of each case, in this process."""
    with opened() as world:
        yield {
            name: world.arena.inference(
                world.live(folders[name], algorithm=case.algorithm).agent_id
            )
            for name, case in CASES.items()
        }


# --- what is printed -----------------------------------------------------------------


def printed(case: Case, inference, title: str) -> list[str]:
    """Return the lines that an example prints."""
    seen = case.observation
    match title:
        case "Get an action" if case.recurrent:
            return [f"Action: {action}" for action in episode(inference, seen)]
        case "Get an action":
            return [f"Action: {inference.get_action(seen)}"]
        case "Get an action under a mask":
            mask = np.arange(case.choices) != 0
            action, _ = inference.get_action_and_state(seen, None, action_mask=mask)
            return [f"Action: {action}"]
        case "Get everybody's actions" if case.recurrent:
            return [line for acted in episode(inference, seen) for line in each(acted)]
        case "Get everybody's actions":
            return each(inference.get_action(seen))
        case _ if title == DIRECTED:
            acted, _ = inference.get_action_and_state(
                seen, None, action_mask=case.masks, env_defined_actions=case.chosen
            )
            return each(acted)
        case "Get a prediction":
            return str(f"Results: {inference.predict(seen)}").splitlines()
        case _:
            assert title == f"Play an episode of {case.plays}"
            return [f"Return: {played(case.plays, inference)}"]


def episode(inference, seen):
    """Return three actions: each follows from the state after the one before."""
    state, actions = None, []
    for _ in range(3):
        action, state = inference.get_action_and_state(seen, state)
        actions.append(action)
    return actions


def each(actions) -> list[str]:
    return [f"{name}: {action}" for name, action in actions.items()]


def played(name: str, inference) -> float:
    with gymnasium.make(name) as env:
        seen, _ = env.reset(seed=0)
        total, done = 0.0, False
        while not done:
            seen, reward, *ended, _ = env.step(inference.get_action(seen))
            total, done = total + reward, any(ended)
        return total


def test_it_shows_whether_a_mask_or_a_hidden_state_has_arrived(library):
    free, masked = (
        {
            name: printed(case, library[name], title)[0]
            for name, case in CASES.items()
            if case.choices
        }
        for title in ("Get an action", "Get an action under a mask")
    )
    shows = {name for name in free if free[name] != masked[name]}
    assert shows == {"cartpole", "multi discrete", "recurrent"}
    free, masked = (
        printed(CASES["agents"], library["agents"], title)
        for title in ("Get everybody's actions", DIRECTED)
    )
    assert [a == b for a, b in zip(free, masked, strict=True)] == [False, True, False]
    first, *rest = episode(library["recurrent"], CASES["recurrent"].observation)
    assert all(action != first for action in rest)


# --- Python --------------------------------------------------------------------------


def run(*command: object, **environ: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("name", [*CASES, "twin"])
def test_python_needs_nothing_but_numpy(server, library, name):
    shown = server.examples(name, HTTP)
    assert shown
    for example in shown:
        lines = run(sys.executable, "-I", "-c", example["code"]).splitlines()
        case = name.replace("twin", "cartpole")
        assert lines == printed(CASES[case], library[case], example["title"])


@pytest.fixture(scope="module", params=[OLD, NEW])
def public_python(request):
    return python_of(request.param, request)


@pytest.mark.parametrize("name", [*CASES, "twin"])
def test_the_public_client_runs_its_examples(
    server, library, public_python, tmp_path, name
):
    shown = server.examples(name, CLIENTS)
    assert shown
    as_told = {"HOME": str(tmp_path), "ARENA_API_KEY": server.place.token}
    for example in shown:
        told = run(public_python, "-I", "-c", example["code"], **as_told, **WIDE)
        # The client says that it has not logged in.
        lines = [x for x in told.splitlines() if not x.startswith("INFO")]
        case = name.replace("twin", "cartpole")
        assert lines == printed(CASES[case], library[case], example["title"])


def test_every_known_environment_that_is_tried_here_is_played(server):
    for name in ("cartpole", "pendulum"):
        assert server.examples(name, CLIENTS)[0]["title"].startswith("Play an episode")


# --- shells --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cartpole", "twin"])
def test_the_public_command_line_runs_its_examples(
    server, public_python, tmp_path, name
):
    (example,) = server.examples(name, CLI)
    told = run(
        "bash",
        "-ec",
        example["code"],
        PATH=f"{public_python.parent}{os.pathsep}{os.environ['PATH']}",
        HOME=str(tmp_path),
        ARENA_API_KEY=server.place.token,
        **WIDE,
    )
    assert name in told
    kept = tmp_path / ".arena" / "inference.json"
    assert (name == "twin") != (kept.exists() and nasty(name) in in_json(kept))


def in_json(path: Path) -> str:
    """Return all texts in a file of JSON, as they are."""
    return (
        json.dumps(json.loads(path.read_text()), ensure_ascii=False)
        .replace("\\\\", "\\")
        .replace('\\"', '"')
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("name", CASES)
def test_curl_asks_for_what_is_typed(server, library, name):
    case = CASES[name]
    shown = server.examples(name, CURL)
    assert bool(shown) == isinstance(case.observation, np.ndarray)
    for example in shown:
        answer = json.loads(run("bash", "-ec", example["code"]))
        if "results" in answer:
            expected = library[name].predict(case.observation)
        else:
            expected, _ = library[name].get_action_and_state(case.observation, None)
        told = answer.get("results", answer.get("action"))
        array = npy.from_base64(told, field="answer")[0]
        np.testing.assert_array_equal(array, expected, strict=True)
