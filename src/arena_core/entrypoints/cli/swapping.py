"""`arena-core agent redeploy` and `rollback`: other weights, without a gap."""

import sys
from pathlib import Path

import click

from arena_core.application.resources import AgentView, DeploymentView
from arena_core.domain.errors import Rejected
from arena_core.domain.guards import Guard, Limit
from arena_core.domain.swap import Ended, Outcome, Phase, Shadow
from arena_core.entrypoints.cli.agent_words import line
from arena_core.entrypoints.cli.connecting import settled
from arena_core.entrypoints.cli.lookups import checkpoint_choice
from arena_core.entrypoints.cli.options import (
    administration,
    find_agent,
    operator,
    store_options,
)
from arena_core.entrypoints.cli.output import say

STORY = {
    Outcome.SWAPPED: "it answers now",
    Outcome.PASSED: "it has kept its limits",
    Outcome.REVERTED: "a limit was crossed, so the earlier one answers again",
    Outcome.COMPARED: "it was compared and has replaced nothing",
    Outcome.STOPPED: "its baking was stopped by another order",
    Outcome.FAILED: "it failed, and nothing has changed",
}

reason_option = click.option("--reason", help="Why; it is kept in the event log.")
wait_option = click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=float,
    default=60.0,
    show_default=True,
    help="How long to wait for a server to carry it out, if one runs.",
)


@click.command()
@click.argument("name")
@click.option(
    "--checkpoint",
    metavar="best|final|STEP",
    required=True,
    help="Which one of the experiment that the agent was made of.",
)
@click.option(
    "--bake",
    "bake_s",
    metavar="SECONDS",
    type=float,
    help="For how long the limits below are watched; a week at most.",
)
@click.option(
    "--max-error-rate", metavar="SHARE", type=float, help="Of requests, from 0 to 1."
)
@click.option(
    "--max-p99-ms",
    metavar="MILLISECONDS",
    type=float,
    help="Which 1 request in 100 may exceed.",
)
@click.option(
    "--max-mask-violation-rate",
    metavar="SHARE",
    type=float,
    help="Of rows with a mask, from 0 to 1.",
)
@click.option(
    "--max-action-shift",
    metavar="SHARE",
    type=float,
    help="How far its actions may be from those before, from 0 to 1.",
)
@click.option(
    "--shadow",
    "shadow_s",
    metavar="SECONDS",
    type=float,
    help="Replace nothing: ask it beside the present one for so long.",
)
@wait_option
@reason_option
@store_options
def redeploy(
    name: str,
    checkpoint: str,
    bake_s: float | None,
    shadow_s: float | None,
    wait_s: float,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
    **limits: float | None,
) -> None:
    """Give an agent another checkpoint; no request fails meanwhile.

    With --bake and a limit, what answered before comes back by itself as soon as a
    limit is crossed.  How it ended is told by arena-core audit show NAME.
    """
    guard = _guard(bake_s, limits)
    shadow = None if shadow_s is None else Shadow(shadow_s)
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_agent(use, name)
        asked = use.agents.redeploy(
            found.id,
            checkpoint=checkpoint_choice(checkpoint),
            guard=guard,
            shadow=shadow,
            reason=reason,
        )
        _tell(found, settled(arena, asked, wait_s=wait_s))


@click.command()
@click.argument("name")
@click.option(
    "--to",
    metavar="DIGEST",
    help="An earlier checkpoint; its beginning will do.  Default: the one before.",
)
@wait_option
@reason_option
@store_options
def rollback(
    name: str,
    to: str | None,
    wait_s: float,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Give an agent back a checkpoint that it has had."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_agent(use, name)
        whole = None if to is None else _whole(found, to)
        asked = use.agents.rollback(found.id, to=whole, reason=reason)
        _tell(found, settled(arena, asked, wait_s=wait_s))


def _whole(found: AgentView, digest: str) -> str:
    """Return the earlier digest that begins so, as tables show it, if it is one."""
    earlier = {each.digest for each in found.earlier_checkpoints}
    meant = [each for each in earlier if digest and each.startswith(digest)]
    return meant[0] if len(meant) == 1 else digest


def _guard(bake_s: float | None, limits: dict[str, float | None]) -> Guard | None:
    """Return the guard that the options name.  Raises `Rejected` for half of one."""
    given = {
        limit.value: value
        for limit in Limit
        if (value := limits[f"max_{limit.value}"]) is not None
    }
    if bake_s is None and given:
        raise Rejected("A limit needs --bake, the time for which it is watched.")
    return None if bake_s is None else Guard(bake_s, **given)


def _tell(before: AgentView, after: AgentView) -> None:
    """Say how it has ended, or what is still to come; status 1 if it has failed."""
    say(line(after))
    if after.deployment is None:
        return
    told = _under_way(after.deployment)
    ended = after.deployment.last_swap
    earlier = None if before.deployment is None else before.deployment.last_swap
    if told is not None:
        say(told)
    elif ended is not None and ended != earlier:
        say(_story(ended))
        if ended.outcome is Outcome.FAILED:
            sys.exit(1)


def _under_way(deployment: DeploymentView) -> str | None:
    swap = deployment.swap
    if swap is None:
        return None
    if swap.phase is Phase.BAKING and swap.until is not None:
        until = swap.until.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f"{swap.mode.value} {swap.digest[:12]}: baking until {until}"
    return (
        f"{swap.mode.value} {swap.digest[:12]}: still to be loaded by a server, "
        "arena-core serve"
    )


def _story(ended: Ended) -> str:
    told = f"{ended.digest[:12]}: {STORY[ended.outcome]}"
    return told if ended.reason is None else f"{told}. {ended.reason}"
