"""Pickles read as data: what a pickle would call is never even looked up.

`pickle` imports and calls whatever its input names.  This machine runs the same
opcodes on lists, dicts and numbers, and leads a name to code only through the table
that it is given, `Known`.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from arena_core.adapters.converters.pickled_containers import (
    append,
    entries,
    key,
    put,
)
from arena_core.adapters.converters.pickles import (
    UNKNOWN,
    Global,
    Known,
    Malformed,
    Stub,
)

MOST_OPCODES = 2_000_000
MOST_INTEGER_BITS = 1024
MOST_COPIED = 1 << 28
"""Elements, characters and bytes in the arguments of calls, all in all."""


def run(
    data: bytes, known: Known, persistent: Callable[[Any], Any] | None = None
) -> Any:  # noqa: ANN401
    """Return what the pickle `data` describes, or raise `Malformed`.

    Lists, deques: `list`; dicts of all kinds: `dict`; attributes that were set on
    them are left out.  `persistent` makes objects of persistent ids.
    """
    machine = _Machine(known, persistent)
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if count > MOST_OPCODES:
                raise Malformed(f"has more than {MOST_OPCODES} instructions")
            if opcode.name == "STOP":
                if data[(position or 0) + 1 :]:
                    raise Malformed("goes on behind its end")
                return machine.result()
            machine.step(opcode.name, argument)
    except (ValueError, DeprecationWarning) as error:  # of a wrong escape in a text
        raise Malformed("is damaged, or no pickle") from error
    raise Malformed("has no end")


_PUSHED = frozenset({
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "FLOAT", "BINFLOAT",
})  # fmt: skip
_INTEGERS = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
})  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_IGNORED = frozenset({"PROTO", "FRAME"})
_SIZED = (str, bytes, bytearray, list, tuple, set, frozenset, dict)
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _Machine:
    """The stack, the marks on it, and the memo."""

    def __init__(self, known: Known, persistent: Callable[[Any], Any] | None) -> None:
        self._known = known
        self._persistent = persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0
        self._kept: dict[int, int] = {}
        """Where in the memo an object was put last, by its `id`."""

    def result(self) -> Any:  # noqa: ANN401
        value = self._pop()
        if self._stack or self._below:
            raise Malformed("leaves something over")
        return value

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _INTEGERS:
            self._stack.append(_integer(argument))
        elif name in _PUTS:
            self._put(argument)
        elif name in _GETS:
            self._get(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._stack.append(
                tuple(reversed([self._pop() for _ in range(_TUPLES[name])]))
            )
        elif name not in _IGNORED:
            self._act(name, argument)

    def _act(self, name: str, argument: Any) -> None:  # noqa: ANN401
        match name:
            case "MARK":
                self._below.append(self._stack)
                self._stack = []
            case "MEMOIZE":
                self._put(len(self._memo))
            case "POP":
                self._discard()
            case "POP_MARK":
                self._marked()
            case "DUP":
                self._stack.append(self._top())
            case "TUPLE":
                self._push_marked(tuple)
            case "LIST":
                self._push_marked(list)
            case "DICT":
                self._push_marked(lambda items: dict(entries(items)))
            case "FROZENSET":
                self._push_marked(lambda items: frozenset(map(key, items)))
            case "APPEND":
                item = self._pop()
                append(self._top(), [item])
            case "APPENDS" | "ADDITEMS":
                items = self._marked()
                append(self._top(), items)
            case "SETITEM":
                value, name_of = self._pop(), self._pop()
                put(self._top(), [name_of, value])
            case "SETITEMS":
                items = self._marked()
                put(self._top(), items)
            case _:
                self._name_or_call(name, argument)

    def _name_or_call(self, name: str, argument: Any) -> None:  # noqa: ANN401
        match name:
            case "GLOBAL":
                self._stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                qualname, module = self._pop(), self._pop()
                self._stack.append(_global(module, qualname))
            case "REDUCE" | "NEWOBJ":
                args, called = self._pop(), self._pop()
                self._stack.append(self._called(called, args, {}))
            case "NEWOBJ_EX":
                kwargs, args, called = self._pop(), self._pop(), self._pop()
                self._stack.append(self._called(called, args, kwargs))
            case "INST":
                called = _global(*argument.split(" ", 1))
                self._push_marked(lambda args: self._called(called, tuple(args), {}))
            case "OBJ":
                called, *args = self._marked() or [None]
                self._stack.append(self._called(called, tuple(args), {}))
            case "BUILD":
                state = self._pop()
                self._restore(state)
            case "PERSID" | "BINPERSID" if self._persistent is not None:
                identity = argument if name == "PERSID" else self._pop()
                self._stack.append(self._persistent(identity))
            case _:
                raise Malformed(f"uses {name}, which is not read here")

    # --- the stack and the memo ---------------------------------------------------

    def _pop(self) -> Any:  # noqa: ANN401
        if not self._stack:
            raise Malformed("takes more from its stack than is there")
        return self._stack.pop()

    def _top(self) -> Any:  # noqa: ANN401
        value = self._pop()
        self._stack.append(value)
        return value

    def _discard(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()  # `pickle` takes a mark away so

    def _marked(self) -> list[Any]:
        """Take away and return what lies above the last mark."""
        if not self._below:
            raise Malformed("has no mark where it needs one")
        items, self._stack = self._stack, self._below.pop()
        return items

    def _push_marked(self, make: Callable[[list[Any]], Any]) -> None:
        made = make(self._marked())
        self._stack.append(made)

    def _put(self, number: int) -> None:
        self._memo[number] = self._top()
        self._kept[id(self._top())] = number

    def _get(self, number: int) -> None:
        if number not in self._memo:
            raise Malformed("refers to what is not there")
        self._stack.append(self._memo[number])

    # --- names and calls ----------------------------------------------------------

    def _called(self, called: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        if not isinstance(args, tuple) or not isinstance(kwargs, dict):
            raise Malformed("calls something without a tuple of arguments")
        if isinstance(called, Stub):
            return Stub(called.module, called.name, (called, *args), kwargs)
        if not isinstance(called, Global):
            raise Malformed("calls what is no function")
        if called.module == "copyreg" and args and isinstance(args[0], Global):
            maker = _MAKERS.get(called.name)
            if maker is not None:
                called, (args, kwargs) = args[0], maker(args)
        self._count_copied(args)
        rebuild = None if kwargs else self._known.calls.get(_key_of(called))
        value = UNKNOWN if rebuild is None else rebuild(args)
        if value is UNKNOWN:
            return Stub(called.module, called.name, args, kwargs)
        return value

    def _count_copied(self, parts: tuple[Any, ...]) -> None:
        """Refuse to copy one large thing again and again, at little cost in bytes."""
        for part in parts:
            if isinstance(part, _SIZED):
                self._copied += len(part)
            if isinstance(part, tuple):
                self._copied += sum(len(it) for it in part if isinstance(it, _SIZED))
        if self._copied > MOST_COPIED:
            raise Malformed("says the same again too often")

    def _restore(self, state: Any) -> None:  # noqa: ANN401
        """Give its state to what is on top, and put what it then is in its place."""
        stub = self._top()
        if isinstance(stub, (dict, list, set)):
            return  # attributes, such as the versions that torch notes in a dict
        if not isinstance(stub, Stub):
            raise Malformed("gives a state to what has none")
        stub.state = state
        self._count_copied(state if isinstance(state, tuple) else ())
        restore = self._known.states.get(_key_of(stub))
        value = UNKNOWN if restore is None else restore(stub)
        if value is UNKNOWN:
            return
        self._stack[-1] = value
        number = self._kept.pop(id(stub), None)
        if number is not None and self._memo[number] is stub:
            self._memo[number] = value


_MAKERS: Mapping[str, Callable[[tuple[Any, ...]], tuple[Any, dict[str, Any]]]] = {
    "_reconstructor": lambda args: (tuple(a for a in args[2:3] if a is not None), {}),
    "__newobj__": lambda args: (args[1:], {}),
}
"""What the functions of `copyreg` call their first argument with."""


def _key_of(named: Global | Stub) -> tuple[str, str]:
    """Return where `named` is in the table, under the name that it has today."""
    module = _RENAMED.get(named.module, named.module)
    if module.startswith("numpy.core."):
        module = module.replace("numpy.core.", "numpy._core.", 1)
    return module, named.name


def _global(module: Any, name: Any = None) -> Global:  # noqa: ANN401
    if not isinstance(module, str) or not isinstance(name, str):
        raise Malformed("names something that is no text")
    return Global(_RENAMED.get(module, module), name)


def _integer(value: int) -> int:
    if value.bit_length() > MOST_INTEGER_BITS:
        raise Malformed(f"holds an integer of more than {MOST_INTEGER_BITS} bits")
    return value
