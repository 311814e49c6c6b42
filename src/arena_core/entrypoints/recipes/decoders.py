"""Decoders: the part of a trained checkpoint behind its latent vector, frozen.

It is cut out of the weights as they are; not one number of it is ever changed.
"""

import numpy as np
from attrs import frozen

from arena_core.adapters.runtimes.onnx import OnnxLoader, OnnxRuntime
from arena_core.application.ports import Array, Device
from arena_core.domain.checkpoint import Signature, TensorSpec
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family
from arena_core.entrypoints.recipes.datasets import Dataset
from arena_core.entrypoints.recipes.trained_bundles import LATENT, Bundle, digest_of

_VECTOR = 2
"""Axes of a batch of vectors."""
_ROUNDING = 1e-3


@frozen(eq=False)
class Decoder:
    """What makes an answer of a latent vector."""

    weights: bytes
    signature: Signature
    runtime: OnnxRuntime
    classes: tuple[str, ...]
    """What it was trained to tell apart, if that is known."""

    @property
    def sha256(self) -> str:
        return digest_of(self.weights)

    @property
    def latent_dim(self) -> int:
        return int(self.signature.inputs[0].shape[1] or 0)

    def __call__(self, latent: Array) -> Array:
        """Return the answers, (B, width), for latent vectors (B, latent_dim)."""
        given = {self.signature.inputs[0].name: latent.astype(np.float32)}
        return self.runtime.run(given)[self.signature.outputs[0].name]

    def check_answers(self, dataset: Dataset) -> None:
        """Raise `Rejected` unless it answers what the dataset asks."""
        answers = self(np.zeros((2, self.latent_dim), np.float32))
        if answers.shape[1:] != (dataset.width,):
            raise _refused(
                f"it answers with {answers.shape[1:]} numbers, and the dataset asks "
                f"for {dataset.width}: train both on datasets of the same classes"
            )
        if self.classes and self.classes != dataset.classes:
            raise _refused(
                "it tells other classes apart than those of the dataset: train both "
                "on datasets of the same classes"
            )
        adds_up = np.allclose(answers.sum(axis=1), 1, atol=_ROUNDING)
        if dataset.classes and not (adds_up and (answers >= 0).all()):
            raise _refused(
                "it does not answer with the probability of each class: use one that "
                "the recipe supervised has trained"
            )


def decoder_of(bundle: Bundle) -> Decoder:
    """Return the decoder in a bundle: a part of its weights, or a file of its own.

    Raises `Rejected` if there is none.
    """
    own = bundle.manifest.decoder
    if own is None:
        weights, signature = _cut(bundle)
    else:
        weights = (bundle.folder / own.weights).read_bytes()
        signature = own.signature
    if len(signature.inputs[0].shape) != _VECTOR or not signature.inputs[0].shape[1]:
        raise _refused("its latent tensor is no vector of a fixed width")
    task = bundle.provenance.get("dataset", {})
    classes = task.get("classes", []) if isinstance(task, dict) else []
    runtime = OnnxLoader(Device.CPU)(signature, weights)
    return Decoder(weights, signature, runtime, tuple(map(str, classes)))


def _cut(bundle: Bundle) -> tuple[bytes, Signature]:
    """Return the part of the weights behind the latent vector."""
    from onnx.utils import Extractor  # noqa: PLC0415 -- slow to import

    if bundle.manifest.family is not Family.SUPERVISED:
        raise _refused(
            f"it is of the family {bundle.manifest.family.value}: use a checkpoint of "
            "Supervised or of LatentPPO"
        )
    policy = bundle.manifest.policy
    model = bundle.model(policy.weights)
    if not any(LATENT in node.output for node in model.graph.node):
        raise _refused(
            f"no tensor of its weights is called {LATENT}: export it with that name "
            "for the vector that a policy shall choose, or train it with the recipe "
            "supervised"
        )
    answer = policy.signature.outputs[0]
    try:
        cut = Extractor(model).extract_model([LATENT], [answer.name])
        latent = cut.graph.input[0].type.tensor_type.shape.dim
    except (
        Exception
    ) as error:  # onnx raises of every kind for graphs that it cannot cut
        raise _refused("it cannot be cut at its latent tensor") from error
    width = latent[1].dim_value if len(latent) == _VECTOR else 0
    spec = TensorSpec(LATENT, "float32", (None, width or None))
    weights: bytes = cut.SerializeToString(deterministic=True)
    return weights, Signature((spec,), (answer,))


def _refused(problem: str) -> Rejected:
    return Rejected(
        f"The checkpoint cannot be a decoder, for {problem}.", field="decoder"
    )
