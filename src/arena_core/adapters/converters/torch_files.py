"""What `torch.save` writes, read without torch and without running any of it.

A file is a zip archive: `<top>/data.pkl` is a pickle in which each storage is a
persistent id, `<top>/data/<key>` are the bytes of the storages, and `<top>/byteorder`
says how their numbers are written.  A tensor is an offset, sizes and strides over a
storage; all of them are checked before an array is laid over the bytes.
"""

from typing import Any

from arena_core.adapters.archives import Archive
from arena_core.adapters.converters import pickle_machine
from arena_core.adapters.converters.pickled_data import (
    CALLS,
    STATES,
    read_pickle,
)
from arena_core.adapters.converters.pickles import Global, Known, Malformed, Stub
from arena_core.adapters.converters.torch_tensors import Tensors
from arena_core.domain.errors import Rejected

__all__ = ["Global", "Stub", "read_pickle", "read_torch"]

_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number at the head of files from before torch 1.6."""


def read_torch(data: bytes) -> Any:  # noqa: ANN401
    """Return what `torch.save` has written into `data`.

    Tensors and parameters come out as read-only arrays (bfloat16 as float32), other
    objects as `read_pickle` says; tensors that are quantised, sparse or of other
    dtypes stay stubs.  Raises `Rejected` for what is damaged, made to harm, or written
    by something else, and `TooLarge`.
    """
    if data.startswith(_LEGACY):
        raise Rejected(
            "The file was saved in the format of torch before 1.6: load it with the "
            "code that trained it and save it again with a newer torch."
        )
    archive = Archive(data)
    top = _top(archive)
    tensors = Tensors(archive, top)
    known = Known({**CALLS, **tensors.calls()}, STATES)
    try:
        return pickle_machine.run(
            archive.read(f"{top}/data.pkl"), known, persistent=tensors.storage
        )
    except Malformed as problem:
        raise Rejected(f"The torch file {problem}: save it again.") from problem


def _top(archive: Archive) -> str:
    """Return the folder that all members lie in."""
    tops = {name.partition("/")[0] for name in archive.names}
    below = {name.partition("/")[2] for name in archive.names}
    if "constants.pkl" in below or any(name.startswith("code/") for name in below):
        raise Rejected(
            "The file is a TorchScript archive, which is code: export the model to "
            "ONNX and import that with the format onnx, or save it with "
            "torch.export.save and import that with the format torch."
        )
    if "archive_format" in below or "models/model.json" in below:
        raise Rejected(
            "The file is a program of torch.export: import it with the format torch."
        )
    if len(tops) != 1 or "data.pkl" not in below:
        raise Rejected("The file was not written by torch.save: give one that was.")
    return tops.pop()
