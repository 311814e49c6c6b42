"""The demo as a story: every step does the real thing, and says what it did."""

import tempfile
import time
from contextlib import closing
from pathlib import Path
from uuid import UUID

import numpy as np
from attrs import frozen
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from arena_core.application.experiments import gym
from arena_core.application.freezing import best
from arena_core.application.inference import Mode
from arena_core.application.resources import AgentView
from arena_core.domain.errors import Unauthenticated
from arena_core.domain.ids import Digest
from arena_core.entrypoints.cli.audit import COLUMNS, life_rows
from arena_core.entrypoints.cli.output import print_table
from arena_core.entrypoints.demo import bundle, ppo
from arena_core.entrypoints.demo.rollout import ENVIRONMENT
from arena_core.entrypoints.http.server import Server, listen
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.play.contest import Contestant, episodes_of
from arena_core.entrypoints.play.endpoint import Endpoint
from arena_core.entrypoints.play.environments import make
from arena_core.entrypoints.play.report import Report
from arena_core.entrypoints.settings import Settings
from arena_core.entrypoints.wiring import open_arena

EPISODE_SEED = 7_000_000
"""Of what is played: the policy was neither trained nor chosen on these episodes."""

UPRIGHT = np.zeros(4, np.float32)


@frozen
class Result:
    """What `demo --json` prints as its last line."""

    mean_return: float
    episodes: int
    train_seconds: float
    connect_ms: float
    first_action_ms: float
    """From asking for Connect to holding the first action, over HTTP."""
    agent_id: UUID
    checkpoint_digest: Digest
    events: int


def tell(*, seed: int, episodes: int, folder: Path | None) -> Result:
    """Do the main job once, in `folder` or in a new temporary one, and print it."""
    console = Console(highlight=False)
    home = folder or Path(tempfile.mkdtemp(prefix="arena-demo-"))
    settings = Settings(str(home / "arena.db"))
    with (
        open_arena(settings) as arena,
        Server(arena.asgi(), listen("127.0.0.1", 0)).in_background() as url,
    ):
        result = _tell(arena, url, console, home, seed=seed, episodes=episodes)
    _where_next(console, settings)
    return result


def _tell(  # noqa: PLR0913 -- the story's whole stage
    arena: Arena, url: str, console: Console, home: Path, *, seed: int, episodes: int
) -> Result:
    _say(console, "Train", f"a policy for {ENVIRONMENT}, with NumPy alone")
    begun = time.perf_counter()
    experiment_id = _train(arena, console, home, seed)
    train_seconds = time.perf_counter() - begun
    agent = arena.agents.create(
        "balancer", experiment_id, checkpoint=best(), description="From the demo"
    )
    _say(console, "Freeze", f"the best checkpoint, of step {agent.checkpoint.step}")

    begun = time.perf_counter()
    agent = arena.agents.connect(agent.id, reason="the demo puts it live")
    connect_ms = _ms_since(begun)
    endpoint = f"{url}/inference/{_deployment_id(agent)}"
    key = arena.agents.access(agent.id).api_key
    with Endpoint(endpoint, key) as connection:
        connection.get_action(UPRIGHT)
    first_action_ms = _ms_since(begun)
    _say(console, "Connect", f"live after {connect_ms:.0f} ms, {_parity(agent)}")
    console.print(f"         {endpoint}")

    played = _play(console, endpoint, key, episodes)
    _rotate(arena, console, agent, endpoint, key)
    _timeline(arena, console, agent)
    return Result(
        mean_return=played.mean_return,
        episodes=episodes,
        train_seconds=round(train_seconds, 3),
        connect_ms=round(connect_ms, 3),
        first_action_ms=round(first_action_ms, 3),
        agent_id=agent.id,
        checkpoint_digest=agent.checkpoint.digest,
        events=len(list(arena.audit.log())),
    )


def _train(arena: Arena, console: Console, home: Path, seed: int) -> UUID:
    """Train, and record checkpoints with their scores as any trainer would."""
    project = arena.projects.create("cartpole", kind="classic")
    experiment = arena.experiments.create(
        project.id, name="ppo", algorithm="PPO", source=gym(ENVIRONMENT)
    )
    settings = ppo.Settings()
    with Progress(
        TextColumn("        "),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, return {task.fields[score]:.0f}"),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("train", total=settings.total_steps, score=0.0)
        for news in ppo.train(settings, seed):
            progress.update(task, completed=news.step, score=news.score or 0.0)
            if news.checkpoint is None:
                continue
            path = home / "training" / str(news.step)
            bundle.write_bundle(path, news.checkpoint, seed=seed)
            arena.experiments.add_checkpoint(
                experiment.id,
                step=news.step,
                path=path,
                score=news.score,
                fitness=news.checkpoint.fitness,
            )
        # It stops as soon as an evaluation is perfect.
        progress.update(task, total=news.step)
    for checkpoint in arena.experiments.checkpoints(experiment.id):
        console.print(
            f"         step {checkpoint.step:>6}: "
            f"training {checkpoint.training_score:.0f}, "
            f"evaluation {checkpoint.evaluation_score:.0f}"
        )
    return experiment.id


def _play(console: Console, endpoint: str, key: str, episodes: int) -> Report:
    seeds = range(EPISODE_SEED, EPISODE_SEED + episodes)
    with closing(make(ENVIRONMENT, {})) as env, Endpoint(endpoint, key) as connection:
        player = Contestant.of("balancer", connection, env)
        for _ in episodes_of(env, Mode.GREEDY, [player], seeds):
            pass
    report = Report.of(player.name, player.episodes)
    _say(
        console,
        "Play",
        f"{episodes} episodes over HTTP: mean return {report.mean_return:.1f} "
        f"({report.calls} actions, p50 {report.latency_ms.p50:.2f} ms, "
        f"p99 {report.latency_ms.p99:.2f} ms)",
    )
    return report


def _rotate(
    arena: Arena, console: Console, agent: AgentView, endpoint: str, old: str
) -> None:
    arena.agents.rotate_key(agent.id, reason="the demo shows a rotation")
    new = arena.agents.access(agent.id).api_key
    with Endpoint(endpoint, new) as connection:
        connection.get_action(UPRIGHT)
    try:
        with Endpoint(endpoint, old) as connection:
            connection.get_action(UPRIGHT)
    except Unauthenticated:
        _say(console, "Rotate", "the key: the new one works, the old one is refused")
    else:
        raise AssertionError("the old key must be refused")


def _timeline(arena: Arena, console: Console, agent: AgentView) -> None:
    _say(console, "Audit", "what the event log says of this agent")
    print_table(COLUMNS, life_rows(arena.audit, agent.id))
    fault = next(iter(arena.audit.verify()), None)
    intact = "intact" if fault is None else fault.detail
    console.print(f"         hash chains and checkpoints: {intact}")


def _where_next(console: Console, settings: Settings) -> None:
    store = settings.store
    _say(console, "Next", "go on from here")
    for command in (
        f"arena-core serve --store {store}",
        f"arena-core agent list --store {store}",
        f"arena-core audit show balancer --store {store}",
        f"arena-core audit replay --store {store}",
    ):
        console.print(f"         {command}", soft_wrap=True)


def _say(console: Console, word: str, text: str) -> None:
    console.print(f"[bold]{word:<8}[/bold] {text}", soft_wrap=True)


def _parity(agent: AgentView) -> str:
    parity = None if agent.deployment is None else agent.deployment.parity
    if parity is None:
        return "parity unknown"
    return f"parity {parity.verdict.value} on {parity.values_compared} values"


def _deployment_id(agent: AgentView) -> UUID:
    if agent.deployment is None or not agent.deployment.connected:
        why = None if agent.deployment is None else agent.deployment.reason
        raise AssertionError(f"the agent must be live: {why}")
    return agent.deployment.id


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
