"""Python's operators on a Tensor; each is an op of `minigrad.ops`."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from minigrad import config
from minigrad.errors import DtypeError
from minigrad.ops import compare, division, elementwise, maths, powers
from minigrad.ops.shape import cast
from minigrad.tape import products
from minigrad.tape.elementary import Elementary
from minigrad.tape.handle import Handle
from minigrad.tape.inplace import overwrite

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


#: What a Tensor is compared with element by element; it equals nothing else.
_COMPARABLE = (Handle, int, float, np.ndarray, np.generic)


def _as_float(x: Handle) -> Any:
    """Integers and bools in the default dtype, in which they are divided."""
    return cast(x, dtype=config.get_default_dtype())


class Arithmetic(Elementary):
    """Python's operators on Tensors; those with `=` write in place."""

    __slots__ = ()

    # ---- operators
    def __neg__(self) -> Tensor:
        return elementwise.neg(self)  # type: ignore[no-any-return]

    def __add__(self, other: Any) -> Tensor:
        return elementwise.add(self, other)  # type: ignore[no-any-return]

    def __radd__(self, other: Any) -> Tensor:
        return elementwise.add(other, self)  # type: ignore[no-any-return]

    def __sub__(self, other: Any) -> Tensor:
        return elementwise.sub(self, other)  # type: ignore[no-any-return]

    def __rsub__(self, other: Any) -> Tensor:
        return elementwise.sub(other, self)  # type: ignore[no-any-return]

    def __mul__(self, other: Any) -> Tensor:
        return elementwise.mul(self, other)  # type: ignore[no-any-return]

    def __rmul__(self, other: Any) -> Tensor:
        return elementwise.mul(other, self)  # type: ignore[no-any-return]

    def __truediv__(self, other: Any) -> Tensor:
        try:
            return elementwise.div(self, other)  # type: ignore[no-any-return]
        except DtypeError:
            if self.spec.is_float:
                raise
            return elementwise.div(_as_float(self), other)  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> Tensor:
        try:
            return elementwise.div(other, self)  # type: ignore[no-any-return]
        except DtypeError:
            if self.spec.is_float:
                raise
            return elementwise.div(other, _as_float(self))  # type: ignore[no-any-return]

    div = divide = true_divide = __truediv__

    def __floordiv__(self, other: Any) -> Tensor:
        return division.floor_divide(self, other)  # type: ignore[no-any-return]

    def __rfloordiv__(self, other: Any) -> Tensor:
        return division.floor_divide(other, self)  # type: ignore[no-any-return]

    floor_divide = __floordiv__

    def __mod__(self, other: Any) -> Tensor:
        return division.remainder(self, other)  # type: ignore[no-any-return]

    def __rmod__(self, other: Any) -> Tensor:
        return division.remainder(other, self)  # type: ignore[no-any-return]

    remainder = __mod__

    def __pow__(self, other: Any) -> Tensor:
        return powers.power(self, other)  # type: ignore[no-any-return]

    def __rpow__(self, other: Any) -> Tensor:
        return powers.power(other, self)  # type: ignore[no-any-return]

    def __abs__(self) -> Tensor:
        return maths.abs(self)  # type: ignore[no-any-return]

    def __pos__(self) -> Self:
        return self

    def __matmul__(self, other: Any) -> Tensor:
        return products.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return products.matmul(other, self)

    matmul = __matmul__
    mm = products.mm
    bmm = products.bmm
    mv = products.mv
    dot = products.dot
    inner = products.inner
    outer = products.outer

    def __iadd__(self, other: Any) -> Self:
        return overwrite(self, "add_", lambda: elementwise.add(self, other))  # type: ignore[no-any-return]

    def __isub__(self, other: Any) -> Self:
        return overwrite(self, "sub_", lambda: elementwise.sub(self, other))  # type: ignore[no-any-return]

    def __imul__(self, other: Any) -> Self:
        return overwrite(self, "mul_", lambda: elementwise.mul(self, other))  # type: ignore[no-any-return]

    def __itruediv__(self, other: Any) -> Self:
        return overwrite(self, "div_", lambda: elementwise.div(self, other))  # type: ignore[no-any-return]

    def __ipow__(self, other: Any) -> Self:
        return overwrite(self, "pow_", lambda: powers.power(self, other))  # type: ignore[no-any-return]

    # ---- comparisons, element by element; Tensors stay keys of dicts and members of sets by identity
    __hash__ = Handle.__hash__

    def __eq__(self, other: object) -> Any:
        return compare.eq(self, other) if isinstance(other, _COMPARABLE) else NotImplemented

    def __ne__(self, other: object) -> Any:
        return compare.ne(self, other) if isinstance(other, _COMPARABLE) else NotImplemented

    def __lt__(self, other: Any) -> Tensor:
        return compare.lt(self, other)  # type: ignore[no-any-return]

    def __le__(self, other: Any) -> Tensor:
        return compare.le(self, other)  # type: ignore[no-any-return]

    def __gt__(self, other: Any) -> Tensor:
        return compare.gt(self, other)  # type: ignore[no-any-return]

    def __ge__(self, other: Any) -> Tensor:
        return compare.ge(self, other)  # type: ignore[no-any-return]

    # ---- bits of integers, truth of bools
    def __invert__(self) -> Tensor:
        return (compare.logical_not if self.spec.dtype.kind == "b" else compare.bitwise_not)(self)  # type: ignore[no-any-return]

    def __and__(self, other: Any) -> Tensor:
        return compare.bitwise_and(self, other)  # type: ignore[no-any-return]

    def __or__(self, other: Any) -> Tensor:
        return compare.bitwise_or(self, other)  # type: ignore[no-any-return]

    def __xor__(self, other: Any) -> Tensor:
        return compare.bitwise_xor(self, other)  # type: ignore[no-any-return]

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__
