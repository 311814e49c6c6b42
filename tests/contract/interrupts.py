"""Connections to SQLite during which somebody presses Ctrl-C."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest


class _Cursor(sqlite3.Cursor):
    def execute(self, sql, *given):
        super().execute(sql, *given)
        self.connection.done(sql)
        return self


class _Connection(sqlite3.Connection):
    moment: str | None = None
    """The statement that the interrupt comes right after."""

    def cursor(self):
        return super().cursor(_Cursor)

    def execute(self, sql, *given):
        found = super().execute(sql, *given)
        self.done(sql)
        return found

    def commit(self):
        super().commit()
        self.done("COMMIT")

    def done(self, sql):
        if sql == self.moment:
            raise KeyboardInterrupt


@contextmanager
def interrupted_at(moment: str) -> Iterator[None]:
    """Interrupt whoever has just done this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Connection, "moment", moment)
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Have the connections that are made meanwhile be such that can be interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        connect = partial(sqlite3.connect, factory=_Connection)
        patch.setattr(sqlite3, "connect", connect)
        yield
