"""What a lane is beside its value: its place in an array, its bits without a sign, and its float64 rounded back to the array's dtype."""
# Numba hands typing and code generation a fixed list of arguments, and its own annotations cover little of what is used here.
from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic as _intrinsic
from numba.np.arrayobj import make_array

from ._vector import Vector, broadcast, call_llvm, vector_of

# Numba annotates an intrinsic with the signature of its typing function, which callers do not see.
intrinsic: Any = _intrinsic
I32: Final = ir.IntType(32)
I64: Final = ir.IntType(64)


@intrinsic
def narrow(typingctx: Any, x: Any, like: Any) -> Any:
    """A vector of float64 in the dtype of the array `like`, rounded to nearest."""
    kind = Vector(like.dtype, x.lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if like.dtype == types.float64 else builder.fptrunc(args[0], context.get_value_type(kind))

    return kind(x, like), codegen


@intrinsic
def places(typingctx: Any, first: Any, like: Any) -> Any:
    """first, first + 1, ... as int64, one for each element that a vector of the array `like` holds."""
    kind = Vector(types.int64, vector_of(like.dtype).lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ascending = ir.Constant(ir.VectorType(I64, kind.lanes), list(range(kind.lanes)))
        return builder.add(broadcast(builder, args[0], kind.lanes), ascending)

    return kind(types.int64, like), codegen


@intrinsic
def start_of(typingctx: Any, part: Any, whole: Any) -> Any:
    """How many elements `part`, a run of the array `whole`, begins behind it: so a kernel knows its place though it is called in parts."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at, base = (builder.ptrtoint(make_array(kind)(context, builder, array).data, I64) for kind, array in zip(sig.args, args, strict=True))
        return builder.sdiv(builder.sub(at, base), ir.Constant(I64, part.dtype.bitwidth // 8))

    return types.int64(part, whole), codegen


@intrinsic
def unsigned_shift(typingctx: Any, x: Any, by: Any) -> Any:
    """A vector of int64 shifted right by a number of bits, with zeros from the left."""
    return x(x, types.int64), lambda context, builder, sig, args: builder.lshr(args[0], broadcast(builder, args[1], x.lanes))


@intrinsic
def ones_in(typingctx: Any, x: Any) -> Any:
    """How many bits of each lane of a vector of int64 are set."""
    return x(x), lambda context, builder, sig, args: call_llvm(builder, "ctpop", args)


@intrinsic
def fraction(typingctx: Any, bits: Any, like: Any) -> Any:
    """The highest bits of each int64 as a number in [0, 1), in the dtype of the array `like`: 24 bits of a float32, 53 of a float64."""
    kind = Vector(like.dtype, bits.lanes)
    digits = 24 if like.dtype == types.float32 else 53

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = builder.lshr(args[0], ir.Constant(args[0].type, [64 - digits] * bits.lanes))
        number = context.get_value_type(kind)
        # Of 32 bits every CPU converts whole vectors; of 64 LLVM has a form for unsigned ones.
        made = (builder.sitofp(builder.trunc(whole, ir.VectorType(I32, bits.lanes)), number) if digits == 24 else builder.uitofp(whole, number))
        return builder.fmul(made, ir.Constant(number, [ir.Constant(number.element, 2.0 ** -digits)] * bits.lanes))

    return kind(bits, like), codegen
