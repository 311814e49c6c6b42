"""Programs with their arrays in torch, ready to run.

Torch is handed in, for it may be missing.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from attrs import frozen

from arena_core.adapters.runtimes.torch_programs.calls import (
    Argument,
    Call,
    DType,
    MemoryFormat,
    Setting,
    Value,
)
from arena_core.adapters.runtimes.torch_programs.operators import ARITHMETIC, ATEN
from arena_core.adapters.runtimes.torch_programs.programs import Program, Stored
from arena_core.application.ports import Array

FAILURES = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What torch raises for arguments that do not go with an operator."""


@frozen(eq=False)
class _Step:
    """A call, with what torch has for its operator."""

    operate: Callable[..., Any]
    constants: Mapping[str, Any]
    values: Mapping[str, Argument]
    """The arguments that hold values, to be looked up."""
    call: Call

    def run(self, made: dict[str, Any]) -> None:
        """Take values from `made`, and put there what comes of them."""
        values = {name: _looked_up(it, made) for name, it in self.values.items()}
        result = self.operate(**self.constants, **values)
        parts = result if self.call.returns_several else (result,)
        named = zip(self.call.names, parts, strict=True)
        made.update((name, part) for name, part in named if name is not None)


@frozen(eq=False)
class LoadedProgram:
    """A program, with its arrays on the device.  Safe to call from several threads."""

    torch: Any
    device: str
    program: Program
    arrays: Mapping[str, Any]
    steps: tuple[_Step, ...]

    @classmethod
    def of(
        cls,
        program: Program,
        places: Mapping[str, bytes],
        torch: Any,  # noqa: ANN401
        device: str,
    ) -> "LoadedProgram":
        """Load `program`, whose arrays lie over `places`.  Raises `FAILURES`."""
        buffers = {place: bytearray(it) for place, it in places.items()}
        return cls(
            torch,
            device,
            program,
            {
                name: _array(torch, stored, buffers[stored.place]).to(device)
                for name, stored in program.stored.items()
            },
            tuple(_step(torch, device, call) for call in program.calls),
        )

    def run(self, arrays: Iterable[Array]) -> list[Array]:
        """Return the outputs, in memory of their own."""
        made = dict(self.arrays)
        with self.torch.inference_mode():
            for spec, array in zip(self.program.inputs, arrays, strict=True):
                # Copied: torch takes no notice of what is read-only but a warning.
                tensor = self.torch.from_numpy(np.array(array, order="C"))
                made[spec.name] = tensor.to(self.device)
            for step in self.steps:
                step.run(made)
            answers = [made[spec.name] for spec in self.program.outputs]
            return [np.array(answer.cpu().numpy(), order="C") for answer in answers]


def _array(torch: Any, stored: Stored, buffer: bytearray) -> Any:  # noqa: ANN401
    """Return the array, whose elements are known to lie in the buffer."""
    dtype = getattr(torch, stored.dtype)
    if not buffer:
        return torch.zeros(stored.shape, dtype=dtype)
    flat = torch.frombuffer(buffer, dtype=dtype)
    return flat.as_strided(stored.shape, stored.strides, stored.offset)


def _step(torch: Any, device: str, call: Call) -> _Step:  # noqa: ANN401
    values = {name: it for name, it in call.arguments.items() if _has_value(it)}
    constants = {
        name: _constant(torch, device, it)
        for name, it in call.arguments.items()
        if name not in values
    }
    return _Step(_operator(torch, call), constants, values, call)


def _operator(torch: Any, call: Call) -> Callable[..., Any]:  # noqa: ANN401
    """Return what is called; only names that are served come here."""
    if call.operator in ARITHMETIC:
        compute, names = ARITHMETIC[call.operator], list(call.arguments)
        return lambda **lengths: compute(*(lengths[name] for name in names))
    packet, _, overload = call.operator.removeprefix(ATEN).partition(".")
    operate: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), overload)
    return operate


def _has_value(argument: Argument) -> bool:
    if isinstance(argument, list):
        return any(isinstance(part, Value) for part in argument)
    return isinstance(argument, Value)


def _looked_up(argument: Argument, made: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(argument, list):
        return [_looked_up(part, made) for part in argument]
    return made[argument.name] if isinstance(argument, Value) else argument


def _constant(torch: Any, device: str, argument: Argument) -> Any:  # noqa: ANN401
    match argument:
        case DType(name) | MemoryFormat(name):
            return getattr(torch, name)
        case Setting.DEVICE:
            return torch.device(device)
        case Setting.LAYOUT:
            return torch.strided
        case _:
            return argument
