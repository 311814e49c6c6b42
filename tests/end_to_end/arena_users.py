"""Users of agilerl-arena, with its library and with its command line."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

import bundles
from end_to_end.processes import PATIENCE_S
from end_to_end.public_client import PublicClient, taken, told

ROWS = bundles.observations(7, 4)
GREEDY = bundles.BALANCER(ROWS).argmax(axis=1)
"""What an agent that balances the pole does about each of `ROWS`."""
WIDE = {"COLUMNS": "500"}
"""So that no table breaks a name."""

# --- with the library ----------------------------------------------------------------


@frozen
class User:
    """Somebody with a version of the library agilerl-arena, and with credentials."""

    client: PublicClient
    environ: Mapping[str, str]
    options: Mapping[str, str] = field(factory=dict)

    @property
    def version(self) -> str:
        return self.client.version

    def __call__(self, method: str, *given: object, **named: object) -> Any:
        """Return what one call of `ArenaClient` came to."""
        (met,) = self.calls((method, given, named))
        return met

    def bearing(self, token: str) -> "User":
        """Return somebody else on the same machine."""
        return evolve(self, environ={**self.environ, "ARENA_API_KEY": token})

    def begin(self, method: str, *given: object, **named: object) -> None:
        """Begin one call; `end` returns what it came to."""
        said = [{"method": method, "given": given, "named": named}]
        environ = dict(self.environ)
        self.client.begin("use", calls=said, environ=environ, **self.options)

    def end(self) -> Any:
        (met,) = self.client.end()
        return met

    def calls(self, *calls: tuple[str, tuple, dict]) -> list[Any]:
        """Return what calls of one `ArenaClient` came to."""
        said = [{"method": m, "given": g, "named": n} for m, g, n in calls]
        return list(self._scenario("use", calls=said))

    def find(self, name: str, *calls: dict, **opening: object) -> Any:
        """Return what opening an agent by its name came to, and calls of it."""
        return self._scenario("find", name=name, calls=calls, opening=opening)

    def _scenario(self, scenario: str, **arguments: object) -> Any:
        environ = dict(self.environ)
        return self.client(scenario, environ=environ, **arguments, **self.options)


# --- what it came to -----------------------------------------------------------------


def returned(met: dict) -> Any:
    assert "returned" in met, met
    return met["returned"]


def refused(
    met: dict,
    status: int,
    *words: str,
    error: str = "ArenaAPIError",
    label: str = "API error",
) -> str:
    """Assert that our sentence is what the client says, and no raw JSON; return it."""
    assert (met.get("error"), met.get("status")) == (error, status), met
    said = re.fullmatch(rf"{label} \({status}\): ([^\n]+)", met["text"])
    assert said is not None, met
    assert said[1].endswith("."), met
    assert not set("[]{}") & set(said[1]), met
    assert "http" not in said[1], met
    assert all(word in said[1] for word in words), met
    return said[1]


def unauthenticated(met: dict) -> bool:
    return met.get("error") == "ArenaAuthError"


def acts(met: dict) -> None:
    """Assert that an agent was opened, and did the one thing that it was asked."""
    assert met["open"]["returned"]["success"] is True
    (call,) = met["calls"]
    action, hidden_state = returned(call)
    assert (taken(action).tolist(), hidden_state) == (GREEDY[0], None)


def one_action(**options: Any) -> dict[str, Any]:
    return {"method": "get_action", "tree": told(ROWS[0]), **options}


# --- with the command line -----------------------------------------------------------


@frozen
class Ended:
    """What a command of the CLI came to."""

    code: int
    out: str
    err: str

    @classmethod
    def of(cls, code: int, out: str, err: str) -> "Ended":
        """Return it, unless it was a defect: no command ends in a traceback."""
        assert "Traceback" not in out + err, err
        return cls(code, out, err)

    @property
    def said(self) -> str:
        """Everything that was printed, on one line: tables break it anywhere."""
        return " ".join((self.out + self.err).split())


@frozen
class Program:
    """The command `arena` of one version, with a home of its own and no terminal."""

    version: str
    path: Path
    home: Path
    environ: Mapping[str, str]

    def __call__(self, *words: object, **environ: str) -> Ended:
        """Return what `arena` with `words` came to."""
        ended = subprocess.run(
            [self.path, *map(str, words)],
            cwd=self.home,
            env={**WIDE, "HOME": str(self.home), **self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Ended.of(ended.returncode, ended.stdout, ended.stderr)


@frozen
class Shell:
    """The same for many commands, of which each is a fork (`arena_command.py`).

    They share a home; each runs in `folder`.
    """

    version: str
    home: Path
    folder: Path
    environ: Mapping[str, str]
    _process: "subprocess.Popen[str]"

    def __call__(self, *words: object, **environ: str) -> Ended:
        """Return what `arena` with `words` came to."""
        self.begin(*words, **environ)
        return self.end()

    def begin(self, *words: object, **environ: str) -> None:
        command = {
            "words": list(map(str, words)),
            "environ": {**self.environ, **environ},
            "folder": str(self.folder),
            "out": str(self._written("out")),
            "err": str(self._written("err")),
        }
        for name in ("out", "err"):
            self._written(name).unlink(missing_ok=True)
        asking = self._process.stdin
        assert asking is not None
        asking.write(json.dumps(command) + "\n")
        asking.flush()

    def end(self) -> Ended:
        """Return what the command that was begun came to."""
        telling = self._process.stdout
        assert telling is not None
        code = int(telling.readline())
        out, err = (self._written(name).read_text() for name in ("out", "err"))
        return Ended.of(code, out, err)

    def _written(self, name: str) -> Path:
        return self.home / name


@contextmanager
def shell_process(python: Path, home: Path) -> "Iterator[subprocess.Popen[str]]":
    """Give the process that a `Shell` of this home talks to."""
    with subprocess.Popen(
        [python, "-I", Path(__file__).parent / "clients" / "arena_command.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**WIDE, "HOME": str(home)},
        text=True,
    ) as process:
        yield process
        process.communicate()
