"""The JSON of a program that torch.export saves, as far as it is served.

The names of the fields are torch's (schema version 8 of `torch/_export/serde`).  What
is not listed here is refused, since what cannot be read cannot be checked.  Text that
torch's own loader would put into Python code or give to `eval` (names of values, keys
of dicts, lengths of axes) is matched here too, so that a checked program is safe for
whoever loads it in that way.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

Name: TypeAlias = Annotated[
    str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z", max_length=300)
]
Path: TypeAlias = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\Z", max_length=500)
]
"""The name of a parameter or a buffer, such as `actor.0.weight`."""
Text: TypeAlias = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9_ ,.:>-]*\Z", max_length=200)
]
_FUNCTION = (
    r"(Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|Integer)"
)
_SYMBOL = r"Symbol\('[a-z]{1,2}[0-9]{1,9}'(, (positive|integer|nonnegative)=True)*\)"
_NUMBER = r"-?[0-9]{1,19}(?![0-9])"
_POWER = rf"Pow\({_SYMBOL}, Integer\([2-4]\)\)"
"""No other: a short text can ask for a power that nobody can wait for."""
Expression: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"\A({_FUNCTION}\(|{_SYMBOL}|{_POWER}|{_NUMBER}|, |\))+\Z",
        max_length=1_000,
    ),
]
"""The length of an axis, such as `Mul(Integer(2), Symbol('s0', integer=True))`."""
Place: TypeAlias = Annotated[
    str, Meta(pattern=r"\A(weight|tensor)_[0-9]{1,9}\Z", max_length=20)
]


class _Strict(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An object in which every key is known."""


# --- arrays ----------------------------------------------------------------------


class Device(_Strict, frozen=True, kw_only=True):
    type: Literal["cpu", "cuda", "mps", "xpu"]
    index: int | None = None


class Symbolic(_Strict, frozen=True, kw_only=True):
    expr_str: Expression
    hint: dict[str, int] | None = None


class Length(_Strict, frozen=True, kw_only=True):
    """One of the two."""

    as_int: int | UnsetType = UNSET
    as_expr: Symbolic | UnsetType = UNSET


class TensorMeta(_Strict, frozen=True, kw_only=True):
    dtype: int
    sizes: list[Length]
    requires_grad: bool
    device: Device
    strides: list[Length]
    storage_offset: Length
    layout: int


class Payload(_Strict, frozen=True, kw_only=True):
    """Where the numbers of a parameter, buffer or constant are."""

    path_name: Place
    is_param: bool
    use_pickle: Literal[False]
    tensor_meta: TensorMeta


class Payloads(_Strict, frozen=True, kw_only=True):
    config: dict[Path, Payload]


# --- calls -----------------------------------------------------------------------


class Tensor(_Strict, frozen=True, kw_only=True):
    name: Name


class OptionalTensor(_Strict, frozen=True, kw_only=True):
    """One of the two."""

    as_none: bool | UnsetType = UNSET
    as_tensor: Tensor | UnsetType = UNSET


class Integer(_Strict, frozen=True, kw_only=True):
    """One of the two."""

    as_name: Name | UnsetType = UNSET
    as_int: int | UnsetType = UNSET


Float: TypeAlias = float | Literal["Infinity", "-Infinity", "NaN"]


class Argument(_Strict, frozen=True, kw_only=True):
    """One of them."""

    as_none: bool | UnsetType = UNSET
    as_tensor: Tensor | UnsetType = UNSET
    as_tensors: list[Tensor] | UnsetType = UNSET
    as_optional_tensors: list[OptionalTensor] | UnsetType = UNSET
    as_int: int | UnsetType = UNSET
    as_ints: list[int] | UnsetType = UNSET
    as_sym_int: Integer | UnsetType = UNSET
    as_sym_ints: list[Integer] | UnsetType = UNSET
    as_float: Float | UnsetType = UNSET
    as_floats: list[Float] | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_bools: list[bool] | UnsetType = UNSET
    as_string: Text | UnsetType = UNSET
    as_scalar_type: int | UnsetType = UNSET
    as_memory_format: int | UnsetType = UNSET
    as_layout: int | UnsetType = UNSET
    as_device: Device | UnsetType = UNSET
    # Known for the sake of the refusal, which names the operator that they go with.
    as_graph: Any = UNSET
    as_operator: Any = UNSET
    as_custom_obj: Any = UNSET
    as_sym_bool: Any = UNSET
    as_sym_float: Any = UNSET


class NamedArgument(_Strict, frozen=True, kw_only=True):
    name: str
    arg: Argument
    kind: int


class Node(_Strict, frozen=True, kw_only=True):
    target: str
    inputs: list[NamedArgument]
    outputs: list[Argument]
    metadata: dict[str, str]
    is_hop_single_tensor_return: bool | None = None
    name: Name | None = None


class Graph(_Strict, frozen=True, kw_only=True):
    inputs: list[Argument]
    outputs: list[Argument]
    nodes: list[Node]
    tensor_values: dict[Name, TensorMeta]
    sym_int_values: dict[Name, Length]
    sym_bool_values: dict[Name, Any] = {}
    is_single_tensor_return: bool = False
    custom_obj_values: dict[Name, Any] = {}
    sym_float_values: dict[Name, Any] = {}


# --- what goes in and comes out --------------------------------------------------


class UserValue(_Strict, frozen=True, kw_only=True):
    arg: Argument


class Parameter(_Strict, frozen=True, kw_only=True):
    arg: Tensor
    parameter_name: Path


class Buffer(_Strict, frozen=True, kw_only=True):
    arg: Tensor
    buffer_name: Path
    persistent: bool


class Constant(_Strict, frozen=True, kw_only=True):
    arg: Tensor
    tensor_constant_name: Path


class InputSpec(_Strict, frozen=True, kw_only=True):
    """One of them."""

    user_input: UserValue | UnsetType = UNSET
    parameter: Parameter | UnsetType = UNSET
    buffer: Buffer | UnsetType = UNSET
    tensor_constant: Constant | UnsetType = UNSET
    constant_input: Any = UNSET
    custom_obj: Any = UNSET
    token: Any = UNSET


class OutputSpec(_Strict, frozen=True, kw_only=True):
    """One of them."""

    user_output: UserValue | UnsetType = UNSET
    loss_output: Any = UNSET
    buffer_mutation: Any = UNSET
    parameter_mutation: Any = UNSET
    gradient_to_parameter: Any = UNSET
    gradient_to_user_input: Any = UNSET
    user_input_mutation: Any = UNSET
    token: Any = UNSET


class Signature(_Strict, frozen=True, kw_only=True):
    input_specs: list[InputSpec]
    output_specs: list[OutputSpec]


class CallSignature(_Strict, frozen=True, kw_only=True):
    inputs: list[Any]
    outputs: list[Any]
    in_spec: str
    out_spec: str
    forward_arg_names: list[Name] | None = None


class CallEntry(_Strict, frozen=True, kw_only=True):
    fqn: str
    signature: CallSignature | None = None


class Module(_Strict, frozen=True, kw_only=True):
    graph: Graph
    signature: Signature
    module_call_graph: list[CallEntry]
    metadata: dict[str, str] = {}
    treespec_namedtuple_fields: dict[str, Any] = {}


class Range(_Strict, frozen=True, kw_only=True):
    min_val: int | None
    max_val: int | None


class Version(_Strict, frozen=True, kw_only=True):
    major: int
    minor: int


class Exported(_Strict, frozen=True, kw_only=True):
    graph_module: Module
    opset_version: dict[str, int]
    range_constraints: dict[
        Annotated[str, Meta(pattern=r"\A[a-z]{1,2}[0-9]{1,9}\Z")], Range
    ]
    schema_version: Version
    verifiers: list[Literal["TRAINING", "ATEN"]] = []
    torch_version: Annotated[
        str, Meta(pattern=r"\A[A-Za-z0-9.+<=-]*\Z", max_length=60)
    ] = ""
    guards_code: list[str] = []
