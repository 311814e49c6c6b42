"""What users do with `Agent` and `ArenaClient` of agilerl-arena, told as JSON.

Runs where that package is and nothing of ours (see `environments.py`).  Each line of
stdin is a JSON object, a scenario with its arguments; each line of stdout is what
became of it.
"""

import json
import math
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import gymnasium
import httpx
import numpy as np
from agilerl.arena.client import ArenaClient
from agilerl.arena.exceptions import ArenaError
from agilerl.arena.inference import Agent, AgentInfo, StatusResponse

MET = (
    ArenaError, httpx.ResponseNotRead, FileExistsError, ValueError, TypeError, KeyError,
)  # fmt: skip
"""What calls are known to raise; anything else fails the scenario."""


def outcome(call, *args, **options):
    """Return what a call came to: what it returned, or which error it raised."""
    try:
        returned = call(*args, **options)
    except MET as error:
        return failed(error)
    return {"returned": told(returned)}


def failed(error):
    status = getattr(error, "status_code", None)
    return {"error": type(error).__name__, "status": status, "text": str(error)}


def told(value):
    if isinstance(value, np.ndarray):
        shape, dtype = list(value.shape), str(value.dtype)
        return {"shape": shape, "dtype": dtype, "values": value.ravel().tolist()}
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, tuple | list):
        return [told(item) for item in value]
    if isinstance(value, dict):
        return {key: told(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Path):
        return str(value)
    plain = value is None or isinstance(value, int | float | str)
    return value if plain else repr(value)


def taken(value):
    """Return the tree of arrays that was told."""
    if isinstance(value, list):
        return tuple(taken(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"shape", "dtype", "values"}:
        return np.array(value["values"], value["dtype"]).reshape(value["shape"])
    return {key: taken(item) for key, item in value.items()}


def pretending(agent, **flags):
    """Return `agent` with the guards set that `flags` would set."""
    agent.metadata = StatusResponse(agent=AgentInfo(**flags))
    return agent


# --- scenarios -------------------------------------------------------------------


def play(url, key, seed):
    """Play one episode of CartPole as the documentation of the class has it."""
    with Agent(url, api_key=key) as agent, gymnasium.make("CartPole-v1") as env:
        observation, info = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, hidden_state = agent.get_action(observation, info=info)
            observation, reward, ended, cut, info = env.step(action)
            total, over = total + reward, ended or cut
    return {"return": total, "action": told(action), "hidden_state": hidden_state}


def act(url, key, rows, masks):
    """Ask for one action, for all at once, and for both under masks."""
    rows, masks = np.array(rows), np.array(masks)
    with Agent(url, api_key=key) as agent:
        mask = {"action_mask": masks[0]}
        return {
            "one": outcome(agent.get_action, rows[0]),
            "all": outcome(agent.get_action, rows, batched=True),
            "one masked": outcome(agent.get_action, rows[0], info=mask),
            "all masked": outcome(
                agent.get_action, rows, batched=True, info={"action_mask": masks}
            ),
        }


def predict(url, key, rows):
    """Ask a supervised agent for one result, and for all at once."""
    rows = np.array(rows)
    with Agent(url, api_key=key) as agent:
        return {
            "one": outcome(agent.predict, rows[0]),
            "all": outcome(agent.predict, rows, batched=True),
        }


def call(url, key=None, environ=(), **options):
    """Open the agent, ask its status, and ask for an action."""
    with patch.dict(os.environ, environ):
        # Without a status: a user's process may have got that long ago.
        earlier = Agent(url, api_key=key, probe_on_init=False, **options)
        opened = outcome(lambda: Agent(url, api_key=key, **options).metadata)
    with pretending(earlier) as agent:
        acted = outcome(agent.get_action, np.zeros(4))
        status = outcome(agent.status, refresh=True)
    return {"open": opened, "status": status, "get_action": acted}


def ask(url, key, calls):
    """Make calls one after the other; each is a method and its arguments."""
    with Agent(url, api_key=key) as agent:
        return {"status": told(agent.metadata), "calls": _each(agent, calls)}


def _each(agent, calls):
    return [_one(agent, **said) for said in calls]


def _one(agent, method, tree=(), **options):
    given = () if tree == () else (taken(tree),)
    options = {option: taken(value) for option, value in options.items()}
    return outcome(getattr(agent, method), *given, **options)


def episode(url, key, steps, batched):
    """Step through episodes, handing back each hidden state.

    Rows that a step says have `ended` begin anew, by zeros, as in a vector environment.
    """
    hidden, met = None, []
    with Agent(url, api_key=key) as agent:
        for step in steps:
            for array in hidden.values() if hidden else ():
                array[step["ended"]] = 0
            action, hidden = agent.get_action(
                taken(step["obs"]),
                batched=batched,
                hidden_state=hidden,
                info={"action_mask": taken(step["action_mask"])},
            )
            met.append({"action": told(action), "hidden_state": told(hidden)})
    return met


def wrong_routes(url, key, tree):
    """Call every method: as the class guards them, and then with each guard open.

    A guard is opened by another status; or, where the class allows it, by one that
    does not say what the agent is.
    """
    tree = taken(tree)
    with Agent(url, api_key=key) as agent:
        shape = agent.metadata.agent.model_dump(include={"multi_agent", "recurrent"})
        guarded = _every_method(agent, agent, agent, tree)
        with suppress(ValueError):
            agent.metadata = StatusResponse(agent=None)
        is_unknown = agent.metadata.agent is None
        unknown = _every_method(agent, agent, agent, tree) if is_unknown else None
    agents = [
        pretending(Agent(url, api_key=key), **shape, **flags)
        for flags in ({}, {"supervised": True}, {"llm": True})
    ]
    met = {"guarded": guarded, "open": _every_method(*agents, tree)}
    return met if unknown is None else {**met, "unknown": unknown}


def _every_method(rl, supervised, llm, tree):
    met = {
        "get_action": outcome(rl.get_action, tree),
        "predict": outcome(supervised.predict, tree),
        "generate": outcome(llm.generate, "Hello"),
        "generate_stream": outcome(lambda: list(llm.generate_stream("Hello"))),
    }
    if hasattr(llm, "list_sessions"):
        met["list_sessions"] = outcome(llm.list_sessions)
        met["get_session"] = outcome(llm.get_session, "mine")
        met["delete_session"] = outcome(llm.delete_session, "mine")
    return met


def odd_observations(url, key):
    """Send what the class can send and a policy of four numbers cannot take."""
    row = np.zeros(4)
    observations = {
        "dict": {"left": row, "right": row},
        "tuple": (row, row),
        "none": None,
        "too long": np.zeros(5),
        "not finite": np.full(4, math.nan),
        "text": np.array(["a", "b", "c", "d"]),
    }
    with Agent(url, api_key=key) as agent:
        refused = {n: outcome(agent.get_action, o) for n, o in observations.items()}
        mask = {"action_mask": np.zeros(2)}
        refused["nothing is legal"] = outcome(agent.get_action, row, info=mask)
    return refused


def use(calls, environ=(), **options):
    """Make calls of one `ArenaClient`, one after the other."""
    with patch.dict(os.environ, environ), _client(options) as client:
        return [
            outcome(getattr(client, said["method"]), *said["given"], **said["named"])
            for said in calls
        ]


def find(name, calls, opening=(), environ=(), **options):
    """Open the agent of a name, and make calls of it, one after the other."""
    with patch.dict(os.environ, environ), _client(options) as client:
        try:
            agent = client.open_inference_agent(name, **dict(opening))
        except MET as error:
            return {"open": failed(error)}
        with agent:
            status = told(agent.metadata)
            return {"open": {"returned": status}, "calls": _each(agent, calls)}


def _client(options):
    return ArenaClient(verbose=False, **options)


SCENARIOS = (
    play, act, predict, call, ask, episode, wrong_routes, odd_observations, use, find,
)  # fmt: skip


def main():
    telling, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed
    scenarios = {function.__name__: function for function in SCENARIOS}
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            met = scenarios[arguments.pop("scenario")](**arguments)
        except Exception:  # noqa: BLE001 -- whatever it is, the test is to say so
            met = {"defect": traceback.format_exc()}
        telling.write(json.dumps(met) + "\n")
        telling.flush()


if __name__ == "__main__":
    main()
