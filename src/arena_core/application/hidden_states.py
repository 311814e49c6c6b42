"""What a recurrent policy hands from a step to the next, as callers carry it.

On the wire it is an object: one array for each hidden state, and one that says which
checkpoint made it, row by row.  Callers hand it back as it is; all arrays have the
batch as their first axis, so that rows can be taken, mixed and reset by zeros.
"""

from collections.abc import Mapping

import numpy as np
from attrs import frozen

from arena_core.application.observations import Decode, laid_out
from arena_core.application.ports import Array, Tensors
from arena_core.domain.checkpoint import Policy, TensorSpec
from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.ids import Digest

MAKER = "_checkpoint"
"""The key of the array (B, 32), uint8, with the digest of the checkpoint."""


@frozen(eq=False)
class Memory:
    """The hidden states of one policy of one checkpoint."""

    _maker: Array
    _inputs: Mapping[str, TensorSpec]
    _outputs: Mapping[str, str]
    """The output of each input."""

    @classmethod
    def of(cls, policy: Policy, digest: Digest) -> "Memory":
        specs = {spec.name: spec for spec in policy.signature.inputs}
        return cls(
            np.frombuffer(bytes.fromhex(digest), np.uint8),
            {state.input: specs[state.input] for state in policy.hidden_states},
            {state.input: state.output for state in policy.hidden_states},
        )

    @property
    def is_kept(self) -> bool:
        return bool(self._inputs)

    def beginning(self, rows: int) -> dict[str, Array]:
        """Return the hidden state of `rows` episodes that have not begun: zeros."""
        return {
            name: np.zeros((rows, *_fixed(spec)), spec.dtype)
            for name, spec in self._inputs.items()
        }

    def recall(
        self,
        tree: object,
        rows: int,
        decode: Decode,
        *,
        field: str,
    ) -> dict[str, Array]:
        """Return the arrays for the weights of what a caller has handed back.

        None is the beginning.  Raises `Rejected` for what this checkpoint never
        made, `Conflict` for what another one has made.
        """
        if tree is None:
            return self.beginning(rows)
        if not isinstance(tree, dict) or tree.keys() != {MAKER, *self._inputs}:
            raise Rejected(
                f"The {field} must be handed back as it was answered, or be null at "
                "the beginning of an episode.",
                field=field,
            )
        states = {
            name: _state(decode(tree[name], field), spec, rows, field)
            for name, spec in self._inputs.items()
        }
        self._check_maker(decode(tree[MAKER], field), states, rows, field)
        return states

    def carry(self, outputs: Tensors) -> dict[str, Array]:
        """Return what callers are to hand back, of what the weights have answered."""
        kept = {name: outputs[output] for name, output in self._outputs.items()}
        rows = len(next(iter(kept.values())))
        return {**kept, MAKER: np.tile(self._maker, (rows, 1))}

    def _check_maker(
        self, maker: Array, states: Tensors, rows: int, field: str
    ) -> None:
        """Refuse rows of another checkpoint; zeros throughout are a beginning."""
        if maker.shape != (rows, len(self._maker)) or maker.dtype.kind not in "iuf":
            raise Rejected(
                f"The {field} must have {rows} rows, like the observations.",
                field=field,
            )
        foreign = (maker != self._maker).any(axis=1)
        if not foreign.any():
            return
        parts = [part.reshape(rows, -1) for part in (maker, *states.values())]
        begun = np.any([part.any(axis=1) for part in parts], axis=0)
        for row in np.flatnonzero(foreign & begun)[:1]:
            raise Conflict(
                f"The {field} of row {row} was made by other weights than those "
                "that answer now: begin the episode anew, with null."
            )


def _fixed(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size for size in spec.shape[1:] if size is not None)


def _state(array: Array, spec: TensorSpec, rows: int, field: str) -> Array:
    dtype = np.dtype(spec.dtype)
    is_close = array.dtype == dtype or array.dtype.kind == dtype.kind == "f"
    if array.shape != (rows, *_fixed(spec)) or not is_close:
        raise Rejected(
            f"The {field} has an array that this policy did not make: hand back what "
            "was answered.",
            field=field,
        )
    with np.errstate(all="ignore"):
        state = laid_out(array, dtype)
    if not np.isfinite(state).all():
        raise Rejected(f"The {field} has a number that is not finite.", field=field)
    return state
