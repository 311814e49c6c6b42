"""Python environments of other people's packages: made once, and kept.

Each lies in `.environments` under the name and version of what it is for.  Its stamp,
which says what it was made of, is written last: an environment without the right one
is half made or out of date, and is made anew.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".environments"
CONSTRAINTS = (
    ROOT / "constraints.txt",
    Path(__file__).parent / "clients" / "constraints.txt",
)
COMPANIONS = ("gymnasium", "numpy")
"""What the scripts in `clients` need besides the client; the constraints pin them."""


def environment(
    requirement: str,
    *,
    constraints: tuple[Path, ...] = CONSTRAINTS,
    companions: tuple[str, ...] = COMPANIONS,
) -> Path:
    """Return the Python of an environment with `requirement`, a `name==version`.

    The name may have an extra.  `companions`: what else to install there.  Makes the
    environment first if need be, which takes some seconds and the network.  Safe to
    call from several processes at once: one makes it and the others wait.
    """
    folder = KEPT / re.sub(r"\[.*\]", "", requirement).replace("==", "-")
    python = folder / "bin" / "python"
    asked = (requirement, *companions)
    KEPT.mkdir(exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        stamp, wanted = folder / "made-of.txt", _made_of(asked, constraints)
        if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            _make(folder, python, asked, constraints)
            stamp.write_text(wanted)
    return python


def _made_of(asked: tuple[str, ...], constraints: tuple[Path, ...]) -> str:
    pins = [path.read_text() for path in constraints]
    return "\n".join([sys.version, *asked, *pins])


def _make(
    folder: Path, python: Path, asked: tuple[str, ...], constraints: tuple[Path, ...]
) -> None:
    begun = time.monotonic()
    _say(f"Making {folder.relative_to(ROOT)} ...")
    _run(sys.executable, "-m", "venv", "--clear", folder)
    pinned = [word for path in constraints for word in ("--constraint", str(path))]
    pip = (python, "-I", "-m", "pip", "--disable-pip-version-check", "--quiet")
    _run(*pip, "install", *pinned, *asked)
    _say(f" made in {time.monotonic() - begun:.0f} s.\n")


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[-1]} could not be made:\n{done.stderr}")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
