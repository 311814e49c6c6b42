"""One worker of `serve --workers`: `python -m arena_core.entrypoints.worker`.

Its arguments are three descriptors that its parent gives it: the socket to listen on,
the lifeline, and where to say that it is ready (see `worker_processes`).
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

from attrs import evolve

from arena_core.application.ports import Query
from arena_core.domain import deployment
from arena_core.domain.deployment import Deployment, Status
from arena_core.domain.errors import ArenaError
from arena_core.entrypoints import logs
from arena_core.entrypoints.http.app import build_app
from arena_core.entrypoints.http.server import Server
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.settings import Settings
from arena_core.entrypoints.wiring import open_arena
from arena_core.entrypoints.worker_processes import READY

JOIN_S = 10.0
"""How long a worker that starts may need to load what is live, before it answers."""
LOOK_AGAIN_S = 0.02


def main() -> None:
    """Serve until the lifeline closes or a signal comes; then drain."""
    descriptors = [int(number) for number in sys.argv[1:]]
    for each in descriptors:
        os.set_inheritable(each, False)  # noqa: FBT003 -- it takes no name
    try:
        _serve(*descriptors)
    except ArenaError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(1)


def _serve(listening: int, lifeline: int, status: int) -> None:
    given = evolve(Settings.from_environment(os.environ), inspect_apart=True)
    logs.configure(given.log_format, given.log_level)
    with socket.socket(fileno=listening) as listener, open_arena(given) as arena:
        server = Server(build_app(arena), listener, given.tls)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.drain())
        threading.Thread(
            target=_drain_at_the_end_of,
            args=(lifeline, arena, server),
            name="arena-lifeline",
            daemon=True,
        ).start()
        join(arena, unless=lambda: server.should_exit)
        with contextlib.suppress(BrokenPipeError):  # the lifeline has closed too then
            os.write(status, READY)
        server.run()


def _drain_at_the_end_of(lifeline: int, arena: Arena, server: Server) -> None:
    os.read(lifeline, 1)
    # All workers drain now: none of them is to take over from another.
    with contextlib.suppress(ArenaError):
        arena.application.core.agreement.leave()
    server.drain()


def join(arena: Arena, *, unless: Callable[[], bool]) -> None:
    """Wait, but not for ever, until this process answers for all that is live.

    The connections that wait for it would meet a 503 otherwise.
    """
    deadline = time.monotonic() + JOIN_S
    while not (answers_for_all(arena) or unless() or time.monotonic() >= deadline):
        time.sleep(LOOK_AGAIN_S)


def answers_for_all(arena: Arena) -> bool:
    """Say whether this process answers for all that is live, or soon to be."""
    core, live = arena.application.core, arena.application.registry.all_live()
    core.views.catch_up()
    states: list[Deployment] = [
        row.state
        for row in core.views.rows.find(Query(deployment.KIND, organisation=None))
    ]
    wanted = (Status.DEPLOYED, Status.PENDING)
    return all(str(state.id) in live for state in states if state.status in wanted)


if __name__ == "__main__":
    main()
