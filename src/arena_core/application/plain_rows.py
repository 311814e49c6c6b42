"""Plain requests: greedy, with one array of the very dtype and shape of the space.

Most requests to most policies are plain.  Their rows are not made arrays one request
at a time: bytes are joined, checked and run together.  Whatever is not plain, or not
right, is left to `inference`, which says what is wrong.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
from attrs import field, frozen

from arena_core.application import npy, observations
from arena_core.application.heads import MASK
from arena_core.application.inference import (
    Answer,
    Watch,
    one_by_one_if_need_be,
)
from arena_core.application.models import NOTHING, SINGLE, Acted, Model, Turn
from arena_core.application.ports import Array
from arena_core.application.raw_arrays import Names, RawAnswer
from arena_core.application.spaces import scores
from arena_core.domain.checkpoint import Box, Discrete, MultiBinary, MultiDiscrete
from arena_core.domain.errors import Rejected

MOST_HEADERS = 1024
MOST_ANSWERS = 4096
_OBS: Names = ("obs",)


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a `get_action` request that may be plain."""

    obs: str
    batch_size: int | None = None
    action_mask: str | None = None
    hidden_state: None = None
    env_defined_actions: None = None


class PlainCall(NamedTuple):
    """A plain request, read."""

    rows: int
    data: bytes
    """The elements of all rows, in C order."""
    mask: Array | None
    is_raw: bool
    """Whether it came, and is answered, in the binary form."""


_decode = msgspec.json.Decoder(_Request).decode


@frozen(eq=False)
class PlainRows:
    """How one model reads and answers plain requests.  For one thread at a time."""

    model: Model
    space: Box
    dtype: np.dtype[Any]
    row_bytes: int
    _shape: tuple[int, ...]
    _is_float: bool
    _rows_of: dict[bytes, int] = field(factory=dict)
    """The number of rows by the header of the array; 0: it is not plain."""
    _encoded: dict[int, bytes] = field(factory=dict)
    """The JSON of one action, by its number."""

    @classmethod
    def of(cls, model: Model) -> "PlainRows | None":
        """Return it, or None if requests to the model are never plain."""
        manifest = model.manifest
        if not model.acts or manifest.is_multi_agent or manifest.is_recurrent:
            return None
        space = model.single.policy.observation_space
        if not isinstance(space, Box):
            return None
        dtype = np.dtype(space.dtype)
        row_bytes = dtype.itemsize * int(np.prod(space.shape, dtype=np.int64))
        if not row_bytes or dtype.kind == "b":  # not every byte is a boolean
            return None
        shape = (-1, *space.shape)
        return cls(model, space, dtype, row_bytes, shape, dtype.kind == "f")

    def read(self, body: bytes) -> PlainCall | None:
        """Return what a JSON body asks; None if it is not plain."""
        try:
            request = _decode(body)
        except ValueError:
            return None
        data = npy.bytes_of(request.obs)
        rows = self._rows(data)
        if rows == 0 or request.batch_size not in (None, rows):
            return None
        mask = None
        if request.action_mask is not None:
            mask = self._mask(request.action_mask, rows)
            if mask is None:
                return None
        return PlainCall(rows, data[-rows * self.row_bytes :], mask, is_raw=False)

    def read_raw(self, body: bytes) -> PlainCall | None:
        """Return what one raw array asks; None if it is not plain."""
        rows = self._rows(body)
        if rows == 0:
            return None
        return PlainCall(rows, body[-rows * self.row_bytes :], None, is_raw=True)

    def answer(self, calls: Sequence[PlainCall], watch: Watch) -> list[Answer]:
        """Answer several at once; one that cannot be answered spoils no other."""
        return one_by_one_if_need_be(partial(self._answer, watch), calls)

    def _answer(self, watch: Watch, calls: Sequence[PlainCall]) -> list[Answer]:
        actions = self._act(calls, watch)
        is_counted = actions.ndim == 1 and actions.dtype.kind in "iu"
        if is_counted and len(actions) == len(calls):
            return self._single_actions(calls, actions)
        answers: list[Answer] = []
        begin = 0
        for call in calls:
            own = actions[begin : begin + call.rows]
            begin += call.rows
            answers.append(_encode(own, is_raw=call.is_raw))
        return answers

    def _act(self, calls: Sequence[PlainCall], watch: Watch) -> Array:
        policy = self.model.single
        assert policy.head is not None  # noqa: S101 -- policies of the family rl act
        data = calls[0].data if len(calls) == 1 else b"".join([c.data for c in calls])
        array: Array = np.frombuffer(data, self.dtype).reshape(self._shape)
        if self._is_float and 0 in np.isfinite(array).tobytes():
            observations.conform(array, self.space, field="obs")  # says what is wrong
        observed = {"": array}
        outputs = policy.run(observed, NOTHING)
        legal = self._legal(calls, len(array))
        actions = policy.head.choose(outputs, legal, None)
        watch(
            {SINGLE: Turn(observed, len(array), legal)},
            {SINGLE: Acted(actions, outputs)},
        )
        return actions

    def _single_actions(
        self, calls: Sequence[PlainCall], actions: Array
    ) -> list[Answer]:
        """Answer calls of one row each with actions that are whole numbers."""
        answers: list[Answer] = []
        for call, (place, action) in zip(
            calls, enumerate(actions.tolist()), strict=True
        ):
            encoded = None if call.is_raw else self._encoded.get(action)
            if encoded is None:
                made = _encode(actions[place : place + 1], is_raw=call.is_raw)
                if isinstance(made, bytes) and len(self._encoded) < MOST_ANSWERS:
                    self._encoded[action] = made
                answers.append(made)
            else:
                answers.append(encoded)
        return answers

    def _rows(self, data: bytes) -> int:
        """Return how many plain rows a `.npy` file holds; 0 if it holds no such."""
        end = 10 + int.from_bytes(data[8:10], "little")
        if end > npy.MAX_HEADER_BYTES:
            return 0
        head = data[:end]
        rows = self._rows_of.get(head)
        if rows is None:
            rows = self._understood(head)
            if len(self._rows_of) >= MOST_HEADERS:
                self._rows_of.clear()
            self._rows_of[head] = rows
        return rows if len(data) - end == rows * self.row_bytes else 0

    def _understood(self, head: bytes) -> int:
        layout = npy.peek(head)
        if layout is None or layout.dtype != self.dtype or layout.order != "C":
            return 0
        fits = layout.shape[1:] == self.space.shape and layout.shape != ()
        return layout.shape[0] if fits and self._is_allowed(layout.shape[0]) else 0

    def _is_allowed(self, rows: int) -> bool:
        return rows <= min(self.model.single.most_rows, observations.MAX_ROWS)

    def _mask(self, text: str, rows: int) -> Array | None:
        policy = self.model.single
        assert policy.head is not None  # noqa: S101 -- policies of the family rl act
        try:
            mask = npy.from_base64(text, field=MASK)
            return (
                policy.head.legal(mask, field=MASK)
                if mask.shape[:1] == (rows,)
                else None
            )
        except Rejected:
            return None

    def _legal(self, calls: Sequence[PlainCall], rows: int) -> Array | None:
        """Return the masks of all rows; where there is none, everything is legal."""
        if not [call for call in calls if call.mask is not None]:
            return None
        space = self.model.single.action_space
        assert isinstance(space, Discrete | MultiDiscrete | MultiBinary)  # noqa: S101 -- what has a mask
        legal = np.ones((rows, *scores(space)), bool)
        begin = 0
        for call in calls:
            if call.mask is not None:
                legal[begin : begin + call.rows] = call.mask
            begin += call.rows
        return legal


def _encode(actions: Array, *, is_raw: bool) -> bytes | RawAnswer:
    if is_raw:
        return RawAnswer(npy.encode(actions), "action")
    return b'{"action":"%b"}' % npy.to_base64(actions).encode()
