"""Pickles that no pickler would write: any name, called with anything."""

import io
import pickle

from attrs import frozen
from hypothesis import strategies as st


@frozen
class Named:
    """The name of something that need not exist."""

    module: str
    name: str


@frozen
class Call:
    """What is called, and with what."""

    function: object
    arguments: object
    state: object = None
    """Given to what comes of it, unless None."""


@frozen
class Identity:
    """A persistent id, such as torch has for storages."""

    identity: object


class _Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    def persistent_id(self, value):
        return value.identity if isinstance(value, Identity) else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
            if value.state is not None:
                self.save(value.state)
                self.write(pickle.BUILD)
        else:
            super().save(value, save_persistent_id)


def pickled(value: object) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, 4).dump(value)
    return stream.getvalue()


def values(names, leaves):
    """Return a strategy of values with calls of these names in them, and around."""
    named = st.sampled_from([Named(*name) for name in names])
    return st.recursive(
        leaves | named,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=6).map(tuple)
            | st.builds(
                Call,
                named,
                st.lists(inner, max_size=6).map(tuple),
                st.none() | inner | st.lists(inner, max_size=6).map(tuple),
            )
        ),
        max_leaves=12,
    )
