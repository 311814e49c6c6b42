"""What a torch.export archive must not hold, and how it becomes one that is served.

What is served is the plain form, which `strip` makes of what `torch.export.save`
writes: a zip archive of a program in JSON, of numbers, and of nothing else.  Torch
itself loads it too.
"""

import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import TypeVar

import msgspec
from attrs import frozen

from arena_core.adapters.archives import Archive, Limits
from arena_core.adapters.runtimes.torch_programs import plain, schema
from arena_core.adapters.runtimes.torch_programs.programs import (
    Program,
    Stored,
    item_bytes,
    stored,
    understand,
)
from arena_core.application import strict_json
from arena_core.application.filenames import shown
from arena_core.domain.errors import Rejected

LARGEST_BYTES = 2**31
MOST_LEVELS = 32

_PROGRAM = "models/model.json"
_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
_SAMPLES = "data/sample_inputs/model.pt"
"""A pickle.  Torch takes an empty one for none, and fails if there is no such file."""
_MARKS: Mapping[str, bytes] = {
    "archive_format": b"pt2",
    "archive_version": b"0",
    "byteorder": b"little",
    ".data/version": b"6\n",
}
"""What these files hold, in every archive of torch 2.11 to 2.13."""
_NOTES = (".data/serialization_id", "extra/")
_ARRAY = re.compile(r"data/(weights/weight|constants/tensor)_[0-9]{1,9}")
_FOLDERS = {"weight": "data/weights/", "tensor": "data/constants/"}
_ROOT = "archive/"
_EPOCH = (1980, 1, 1, 0, 0, 0)

T = TypeVar("T")


@frozen(eq=False)
class Checked:
    """A program that is safe to run, and the bytes that its arrays lie over."""

    program: Program
    places: Mapping[str, bytes]
    """By `weight_<i>` or `tensor_<i>`."""


@frozen
class _Parts:
    exported: schema.Exported
    weights: schema.Payloads
    constants: schema.Payloads

    @property
    def payloads(self) -> Iterator[schema.Payload]:
        yield from self.weights.config.values()
        yield from self.constants.config.values()

    @property
    def plain(self) -> "_Parts":
        """The same without notes, and as if it had been exported on the CPU."""
        return _Parts(
            plain.program(self.exported),
            plain.payloads(self.weights),
            plain.payloads(self.constants),
        )


def read(archive: bytes, *, largest_bytes: int = LARGEST_BYTES) -> Checked:
    """Return what the archive, which must be of the plain form, holds.

    Raises `Rejected` for anything in it that is neither a number nor a call of an
    operator that is served: pickles, compiled code, text that torch would evaluate.
    """
    files = _files(archive, largest_bytes)
    parts = _parts(files)
    checked = _checked(files, parts)
    known = {_path(place) for place in checked.places}
    if (
        files.keys() != {*known, *_MARKS, _PROGRAM, _WEIGHTS, _CONSTANTS, _SAMPLES}
        or files[_SAMPLES]
        or parts != parts.plain
    ):
        raise Rejected(
            "The weights are as torch.export.save wrote them, with a pickle in them: "
            "import them with arena-core checkpoint import --from torch, which takes "
            "it out.",
            field="weights",
        )
    return checked


def strip(archive: bytes, *, largest_bytes: int = LARGEST_BYTES) -> bytes:
    """Return the plain form of what `torch.export.save` has written.

    Left out are the sample inputs, a pickle that nobody opens, and notes, such as the
    lines of source that each call comes from.  The same program gives the same bytes.
    Raises `Rejected` for what the plain form cannot hold.
    """
    files = _files(archive, largest_bytes)
    parts = _parts(files).plain
    checked = _checked(files, parts)
    return _packed(
        {
            **_MARKS,
            **{_path(place): content for place, content in checked.places.items()},
            _PROGRAM: msgspec.json.encode(parts.exported),
            _WEIGHTS: msgspec.json.encode(parts.weights),
            _CONSTANTS: msgspec.json.encode(parts.constants),
            _SAMPLES: b"",
        }
    )


def _packed(files: Mapping[str, bytes]) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            member = zipfile.ZipInfo(_ROOT + name, _EPOCH)
            member.create_system = 3  # Unix, wherever it is written
            archive.writestr(member, content)
    return stream.getvalue()


# --- the files -------------------------------------------------------------------


def _files(data: bytes, largest_bytes: int) -> dict[str, bytes]:
    """Return the files by their names below the archive's only folder."""
    archive = Archive(data, Limits(total_bytes=largest_bytes))
    roots = {name.partition("/")[0] for name in archive.names}
    names = {name.partition("/")[2]: name for name in archive.names}
    if len(roots) != 1 or not {*_MARKS, _PROGRAM, _WEIGHTS, _CONSTANTS} <= names.keys():
        raise Rejected(
            "The weights are no archive of one program: save it with "
            "torch.export.save of torch 2.11 to 2.13.",
            field="weights",
        )
    for name in names:
        _check_name(name)
    files = {name: archive.read(member) for name, member in names.items()}
    for name, content in _MARKS.items():
        if files[name] != content:
            raise Rejected(
                f"The weights have an unusual {name}: save them with torch.export.save "
                "of torch 2.11 to 2.13, on a little-endian machine.",
                field="weights",
            )
    return files


def _check_name(name: str) -> None:
    """Refuse compiled code, pickled objects, other programs, and the unknown."""
    known = name in {*_MARKS, _PROGRAM, _WEIGHTS, _CONSTANTS, _SAMPLES}
    if not known and not name.startswith(_NOTES) and not _ARRAY.fullmatch(name):
        raise Rejected(
            f"The weights hold {shown(name)}, which may be code or a pickle: save one "
            "program, of arrays only, with torch.export.save.",
            field="weights",
        )


def _path(place: str) -> str:
    return _FOLDERS[place.partition("_")[0]] + place


def _parts(files: Mapping[str, bytes]) -> _Parts:
    try:
        return _Parts(
            _read(files[_PROGRAM], schema.Exported),
            _read(files[_WEIGHTS], schema.Payloads),
            _read(files[_CONSTANTS], schema.Payloads),
        )
    except Rejected as error:
        raise Rejected(
            f"The weights hold what is not served, in their {error.field or 'JSON'}: "
            "export a module that takes and returns arrays only.",
            field="weights",
        ) from error


def _read(content: bytes, form: type[T]) -> T:
    return strict_json.convert(
        strict_json.decode(content, most_levels=MOST_LEVELS), form
    )


# --- the numbers -----------------------------------------------------------------


def _checked(files: Mapping[str, bytes], parts: _Parts) -> Checked:
    program = understand(parts.exported, parts.weights, parts.constants)
    dtypes: dict[str, str] = {}
    for array in map(stored, parts.payloads):
        content = files.get(_path(array.place))
        if content is None or not _lies_within(array, len(content)):
            raise _beyond(array)
        if dtypes.setdefault(array.place, array.dtype) != array.dtype:
            raise _beyond(array)
    return Checked(program, {place: files[_path(place)] for place in dtypes})


def _lies_within(array: Stored, size: int) -> bool:
    """Say whether every element is one of the `size` bytes."""
    width = item_bytes(array.dtype)
    elements = math.prod(array.shape)
    if size % width or elements * width > LARGEST_BYTES:
        return False
    reach = sum(
        (n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)
    )
    return elements == 0 or (array.offset + reach + 1) * width <= size


def _beyond(array: Stored) -> Rejected:
    return Rejected(
        f"The weights have an array that does not lie in its file, {array.place}: "
        "save them again with torch.export.save.",
        field="weights",
    )
