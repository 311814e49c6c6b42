"""The zip archive that `model.save` writes, opened without unpickling any of it.

Its member `data` is JSON in which the attributes of the model that JSON can't hold
are pickles in base64; `policy.pth` is the policy's state dict, as `torch.save` writes
it.  Optimisers have members of their own, which are not read.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import pybase64
from attrs import frozen

from arena_core.adapters.archives import Archive
from arena_core.adapters.converters.torch_files import read_pickle, read_torch
from arena_core.adapters.converters.weights import Weights
from arena_core.domain.errors import Rejected

_DATA, _POLICY = "data", "policy.pth"
_SYSTEM, _VERSION = "system_info.txt", "_stable_baselines3_version"
_LIBRARIES = ("Gymnasium", "Numpy", "PyTorch", "Python", "Stable-Baselines3")
_RELEASE = re.compile(r"[0-9][A-Za-z0-9.+_-]{0,39}", re.ASCII)


@frozen(eq=False)
class SavedModel:
    """What the archive says of a model."""

    weights: Weights
    versions: Mapping[str, str]
    """Releases of the libraries that wrote it, by name, as far as it says them."""
    _attributes: Mapping[str, Any]

    def attribute(self, name: str, default: object = None) -> Any:  # noqa: ANN401
        """Return an attribute of the model as plain data, globals and stubs."""
        value = self._attributes.get(name, default)
        if isinstance(value, dict) and ":serialized:" in value:
            return read_pickle(_base64(value[":serialized:"]))
        return value

    def __contains__(self, name: str) -> bool:
        return name in self._attributes


def read(data: bytes) -> SavedModel:
    """Return what the archive holds.  Raises `Rejected` if it is none of SB3's."""
    archive = Archive(data)
    if not {_DATA, _POLICY} <= set(archive.names):
        raise Rejected(
            "The file is no checkpoint of Stable-Baselines3: give the zip archive "
            "that model.save has written."
        )
    return SavedModel(
        Weights(read_torch(archive.read(_POLICY))),
        _versions(archive),
        _attributes(archive.read(_DATA)),
    )


def _attributes(data: bytes) -> Mapping[str, Any]:
    try:
        attributes = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged() from error
    if not isinstance(attributes, dict):
        raise _damaged()
    return attributes


def _base64(text: object) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise _damaged() from error


def _damaged() -> Rejected:
    return Rejected("The data in the checkpoint are damaged: save the model again.")


def _versions(archive: Archive) -> Mapping[str, str]:
    found = {}
    if _SYSTEM in archive.names:
        lines = archive.read(_SYSTEM).decode("utf-8", "replace").splitlines()
        pairs = (line.removeprefix("- ").partition(": ") for line in lines)
        found = {name: release for name, _, release in pairs}
    if _VERSION in archive.names:
        found["Stable-Baselines3"] = archive.read(_VERSION).decode("utf-8", "replace")
    return {
        name.lower(): found[name].strip()
        for name in _LIBRARIES
        if _RELEASE.fullmatch(found.get(name, "").strip())
    }
