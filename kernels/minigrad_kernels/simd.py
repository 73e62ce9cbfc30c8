"""SIMD vectors inside compiled code: loads, stores, and functions that take vectors and scalars alike with the same bits.

In a function of these, a float32 stays float32: beside it a Python constant (a float64 to Numba) is weak. See `_vector` for operators.
"""
# Numba hands typing and code generation a fixed list of arguments, and its own annotations cover little of what is used here.
from __future__ import annotations

from collections.abc import Callable
from inspect import isfunction
from typing import Any, Final

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import overload
from numba.np.arrayobj import make_array

from ._jit import POLICY
from ._vector import Mask as Mask
from ._vector import Vector as Vector
from ._vector import broadcast, call_llvm, joined, llvm_suffix, vector_of

# Numba annotates an intrinsic with the signature of its typing function, which callers do not see.
intrinsic: Any = numba.extending.intrinsic
I32: Final = ir.IntType(32)
INTEGER_OF: Final[dict[types.Type, types.Type]] = {types.float32: types.int32, types.float64: types.int64}
FLOAT_OF: Final[dict[types.Type, types.Type]] = {integer: number for number, integer in INTEGER_OF.items()}
#: Python functions that `numba.extending.overload` gave a compiled form.
overloaded: Final[set[Callable[..., Any]]] = set()


def inline(function: Callable[..., Any]) -> Any:
    """Compile under the policy, always inlined into the caller; what compiled code can call already is returned as it is."""
    if not isfunction(function) or function in overloaded:
        return function
    return numba.njit(**POLICY, forceinline=True)(function)


# --- arithmetic ---------------------------------------------------------------------------------------------------------------------


def _work_type(name: str, *args: types.Type) -> types.Type:
    kind = joined(*args)
    if kind is None:
        raise TypingError(f"{name} takes vectors of one type, and numbers; it got {', '.join(map(str, args))}")
    return kind


def llvm1(name: str) -> Any:
    """The LLVM intrinsic `llvm.<name>` of one argument as a function of a vector or scalar; where the CPU has none, a libm call a lane."""

    @intrinsic
    def function(typingctx: Any, x: Any) -> Any:
        kind = _work_type(name, x)
        return kind(kind), lambda context, builder, sig, args: call_llvm(builder, name, args)

    return function


def llvm2(name: str) -> Any:
    """As `llvm1`, of two arguments."""

    @intrinsic
    def function(typingctx: Any, x: Any, y: Any) -> Any:
        kind = _work_type(name, x, y)
        return kind(kind, kind), lambda context, builder, sig, args: call_llvm(builder, name, args)

    return function


sqrt = llvm1("sqrt")
floor = llvm1("floor")
ceil = llvm1("ceil")
trunc = llvm1("trunc")
abs_ = llvm1("fabs")
round_even = llvm1("nearbyint")
copysign = llvm2("copysign")


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z with one rounding."""
    kind = _work_type("fma", x, y, z)
    return kind(kind, kind, kind), lambda context, builder, sig, args: call_llvm(builder, "fma", args)


@intrinsic
def horner(typingctx: Any, x: Any, coefficients: Any) -> Any:
    """The polynomial of a tuple of constants, highest power first, as one chain of fma."""
    kind = _work_type("horner", x)
    constant = getattr(kind, "dtype", kind)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        terms = [builder.extract_value(args[1], k) for k in range(coefficients.count)]
        terms = [context.cast(builder, context.cast(builder, t, types.float64, constant), constant, kind) for t in terms]
        total = terms[0]
        for term in terms[1:]:
            total = call_llvm(builder, "fma", (total, args[0], term))
        return total

    return kind(kind, coefficients), codegen


@intrinsic
def select(typingctx: Any, mask: Any, x: Any, y: Any) -> Any:
    """x where the mask holds, else y; both are computed. Of two constants it makes a vector of the dtype that was compared."""
    kind = joined(x, y)
    if isinstance(mask, Mask) and not isinstance(kind, Vector):
        kind = Vector(mask.dtype, mask.lanes) if isinstance(x, types.Number) and isinstance(y, types.Number) else None
    if kind is None or not isinstance(mask, Mask | types.Boolean):
        raise TypingError(f"select takes a mask and two vectors or numbers; it got {mask}, {x}, {y}")
    return kind(mask, kind, kind), lambda context, builder, sig, args: builder.select(*args)


@inline
def isnan(x):
    """Mask of the NaNs."""
    return x != x


@inline
def maximum(x, y):
    """The larger; NaN if either is NaN, as `numpy.maximum`. Of zeros of both signs the second."""
    return select(isnan(x), x, select(x > y, x, y))


@inline
def minimum(x, y):
    """The smaller; NaN if either is NaN, as `numpy.minimum`. Of zeros of both signs the second."""
    return select(isnan(x), x, select(x < y, x, y))


@overload(abs)
def _builtin_abs(x):
    return (lambda x: abs_(x)) if isinstance(x, Vector) else None


@overload(max)
def _builtin_max(x, y):
    return (lambda x, y: select(y > x, y, x)) if isinstance(joined(x, y), Vector) else None


@overload(min)
def _builtin_min(x, y):
    return (lambda x, y: select(y < x, y, x)) if isinstance(joined(x, y), Vector) else None


# --- bits and lanes -----------------------------------------------------------------------------------------------------------------


def _same_shape(kind: types.Type, dtype: types.Type) -> types.Type:
    return Vector(dtype, kind.lanes) if isinstance(kind, Vector) else dtype


@intrinsic
def to_bits(typingctx: Any, x: Any) -> Any:
    """The bits of a float as a signed integer of its width."""
    kind = _same_shape(x, INTEGER_OF[getattr(x, "dtype", x)])
    return kind(x), lambda context, builder, sig, args: builder.bitcast(args[0], context.get_value_type(kind))


@intrinsic
def from_bits(typingctx: Any, x: Any) -> Any:
    """The float of an integer's bits."""
    kind = _same_shape(x, FLOAT_OF[getattr(x, "dtype", x)])
    return kind(x), lambda context, builder, sig, args: builder.bitcast(args[0], context.get_value_type(kind))


@intrinsic
def to_float(typingctx: Any, x: Any) -> Any:
    """An integer's value as the float of its width, rounded to nearest."""
    kind = _same_shape(x, FLOAT_OF[getattr(x, "dtype", x)])
    return kind(x), lambda context, builder, sig, args: builder.sitofp(args[0], context.get_value_type(kind))


@intrinsic
def lane(typingctx: Any, x: Any) -> Any:
    """A scalar as a vector of one lane, beside which constants are weak."""
    kind = Vector(x, 1)
    return kind(x), lambda context, builder, sig, args: broadcast(builder, args[0], 1)


@intrinsic
def first(typingctx: Any, x: Any) -> Any:
    """Lane 0 as a scalar."""
    return x.dtype(x), lambda context, builder, sig, args: builder.extract_element(args[0], ir.Constant(I32, 0))


# --- memory: 1-D C-contiguous arrays, by pointer (no wraparound of negative indices), aligned to one element ---------------------------


def _pointer(context: Any, builder: Any, array: Any, args: Any, kind: Vector) -> Any:
    """LLVM: where element args[1] of the array args[0] lies, as a pointer to a vector."""
    base = make_array(array)(context, builder, args[0]).data
    return builder.bitcast(builder.gep(base, [args[1]]), context.get_value_type(kind).as_pointer())


def _vector_in(array: types.Type) -> Vector:
    if not isinstance(array, types.Array) or array.ndim != 1 or array.layout != "C":
        raise TypingError(f"SIMD loads and stores take 1-D C-contiguous arrays, not {array}")
    return vector_of(array.dtype)


def lane_count_mask(builder: Any, count: Any, kind: Vector) -> Any:
    """LLVM: the first `count` lanes."""
    integer = ir.IntType(kind.dtype.bitwidth)
    narrow = count if count.type == integer else builder.trunc(count, integer)
    lanes = ir.Constant(ir.VectorType(integer, kind.lanes), list(range(kind.lanes)))
    return builder.icmp_signed("<", lanes, broadcast(builder, narrow, kind.lanes))


@intrinsic
def lanes(typingctx: Any, array: Any) -> Any:
    """How many elements of this array one vector holds: a constant."""
    count = vector_of(array.dtype).lanes
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, count)


@intrinsic
def splat(typingctx: Any, x: Any, like: Any) -> Any:
    """A number in every lane of a vector like `like`: a vector, or an array to be read in vectors."""
    kind = like if isinstance(like, Vector) else _vector_in(like)
    number = types.unliteral(x)
    return kind(number, like), lambda context, builder, sig, args: context.cast(builder, args[0], number, kind)


def _load(kind: Vector, array: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, array, args, kind), align=kind.dtype.bitwidth // 8)

    return kind(array, types.intp), codegen


def _store(kind: Vector, array: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, array, args, kind), align=kind.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, kind), codegen


@intrinsic
def load(typingctx: Any, array: Any, i: Any) -> Any:
    """The vector of `lanes(array)` elements from index i on; the caller answers for the bounds."""
    return _load(_vector_in(array), array)


@intrinsic
def store(typingctx: Any, array: Any, i: Any, x: Any) -> Any:
    """Write a vector, or a number in all lanes, from index i on; the caller answers for the bounds."""
    kind = _vector_in(array)
    return _store(kind, array) if joined(kind, x) == kind else None


@intrinsic
def load_lane(typingctx: Any, array: Any, i: Any) -> Any:
    """Element i as a vector of one lane."""
    return _load(Vector(_vector_in(array).dtype, 1), array)


@intrinsic
def store_lane(typingctx: Any, array: Any, i: Any, x: Any) -> Any:
    """Write a vector of one lane, or a number, to element i."""
    kind = Vector(_vector_in(array).dtype, 1)
    return _store(kind, array) if joined(kind, x) == kind else None


@intrinsic
def load_tail(typingctx: Any, array: Any, i: Any, count: Any, fill: Any) -> Any:
    """`count` elements (0 to lanes) from index i on, and `fill` in the other lanes; nothing behind them is read."""
    kind = _vector_in(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args, kind)
        mask = lane_count_mask(builder, args[2], kind)
        vector = context.get_value_type(kind)
        function = ir.FunctionType(vector, [pointer.type, I32, mask.type, vector])
        callee = cgutils.get_or_insert_function(builder.module, function, f"llvm.masked.load.{llvm_suffix(vector)}.p0")
        return builder.call(callee, [pointer, ir.Constant(I32, kind.dtype.bitwidth // 8), mask, args[3]])

    return kind(array, types.intp, types.intp, kind), codegen


@intrinsic
def store_tail(typingctx: Any, array: Any, i: Any, count: Any, x: Any) -> Any:
    """Write the first `count` lanes (0 to lanes) from index i on; nothing behind them is touched."""
    kind = _vector_in(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args, kind)
        mask = lane_count_mask(builder, args[2], kind)
        vector = context.get_value_type(kind)
        function = ir.FunctionType(ir.VoidType(), [vector, pointer.type, I32, mask.type])
        callee = cgutils.get_or_insert_function(builder.module, function, f"llvm.masked.store.{llvm_suffix(vector)}.p0")
        builder.call(callee, [args[3], pointer, ir.Constant(I32, kind.dtype.bitwidth // 8), mask])
        return context.get_dummy_value()

    return (types.void(array, types.intp, types.intp, kind), codegen) if joined(kind, x) == kind else None
