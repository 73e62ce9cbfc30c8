"""Python's operators and elementwise functions of a Tensor; each is an op of `minigrad.ops`."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from minigrad.ops import activations, elementwise, matmul
from minigrad.tape.handle import Handle
from minigrad.tape.inplace import overwrite

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


class Arithmetic(Handle):
    """What a Tensor computes element by element, and matrix products; operators with `=` write in place."""

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
        return elementwise.div(self, other)  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> Tensor:
        return elementwise.div(other, self)  # type: ignore[no-any-return]

    def __matmul__(self, other: Any) -> Tensor:
        return matmul.matmul_nn(self, other)  # type: ignore[no-any-return]

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul.matmul_nn(other, self)  # type: ignore[no-any-return]

    def __iadd__(self, other: Any) -> Self:
        return overwrite(self, "add_", lambda: elementwise.add(self, other))  # type: ignore[no-any-return]

    def __isub__(self, other: Any) -> Self:
        return overwrite(self, "sub_", lambda: elementwise.sub(self, other))  # type: ignore[no-any-return]

    def __imul__(self, other: Any) -> Self:
        return overwrite(self, "mul_", lambda: elementwise.mul(self, other))  # type: ignore[no-any-return]

    def __itruediv__(self, other: Any) -> Self:
        return overwrite(self, "div_", lambda: elementwise.div(self, other))  # type: ignore[no-any-return]

    # ---- functions
    def exp(self) -> Tensor:
        return elementwise.exp(self)  # type: ignore[no-any-return]

    def log(self) -> Tensor:
        return elementwise.log(self)  # type: ignore[no-any-return]

    def tanh(self) -> Tensor:
        return activations.tanh(self)  # type: ignore[no-any-return]

    def sigmoid(self) -> Tensor:
        return activations.sigmoid(self)  # type: ignore[no-any-return]

    def relu(self) -> Tensor:
        return activations.relu(self)  # type: ignore[no-any-return]
