"""Command lines of programs that train: what would be looked for where nothing is.

A training begins in a folder of its own, which is empty then.  So what is relative
in its command line can't be there, whatever folder its author was in.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown

INTERPRETERS = frozenset({
    "bash", "dash", "julia", "lua", "node", "perl", "pypy", "python", "ruby",
    "rscript", "sh", "zsh",
})  # fmt: skip
"""Programs whose first argument that is no option is a file to run."""
SCRIPTS = frozenset({
    ".bash", ".jl", ".js", ".lua", ".mjs", ".pl", ".py", ".pyc", ".pyz", ".r", ".rb",
    ".sh", ".ts",
})  # fmt: skip
"""How the names of such files end: what ends otherwise may belong to an option."""
_SAYS_WHAT_TO_RUN = ("-c", "-e", "-m")
"""Options behind which there is no file, or may be none."""


def check(argv: Sequence[str]) -> None:
    """Raise `Rejected` for a program, or a script of one, that cannot be found."""
    if "/" in argv[0] and _is_relative(argv[0]):
        raise _not_there(argv[0], 0)
    if PurePosixPath(argv[0]).name.lower().rstrip("0123456789.") not in INTERPRETERS:
        return
    for place, argument in enumerate(argv[1:], start=1):
        if argument in _SAYS_WHAT_TO_RUN:
            return
        if not argument.startswith("-"):
            is_script = PurePosixPath(argument).suffix.lower() in SCRIPTS
            if is_script and _is_relative(argument):
                raise _not_there(argument, place)
            return


def _is_relative(path: str) -> bool:
    return not PurePosixPath(path).is_absolute()


def _not_there(path: str, place: int) -> Rejected:
    return Rejected(
        f"The program would look for {shown(path)} in the folder of its own run, "
        "which is empty when it begins: name the file by its whole path.",
        field=f"config.argv {place}",
    )
