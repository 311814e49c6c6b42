"""Pickles that tell whether they were run: what a hostile checkpoint would hold."""

import os
import pickle
import socket
from enum import Enum
from pathlib import Path
from typing import Self


class Canary(Enum):
    """What the pickle would do."""

    TOUCH = "exec"
    SYSTEM = "os.system"
    CONNECT = "socket.create_connection"
    TELL = "os.environ"


SECRET = "ARENA_CANARY_SECRET"  # noqa: S105 -- the name of a variable


class Telltale:
    """A folder and a port that are watched for signs of code that ran."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "aviary"
        self._folder.mkdir()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)

    def __enter__(self) -> Self:
        os.environ[SECRET] = "a secret of the server"
        return self

    def __exit__(self, *_: object) -> None:
        del os.environ[SECRET]
        self._listener.close()

    def pickled(self, canary: Canary, protocol: int = 4) -> bytes:
        return pickle.dumps(self.payload(canary), protocol)

    def payload(self, canary: Canary) -> object:
        """Return an object whose pickle sings when it is loaded."""
        path = str(self._folder / canary.name)
        port = self._listener.getsockname()
        code = {
            Canary.TOUCH: f"open({path!r}, 'w').close()",
            Canary.CONNECT: f"import socket as s; s.create_connection({port}).close()",
            Canary.TELL: (
                f"__import__('pathlib').Path({path!r})"
                f".write_text(__import__('os').environ[{SECRET!r}])"
            ),
        }
        if canary is Canary.SYSTEM:
            return _Calls(os.system, (f"touch {path}",))
        return _Calls(exec, (code[canary],))

    @property
    def has_sung(self) -> bool:
        if any(self._folder.iterdir()):
            return True
        try:
            self._listener.accept()[0].close()
        except TimeoutError:
            return False
        return True


class _Calls:
    def __init__(self, function: object, arguments: tuple[object, ...]) -> None:
        self._reduced = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self._reduced
