"""An LSTM, one step at a time, as PyTorch's `nn.LSTM` computes it."""

from collections.abc import Sequence

from attrs import frozen

from arena_core.adapters.converters.activations import SIGMOID, TANH
from arena_core.adapters.converters.layers import (
    Add,
    Columns,
    Linear,
    Multiply,
    Stack,
    Take,
)
from arena_core.adapters.converters.networks import Value
from arena_core.application.ports import Array


@frozen(eq=False)
class Cell:
    """The weights of one layer with H units, for n inputs.

    Their rows are those of the input gate, the forget gate, the cell and the output
    gate, H each: (4H, n), (4H, H), (4H,) and (4H,).
    """

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array

    @property
    def size(self) -> int:
        """H, the number of units."""
        return len(self.weight_hh) // 4

    def __call__(self, x: Value, h: Value, c: Value) -> tuple[Value, Value]:
        """Return the next h, which is the output too, and the next c: (B, H) each."""
        size = self.size
        given = Linear(self.weight_ih, self.bias_ih)(x)
        kept = Linear(self.weight_hh, self.bias_hh)(h)
        gates = Add()(given, kept)
        i, f, g, o = (Columns(n * size, (n + 1) * size)(gates) for n in range(4))
        new = Multiply()(SIGMOID(i), TANH(g))
        c = Add()(Multiply()(SIGMOID(f), c), new)
        return Multiply()(SIGMOID(o), TANH(c)), c


def step(
    x: Value, h: Value, c: Value, cells: Sequence[Cell]
) -> tuple[Value, Value, Value]:
    """Return the output (B, H), and the next h and c: (B, layers, H) each."""
    states = []
    for index, cell in enumerate(cells):
        x, c_next = cell(x, Take(index)(h), Take(index)(c))
        states.append((x, c_next))
    hs, cs = zip(*states, strict=True)
    return x, Stack()(*hs), Stack()(*cs)
