"""Fuzzing of what strangers send: arrays, and the requests that hold them.

    make fuzz FUZZ_SECONDS=60
    PYTHONPATH=tests python tests/fuzz/fuzz_requests.py .fuzz/crash-...    once more

Whatever the bytes are, nothing but a refusal may leave the decoders, and an array
that is taken must be the one that NumPy reads.  The first byte chooses what is
fuzzed, so that one corpus serves all.  Arguments are those of libFuzzer.
"""

import io
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import atheris
import msgspec
import numpy as np
import pybase64
from attrs import frozen

with atheris.instrument_imports(include=["arena_core.application"]):
    from arena_core.application import inference, npy
    from arena_core.application.inference import GREEDY, Choice, Mode, Verb, unwatched
    from arena_core.application.models import Model
    from arena_core.application.plain_rows import PlainRows
    from arena_core.application.raw_arrays import names_of
    from arena_core.domain.errors import (
        ArenaError,
        Conflict,
        Rejected,
        Unavailable,
    )

from unit.models import load

from every_shape import EVERY_SHAPE, whole_request

SAMPLE = Choice(Mode.SAMPLE, 1)
KEYS = [
    "obs", "inputs", "batch_size", "hidden_state", "action_mask", "h", "_checkpoint",
    "env_defined_actions", "speaker_0", "listener_0", "image", "inner", "", "[x]",
]  # fmt: skip
NAMES = [
    "obs", "inputs", "action_mask", "hidden_state/h", "hidden_state/_checkpoint",
    "env_defined_action", "agents/speaker_0/obs", "agents/listener_0/obs",
    "agents/speaker_0/action_mask", "obs/image", "obs/inner/0", "obs/0", "[x]", "",
]  # fmt: skip
DTYPES = [
    "<f4", "<f8", "<f2", "|b1", "|u1", "<i8", "<u8", ">f4", ">i2", "|O", "<U1", "|V0",
]  # fmt: skip
MOST_DEPTH = 3
LONGEST_REFUSAL = 2000
MOST_BYTES = 4096
"""Of the elements of one array."""


@frozen(eq=False)
class Served:
    """A model, and a request that it answers."""

    model: Model
    whole: Mapping[str, Any]
    plain: PlainRows | None
    """How plain requests are read, if there are any."""

    @classmethod
    def of(cls, name: str, folder: Path) -> "Served":
        model = load(EVERY_SHAPE[name].write(folder))
        whole = whole_request(name)
        if model.manifest.is_recurrent:
            body = msgspec.json.encode(whole)
            answer = msgspec.json.decode(inference.get_action(model, body))
            whole = whole_request(name, answer["hidden_state"])
        whole = msgspec.json.decode(msgspec.json.encode(whole))
        return cls(model, whole, PlainRows.of(model))

    @property
    def verb(self) -> Verb:
        return inference.GET_ACTION if self.model.acts else inference.PREDICT

    def ask(self, body: bytes, choice: Choice = GREEDY) -> None:
        """Ask, and see that the answer is one, or a refusal of one sentence."""
        answer = self._answer(body, choice, None)
        if isinstance(answer, bytes):
            assert msgspec.json.decode(answer)
        if self.plain is not None and choice == GREEDY:
            self._check_plain(self.plain.read(body), answer)

    def ask_raw(self, header: str, body: bytes) -> None:
        """Ask in raw arrays, and see that the answer can be read, or is a refusal."""
        try:
            names = names_of(header)
        except Rejected:
            return
        answer = self._answer(body, GREEDY, names)
        if not isinstance(answer, ArenaError):
            npy.decode_all(answer.body, names_of(answer.names))
        if self.plain is not None and names == ("obs",):
            self._check_plain(self.plain.read_raw(body), answer)

    def _check_plain(self, call: Any, answer: Any) -> None:
        """See that a plain request has the answer that the general way gives."""
        if call is not None:
            (plainly,) = self.plain.answer([call], unwatched)
            assert str(plainly) == str(answer)

    def _answer(self, body: bytes, choice: Choice, names: Any) -> Any:
        try:
            call = self.verb.read(self.model, body, choice, names)
            (answer,) = self.verb.answer(self.model, [call], unwatched)
        except (Rejected, Conflict) as refusal:
            answer = refusal
        if isinstance(answer, ArenaError):
            # Weights overflow where observations are finite but huge.
            assert isinstance(answer, Rejected | Conflict | Unavailable)
            sentence = str(answer)
            if len(sentence) > LONGEST_REFUSAL or not sentence.endswith("."):
                raise RuntimeError("it is no plain sentence") from answer
        return answer


# --- arrays --------------------------------------------------------------------------


def fuzz_array(data: bytes) -> None:
    """Decode the bytes of a .npy file."""
    try:
        array = npy.decode(data, field="array")
    except Rejected:
        return
    _check_read_alike(array, data)


def fuzz_base64(data: bytes) -> None:
    """Decode the text that such a file travels as."""
    text = data.decode("utf-8", errors="ignore")
    try:
        array = npy.from_base64(text, field="array")
    except Rejected:
        return
    _check_read_alike(array, pybase64.b64decode(text, validate=True))


def _check_read_alike(array: np.ndarray, data: bytes) -> None:
    file = io.BytesIO(data)
    expected = np.load(file, allow_pickle=False)
    assert file.tell() == len(data)
    assert array.dtype != bool or set(array.tobytes()) <= {0, 1}
    assert array.shape == expected.shape
    assert array.dtype == expected.dtype.newbyteorder("=")
    assert array.tobytes() == expected.astype(array.dtype).tobytes()
    assert npy.decode(npy.encode(array)).tobytes() == array.tobytes()


def file_of(chosen: atheris.FuzzedDataProvider) -> bytes:
    """Return a .npy file of whose header most is right."""
    dtype = chosen.PickValueInList(DTYPES)
    count = chosen.ConsumeIntInRange(0, 4)
    axes = [chosen.ConsumeIntInRange(0, 4) for _ in range(count)]
    if chosen.ConsumeIntInRange(0, 20) == 0:
        axes.append(chosen.ConsumeIntInRange(0, 2**64))
    shape = f"({', '.join(map(str, axes))}{',' if len(axes) == 1 else ''})"
    order, gap = chosen.ConsumeBool(), chosen.ConsumeIntInRange(0, 64)
    entries = f"'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, "
    header = f"{{{entries}}}{' ' * gap}".encode()
    size = int(np.prod(axes, dtype=object)) * int("0" + dtype[2:])
    body = chosen.ConsumeBytes(min(size, MOST_BYTES)).ljust(
        min(size, MOST_BYTES), b"\0"
    )
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


# --- requests ------------------------------------------------------------------------


def fuzz_request(served: Served, chosen: atheris.FuzzedDataProvider) -> None:
    """Ask what would be answered but for some of its parts."""
    request: Any = served.whole
    for _ in range(chosen.ConsumeIntInRange(0, 3)):
        at = chosen.PickValueInList(list(_places(request)))
        request = _put(request, at, _tree(chosen, MOST_DEPTH))
    choice = SAMPLE if chosen.ConsumeBool() and served.model.acts else GREEDY
    served.ask(msgspec.json.encode(request), choice)


def fuzz_raw(served: Served, chosen: atheris.FuzzedDataProvider) -> None:
    """Ask in raw arrays of which most have a name that is known."""
    count = chosen.ConsumeIntInRange(1, 4)
    names = [chosen.PickValueInList(NAMES) for _ in range(count)]
    files = [file_of(chosen) for _ in range(chosen.ConsumeIntInRange(0, count))]
    served.ask_raw(",".join(names), b"".join(files) + chosen.ConsumeBytes(64))


def _tree(chosen: atheris.FuzzedDataProvider, depth: int) -> object:
    """Return any JSON, mostly an array as it travels."""
    few = range(chosen.ConsumeIntInRange(0, 3))
    match chosen.ConsumeIntInRange(0, 11):
        case 0:
            return None
        case 1:
            return chosen.ConsumeBool()
        case 2:
            return chosen.ConsumeInt(8)
        case 3:
            return chosen.ConsumeFloat()
        case 4:
            return chosen.ConsumeUnicodeNoSurrogates(20)
        case 5 if depth:
            return [_tree(chosen, depth - 1) for _ in few]
        case 6 if depth:
            keys = [chosen.PickValueInList(KEYS) for _ in few]
            return {key: _tree(chosen, depth - 1) for key in keys}
        case _:
            return pybase64.b64encode_as_string(file_of(chosen))


def _places(tree: object, at: tuple = ()) -> Iterator[tuple]:
    """Yield where the parts of a JSON tree are, itself included."""
    yield at
    items = tree.items() if isinstance(tree, dict) else ()
    for key, part in enumerate(tree) if isinstance(tree, list) else items:
        yield from _places(part, (*at, key))


def _put(tree: Any, at: tuple, part: object) -> object:
    """Return a copy of the tree with another part at a place."""
    if not at:
        return part
    copy = tree.copy()
    copy[at[0]] = _put(copy[at[0]], at[1:], part)
    return copy


# --- both ----------------------------------------------------------------------------


@frozen(eq=False)
class Target:
    """What is fuzzed, by the first byte of the data."""

    served: tuple[Served, ...]

    def __call__(self, data: bytes) -> None:
        kind, rest = data[:1], data[1:]
        match kind:
            case b"a":
                fuzz_array(rest)
            case b"b":
                fuzz_base64(rest)
            case b"h":
                fuzz_array(file_of(atheris.FuzzedDataProvider(rest)))
            case b"j":
                for served in self.served:
                    served.ask(rest)
            case b"o":
                for served in self.served:
                    served.ask_raw("obs" if served.model.acts else "inputs", rest)
            case b"r":
                number = rest[0] % len(self.served) if rest else 0
                chosen = atheris.FuzzedDataProvider(rest[1:])
                fuzz_raw(self.served[number], chosen)
            case _:
                number = int.from_bytes(kind or b"\0") % len(self.served)
                fuzz_request(self.served[number], atheris.FuzzedDataProvider(rest))

    def write_seeds(self, folder: Path) -> None:
        """Write what is right of each kind, to begin with."""
        file = npy.encode(np.arange(6, dtype="f4").reshape(2, 3))
        images = npy.encode(np.zeros((1, 6, 6, 3), "u1"))
        seeds = [
            b"o" + file,
            b"o" + images,
            b"a" + file,
            b"b" + pybase64.b64encode(file),
            b"h" + bytes(range(99)),
        ]
        for number, served in enumerate(self.served):
            seeds += [
                b"j" + msgspec.json.encode(served.whole),
                b"r" + bytes([number]) + bytes(range(200)),
                bytes([number]) + bytes(256),
                bytes([number]) + bytes(range(256)),
            ]
        for number, seed in enumerate(seeds):
            (folder / f"seed{number}").write_bytes(seed)


def main() -> None:
    warnings.simplefilter("error")  # a warning of NumPy would be a surprise too
    with tempfile.TemporaryDirectory() as scratch:
        bundles, seeds = Path(scratch) / "bundles", Path(scratch) / "seeds"
        seeds.mkdir()
        target = Target(tuple(Served.of(n, bundles / n) for n in EVERY_SHAPE))
        target.write_seeds(seeds)
        is_repeated = any(Path(word).is_file() for word in sys.argv[1:])
        atheris.Setup(sys.argv if is_repeated else [*sys.argv, str(seeds)], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
