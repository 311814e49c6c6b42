"""How a server is reached: by which names, and with which certificate."""

import ssl
from ipaddress import ip_address
from pathlib import Path

import click
from attrs import evolve

from arena_core.entrypoints.settings import Settings, Tls

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def with_hosts(given: Settings, host: str) -> Settings:
    """Return the settings with the hosts that are ours where it listens.

    Whoever listens on a loopback address is asked by programs of the same machine, and
    by pages in its browsers that are none of our business.  Elsewhere nobody knows
    which names lead there.
    """
    if given.allowed_hosts is not None or not is_loopback(host):
        return given
    return evolve(given, allowed_hosts=(*LOOPBACK, in_url(host)))


def with_tls(given: Settings, certificate: Path | None, key: Path | None) -> Settings:
    """Return the settings with these files, once it is sure that they can be used."""
    given = evolve(
        given,
        tls_certificate=certificate or given.tls_certificate,
        tls_key=key or given.tls_key,
    )
    if given.tls is not None:
        _load(given.tls)
    return given


def _load(tls: Tls) -> None:
    def password() -> str:
        return tls.password or ""  # or it would be asked for at the terminal

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key, password)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None)
        raise click.ClickException(
            f"The certificate and its key cannot be used ({why or error}): name two "
            "files in PEM that belong together, and give the password of an encrypted "
            "key in ARENA_TLS_KEY_PASSWORD."
        ) from error


def base_url(given: Settings, host: str, port: int) -> str:
    """Return the address that it listens at."""
    scheme = "http" if given.tls is None else "https"
    return f"{scheme}://{in_url(host)}:{port}"


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
