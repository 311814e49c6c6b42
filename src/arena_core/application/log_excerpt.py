"""The end of a training's log, short and plain enough to be part of a reason."""

import re
from collections.abc import Sequence

MOST_LINES = 3
LONGEST_LINE = 200
_FILES = (
    "bin|cfg|conf|csv|dll|gz|h5|hdf5|ini|ipynb|jl|js|json|jsonl|log|lua|md|npy|npz|"
    "onnx|parquet|pkl|pt|pt2|pth|py|pyc|pyd|pyx|r|rb|safetensors|sh|so|sqlite|tar|"
    "toml|ts|txt|whl|yaml|yml|zip"
)
"""How the names of files end that are shown.  What ends otherwise may be a folder."""
_QUOTED = re.compile(
    r"""(?P<quote>['"`])(?=[/\\~]|\.{1,2}[/\\]|[A-Za-z]:[/\\]|file:)"""
    r"""(?P<path>[^'"`]*[/\\][^'"`]*)(?P=quote)"""
)
_PART = r"(?:[/\\]+[^\s'\"`/\\]+)"
_BARE = re.compile(
    r"(?:(?<![\w.~/\\-])"
    r"(?:file:|[A-Za-z]:(?=[/\\])|\.{1,2}(?=[/\\]))?"
    rf"{_PART}|~[\w.-]*{_PART}|{_PART}(?:{_PART}|[/\\])){_PART}*[/\\]*"
)
"""Behind a word one slash is no path yet: `and/or`, `it/s`."""
_NAME = re.compile(
    rf"(?P<name>[\w.+-]+\.(?:{_FILES}))(?P<rest>(?:[^\w.+/\\-][^/\\]*)?)",
    re.IGNORECASE,
)
_PROGRAMS = ("bin", "sbin")
"""Folders in which whatever has a name is a program."""
_PROGRAM = re.compile(r"[\w.+-]+(?:[^\w.+/\\-].*)?")


def with_end_of_log(reason: str, lines: Sequence[str]) -> str:
    """Return `reason`, and after it what was printed last, if anything was.

    Of paths only the names of files stay: the folders are nobody's business who is
    not at the machine.
    """
    last = [plain for plain in map(_plain, lines) if plain][-MOST_LINES:]
    if not last:
        return reason
    return f"{reason} It printed last: {' / '.join(last)}"


def _plain(line: str) -> str:
    quoted = _QUOTED.sub(_within_quotes, line.strip())
    shown = _BARE.sub(lambda found: _masked(found[0]), quoted)
    clipped = shown[:LONGEST_LINE]
    return clipped if clipped == shown else clipped + "..."


def _within_quotes(found: re.Match[str]) -> str:
    return f"{found['quote']}{_masked(found['path'])}{found['quote']}"


def _masked(path: str) -> str:
    """Return the name of the file, and what follows it such as `:12`, for a path."""
    *_, folder, last = ["", *re.split(r"[/\\]", path)]
    name = _PROGRAM.fullmatch(last) if folder in _PROGRAMS else None
    if name is None and _NAME.fullmatch(last) is None:
        return "..." + last[len(last.rstrip("):,;.]}>")) :] if last else "..."
    return f".../{last}"
