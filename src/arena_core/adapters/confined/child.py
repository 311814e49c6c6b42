"""The process that is confined: it gives up its rights, then does its task.

It is started by `processes.run`, with one argument, and talks to it in lines of JSON.
"""

import errno
import importlib
import json
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from arena_core.adapters.confined.confinement import Limits, confine
from arena_core.domain.errors import Rejected, StorageFull, TooLarge

Say: TypeAlias = Callable[[Mapping[str, Any]], None]
_KINDS: dict[int | None, str] = {
    errno.ENOMEM: "memory",
    errno.EFBIG: "file size",
    errno.ENOSPC: "storage full",
    errno.EDQUOT: "storage full",
}
_STANDARD_INPUT, _STANDARD_OUTPUT = 0, 1


def main() -> None:
    order = json.loads(sys.argv[1])
    say = _speech()
    writable = Path(order["folder"])
    walls = confine(
        Limits(**order["limits"]),
        [Path(path) for path in order["readable"]],
        writable,
        order["parent"],
    )
    # Said, for to find one out is to delete a file, which it may not.
    tempfile.tempdir = str(writable.resolve())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    say({"walls": walls})
    say(_outcome(order, say))
    # Threads of libraries and finalisers of objects have no say in it any more.
    os._exit(0)


def _speech() -> Say:
    """Return what writes to the pipe; all else that is printed is dropped."""
    pipe = os.fdopen(os.dup(_STANDARD_OUTPUT), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _STANDARD_OUTPUT)
    os.close(null)

    def say(message: Mapping[str, Any]) -> None:
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()

    return say


def _end_with_parent() -> None:
    """Wait for the other end of standard input to be closed, which nobody writes to."""
    os.read(_STANDARD_INPUT, 1)
    os._exit(1)


def _outcome(order: Mapping[str, Any], say: Say) -> Mapping[str, Any]:
    module, _, function = order["task"].partition(":")
    try:
        task = getattr(importlib.import_module(module), function)
        task(order["arguments"], lambda words: say({"doing": words}))
    except Rejected as error:
        kind = "too large" if isinstance(error, TooLarge) else "rejected"
        return {"error": kind, "detail": str(error), "field": error.field}
    except StorageFull as error:
        return {"error": "storage full", "detail": str(error)}
    except BaseException as error:  # noqa: BLE001 -- whatever a stranger has caused
        traceback.print_exc()
        return {"error": _kind(error)}
    return {"done": True}


def _kind(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    number = error.errno if isinstance(error, OSError) else None
    return _KINDS.get(number, "unknown")
