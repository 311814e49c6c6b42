"""Writing what the recipes on datasets train as bundles, and reading them again."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

import arena_core
from arena_core.application import golden, manifests
from arena_core.application.bundles import MANIFEST_FILE
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.errors import ArenaError, Rejected
from arena_core.entrypoints.recipes.sequences import Shapes

if TYPE_CHECKING:
    import onnx

GOLDEN_BATCHES = (1, 7)
DECODER_FILE, POLICY_FILE = "decoder.onnx", "policy.onnx"
LATENT = "latent"


@frozen(eq=False)
class Trained:
    """What goes into a bundle, beside where it comes from."""

    algorithm: str
    family: str
    weights: Mapping[str, bytes]
    """By file name; the first answers."""
    parts: Mapping[str, Any]
    """What `checkpoint.json` says of weights and signatures."""
    provenance: Mapping[str, Any]
    packages: Sequence[str]
    """Whose versions are written down, beside torch's."""


def write(
    folder: Path,
    trained: Trained,
    rows: Array,
    answer: Callable[[Array], dict[str, Array]],
) -> None:
    """Write the bundle into `folder`: the same bytes for the same training.

    `answer`: what training's own code answers, as the golden trace has it, recorded
    for some of `rows`.
    """
    text = json.dumps(_manifest(trained), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
    for name, content in trained.weights.items():
        (folder / name).write_bytes(content)
    trace = golden.write(_trace(rows, answer))
    (folder / golden.FILE).write_bytes(trace)


def signature(inputs: Shapes, outputs: Shapes) -> dict[str, Any]:
    """Return the signature of weights as `checkpoint.json` has it."""
    return {"inputs": _tensors(inputs), "outputs": _tensors(outputs)}


def _tensors(shapes: Shapes) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": "float32", "shape": [None, *shape]}
        for name, shape in shapes.items()
    ]


def _manifest(trained: Trained) -> dict[str, Any]:
    names = ("numpy", "onnx", "torch", *trained.packages)
    return {
        "format_version": manifests.FORMAT_VERSION,
        "algorithm": trained.algorithm,
        "family": trained.family,
        "framework": {"name": "torch", "version": version("torch")},
        **trained.parts,
        "provenance": {
            **trained.provenance,
            "versions": {
                "arena-core": arena_core.__version__,
                "python": platform.python_version(),
                **{name: version(name) for name in names},
            },
        },
    }


def _trace(rows: Array, answer: Callable[[Array], dict[str, Array]]) -> GoldenTrace:
    cases, begin = [], 0
    for number, size in enumerate(GOLDEN_BATCHES):
        batch = np.ascontiguousarray(rows[begin : begin + size])
        cases.append(Case(f"case{number}", (Step({"inputs": batch, **answer(batch)}),)))
        begin += size
    return GoldenTrace(tuple(cases))


# --- reading -----------------------------------------------------------------------


@frozen(eq=False)
class Bundle:
    """A bundle that was checked when it was kept, laid out for a training."""

    folder: Path
    manifest: Manifest
    provenance: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, *, field: str) -> "Bundle":
        """Return the bundle.  Raises `Rejected`, naming `field`, if it cannot be."""
        try:
            data = (folder / MANIFEST_FILE).read_bytes()
            manifest = manifests.parse(data)
        except (OSError, ArenaError) as error:
            raise Rejected(
                f"The checkpoint given as {field} cannot be read: give a bundle.",
                field=field,
            ) from error
        return cls(folder, manifest, json.loads(data).get("provenance", {}))

    def model(self, name: str) -> "onnx.ModelProto":
        """Return the weights in the file `name`.  Raises `Rejected` for no ONNX."""
        import onnx  # noqa: PLC0415 -- slow to import

        if Path(name).suffix != ".onnx":
            raise Rejected(
                "The weights to begin with are no ONNX: use a checkpoint that this "
                "recipe has trained.",
                field="start",
            )
        return onnx.load(self.folder / name)


def digest_of(weights: bytes) -> str:
    return sha256(weights).hexdigest()
