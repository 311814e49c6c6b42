"""`arena-core serve`: the HTTP API as a process."""

import os
import signal
import socket
from ipaddress import ip_address
from pathlib import Path

import click
from attrs import evolve

from arena_core.domain.values import Role
from arena_core.entrypoints.cli.options import operator, settings, store_options
from arena_core.entrypoints.library import Arena


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
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the first manager token here, mode 0600, instead of printing it.",
)
def serve(
    store: str | None,
    blobs: Path | None,
    host: str,
    port: int,
    token_file: Path | None,
) -> None:
    """Serve the HTTP API, and every agent that is Deployed.

    The first start makes one manager token.  SIGTERM and Ctrl-C drain: what is being
    answered is answered, then the process ends with status 0.
    """
    from arena_core.entrypoints.http.app import build_app  # noqa: PLC0415 -- --help needs no server
    from arena_core.entrypoints.http.server import Server  # noqa: PLC0415 -- likewise
    from arena_core.entrypoints.wiring import open_arena  # noqa: PLC0415 -- likewise

    given = evolve(settings(store, blobs), inspect_apart=True)
    # Torch takes its number of threads from here, if a model ever needs torch.
    os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    with _listen(host, port) as listener, open_arena(given) as arena:
        server = Server(build_app(arena), listener)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.drain())
        _first_token(arena, host, token_file)
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"Listening on http://{shown}:{listener.getsockname()[1]}")
        server.run()
    click.echo("Stopped.")


def _listen(host: str, port: int) -> socket.socket:
    from arena_core.entrypoints.http.server import listen  # noqa: PLC0415 -- --help needs no server

    try:
        return listen(host, port)
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
    if token_file is None and not _is_loopback(host):
        click.echo("No token yet: make one with arena-core token create.")
        return
    issued = tokens.issue(name="first start", user="admin", role=Role.MANAGER)
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


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
