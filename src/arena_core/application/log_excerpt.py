"""The end of a training's log, short and plain enough to be part of a reason."""

import re
from collections.abc import Sequence

MOST_LINES = 3
LONGEST_LINE = 200
_PATH = re.compile(r"(?:~|\.{0,2})(?:/[^\s'\"():,/]+){2,}/?|[A-Za-z]:\\[^\s'\"]+")
_BRACKETS = str.maketrans("[]", "()")


def with_end_of_log(reason: str, lines: Sequence[str]) -> str:
    """Return `reason`, and after it what was printed last, if anything was.

    Paths are left out: they are nobody's business who is not at the machine.
    """
    last = [plain for plain in map(_plain, lines) if plain][-MOST_LINES:]
    if not last:
        return reason
    return f"{reason} It printed last: {' / '.join(last)}"


def _plain(line: str) -> str:
    shown = _PATH.sub("...", line.strip()).translate(_BRACKETS)
    clipped = shown[:LONGEST_LINE]
    return clipped if clipped == shown else clipped + "..."
