"""Certificates that a server proves by who it is, from an authority of their own."""

from pathlib import Path

import trustme
from attrs import frozen
from cryptography.hazmat.primitives import serialization


@frozen
class Certificate:
    file: Path
    key: Path
    authority: Path
    """Whoever trusts this file trusts the certificate."""


def certificate(
    folder: Path, name: str = "server", *, password: str = ""
) -> Certificate:
    """Return a new one of this machine; its key is encrypted if there is a password."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    made = Certificate(
        folder / f"{name}.crt", folder / f"{name}.key", folder / f"{name}.ca"
    )
    made.file.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    made.key.write_bytes(_locked(issued.private_key_pem.bytes(), password))
    authority.cert_pem.write_to_path(str(made.authority))
    return made


def _locked(key: bytes, password: str) -> bytes:
    if not password:
        return key
    return serialization.load_pem_private_key(key, password=None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
