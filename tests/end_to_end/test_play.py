"""`agent play` as a user has it: real bundles, a real server, a real environment."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest

import arena_core
from arena_core.entrypoints.cli import main

from bundles import BALANCER, CARTPOLE, cartpole, pendulum
from end_to_end.answering import TEAM, answering, packed
from end_to_end.processes import (
    SOURCE,
    Place,
    command,
    environment,
    eventually,
    run,
    serving,
)

pytestmark = pytest.mark.slow

GAMES = """
    from pathlib import Path
    from gymnasium.envs.classic_control import CartPoleEnv
    from gymnasium.wrappers import TimeLimit

    print("a greeting")

    class Watched(CartPoleEnv):
        def reset(self, **options):
            with Path(__file__).with_name("episodes").open("a") as file:
                file.write("+")
            return super().reset(**options)

    def short(steps=5):
        return TimeLimit(Watched(), steps)

    class Team:
        possible_agents = ["a", "b"]

        def reset(self, seed):
            self.agents = ["a", "b"]
            return {"a": 0.5, "b": 1.5}, {}

        def step(self, actions):
            self.agents = []
            return {}, {agent: float(x) for agent, x in actions.items()}, {}, {}, {}

        def action_space(self, agent):
            from gymnasium.spaces import Discrete
            return Discrete(9)

        def close(self):
            pass
"""


def fill(folder: Path) -> Path:
    """Return a new store with agents that nobody serves; `idle` is Undeployed."""
    with arena_core.open(folder / "arena.db", serve=False) as arena:
        project = arena.projects.create("games", kind="classic")
        for name, bundle in {
            "balancer": cartpole(folder / "balancer", network=BALANCER),
            "sloppy": cartpole(folder / "sloppy", network=CARTPOLE),
            "swinger": pendulum(folder / "swinger"),
            "idle": cartpole(folder / "idle"),
        }.items():
            experiment = arena.experiments.create(
                project.id, name=name, algorithm=algorithm(name)
            )
            arena.experiments.add_checkpoint(experiment.id, step=1, path=bundle)
            agent = arena.agents.create(
                name, experiment.id, checkpoint=arena_core.final()
            )
            if name != "idle":
                arena.agents.connect(agent.id, timeout_s=0)
    return folder / "arena.db"


def algorithm(name: str) -> str:
    return "TD3" if name == "swinger" else "PPO"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return a store that no server serves."""
    return fill(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return a store that a server serves, and the server."""
    place = Place(tmp_path_factory.mktemp("served"))
    store = fill(place.folder)
    with serving(place) as process:
        client = process.client()
        eventually(
            lambda: all(
                agent["deployment"]["connected"] or agent["name"] == "idle"
                for agent in client.get("/api/v1/agents")["items"]
            ),
            what="all are live",
        )
        yield SimpleNamespace(store=store, url=f"http://{process.address}")


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    """Return the folder of a module with environments of one's own."""
    folder = tmp_path_factory.mktemp("games")
    (folder / "games.py").write_text(dedent(GAMES))
    return folder


def play(*words, environ=None):
    return run("agent", "play", *words, environ=environ)


def result(*words, environ=None):
    """Return what --json prints, in silence."""
    done = play(*words, "--json", environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def play_here(monkeypatch, capsys, tmp_path):
    """Return what plays in this process, which saves the start of another."""
    for name in [name for name in os.environ if name.startswith("ARENA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])

    def played(*words):
        words = ("arena-core", "agent", "play", *map(str, words))
        monkeypatch.setattr(sys, "argv", list(words))
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, end.value.code, said.out, said.err)

    yield played
    sys.modules.pop("games", None)


@pytest.fixture
def result_here(play_here):
    def result(*words):
        done = play_here(*words, "--json")
        assert (done.returncode or 0, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return result


@pytest.fixture
def refusal(play_here):
    """Return what says the one sentence with which it is refused."""

    def refused(*words):
        done = play_here(*words)
        assert (done.returncode, done.stdout) == (1, "")
        said = done.stderr.removeprefix("a greeting\n")
        assert re.fullmatch(r"Error: [^\n]*\n", said)
        return said.removeprefix("Error: ").strip()

    return refused


def log(store, agent="balancer"):
    shown = run("audit", "show", agent, "--json", "--store", store).stdout
    return [json.loads(line)["name"] for line in shown.splitlines()]


CARTPOLE_ENV = ("--env", "CartPole-v1")


class TestPlaying:
    def test_needs_nothing_else_to_run(self, alone):
        played = result(
            "balancer", *CARTPOLE_ENV, "--episodes", 3, "--seed", 40, "--store", alone
        )
        agent = played["agent"]
        assert (agent["name"], agent["episodes"]) == ("balancer", 3)
        assert agent["seeds"] == [40, 41, 42]
        assert agent["returns"] == [500.0] * 3
        assert agent["lengths"] == [500] * 3
        assert agent["interval"] == {"low": 500.0, "high": 500.0}
        assert agent["calls"] == 1500
        latency = agent["latency_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert agent["mask_violations"] is None
        assert played["complete"]
        assert played["other"] is played["comparison"] is None
        # What was done for it is in the log: live while it played, and given up then.
        assert log(alone)[-2:] == ["deployment.connected", "deployment.connection_lost"]

    def test_asks_the_server_that_runs(self, served):
        before = log(served.store)
        words = ("balancer", *CARTPOLE_ENV, "--episodes", 1, "--store", served.store)
        by_name = result(*words, environ={"ARENA_PUBLIC_URL": served.url})
        assert by_name == {**result(*words, "--url", served.url), **same(by_name)}
        assert by_name["agent"]["interval"] is None
        assert log(served.store) == before

    @pytest.mark.parametrize("said", ["option", "environment"])
    def test_asks_no_other_server_than_the_one_that_is_named(
        self, served, refusal, monkeypatch, said
    ):
        nowhere = "http://127.0.0.1:1"
        words = ["balancer", *CARTPOLE_ENV, "--store", served.store]
        if said == "option":
            words += ["--url", nowhere]
        else:
            monkeypatch.setenv("ARENA_PUBLIC_URL", nowhere)
        assert "does not answer" in refusal(*words)

    def test_asks_any_endpoint_by_its_key(self, served, tmp_path, refusal):
        access = json.loads(
            run("agent", "access", "balancer", "--store", served.store).stdout
        )
        nowhere = ("--store", tmp_path / "none.db", "--url")
        endpoint = served.url + access["endpoint"]
        words = ("a label", *CARTPOLE_ENV, "--episodes", 1, *nowhere, endpoint)
        key = access["api_key"]
        for given in (("--key", key), {"ARENA_DEPLOYMENT_KEY": key}):
            environ = given if isinstance(given, dict) else None
            played = result(*words, *(() if environ else given), environ=environ)
            assert played["agent"]["name"] == "a label"
            assert played["agent"]["returns"] == [500.0]
        assert "unknown" in refusal(*words, "--key", key[:-4] + "0000").lower()

    def test_plays_with_continuous_actions(self, result_here, alone):
        words = ("swinger", "--env", "Pendulum-v1", "--episodes", 2, "--store", alone)
        agent = result_here(*words)["agent"]
        assert agent["lengths"] == [200, 200]
        assert agent["returns"][0] < 0
        assert agent["interval"]["low"] <= agent["mean_return"]

    def test_of_samples_is_the_same_for_the_same_seed(self, result_here, alone):
        words = ("balancer", *CARTPOLE_ENV, "--episodes", 3, "--store", alone)
        once, again = (result_here(*words, "--mode", "sample") for _ in range(2))
        assert once["mode"] == "sample"
        assert once["agent"]["returns"] == again["agent"]["returns"]
        assert once["agent"]["mean_return"] < 500

    def test_tells_people_in_a_table(self, play_here, alone):
        words = ("balancer", *CARTPOLE_ENV, "--episodes", 2, "--store", alone)
        done = play_here(*words)
        assert (done.returncode or 0, done.stderr) == (0, "")
        headings, figures = done.stdout.splitlines()
        assert headings.split()[:3] == ["AGENT", "EPISODES", "MEAN"]
        assert "500.00 to 500.00" in figures
        assert "no mask" in figures

    def test_takes_an_environment_of_one_s_own_with_arguments(self, alone, games):
        words = ("balancer", "--env", "games:short", "--env-arg", "steps=7")
        done = play(
            *words, "--json", "--episodes", 1, "--store", alone, environ=path(games)
        )
        # What environments print is not in the way of what is printed here.
        assert done.stderr == "a greeting\n"
        assert json.loads(done.stdout)["agent"]["lengths"] == [7]

    def test_plays_with_a_team(self, games):
        def answer(body):
            assert set(body["obs"]) == {"a", "b"}
            return {"action": {"a": packed(1), "b": packed(3)}}

        with answering(answer, TEAM) as server:
            words = ("team", "--env", "games:Team", "--url", server.url, "--key", "k")
            done = play(*words, "--episodes", 2, environ=path(games))
        assert done.returncode == 0, done.stderr
        _, figures, _, title, _, *shares = done.stdout.splitlines()
        assert figures.split()[:3] == ["team", "2", "4.00"]
        assert title == "Mean return of each agent of team:"
        assert [share.split() for share in shares] == [["a", "1.00"], ["b", "3.00"]]

    def test_shows_how_it_goes_to_whoever_looks(self, alone):
        ours, theirs = pty.openpty()
        words = ("balancer", *CARTPOLE_ENV, "--episodes", 2, "--store", alone)
        environ = {**environment(), "TERM": "xterm", "COLUMNS": "100"}
        with subprocess.Popen(
            command("agent", "play", *words, "--json"),
            env=environ,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        ) as playing:
            os.close(theirs)
            said = playing.stdout.read()
        shown = os.read(ours, 65536).decode()
        os.close(ours)
        assert "balancer: mean return 500.00" in shown
        assert json.loads(said)["complete"]


def same(played):
    """Return what may differ between two plays of the same."""
    return {"agent": played["agent"]}


def path(folder):
    return {"PYTHONPATH": f"{SOURCE}:{folder}"}


class TestComparing:
    def test_says_who_is_better(self, result_here, alone):
        words = ("balancer", *CARTPOLE_ENV, "--compare", "sloppy", "--store", alone)
        played = result_here(*words, "--episodes", 6)
        assert played["comparison"]["verdict"] == "higher"
        assert played["comparison"]["pairs"] == 6
        assert played["comparison"]["interval"]["low"] > 400
        assert played["verdict"].startswith("balancer is better than sloppy: ")
        assert played["agent"]["seeds"] == played["other"]["seeds"]
        assert played["other"]["mean_return"] < 50

    def test_of_an_agent_with_itself_finds_no_difference(self, play_here, alone):
        words = ("sloppy", *CARTPOLE_ENV, "--compare", "sloppy", "--store", alone)
        done = play_here(*words, "--episodes", 6)
        assert not done.returncode
        assert done.stdout.splitlines()[-1] == (
            "No difference at all: sloppy and sloppy returned the same in each of 6 "
            "episodes."
        )

    def test_of_too_few_episodes_says_so(self, result_here, alone):
        words = ("balancer", *CARTPOLE_ENV, "--compare", "sloppy", "--store", alone)
        assert "Too few" in result_here(*words, "--episodes", 2)["verdict"]


def interrupted(games, store, *words):
    """Return what is printed if Ctrl-C comes when some episodes are over."""
    marks = games / "episodes"
    marks.unlink(missing_ok=True)
    play = command("agent", "play", "balancer", "--env", "games:short", *words)
    with subprocess.Popen(
        [*play, "--episodes", "1000000", "--store", str(store)],
        cwd=games,
        env=environment(path(games)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as playing:
        eventually(
            lambda: marks.exists() and marks.stat().st_size > 20, what="it plays"
        )
        playing.send_signal(signal.SIGINT)
        out, err = playing.communicate(timeout=30)
    assert "Traceback" not in err
    assert playing.returncode == 130
    return out


class TestCtrlC:
    def test_prints_what_was_played_so_far(self, alone, games):
        played = json.loads(interrupted(games, alone, "--json"))
        assert not played["complete"]
        agent = played["agent"]
        assert 10 < agent["episodes"] == len(agent["returns"]) < 1000000
        assert all(after - before == 1 for before, after in pairwise(agent["seeds"]))
        assert set(agent["lengths"]) == {5}

    def test_leaves_a_comparison_of_what_both_have_played(self, alone, games):
        said = interrupted(games, alone, "--compare", "sloppy")
        assert said.splitlines()[-1].startswith("No difference at all: balancer")

    def test_gives_up_what_was_served_for_it(self, alone, games):
        interrupted(games, alone)
        assert log(alone)[-1] == "deployment.connection_lost"


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("nobody", *CARTPOLE_ENV), "There is no agent called nobody."),
            (("idle", *CARTPOLE_ENV), "The agent idle is Undeployed: connect it first"),
            (("balancer", "--env", "CartPol-v1"), "Did you mean: `CartPole`?"),
            (("balancer", "--env", "nobody_s.games:env"), "pip install nobody_s"),
            (("balancer", "--env", "Pendulum-v1"), "The obs must have the shape"),
            (("balancer", *CARTPOLE_ENV, "--env-arg", "x=y"), "argument x is no JSON"),
            (("balancer", *CARTPOLE_ENV, "--env-arg", "x"), "argument x is no JSON"),
            (("balancer", *CARTPOLE_ENV, "--compare", "idle"), "idle is Undeployed"),
            (("balancer", *CARTPOLE_ENV, "--key", "k"), "give --url too"),
            (("balancer", *CARTPOLE_ENV, "--url", "http://x"), "No server has put"),
            (
                ("balancer", *CARTPOLE_ENV, "--url", "here", "--key", "k"),
                "must begin with http",
            ),
            (
                (
                    "balancer",
                    *CARTPOLE_ENV,
                    "--url",
                    "http://127.0.0.1:1",
                    "--key",
                    "k",
                ),
                "The server does not answer (Connection refused)",
            ),
        ],
    )
    def test_are_told_in_a_sentence(self, refusal, alone, words, said):
        assert said in refusal(*words, "--store", alone)

    def test_in_the_store_are_too(self, refusal, tmp_path):
        words = ("balancer", *CARTPOLE_ENV, "--store", tmp_path / "none.db")
        assert "no store at this place" in refusal(*words)
        assert list(tmp_path.iterdir()) == []

    def test_of_the_environment_are_looked_for_where_one_works_too(
        self, refusal, alone, games, monkeypatch
    ):
        monkeypatch.chdir(games)
        words = ("balancer", "--env", "games:Team", "--store", alone)
        assert "acts by itself" in refusal(*words)

    def test_in_an_option_show_the_usage(self, alone):
        done = play("balancer", *CARTPOLE_ENV, "--mode", "best", "--store", alone)
        assert done.returncode == 2
        assert "'greedy', 'sample'" in done.stderr

    def test_of_the_agent_leave_what_was_played_before(self, games):
        answers = iter([{"action": packed(0)}] * 7)

        def answer(_):
            return next(answers, (503, {"detail": "It is being replaced."}))

        with answering(answer) as server:
            words = ("it", "--env", "games:short", "--url", server.url, "--key", "k")
            done = play(*words, "--json", environ=path(games))
        played = json.loads(done.stdout)
        assert (played["agent"]["episodes"], played["complete"]) == (1, False)
        assert done.returncode == 1
        assert done.stderr.endswith("Error: It is being replaced.\n")
