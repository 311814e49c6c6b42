"""Names of the files in a bundle, and how what a stranger named is shown."""

import re
from collections.abc import Iterable

from arena_core.domain.errors import Rejected

MOST_SEGMENTS = 3
LONGEST_NAME = 200
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9._/ -]")
_LONGEST_SHOWN = 60


def shown(text: str) -> str:
    """Return `text` as it may stand in a message: short, and nothing but ASCII.

    Whatever is neither letter, digit, space nor one of `. _ / -` becomes `?`.
    """
    if len(text) > _LONGEST_SHOWN:
        text = text[: _LONGEST_SHOWN - 3] + "..."
    return _UNSAFE.sub("?", text)


def check_name(name: str, *, field: str | None = None) -> None:
    """Raise `Rejected` unless `name` may be that of a file in a bundle.

    `field` is what it names; the file itself if not given.
    """
    segments = name.split("/")
    if (
        len(name) > LONGEST_NAME
        or len(segments) > MOST_SEGMENTS
        or not all(_SEGMENT.fullmatch(s) and s not in {".", ".."} for s in segments)
    ):
        raise Rejected(
            f"The file name {shown(name)} is not allowed in a bundle: use letters, "
            f"digits, dots, underscores and hyphens, at most {MOST_SEGMENTS} levels "
            f"and {LONGEST_NAME} characters.",
            field=field or shown(name),
        )


def check_names(names: Iterable[str]) -> None:
    """Raise `Rejected` unless files of these names can lie in one folder.

    They could not on every file system if two differ in case alone, or if one
    is the folder of another.
    """
    folders: dict[str, str] = {}
    files: set[str] = set()
    for name in names:
        check_name(name)
        segments = name.split("/")
        for depth in range(1, len(segments)):
            folder = "/".join(segments[:depth])
            if folders.setdefault(folder.lower(), folder) != folder:
                raise _collision(folder)
        if name.lower() in files:
            raise _collision(name)
        files.add(name.lower())
    for name in sorted(files & folders.keys()):
        raise _collision(name)


def _collision(name: str) -> Rejected:
    return Rejected(
        f"The bundle has {shown(name)} twice, perhaps in another case: rename one.",
        field=shown(name),
    )
