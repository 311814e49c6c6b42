"""Golden traces: recorded inputs, and what the code that trained answered to them.

In `golden.npz`, a zip archive of .npy files, `case<i>/step<t>/<what>.npy` holds one
array, batch axis first.  It comes from strangers, so it never reaches `numpy.load`,
and what its headers say of sizes is not believed.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO

from attrs import frozen

from arena_core.application import npy
from arena_core.application.filenames import shown
from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected, TooLarge

FILE = "golden.npz"
MOST_BYTES = 256 << 20
"""Of the archive, and of all its members inflated."""
MOST_MEMBER_BYTES = 64 << 20
MOST_MEMBERS = 10_000

_QUESTIONS = {"obs", "inputs"}
_ANSWERS = {"action", "results", "outputs"}
_AGENTS = "agents/"
_MEMBER = re.compile(
    r"case(0|[1-9]\d{0,5})/step(0|[1-9]\d{0,5})/"
    r"((?:agents/[A-Za-z0-9_.:-]{1,100}/)?"
    r"(?:(?:obs|inputs)(?:/[A-Za-z0-9_./-]{1,200})?|action_mask|env_defined_action|"
    r"action|results|outputs/[A-Za-z0-9_.:/-]{1,200}))\.npy",
    re.ASCII,
)
_END_BYTES = 22
"""Size of the record that ends an archive, without comment."""
_ZIP64_LOCATOR_BYTES = 20
_MOST_DIRECTORY_BYTES = MOST_MEMBERS * 512
_ENCRYPTED = 0x1
_CHUNK_BYTES = 1 << 18
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError,
)  # fmt: skip
"""What `zipfile` raises for archives that are damaged or made to harm."""


@frozen(eq=False)
class Step:
    """One call: what went in, and what came out of training's code."""

    recorded: dict[str, Array]
    """By `obs`, `inputs`, `action_mask`, `action`, `results`, `outputs/<name>`..., in
    `agents/<agent>/` if there are several; all have the same number of rows."""

    @property
    def rows(self) -> int:
        """How many rows each array has, at least one."""
        return len(next(iter(self.recorded.values())))

    def by_agent(self) -> dict[str, dict[str, Array]]:
        """Return what is recorded of each agent; `""` is the only one of a single."""
        agents: dict[str, dict[str, Array]] = {}
        for name, array in self.recorded.items():
            agent, what = _whose(name)
            agents.setdefault(agent, {})[what] = array
        return agents


def leaves(recorded: Mapping[str, Array], what: str) -> dict[str, Array]:
    """Return the arrays of an observation by path; `""`: it is one array.

    `recorded`: of one agent.  `what`: `obs` or `inputs`.
    """
    return {
        name.removeprefix(what).removeprefix("/"): array
        for name, array in recorded.items()
        if name.partition("/")[0] == what
    }


@frozen(eq=False)
class Case:
    """Calls in the order in which they were made."""

    name: str
    steps: tuple[Step, ...]


@frozen(eq=False)
class GoldenTrace:
    cases: tuple[Case, ...]


def read(data: bytes) -> GoldenTrace:
    """Return the trace in the archive `data`.

    Raises `Rejected` if it is none, and `TooLarge` if it is over a limit; no more
    than `MOST_BYTES` are ever inflated.
    """
    _check_directory(data)
    budget = _Budget()
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if len(archive.infolist()) > MOST_MEMBERS:
                raise _too_large(f"has more than {MOST_MEMBERS} arrays")
            for member in archive.infolist():
                name = member.filename
                if name in arrays:
                    raise _wrong(f"it holds {shown(name)} twice")
                _check_member(member)
                content = budget.inflate(archive, member)
                arrays[name] = npy.decode(content, field=f"{FILE}: {shown(name)}")
    except _UNREADABLE as error:
        raise _wrong("it is damaged, or no zip archive") from error
    return _understood(arrays)


def write(trace: GoldenTrace) -> bytes:
    """Return the archive that holds `trace`: the same bytes for the same arrays.

    Raises `Rejected` for what `read` would not accept.
    """
    arrays = {
        f"{case.name}/step{number}/{what}.npy": array
        for case in trace.cases
        for number, step in enumerate(case.steps)
        for what, array in step.recorded.items()
    }
    _understood(arrays)
    stream = BytesIO()
    # Not compressed: releases of zlib differ in the bytes that they make.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system = 3  # Unix, wherever it is written
            archive.writestr(member, npy.encode(arrays[name]))
    return stream.getvalue()


def _wrong(problem: str) -> Rejected:
    return Rejected(
        f"The {FILE} cannot be read: {problem}; write it with numpy.savez.",
        field=FILE,
    )


def _too_large(problem: str) -> TooLarge:
    return TooLarge(f"The {FILE} {problem}: record fewer or smaller.", field=FILE)


# --- the archive -----------------------------------------------------------------


def _check_directory(data: bytes) -> None:
    """Refuse what would make `zipfile` believe in too many members.

    It makes an object for each entry of the directory before it hands out one, so
    the directory's size must be known before.  An archive this small needs neither
    a comment nor the 64-bit records, which could claim another directory.
    """
    if len(data) > MOST_BYTES:
        raise _too_large(f"has more than {MOST_BYTES} bytes")
    end = data[-_END_BYTES:]
    locator = data[-_END_BYTES - _ZIP64_LOCATOR_BYTES : -_END_BYTES]
    if end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0":
        raise _wrong("it is damaged, no zip archive, or one with a comment")
    if locator.startswith(b"PK\x06\x07"):
        raise _too_large("has 64-bit records, of which it has no need")
    if int.from_bytes(end[12:16], "little") > _MOST_DIRECTORY_BYTES:
        raise _too_large(f"has more than {MOST_MEMBERS} arrays")


def _check_member(member: zipfile.ZipInfo) -> None:
    if not _MEMBER.fullmatch(member.filename):
        raise _wrong(
            f"it holds {shown(member.filename)}, but its arrays are named like "
            "case0/step0/obs.npy"
        )
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise _wrong(f"{shown(member.filename)} is compressed in an unusual way")
    if member.flag_bits & _ENCRYPTED:
        raise _wrong(f"{shown(member.filename)} is encrypted")


class _Budget:
    """How many bytes may still be inflated."""

    def __init__(self) -> None:
        self._left = MOST_BYTES

    def inflate(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
        """Return the content, whose checksum is right, as far as there is budget."""
        content = BytesIO()
        with archive.open(member) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                self._left -= len(chunk)
                content.write(chunk)
                if content.tell() > MOST_MEMBER_BYTES or self._left < 0:
                    raise _too_large(
                        f"has more than {MOST_MEMBER_BYTES} bytes in an array, or "
                        f"{MOST_BYTES} in all"
                    )
        return content.getvalue()


# --- what it means ---------------------------------------------------------------


def _understood(arrays: Mapping[str, Array]) -> GoldenTrace:
    cases: dict[int, dict[int, dict[str, Array]]] = {}
    for name, array in arrays.items():
        match = _MEMBER.fullmatch(name)
        if match is None:
            raise _wrong(f"{shown(name)} is not named like case0/step0/obs.npy")
        case, step, what = match.groups()
        cases.setdefault(int(case), {}).setdefault(int(step), {})[what] = array
    if not cases:
        raise _wrong("it holds no case")
    return GoldenTrace(
        tuple(
            Case(f"case{number}", tuple(_steps(f"case{number}", steps)))
            for number, steps in sorted(cases.items())
        )
    )


def _steps(case: str, steps: Mapping[int, dict[str, Array]]) -> Iterator[Step]:
    for number in range(len(steps)):
        if number not in steps:
            raise _wrong(f"{case} lacks step {number}, though it has a later one")
        recorded = steps[number]
        _check_step(f"{case}/step{number}", recorded)
        yield Step(dict(sorted(recorded.items())))


def _whose(name: str) -> tuple[str, str]:
    """Return the agent, and what is recorded of it."""
    if name.startswith(_AGENTS):
        agent, _, what = name.removeprefix(_AGENTS).partition("/")
        return agent, what
    return "", name


def _check_step(step: str, recorded: Mapping[str, Array]) -> None:
    agents = Step(dict(recorded)).by_agent()
    if "" in agents and len(agents) > 1:
        raise _wrong(f"{step} is of several agents and of a single one at once")
    for whats in agents.values():
        asked = {what.partition("/")[0] for what in whats}
        if len(asked & _QUESTIONS) != 1:
            raise _wrong(f"{step} must hold either obs or inputs")
        if not asked & _ANSWERS:
            raise _wrong(f"{step} holds no answer: record action, results or outputs")
    if not all(array.ndim for array in recorded.values()):
        raise _wrong(f"{step} holds an array without a batch axis")
    rows = {len(array) for array in recorded.values()}
    if len(rows) > 1 or 0 in rows:
        raise _wrong(f"the arrays of {step} must all have the same number of rows")
