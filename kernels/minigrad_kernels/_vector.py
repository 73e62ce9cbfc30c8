"""The Numba types of one SIMD register: `Vector` (lanes of a number) and `Mask` (one bit a lane), with Python's operators.

Operators lower to single LLVM instructions without a flag, so they round as on scalars. Numbers are weak: beside a vector, a Python
constant or any scalar takes the vector's dtype, and float32 never becomes float64. A vector of one lane is the scalar form of the same
code; only there may a comparison steer an `if`.
"""
# Numba hands typing and code generation a fixed list of arguments, and its own annotations cover little of what is used here.
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, lower_cast, register_model

from ._host import VECTOR_BYTES


class Vector(types.Type):
    """Lanes of float32, float64, int32 or int64."""

    def __init__(self, dtype: types.Type, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"Vector({dtype} x {lanes})")

    def unify(self, typingctx: Any, other: types.Type) -> types.Type | None:
        return self if isinstance(other, types.Number) else None

    def can_convert_from(self, typingctx: Any, other: types.Type) -> Conversion | None:
        return Conversion.unsafe if isinstance(other, types.Number) else None


class Mask(types.Type):
    """The outcome of a comparison of vectors of `dtype`, one bit a lane."""

    def __init__(self, dtype: types.Type, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"Mask({dtype} x {lanes})")


def vector_of(dtype: types.Type) -> Vector:
    """The widest vector of `dtype` on this CPU."""
    return Vector(dtype, VECTOR_BYTES * 8 // dtype.bitwidth)


def joined(*args: types.Type) -> types.Type | None:
    """The type that an operation on these works in: the one vector type among them, else the narrowest float; None if they do not fit.

    A mask counts as the vector of ones and zeros that it becomes, integers alone as float64.
    """
    vectors = {Vector(a.dtype, a.lanes) for a in args if isinstance(a, Vector | Mask)}
    if len(vectors) > 1 or any(not isinstance(a, Vector | Mask | types.Number) for a in args):
        return None
    if vectors:
        return vectors.pop()
    floats = [a for a in args if isinstance(a, types.Float)]
    return min(floats, key=lambda t: t.bitwidth, default=types.float64)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), fe_type.lanes))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Mask) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(1), fe_type.lanes))


def broadcast(builder: Any, value: Any, lanes: int) -> Any:
    """LLVM: `value` in every lane."""
    vector = ir.VectorType(value.type, lanes)
    if isinstance(value, ir.Constant):
        return ir.Constant(vector, [value] * lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


@lower_cast(types.Float, Vector)
@lower_cast(types.Integer, Vector)
def _number_to_vector(context: Any, builder: Any, fromty: types.Type, toty: Vector, value: Any) -> Any:
    return broadcast(builder, context.cast(builder, value, types.unliteral(fromty), toty.dtype), toty.lanes)


@lower_cast(Mask, Vector)
def _mask_to_vector(context: Any, builder: Any, fromty: Mask, toty: Vector, value: Any) -> Any:
    one = context.cast(builder, ir.Constant(ir.DoubleType(), 1.0), types.float64, toty)
    return builder.select(value, one, one.type(None))


@lower_cast(Mask, types.Boolean)
def _truth(context: Any, builder: Any, fromty: Mask, toty: types.Type, value: Any) -> Any:
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@infer_global(bool)
class _Bool(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], Mask) and args[0].lanes == 1:
            return signature(types.boolean, args[0])
        return None


@lower_builtin(bool, Mask)
def _lower_bool(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.cast(builder, args[0], sig.args[0], types.boolean)


def llvm_suffix(kind: Any) -> str:
    """How LLVM names `kind` in an intrinsic: f32, v16f32, v8i64."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{llvm_suffix(kind.element)}"
    return {"float": "f32", "double": "f64"}.get(str(kind), str(kind))


def call_llvm(builder: Any, name: str, args: Any) -> Any:
    """LLVM: `llvm.<name>` on values of one type."""
    kind = args[0].type
    function = ir.FunctionType(kind, [kind] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{llvm_suffix(kind)}"), args)


Emit = Callable[..., Any]


def _operator(ops: tuple[Any, ...], arity: int, floats: Emit | None, integers: Emit | None) -> None:
    """Type and lower `ops` on vectors; `floats` and `integers` emit the instruction, None where there is none."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            vector = joined(*args)
            if not isinstance(vector, Vector) or len(args) != arity:
                return None
            emit = floats if isinstance(vector.dtype, types.Float) else integers
            return signature(vector, *[vector] * arity) if emit else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = floats if isinstance(sig.return_type.dtype, types.Float) else integers
        assert emit is not None
        return emit(builder, *args)

    for op in ops:
        infer_global(op)(type(f"Vector_{op.__name__}", (Template,), {"key": op}))
        lower_builtin(op, *[Vector] * arity)(lower)


def _comparison(op: Any, symbol: str) -> None:
    """Type and lower a comparison: IEEE, so that a NaN differs from everything and is neither less nor greater."""

    @infer_global(op)
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            vector = joined(*args)
            return signature(Mask(vector.dtype, vector.lanes), vector, vector) if isinstance(vector, Vector) else None

    @lower_builtin(op, Vector, Vector)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if isinstance(sig.args[0].dtype, types.Float):
            return (builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered)(symbol, *args)
        return builder.icmp_signed(symbol, *args)


def _mask_operator(ops: tuple[Any, ...], arity: int, emit: Emit) -> None:
    """Type and lower `&`, `|`, `^`, `~` on masks of the same number of lanes."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == arity and all(isinstance(a, Mask) and a.lanes == args[0].lanes for a in args):
                return signature(args[0], *args)
            return None

    for op in ops:
        infer_global(op)(type(f"Mask_{op.__name__}", (Template,), {"key": op}))
        lower_builtin(op, *[Mask] * arity)(lambda context, builder, sig, args: emit(builder, *args))


@infer_global(operator.pow)
class _Power(AbstractTemplate):
    prefer_literal = True

    def generic(self, args: Any, kws: Any) -> Any:
        x, y = args
        if isinstance(x, Vector) and isinstance(y, types.IntegerLiteral) and 0 <= y.literal_value <= 64:
            return signature(x, x, y)
        return None  # other exponents: `_powers`


@lower_builtin(operator.pow, Vector, types.IntegerLiteral)
def _whole_power(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """By squaring: a product for each binary digit of the exponent, lowest first."""
    square, left = args[0], sig.args[1].literal_value
    power = None if left else context.cast(builder, ir.Constant(ir.DoubleType(), 1.0), types.float64, sig.return_type)
    while left:
        if left & 1:
            power = square if power is None else builder.fmul(power, square)
        left >>= 1
        square = builder.fmul(square, square) if left else square
    return power


_operator((operator.add, operator.iadd), 2, ir.IRBuilder.fadd, ir.IRBuilder.add)
_operator((operator.sub, operator.isub), 2, ir.IRBuilder.fsub, ir.IRBuilder.sub)
_operator((operator.mul, operator.imul), 2, ir.IRBuilder.fmul, ir.IRBuilder.mul)
_operator((operator.truediv, operator.itruediv), 2, ir.IRBuilder.fdiv, None)
_operator((operator.neg,), 1, ir.IRBuilder.fneg, ir.IRBuilder.neg)
_operator((operator.pos,), 1, lambda builder, x: x, lambda builder, x: x)
_operator((operator.and_, operator.iand), 2, None, ir.IRBuilder.and_)
_operator((operator.or_, operator.ior), 2, None, ir.IRBuilder.or_)
_operator((operator.xor, operator.ixor), 2, None, ir.IRBuilder.xor)
_operator((operator.lshift,), 2, None, ir.IRBuilder.shl)
_operator((operator.rshift,), 2, None, ir.IRBuilder.ashr)
for _op, _symbol in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "=="), (operator.ne, "!=")):
    _comparison(_op, _symbol)
_mask_operator((operator.and_, operator.iand), 2, ir.IRBuilder.and_)
_mask_operator((operator.or_, operator.ior), 2, ir.IRBuilder.or_)
_mask_operator((operator.xor, operator.ixor), 2, ir.IRBuilder.xor)
_mask_operator((operator.invert,), 1, ir.IRBuilder.not_)
