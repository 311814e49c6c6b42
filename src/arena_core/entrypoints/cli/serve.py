"""`arena-core serve`: the HTTP API as a process."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import click
from attrs import evolve

from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.values import Role
from arena_core.entrypoints.cli.options import operator, settings, store_options
from arena_core.entrypoints.cli.reaching import (
    base_url,
    is_loopback,
    with_hosts,
    with_tls,
)
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.settings import Settings


@click.command()
@store_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8400,
    show_default=True,
    help="0 chooses a free one.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that answer.  Default: ARENA_WORKERS, or 1.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the first manager token here, mode 0600, instead of printing it.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Answer over TLS with this certificate, and those after it, in PEM.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Its key, in PEM.  The password of an encrypted one is taken from "
    "ARENA_TLS_KEY_PASSWORD.",
)
def serve(
    store: str | None,
    blobs: Path | None,
    host: str,
    port: int,
    workers: int | None,
    token_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
) -> None:
    """Serve the HTTP API, and every agent that is Deployed.

    The first start makes one manager token.  SIGTERM and Ctrl-C drain: what is being
    answered is answered, then the process ends with status 0.

    One process is the quickest on one or two cores.  More of them pay where there are
    more cores, and above all where bodies are large, such as images.  Each holds every
    model once more, and each batches only what reaches itself.  One that dies is
    replaced, while the others serve on.
    """
    from arena_core.entrypoints import logs  # noqa: PLC0415 -- --help needs no server

    given = settings(store, blobs)
    logs.configure(given.log_format, given.log_level)
    given = evolve(given, workers=workers or given.workers)
    given = with_hosts(with_tls(given, tls_certificate, tls_key), host)
    # Torch takes its number of threads from here, if a model ever needs torch.
    os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    if given.workers == 1:
        _serve_alone(given, host, port, token_file)
    else:
        _serve_with_workers(given, host, port, token_file)
    click.echo("Stopped.")


def _serve_alone(
    given: Settings, host: str, port: int, token_file: Path | None
) -> None:
    from arena_core.entrypoints.http.app import build_app  # noqa: PLC0415 -- --help needs no server
    from arena_core.entrypoints.http.server import Server, listen  # noqa: PLC0415 -- likewise
    from arena_core.entrypoints.wiring import open_arena  # noqa: PLC0415 -- likewise

    with _usable(host, port):
        listener = listen(host, port)
    with listener, open_arena(evolve(given, inspect_apart=True)) as arena:
        server = Server(build_app(arena), listener, given.tls)
        _on_signals(server.drain, server.drain)
        _first_token(arena, host, token_file)
        _say_where(given, host, listener)
        server.run()


def _serve_with_workers(
    given: Settings, host: str, port: int, token_file: Path | None
) -> None:
    from arena_core.entrypoints.wiring import open_arena  # noqa: PLC0415 -- --help needs no server
    from arena_core.entrypoints.worker_processes import (  # noqa: PLC0415 -- likewise
        worker_command,
        worker_environment,
    )
    from arena_core.entrypoints.workers import Workers, shared_listeners  # noqa: PLC0415 -- likewise

    if given.store_path is None:
        raise Rejected(
            "Several workers need a store that they can share: name a path with "
            "--store, or leave --workers out.",
            field="workers",
        )
    with ExitStack() as held:
        with _usable(host, port):
            listeners = shared_listeners(host, port, given.workers)
        for listener in listeners:
            held.enter_context(listener)
        with open_arena(given, serve=False) as arena:
            _first_token(arena, host, token_file)
        environment = worker_environment(given, os.environ)
        workers = Workers(listeners, worker_command(), environment)
        _on_signals(workers.drain, workers.interrupt)
        if not workers.run(partial(_say_where, given, host, listeners[0])):
            raise click.ClickException("Not all workers have ended in time, or well.")


def _on_signals(drain: Callable[[], None], interrupt: Callable[[], None]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: drain())
    signal.signal(signal.SIGINT, lambda *_: interrupt())


def _say_where(given: Settings, host: str, listener: socket.socket) -> None:
    click.echo(f"Listening on {base_url(given, host, listener.getsockname()[1])}")


@contextmanager
def _usable(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(
            f"Port {port} of {host} cannot be used ({error.strerror}): choose another "
            "with --port."
        ) from error


def _first_token(arena: Arena, host: str, token_file: Path | None) -> None:
    from arena_core.entrypoints.secret_file import write_secret  # noqa: PLC0415 -- --help needs no server

    tokens = operator(arena).tokens
    if tokens.list():
        return
    if token_file is None and not is_loopback(host):
        click.echo(
            "No token yet: make one with arena-core token create --user NAME "
            "--role manager."
        )
        return
    try:
        issued = tokens.issue(name="first start", user="admin", role=Role.MANAGER)
    except Conflict:  # who has one somewhere else can have no other
        click.echo("No token is made: the user admin has one already.")
        return
    if token_file is None:
        click.echo(f"Manager token, shown this once: {issued.token}")
        return
    try:
        write_secret(token_file, issued.token)
    except OSError as error:
        # Nobody has seen it, so the next start must make another.
        tokens.revoke(issued.view.id, reason="The token file could not be written.")
        raise click.ClickException(
            f"The token file cannot be written ({error.strerror}): choose another "
            "with --token-file."
        ) from error
    click.echo(f"Manager token written to {token_file}")
