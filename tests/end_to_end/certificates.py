"""Certificates that a server proves by who it is, signed by nobody but themselves."""

import subprocess
from pathlib import Path

from attrs import frozen


@frozen
class Certificate:
    file: Path
    key: Path


def certificate(
    folder: Path, name: str = "server", *, password: str = ""
) -> Certificate:
    """Return a new one of this machine; its key is encrypted if there is a password."""
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    locked = ["-passout", f"pass:{password}"] if password else ["-noenc"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2"),
            *("-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", made.file, "-keyout", made.key, *locked),
        ],
        check=True,
        capture_output=True,
    )
    return made
