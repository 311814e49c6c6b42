"""Answers that callers keep as files."""

import re

LONGEST_FILE_NAME = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def attachment(name: str, ending: str) -> dict[str, str]:
    """Return the header that names the file, which is safe to be written anywhere."""
    plain = _UNSAFE.sub("_", name)[:LONGEST_FILE_NAME]
    return {"Content-Disposition": f'attachment; filename="{plain}{ending}"'}
