"""What the command line of the public client can print as the row of a table.

It prints the fields in the order in which they come.  So rows have no slots: Python
sorts those by name, and msgspec with them.  And it takes square brackets for markup: a
closing tag where nothing is open ends it with a traceback.
"""

import re

_FATAL = re.compile(r"\[(?=[/@])")


def printable(text: str) -> str:
    """Return the text without what would end the client; all else stays as it is."""
    return _FATAL.sub("[ ", text)
