"""An environment for each peer: made of its requirements on demand, and kept."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / ".environments" / "peers"
MADE_WITHIN_S = 900


class InstallError(Exception):
    """A peer whose requirements cannot be installed here."""


def requirements(peer: str) -> str:
    return (HERE / peer / "requirements.txt").read_text()


def python_of(peer: str, interpreter: str = sys.executable) -> Path:
    """Return the Python of the peer's environment.  Raises `InstallError`.

    The stamp that says what the environment was made of is written last: without the
    right one it is half made or out of date, and is made anew.
    """
    folder = KEPT / peer
    python, stamp = folder / "bin" / "python", folder / "made-of.txt"
    wanted = f"{interpreter}\n{requirements(peer)}"
    if not (stamp.exists() and stamp.read_text() == wanted):
        stamp.unlink(missing_ok=True)
        _run(interpreter, "-m", "venv", "--clear", str(folder))
        pip = (str(python), "-m", "pip", "--disable-pip-version-check", "--quiet")
        _run(*pip, "install", "-r", str(HERE / peer / "requirements.txt"))
        stamp.write_text(wanted)
    return python


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=MADE_WITHIN_S
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{command[0]} could not be run: {error}") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise InstallError((errors or ["pip failed"])[-1].strip())
