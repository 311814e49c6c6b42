"""Files that people write and keep under version control: TOML, or JSON."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from arena_core.application import strict_json
from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown
from arena_core.entrypoints.visible import is_plain

MOST_BYTES = 1_000_000
_MOST_LEVELS = 20
_LAST_OF_FOUR = 0xFFFF


def read(path: Path) -> object:
    """Return what the file at `path` says: JSON if its name ends so, else TOML.

    Raises `Rejected` if it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Rejected(
            f"The file {shown(path.name)} cannot be read ({error.strerror})."
        ) from error
    if len(data) > MOST_BYTES:
        raise Rejected(
            f"The file {shown(path.name)} is larger than {MOST_BYTES:,} bytes."
        )
    if path.suffix.lower() == ".json":
        return strict_json.decode(data, most_levels=_MOST_LEVELS)
    return _toml(data, path.name)


def _toml(data: bytes, name: str) -> object:
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise Rejected(
            f"The file {shown(name)} is not TOML ({shown(str(error))}): mend it, or "
            "end its name with .json if it is JSON."
        ) from error


def table(path: Path) -> dict[str, Any]:
    """Return the table that the file at `path` is.  Raises `Rejected`."""
    found = read(path)
    if not isinstance(found, dict):
        raise Rejected(f"The file {shown(path.name)} must hold a table of settings.")
    return found


def assignments(words: Iterable[str], *, option: str) -> dict[str, Any]:
    """Return what is typed as KEY=JSON; what is no JSON is a text."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise Rejected(f"{shown(word)} is no assignment: write {option} KEY=VALUE.")
        try:
            found[name.strip()] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[name.strip()] = value
    return found


def toml_table(values: Mapping[str, object]) -> str:
    """Return texts, numbers and flags as lines of TOML."""
    return "".join(f"{name} = {_toml_value(value)}\n" for name, value in values.items())


def _toml_value(value: object) -> str:
    """Return `value`; what JSON says of texts holds in TOML too.

    DEL must be an escape there, and so is whatever a terminal would not show.
    """
    text = msgspec.json.encode(value).decode()
    return "".join(c if is_plain(c) else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    return f"\\u{ord(c):04x}" if ord(c) <= _LAST_OF_FOUR else f"\\U{ord(c):08x}"
