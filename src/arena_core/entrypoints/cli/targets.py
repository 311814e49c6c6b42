"""Where the agents are that somebody wants to call from the command line."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from arena_core.application.resources import AgentView
from arena_core.domain.deployment import Status
from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.ids import AgentId, deployment_of
from arena_core.entrypoints.cli.options import (
    administration,
    find_agent,
    operator,
    settings,
)
from arena_core.entrypoints.library import Arena


@frozen
class Place:
    """What the options say of where agents are; None: nothing."""

    url: str | None
    key: str | None
    store: str | None
    blobs: Path | None


@frozen
class Target:
    """Where an agent is called, and with which key."""

    name: str
    endpoint: str
    key: str


@contextmanager
def reachable(names: Sequence[str], place: Place) -> Iterator[list[Target]]:
    """Give where the agents called so answer, while they do.

    Nothing else needs to run: where no URL of a server is known, this process serves
    them for so long.  With a key, the URL is the endpoint of the first agent.
    Raises `Conflict` for an agent that nobody has connected.
    """
    if place.key is not None and place.url is None:
        raise Rejected(
            "The key goes with the URL of its endpoint: give --url too, or neither "
            "--key nor ARENA_DEPLOYMENT_KEY.",
            field="url",
        )
    with ExitStack() as resources:
        found: list[Target] = []
        url = place.url
        if place.url is not None and place.key is not None:
            found.append(Target(names[0], place.url, place.key))
            url = None
        if left := names[len(found) :]:
            arena, url = resources.enter_context(_served(left, place, url))
            found += [_target(arena, name, url) for name in left]
        yield found


@contextmanager
def _served(
    names: Sequence[str], place: Place, url: str | None
) -> Iterator[tuple[Arena, str]]:
    """Give the store of the agents, and the URL of a server that serves it."""
    with administration(place.store, place.blobs) as arena:
        url = url or arena.settings.public_url
        for name in names:
            _check_connected(find_agent(operator(arena), name), url)
        if url is not None:
            yield arena, url
            return
    from arena_core.entrypoints.http.server import Server, listen  # noqa: PLC0415 -- --help needs no server
    from arena_core.entrypoints.wiring import open_arena  # noqa: PLC0415 -- likewise

    with (
        open_arena(settings(place.store, place.blobs)) as arena,
        Server(arena.asgi(), listen("127.0.0.1", 0)).in_background() as url,
    ):
        for name in names:
            arena.inference(find_agent(operator(arena), name).id)
        yield arena, url


def _check_connected(found: AgentView, url: str | None) -> None:
    """Refuse what will not answer, however long one waits."""
    state = found.deployment
    if state is None or state.status is Status.UNDEPLOYED:
        raise Conflict(
            f"The agent {found.name} is Undeployed: connect it first, with "
            "arena-core agent connect."
        )
    if state.status is Status.PENDING and url is not None:
        raise Conflict(
            f"No server has put the agent {found.name} live yet: start one with "
            "arena-core serve, or name no URL, and it is served here."
        )


def _target(arena: Arena, name: str, url: str) -> Target:
    use = operator(arena)
    found = find_agent(use, name)
    path = f"/inference/{deployment_of(AgentId(found.id))}"
    return Target(
        found.name, url.rstrip("/") + path, use.agents.access(found.id).api_key
    )
