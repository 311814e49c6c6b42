"""Texts as they are written in code, whatever is in them.

None can end its literal or its line, or look like another: what cannot be printed is
written as an escape.
"""

import shlex


def python(text: str) -> str:
    """Return the literal: in double quotes, unless that takes more escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_escaped(character, quote) for character in text) + quote


def _escaped(character: str, quote: str) -> str:
    if character in "\"'":
        return f"\\{character}" if character == quote else character
    return repr(character)[1:-1]


def shell(text: str) -> str:
    """Return the word, for bash and zsh."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_octal, text)) + "'"


def _octal(character: str) -> str:
    """Return a character as it is written between `$'` and `'`: as UTF-8, if need be.

    Not by its code point, of which shells make different bytes in different locales.
    """
    if character.isprintable() and character not in "\\'":
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode())
