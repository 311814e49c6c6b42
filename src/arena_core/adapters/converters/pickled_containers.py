"""Lists, dicts and sets of a pickle: what may go into them."""

from typing import Any

import numpy as np

from arena_core.adapters.converters.pickles import Global, Malformed, Stub

MOST_KEY_PARTS = 100
"""Of a tuple that is a key, with those inside of it: each look-up hashes them all."""
_ATOMS = (str, bytes, int, float, complex, type(None), Global, Stub, np.generic)


def key(item: Any) -> Any:  # noqa: ANN401
    """Return `item`, if it can be a key, or raise `Malformed`."""
    pending = [item]
    for count, part in enumerate(pending):
        if isinstance(part, tuple):
            pending += part[:MOST_KEY_PARTS]
        elif not isinstance(part, _ATOMS):
            raise Malformed("has a key that cannot be one")
        if count > MOST_KEY_PARTS:
            raise Malformed(f"has a key of more than {MOST_KEY_PARTS} parts")
    return item


def entries(items: list[Any]) -> list[tuple[Any, Any]]:
    if len(items) % 2:
        raise Malformed("has a key without a value")
    return list(zip(map(key, items[::2]), items[1::2], strict=True))


def append(target: Any, items: list[Any]) -> None:  # noqa: ANN401
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, set):
        target.update(map(key, items))
    elif isinstance(target, Stub):
        target.items.extend(items)
    else:
        raise Malformed("appends to what is no list")


def put(target: Any, items: list[Any]) -> None:  # noqa: ANN401
    if isinstance(target, dict):
        target.update(entries(items))
    elif isinstance(target, Stub):
        target.entries.extend(entries(items))
    else:
        raise Malformed("sets an entry of what is no dict")
