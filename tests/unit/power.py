"""A machine whose power never fails, so that nobody has to wait for its disk."""

import os
import sqlite3
from functools import partial

import pytest


class _Hasty(sqlite3.Connection):
    """Leaves it to the operating system when what is committed gets to the disk."""

    def execute(self, sql, *parameters):
        if sql.startswith("PRAGMA synchronous"):
            sql = "PRAGMA synchronous = OFF"
        return super().execute(sql, *parameters)


@pytest.fixture
def power_never_fails(monkeypatch):
    """Have files written without waiting for the disk.

    A process that dies loses nothing that it has written; only a power cut would.
    """
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=_Hasty))
