"""The master secret: from the settings, or from a file that only its owner can read."""

import os
import secrets
import stat
from pathlib import Path

from arena_core.adapters import disk
from arena_core.domain.errors import Rejected, Unavailable

SECRET_BYTES = 32
SHORTEST = 16
LOST = (
    "The key file beside the store is missing, and with it every deployment key: "
    "restore it from a back-up, or put at least 16 random characters there, with the "
    "mode 0600, to begin with new keys."
)


def master_secret(given: str | None, path: Path, *, begun: bool) -> bytes:
    """Return the master secret; make it in the file `path`, mode 0600, if need be.

    `begun`: the log has events already, so a missing file is a lost one.  Raises
    `Rejected` if it is lost or too short, or if others may read the file, and
    `Unavailable` if the file can be neither read nor made.
    """
    if given is not None:
        return given_secret(given)
    try:
        return _kept_secret(path, begun=begun)
    except OSError as error:
        raise Unavailable(
            "The key file beside the store cannot be read or made: check its "
            "permissions and its disk."
        ) from error


def given_secret(text: str) -> bytes:
    """Return the master secret that the settings hold.  Raises `Rejected`."""
    return _long_enough(text.encode(), "The secret key (ARENA_SECRET_KEY)")


def _kept_secret(path: Path, *, begun: bool) -> bytes:
    if not path.exists():
        if begun:
            raise Rejected(LOST)
        write_secret(path, secrets.token_hex(SECRET_BYTES), overwrite=False)
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Rejected(
            "The key file beside the store can be read by others: make its mode 0600."
        )
    return _long_enough(path.read_bytes().strip(), "The key file beside the store")


def write_secret(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write `text` to a file of mode 0600, whole or not at all, and to last.

    Without `overwrite` a file that is there already, or that another process makes at
    the same moment, stays.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            draft.replace(path)
        else:
            _link_unless_there(draft, path)
        disk.sync_folder(path.parent.resolve())
    finally:
        draft.unlink(missing_ok=True)


def _link_unless_there(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        return


def _long_enough(secret: bytes, where: str) -> bytes:
    if len(secret) < SHORTEST:
        raise Rejected(f"{where} is too short: use at least {SHORTEST} characters.")
    return secret
