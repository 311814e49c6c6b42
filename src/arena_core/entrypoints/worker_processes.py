"""One worker process, as its parent holds it.

Two pipes tie them together.  The lifeline closes when the parent wants the worker to
drain, and also when the parent dies, by kill -9 too.  On the other one the worker says
that it is ready; its end, however it comes, closes that one.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path

from attrs import frozen

from arena_core.entrypoints.settings import Settings

READY = b"r"


def worker_command() -> list[str]:
    """Return what starts a worker, but for the numbers of its descriptors."""
    return [sys.executable, "-P", "-m", "arena_core.entrypoints.worker"]


def worker_environment(given: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with which a worker comes to the same settings."""
    modules = [entry for entry in sys.path if Path(entry).is_absolute()]
    blobs = {} if given.blobs is None else {"ARENA_BLOBS": str(given.blobs)}
    named = given.allowed_hosts
    hosts = {} if named is None else {"ARENA_ALLOWED_HOSTS": ",".join(named)}
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(modules),
        "ARENA_STORE": given.store,
        "ARENA_WORKERS": str(given.workers),
        **blobs,
        **hosts,
        **_tls(given),
    }


def _tls(given: Settings) -> dict[str, str]:
    """Return where certificate and key are; the password is in what is inherited."""
    if given.tls is None:
        return {}
    return {
        "ARENA_TLS_CERTIFICATE": str(given.tls.certificate),
        "ARENA_TLS_KEY": str(given.tls.key),
    }


@frozen(eq=False)
class WorkerProcess:
    popen: "subprocess.Popen[bytes]"
    lifeline: FileIO
    status: FileIO
    started_s: float

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        listener: socket.socket,
    ) -> "WorkerProcess":
        """Start `command` with its three descriptors.  Raises `OSError`."""
        (theirs, ours), (heard, said) = os.pipe(), os.pipe()
        lifeline, status = FileIO(ours, "w"), FileIO(heard)
        given = (listener.fileno(), theirs, said)
        try:
            popen = subprocess.Popen(  # noqa: S603 -- our own command
                [*command, *map(str, given)],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                pass_fds=given,
                # So that a Ctrl-C at the terminal comes to the parent alone.
                process_group=0,
            )
        except OSError:
            lifeline.close()
            status.close()
            raise
        finally:
            os.close(theirs)
            os.close(said)
        return cls(popen, lifeline, status, time.monotonic())

    def is_ready(self) -> bool:
        """Return what it says: that it is ready, or, by its end, nothing."""
        return self.status.read(1) == READY

    def drain(self) -> None:
        """Ask it to end once it has answered.  Safe to call twice."""
        self.lifeline.close()

    def kill(self) -> None:
        self.popen.kill()

    def wait(self) -> int:
        """Return its exit status, a negative one for a signal."""
        status = self.popen.wait()
        self.lifeline.close()
        self.status.close()
        return status
