"""The bodies of the Open Inference Protocol, version 2, with its binary extension.

A body is JSON, and behind it the bytes of those arrays whose `parameters` name a
`binary_data_size`, one after the other.  How long the JSON is says a header.
"""

from collections.abc import Iterator, Mapping, Sized
from typing import Any, NamedTuple, TypeAlias

import msgspec
from attrs import frozen

from arena_core.application import tensors
from arena_core.application.filenames import shown
from arena_core.application.inference import GREEDY, Choice
from arena_core.application.ports import Array
from arena_core.application.raw_arrays import MOST_NAMES
from arena_core.domain.errors import Rejected, TooLarge

Parameter: TypeAlias = str | int | float | bool
Parameters: TypeAlias = dict[str, Parameter] | None
SequenceId: TypeAlias = int | str

SIZE = "binary_data_size"
MOST_PARTS = 1_000_000
"""Of the JSON: its values and keys, about.  Each is many times larger once decoded."""
LONGEST_SEQUENCE_ID = 256
LONGEST_TIMEOUT_US = 86_400_000_000
_OF_OTHERS = ("shared_memory_region", "classification")
"""Parameters that ask for what is not offered, and change what would be answered."""
_NULL = b"null"


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = None
    data: msgspec.Raw = msgspec.Raw(_NULL)


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters = None


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters = None
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Body)


@frozen
class Sequence:
    """The place of a request in an episode whose memory the server keeps."""

    id: SequenceId
    start: bool = False
    end: bool = False


@frozen
class Wanted:
    """Which outputs are wanted, and how."""

    by_name: Mapping[str, bool] | None
    """Whether each is wanted as bytes; None: all there are."""
    binary: bool
    """Whether those that are not named are."""


@frozen(eq=False)
class InferRequest:
    """What a request says, whatever model it is for."""

    inputs: Mapping[str, Array]
    wanted: Wanted
    id: str | None = None
    sequence: Sequence | None = None
    choice: Choice = GREEDY
    timeout_s: float | None = None


class InferAnswer(NamedTuple):
    body: bytes
    json_bytes: int | None
    """How long the JSON is, where bytes of arrays are behind it."""


# --- requests ------------------------------------------------------------------------


def read(body: bytes, json_bytes: int | None = None) -> InferRequest:
    """Return what a request says.  Raises `Rejected`.

    `json_bytes`: how long its JSON is; None: there is nothing else.
    """
    length = len(body) if json_bytes is None else json_bytes
    if length > len(body):
        raise Rejected(
            f"The header Inference-Header-Content-Length says {length}, but the body "
            f"has {len(body)} bytes.",
            field="inference-header-content-length",
        )
    view = memoryview(body)
    said = _said(view[:length])
    parameters = said.parameters or {}
    return InferRequest(
        dict(_inputs(said.inputs, view[length:])),
        _wanted(said.outputs, _flag(parameters, "binary_data_output")),
        said.id,
        _sequence(parameters),
        _choice(parameters),
        _timeout_s(parameters),
    )


def _said(text: memoryview) -> _Body:
    plain = bytes(text)
    if sum(map(plain.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise TooLarge(
            f"The JSON has more than {MOST_PARTS} parts: send the data as bytes, with "
            f"{SIZE}."
        )
    try:
        return _decoder.decode(plain)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"The body does not fit: {error}.", field="body") from error


def _inputs(listed: list[_Input], rest: memoryview) -> Iterator[tuple[str, Array]]:
    """Yield each input by its name; all of `rest` must be one's."""
    _check_count(listed, "inputs")
    for name in _doubled([each.name for each in listed]):
        raise Rejected(f"The input {shown(name)} comes twice.", field="inputs")
    for each in listed:
        field = shown(each.name)
        size = _size(each, len(rest), field)
        yield each.name, _array(each, rest[: size or 0], field, is_json=size is None)
        rest = rest[size or 0 :]
    if rest:
        raise Rejected(
            f"The body has {len(rest)} bytes behind the last input: each must have "
            f"its {SIZE}.",
            field=SIZE,
        )


def _size(each: _Input, left: int, field: str) -> int | None:
    """Return how many bytes are the array; None: it is in the JSON."""
    parameters = each.parameters or {}
    _refuse_foreign(parameters, field)
    has_data = bytes(each.data) != _NULL
    if SIZE not in parameters:
        if not has_data:
            raise Rejected(f"The input {field} has no data.", field=field)
        return None
    size = parameters[SIZE]
    if has_data:
        raise Rejected(
            f"The input {field} has both data and a {SIZE}: leave one out.",
            field=field,
        )
    if type(size) is not int or not 0 <= size <= left:
        raise Rejected(
            f"The {SIZE} of {field} must be a whole number of bytes, and so many must "
            "be in the body behind the JSON.",
            field=field,
        )
    return size


def _array(each: _Input, data: memoryview, field: str, *, is_json: bool) -> Array:
    dtype = tensors.dtype(each.datatype, field=field)
    if is_json:
        return tensors.from_json(each.data, dtype, each.shape, field=field)
    return tensors.from_bytes(data, dtype, each.shape, field=field)


def _wanted(listed: list[_Output] | None, binary: bool) -> Wanted:  # noqa: FBT001 -- what the request says
    if not listed:
        return Wanted(None, binary)
    _check_count(listed, "outputs")
    for name in _doubled([each.name for each in listed]):
        raise Rejected(f"The output {shown(name)} is wanted twice.", field="outputs")
    by_name = {}
    for each in listed:
        parameters = each.parameters or {}
        _refuse_foreign(parameters, shown(each.name))
        by_name[each.name] = _flag(parameters, "binary_data", otherwise=binary)
    return Wanted(by_name, binary)


def _check_count(listed: Sized, field: str) -> None:
    if len(listed) > MOST_NAMES:
        raise Rejected(f"There are more than {MOST_NAMES} {field}.", field=field)


def _doubled(names: list[str]) -> Iterator[str]:
    return (name for place, name in enumerate(names) if name in names[:place])


def _refuse_foreign(parameters: Mapping[str, Parameter], field: str) -> None:
    for name in _OF_OTHERS:
        if name in parameters:
            raise Rejected(
                f"The parameter {name} of {field} is not supported: leave it out.",
                field=field,
            )


def _flag(
    parameters: Mapping[str, Parameter], name: str, *, otherwise: bool = False
) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise Rejected(f"The parameter {name} must be true or false.", field=name)
    return value


def _sequence(parameters: Mapping[str, Parameter]) -> Sequence | None:
    """Return the place in an episode; 0 and an empty text name none."""
    name = parameters.get("sequence_id", 0)
    is_number = type(name) is int and 0 <= name < 1 << 64
    is_text = isinstance(name, str) and len(name) <= LONGEST_SEQUENCE_ID
    start, end = (_flag(parameters, f"sequence_{what}") for what in ("start", "end"))
    if not (is_number or is_text):
        raise Rejected(
            "The sequence_id must be a whole number from 0 to 2^64 - 1, or a text of "
            f"at most {LONGEST_SEQUENCE_ID} characters.",
            field="sequence_id",
        )
    assert isinstance(name, int | str)  # noqa: S101 -- as has just been seen
    return Sequence(name, start, end) if name else None


def _choice(parameters: Mapping[str, Parameter]) -> Choice:
    if "mode" not in parameters and "seed" not in parameters:
        return GREEDY
    seed = parameters.get("seed")
    if not isinstance(seed, int | str | None):
        seed = str(seed)  # no whole number, and refused as such
    return Choice.of(str(parameters.get("mode", GREEDY.mode.value)), seed)


def _timeout_s(parameters: Mapping[str, Parameter]) -> float | None:
    timeout_us = parameters.get("timeout")
    if timeout_us is None:
        return None
    if type(timeout_us) is not int or not 0 < timeout_us <= LONGEST_TIMEOUT_US:
        raise Rejected(
            "The timeout must be a whole number of microseconds above 0, of a day at "
            "most.",
            field="timeout",
        )
    return timeout_us / 1e6


# --- answers -------------------------------------------------------------------------


def answer(
    arrays: Mapping[str, Array], request: InferRequest, model: str, version: str
) -> InferAnswer:
    """Return the body that answers `request` with those of `arrays` that it wants."""
    wanted = request.wanted
    by_name = wanted.by_name or dict.fromkeys(arrays, wanted.binary)
    outputs, blobs = [], []
    for name, binary in by_name.items():
        array = arrays[name]
        output: dict[str, Any] = {
            "name": name,
            "datatype": tensors.datatype(array.dtype),
            "shape": array.shape,
        }
        if binary:
            blobs.append(tensors.to_bytes(array))
            output["parameters"] = {SIZE: len(blobs[-1])}
        else:
            output["data"] = tensors.to_json(array)
        outputs.append(output)
    named = {} if request.id is None else {"id": request.id}
    whole = {"model_name": model, "model_version": version, **named, "outputs": outputs}
    head = msgspec.json.encode(whole)
    return InferAnswer(b"".join((head, *blobs)), len(head) if blobs else None)
