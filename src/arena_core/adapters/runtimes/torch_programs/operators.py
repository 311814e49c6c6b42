"""The operators that a torch.export program may call, each of them looked at.

What they have in common: what they answer depends on their arguments alone, and they
change none of them.  So there is none that draws at random, opens a file, hands out
memory that nobody has written to (`empty` and its kin), or looks at memory beside its
arguments (`as_strided`).  None runs another graph, so none can loop.
"""

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType

from arena_core.domain.errors import Rejected

ATEN = "torch.ops.aten."

_SHAPES = """
    alias broadcast_tensors broadcast_to cat chunk clone column_stack concat
    constant_pad_nd contiguous detach detach_ expand expand_as flatten.using_ints flip
    hstack lift_fresh_copy movedim.int narrow pad permute pixel_shuffle
    pixel_unshuffle repeat repeat_interleave.self_int reshape roll select.int
    slice.Tensor split.Tensor split.sizes split_with_sizes squeeze squeeze.dim
    squeeze.dims stack swapaxes t tile transpose.int tril triu unbind.int
    unflatten.int _unsafe_view unsqueeze upsample_nearest2d upsample_nearest2d.vec
    view view_as vstack
"""
_CASTS = """
    _to_copy to.dtype to.dtype_layout to.device to.other type_as
"""
_CREATION = """
    arange arange.start arange.start_step eye eye.m full full_like linspace new_full
    new_ones new_zeros one_hot ones ones_like scalar_tensor zeros zeros_like
"""
_ARITHMETIC = """
    abs acos acosh add.Scalar add.Tensor asin asinh atan atan2 atanh ceil clamp
    clamp.Tensor clamp_max clamp_max.Tensor clamp_min clamp_min.Tensor cos cosh
    div.Scalar div.Scalar_mode div.Tensor div.Tensor_mode erf exp exp2 expm1 floor
    floor_divide floor_divide.Scalar fmod.Scalar fmod.Tensor frac lerp.Scalar
    lerp.Tensor log log10 log1p log2 maximum minimum mul.Scalar mul.Tensor nan_to_num
    neg pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor reciprocal remainder.Scalar
    remainder.Tensor round round.decimals rsqrt rsub.Scalar rsub.Tensor sgn sign sin
    sinh sqrt square sub.Scalar sub.Tensor tan true_divide.Tensor trunc
"""
_LOGIC = """
    bitwise_and.Scalar bitwise_and.Tensor bitwise_not bitwise_or.Scalar
    bitwise_or.Tensor bitwise_xor.Scalar bitwise_xor.Tensor __and__.Tensor
    __or__.Tensor eq.Scalar eq.Tensor ge.Scalar ge.Tensor gt.Scalar gt.Tensor isfinite
    isinf isnan le.Scalar le.Tensor logical_and logical_not logical_or logical_xor
    lt.Scalar lt.Tensor masked_fill.Scalar masked_fill.Tensor ne.Scalar ne.Tensor
    where.Scalar where.ScalarOther where.ScalarSelf where.self
"""
_REDUCTIONS = """
    all all.dim amax amin any any.dim any.dims argmax argmin argsort cumprod cumsum
    linalg_vector_norm logsumexp max max.dim max.other mean mean.dim min min.dim
    min.other norm.ScalarOpt_dim prod prod.dim_int sort std.correction std.dim sum
    sum.dim_IntList topk var.correction var.dim
"""
_ALGEBRA = """
    addmm baddbmm bilinear bmm dot einsum linear matmul mm mv outer
"""
_LOOKUPS = """
    embedding gather index.Tensor index_select scatter.src scatter.value
    take_along_dim
"""
_CONVOLUTIONS = """
    conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding
    conv_transpose1d conv_transpose2d.input convolution _adaptive_avg_pool2d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool2d_with_indices
    max_pool3d
"""
_NORMS = """
    _native_batch_norm_legit_no_training batch_norm group_norm layer_norm
    native_group_norm native_layer_norm rms_norm
"""
_ACTIVATIONS = """
    _log_softmax _softmax celu dropout elu gelu glu hardshrink hardsigmoid hardswish
    hardtanh leaky_relu log_sigmoid log_softmax.int mish prelu relu relu6
    scaled_dot_product_attention selu sigmoid silu softmax.int softplus softshrink
    tanh threshold
"""
_RECURRENT = """
    gru.input gru_cell lstm.input lstm_cell rnn_relu.input rnn_relu_cell
    rnn_tanh.input rnn_tanh_cell
"""


def _full_name(name: str) -> str:
    return ATEN + (name if "." in name else f"{name}.default")


OPERATORS = frozenset(
    _full_name(name)
    for group in (
        _SHAPES, _CASTS, _CREATION, _ARITHMETIC, _LOGIC, _REDUCTIONS, _ALGEBRA,
        _LOOKUPS, _CONVOLUTIONS, _NORMS, _ACTIVATIONS, _RECURRENT,
    )
    for name in group.split()
)  # fmt: skip
"""Of arrays, by the names that a program calls them by."""

SIZE = f"{ATEN}sym_size.int"
"""The operator that makes a number of an array: the length of one of its axes."""

_MOST = 2**63 - 1
"""No length of an axis is greater; without a limit, a chain of products is endless."""


def _within(compute: Callable[..., int]) -> Callable[..., int]:
    def computed(*lengths: object) -> int:
        if not all(type(length) is int for length in lengths):
            raise TypeError("a length of an axis is no whole number")
        number = compute(*lengths)
        if abs(number) > _MOST:
            raise OverflowError("a length of an axis is beyond 64 bits")
        return number

    return computed


ARITHMETIC: Mapping[str, Callable[..., int]] = MappingProxyType(
    {
        f"_operator.{compute.__name__}": _within(compute)
        for compute in (
            operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod,
            operator.neg,
        )
    }
)  # fmt: skip
"""Of the lengths of axes."""

CLAIMS = frozenset(
    {f"{ATEN}_assert_tensor_metadata.default", f"{ATEN}_assert_async.msg"}
)
"""What says something about an array and makes nothing: never run."""


def refuse_unknown(name: str) -> None:
    """Raise `Rejected` unless a program may call the operator `name`."""
    if name in OPERATORS or name in ARITHMETIC or name in CLAIMS or name == SIZE:
        return
    raise Rejected(
        f"The weights call {_printable(name)}, which is not among the operators that "
        "are served: try run_decompositions({}) on the exported program before you "
        "save it, or export to ONNX.",
        field="weights",
    )


def _printable(name: str) -> str:
    short = name.removeprefix("torch.ops.")[:60]
    return "".join(c if c.isalnum() or c in "._" else "?" for c in short)
