"""`arena-core` as it is typed on a store of one's own, and a training to be typed."""

import os
import pty
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field, frozen
from click.testing import CliRunner

from arena_core.entrypoints.cli.main import cli as root

import bundles
from end_to_end.processes import PATIENCE_S, command, environment, run

TRAINING_S = 120.0
SCRIPT = """
set -eu
mkdir -p checkpoints
step=${ARENA_RESUME_STEP:-0}
trap 'echo asked to stop; exit 0' TERM
echo "begins at $step"
while [ "$step" -lt "${ARENA_MAX_STEPS:-20}" ]; do
    while [ -e "$2" ]; do sleep 0.02; done
    step=$((step + 10))
    printf '{"step": %d, "score": %d, "fitness": %d}\\n' "$step" "$step" "$step" \\
        >> metrics.jsonl
    echo "made step $step"
    cp -r "$1" "checkpoints/.$step"
    mv "checkpoints/.$step" "checkpoints/$step"
done
"""
"""Trains nothing, but writes a checkpoint each 10 steps, copies of the bundle in the
folder $1.  It waits as long as there is a file $2."""
SIZE = {"COLUMNS": "100", "LINES": "40"}
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@frozen
class Typed:
    """A store in a folder, and what can be typed on it."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "arena.db"

    @property
    def environ(self) -> dict[str, str]:
        return {"ARENA_STORE": str(self.store)}

    @property
    def bundle(self) -> Path:
        """The folder of what the trainings write; what is in it can be changed."""
        return self.folder / "bundle"

    @property
    def hold(self) -> Path:
        """As long as this file is there, trainings wait."""
        return self.folder / "hold"

    def argv(self) -> list[str]:
        return ["sh", str(self.folder / "train.sh"), str(self.bundle), str(self.hold)]

    def said(self, *words: object, status: int = 0) -> str:
        """Return what a command says, which ends with `status`; in this process."""
        result = CliRunner(env=self.environ).invoke(root, [*map(str, words)])
        told = result.output + (
            "" if result.exception is None else str(result.exception)
        )
        assert result.exit_code == status, told
        return told

    def run(
        self, *words: object, status: int = 0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in a process of its own, as users do."""
        ended = run(*words, environ=self.environ, timeout_s=TRAINING_S)
        assert ended.returncode == status, (ended.stdout, ended.stderr)
        return ended

    def draft(self, name: str, *argv: object, **options: object) -> None:
        """Draft an experiment that is trained by a program."""
        words = [w for key, value in options.items() for w in (f"--{key}", value)]
        self.said(
            "experiment", "create", name, "--project", "lab", "--kind", "advanced",
            "--env", "CartPole-v1", "--algorithm", "PPO", *words, "--",
            *(argv or self.argv()),
        )  # fmt: skip


def typed_in(folder: Path) -> Typed:
    typed = Typed(folder)
    (folder / "train.sh").write_text(SCRIPT)
    bundles.cartpole(typed.bundle)
    return typed


@define
class Terminal:
    """A command on a terminal: what it has drawn so far, and how it has ended."""

    popen: "subprocess.Popen[bytes]"
    _master: int
    _drawn: bytearray = field(factory=bytearray)
    _reader: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def drawn(self) -> str:
        """Without colours and movements of the cursor."""
        return _ESCAPES.sub("", self._drawn.decode(errors="replace"))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            self._drawn += data

    def wait(self) -> int:
        """Return the status with which it has ended; all that it drew is there then."""
        status = self.popen.wait(TRAINING_S)
        self._reader.join(PATIENCE_S)
        return status


@contextmanager
def on_a_terminal(typed: Typed, *words: object) -> Iterator[Terminal]:
    """Run a command with a terminal of 100 columns as its output."""
    master, slave = pty.openpty()
    environ = environment({**typed.environ, **SIZE, "TERM": "xterm-256color"})
    popen = subprocess.Popen(
        command(*words),
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.STDOUT,
    )
    os.close(slave)
    terminal = Terminal(popen, master)
    try:
        yield terminal
    finally:
        if popen.poll() is None:
            popen.kill()
        terminal.wait()
        os.close(master)
