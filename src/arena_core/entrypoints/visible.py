"""Texts of users and of their programs, as a terminal may be given them.

Names may hold characters that a terminal acts on, or that hide or turn what follows.
"""

import unicodedata

_PLAIN = "\n\t"


def visible(text: str) -> str:
    """Return `text` with whatever is not to be seen as an escape: U+202E, for one."""
    if text.isprintable():
        return text
    return "".join(c if is_plain(c) else _escaped(c) for c in text)


def visible_json(text: str) -> str:
    """Return JSON that means the same, with escapes for what is not to be seen."""
    if text.isprintable():
        return text
    return "".join(c if is_plain(c) else _in_json(c) for c in text)


def is_plain(c: str) -> bool:
    """Say whether a character is to be seen, or is a plain space or line break."""
    return c.isprintable() or c in _PLAIN or unicodedata.category(c) == "Zs"


def _escaped(c: str) -> str:
    return c.encode("unicode_escape").decode()


def _in_json(c: str) -> str:
    units = c.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
