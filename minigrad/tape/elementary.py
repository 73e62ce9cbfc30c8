"""The elementwise functions of a Tensor as methods, and those that write in place; each is an op of `minigrad.ops`."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minigrad.ops import activations, compare, elementwise, maths, powers, shape
from minigrad.tape.handle import Handle
from minigrad.tape.inplace import overwrite
from minigrad.tape.record import constant

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


def _method(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """`function` of the Tensor and what the method is given."""

    def method(self: Any, *operands: Any) -> Tensor:
        return function(self, *operands)  # type: ignore[no-any-return]

    method.__name__, method.__doc__ = function.__name__, function.__doc__
    return method


def _writing(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """As `_method`, with the result written into the Tensor's memory; the method returns the Tensor."""

    def method(self: Any, *operands: Any, **options: Any) -> Any:
        return overwrite(self, name, lambda: function(self, *operands, **options))

    method.__name__, method.__doc__ = name, f"`{name[:-1]}`, written into this Tensor's memory; returns itself."
    return method


def _times(y: Any, alpha: float) -> Any:
    return y if alpha == 1 else elementwise.mul(y, alpha) if isinstance(y, Handle) else y * alpha


def _plus(x: Any, y: Any, alpha: float = 1) -> Any:
    return elementwise.add(x, _times(y, alpha))


def _minus(x: Any, y: Any, alpha: float = 1) -> Any:
    return elementwise.sub(x, _times(y, alpha))


def _full(x: Handle, value: Any) -> Any:
    """The number in x's shape and dtype. A constant, for the plan of an op does not tell the attribute -0.0 from 0.0."""
    given = shape.cast(value, dtype=x.spec.dtype) if isinstance(value, Handle) else constant(value, x.spec.dtype)
    return shape.expand(given, shape=x.spec.shape)


class Elementary(Handle):
    """What a Tensor computes element by element."""

    __slots__ = ()

    # ---- arithmetic
    def add(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self + alpha * other."""
        return _plus(self, other, alpha)  # type: ignore[no-any-return]

    def sub(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self - alpha * other."""
        return _minus(self, other, alpha)  # type: ignore[no-any-return]

    subtract = sub
    mul = multiply = _method(elementwise.mul)
    neg = negative = _method(elementwise.neg)
    pow = _method(powers.power)
    maximum = _method(maths.maximum)
    minimum = _method(maths.minimum)

    # ---- functions
    abs = absolute = _method(maths.abs)
    sign = sgn = _method(maths.sign)
    square = _method(maths.square)
    sqrt = _method(maths.sqrt)
    rsqrt = _method(maths.rsqrt)
    reciprocal = _method(maths.reciprocal)
    exp = _method(elementwise.exp)
    exp2 = _method(maths.exp2)
    expm1 = _method(maths.expm1)
    log = _method(elementwise.log)
    log2 = _method(maths.log2)
    log10 = _method(maths.log10)
    log1p = _method(maths.log1p)
    sin = _method(maths.sin)
    cos = _method(maths.cos)
    tan = _method(maths.tan)
    erf = _method(maths.erf)
    floor = _method(maths.floor)
    ceil = _method(maths.ceil)
    round = _method(maths.round)
    trunc = _method(maths.trunc)
    tanh = _method(activations.tanh)
    sigmoid = _method(activations.sigmoid)
    relu = _method(activations.relu)

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """No less than `min` and no more than `max`, numbers, Tensors or None; the gradient is 1 inside, the bounds included."""
        return maths.clamp(self, min, max)  # type: ignore[no-any-return]

    clip = clamp

    def clamp_min(self, min: Any) -> Tensor:
        """No less than `min`."""
        return self.clamp(min=min)

    def clamp_max(self, max: Any) -> Tensor:
        """No more than `max`."""
        return self.clamp(max=max)

    # ---- comparisons, logic, choice
    eq = _method(compare.eq)
    ne = _method(compare.ne)
    lt = _method(compare.lt)
    le = _method(compare.le)
    gt = _method(compare.gt)
    ge = _method(compare.ge)
    logical_and = _method(compare.logical_and)
    logical_or = _method(compare.logical_or)
    logical_xor = _method(compare.logical_xor)
    logical_not = _method(compare.logical_not)
    isnan = _method(compare.isnan)
    isinf = _method(compare.isinf)
    isfinite = _method(compare.isfinite)

    def where(self, condition: Any, other: Any) -> Tensor:
        """This Tensor's elements where the condition holds, else those of `other`."""
        return compare.where(condition, self, other)  # type: ignore[no-any-return]

    # ---- in place
    add_ = _writing(_plus, "add_")
    sub_ = _writing(_minus, "sub_")
    mul_ = _writing(elementwise.mul, "mul_")
    div_ = _writing(elementwise.div, "div_")
    pow_ = _writing(powers.power, "pow_")
    neg_ = _writing(elementwise.neg, "neg_")
    abs_ = _writing(maths.abs, "abs_")
    exp_ = _writing(elementwise.exp, "exp_")
    log_ = _writing(elementwise.log, "log_")
    sqrt_ = _writing(maths.sqrt, "sqrt_")
    square_ = _writing(maths.square, "square_")
    reciprocal_ = _writing(maths.reciprocal, "reciprocal_")
    floor_ = _writing(maths.floor, "floor_")
    ceil_ = _writing(maths.ceil, "ceil_")
    round_ = _writing(maths.round, "round_")
    clamp_ = clip_ = _writing(maths.clamp, "clamp_")
    tanh_ = _writing(activations.tanh, "tanh_")
    sigmoid_ = _writing(activations.sigmoid, "sigmoid_")
    relu_ = _writing(activations.relu, "relu_")

    def fill_(self, value: Any) -> Any:
        """Write a number, or a Tensor's, into every place; returns itself."""
        return overwrite(self, "fill_", lambda: _full(self, value))

    def zero_(self) -> Any:
        """Write 0 into every place; returns itself."""
        return overwrite(self, "zero_", lambda: _full(self, 0))
