"""`arena-core checkpoint import`: from what training has saved to a live agent."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from attrs import frozen

from arena_core.application.conversion import (
    MODEL_FILE,
    SPACES_FILE,
    STATISTICS_FILE,
    TRACE_FILE,
    Format,
    Options,
)
from arena_core.application.freezing import specific
from arena_core.application.resources import AgentView
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import Conflict
from arena_core.domain.ids import Digest
from arena_core.domain.parity import Parity
from arena_core.entrypoints.cli.agent_words import status
from arena_core.entrypoints.cli.connecting import connected, say_if_pending
from arena_core.entrypoints.cli.conversions import Converted, Foreign, convert
from arena_core.entrypoints.cli.destinations import Destination, experiment_for
from arena_core.entrypoints.cli.options import (
    administration,
    operator,
    store_options,
)
from arena_core.entrypoints.cli.output import print_json, say
from arena_core.entrypoints.library import Arena

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@frozen
class Wish:
    """What is to become of a bundle in the store."""

    destination: Destination
    step: int | None
    score: float | None
    fitness: float | None
    agent: str | None
    connect: bool
    wait_s: float


@frozen
class Outcome:
    """What is printed."""

    digest: Digest
    algorithm: str
    family: str
    step: int
    parity: Parity
    bundle: str | None = None
    experiment_id: str | None = None
    experiment: str | None = None
    agent: AgentView | None = None


@click.command("import")
@click.argument("path", type=FILE)
@click.option(
    "--from",
    "format",
    type=click.Choice([it.value for it in Format]),
    required=True,
    help="What has saved it: sb3 (Stable-Baselines3, sb3-contrib), agilerl, torch "
    "(torch.export), onnx.",
)
@click.option("--step", type=click.IntRange(0), help="Default: as the file says, or 0.")
@click.option("--algorithm", help="Such as PPO.  Default: as the files say.")
@click.option(
    "--spaces", type=FILE, help="JSON: what a torch or an onnx file does not say."
)
@click.option(
    "--statistics", type=FILE, help="What VecNormalize.save wrote, beside sb3."
)
@click.option("--golden", type=FILE, help="A golden trace of your own, golden.npz.")
@click.option(
    "--channels-last",
    is_flag=True,
    help="Callers send images as (height, width, channels).",
)
@click.option("--score", type=float, help="The training score at this step.")
@click.option("--fitness", type=float, help="The evaluation score at this step.")
@click.option("--experiment", help="Its name or id, if it is there already.")
@click.option("--project", help="Of the experiment, name or id.  [default: imported]")
@click.option(
    "--name", help="Of the experiment, made if need be.  Default: that of the file."
)
@click.option("--env", help="Of a new experiment: its environment, CartPole-v1 say.")
@click.option("--agent", help="Freeze it as an agent with this name.")
@click.option("--connect", is_flag=True, help="And put the agent live.")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=float,
    default=10.0,
    show_default=True,
    help="How long to wait for a server to put it live, if one runs.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Only write the bundle into this new folder; no store is touched.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def import_(
    path: Path,
    out: Path | None,
    as_json: bool,
    store: str | None,
    blobs: Path | None,
    **said: Any,  # noqa: ANN401 -- as many options as there are things to say
) -> None:
    """Make a checkpoint of the file at PATH, which other training code has saved.

    It is read in a process that can harm nothing, turned into a bundle, checked as a
    server would, and recorded as the checkpoint of a step.

    \b
    From a file to a live agent, with a server running on the same store:
      arena-core checkpoint import --from sb3 ppo_cartpole.zip --env CartPole-v1 \\
          --agent balancer --connect
    The next step of the same training:
      arena-core checkpoint import --from agilerl elite.pt --experiment ppo --step 20000
    A bundle to look at or to upload elsewhere:
      arena-core checkpoint import --from torch policy.pt2 --spaces spaces.json --out bundle
    """  # noqa: D301, E501 -- click wants the character itself; an example is one line
    files = {
        MODEL_FILE: path,
        SPACES_FILE: said.pop("spaces"),
        STATISTICS_FILE: said.pop("statistics"),
        TRACE_FILE: said.pop("golden"),
    }
    foreign = Foreign(
        Format(said.pop("format")),
        {name: file for name, file in files.items() if file is not None},
        Options(said.pop("algorithm"), said.pop("channels_last")),
    )
    wish = _wish(path, out, said)
    with TemporaryDirectory(prefix="arena-import-") as scratch:
        made = convert(foreign, Path(scratch), out)
        if out is not None:
            _print(_outcome(made, made.step, bundle=str(out)), as_json=as_json)
            return
        is_new = wish.destination.experiment is None
        with administration(store, blobs, make=is_new) as arena:
            outcome = _recorded(arena, made, wish)
    _print(outcome, as_json=as_json)


def _wish(path: Path, out: Path | None, said: dict[str, Any]) -> Wish:
    """Return what is wished.  Raises `UsageError` if it contradicts itself."""
    given = {name for name in ("experiment", "project", "name", "env") if said[name]}
    recorded = {"step", "score", "fitness", "agent"}
    if said["connect"] and not said["agent"]:
        raise click.UsageError("--connect puts an agent live: name it with --agent.")
    if out is not None and (given or any(said[it] is not None for it in recorded)):
        raise click.UsageError("With --out nothing is recorded: leave the rest out.")
    if "experiment" in given and given != {"experiment"}:
        raise click.UsageError(
            "--project, --name and --env are of a new experiment: leave them out with "
            "--experiment."
        )
    destination = Destination(
        said["experiment"], said["project"], said["name"] or path.stem, said["env"]
    )
    return Wish(
        destination,
        said["step"],
        said["score"],
        said["fitness"],
        said["agent"],
        said["connect"],
        said["wait"],
    )


def _recorded(arena: Arena, made: Converted, wish: Wish) -> Outcome:
    use = operator(arena)
    step = made.step if wish.step is None else wish.step
    # A refusal must come before anything is recorded.
    agent = _agent_there(use, wish.agent, made.digest)
    experiment = experiment_for(use, wish.destination, made.manifest)
    use.experiments.add_checkpoint(
        experiment.id,
        step=step,
        path=made.folder,
        score=wish.score,
        fitness=wish.fitness,
        digest=made.digest,
    )
    if agent is None and wish.agent is not None:
        choice = specific(step)
        agent = use.agents.create(wish.agent, experiment.id, checkpoint=choice)
    if agent is not None and wish.connect:
        agent = connected(arena, agent.id, wait_s=wish.wait_s)
    return _outcome(
        made,
        step,
        experiment_id=str(experiment.id),
        experiment=experiment.name,
        agent=agent,
    )


def _agent_there(use: UseCases, name: str | None, digest: Digest) -> AgentView | None:
    """Return the agent of this name, if an import before this one has made it.

    Raises `Conflict` if it is of another checkpoint.
    """
    there = [] if name is None else use.agents.list(name=name.strip()).items
    for found in there:
        if found.checkpoint.digest == digest:
            return found
    if there:
        raise Conflict(
            f"There is an agent called {there[0].name} already, of another checkpoint: "
            "choose another name with --agent."
        )
    return None


def _outcome(made: Converted, step: int, **rest: Any) -> Outcome:  # noqa: ANN401 -- the fields of it
    return Outcome(
        digest=made.digest,
        algorithm=made.manifest.algorithm,
        family=made.manifest.family.value,
        step=step,
        parity=made.parity,
        **rest,
    )


def _print(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print_json(outcome)
        return
    checked = outcome.parity
    click.echo(f"digest:     {outcome.digest}")
    click.echo(f"algorithm:  {outcome.algorithm} ({outcome.family})")
    click.echo(f"step:       {outcome.step}")
    click.echo(
        f"parity:     {checked.verdict.value} ({checked.values_compared} values)"
    )
    if outcome.bundle is not None:
        click.echo(f"bundle:     {outcome.bundle}")
    if outcome.experiment is not None:
        say(f"experiment: {outcome.experiment} ({outcome.experiment_id})")
    if outcome.agent is not None:
        _print_agent(outcome.agent)


def _print_agent(agent: AgentView) -> None:
    state = agent.deployment
    why = f" ({state.reason})" if state is not None and state.reason else ""
    say(f"agent:      {agent.name} is {status(agent)}{why}")
    say_if_pending(agent)
