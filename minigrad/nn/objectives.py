"""PyTorch's loss functions, of the ops of `minigrad.ops.losses`; `nn.functional` has them all."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.errors import GraphError, ShapeError
from minigrad.ops import losses
from minigrad.ops.activations import logsigmoid
from minigrad.ops.elementwise import add, div, mul, neg, scale, sub
from minigrad.ops.reduce import mean, sum
from minigrad.ops.shape import cast, reshape
from minigrad.ops.softmax import log_softmax
from minigrad.tape.handle import Handle
from minigrad.tape.record import constant, lift
from minigrad.tape.tensor import Tensor


def _reduced(name: str, values: Any, reduction: str) -> Any:
    """The mean of all values, their sum, or themselves."""
    if reduction == "none":
        return values
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{name}: {reduction!r} is not a valid value for reduction: it is 'mean', 'sum' or 'none'")
    return mean(values) if reduction == "mean" else sum(values)


def _beside(like: Handle, x: Any) -> Any:
    """x as a Tensor; numbers, lists and arrays take the dtype of `like`."""
    made = lift(mul, (like, np.asarray(x) if isinstance(x, list | tuple) else x))[1]
    return cast(made, dtype=like.spec.dtype) if made.weak and made.spec.dtype != like.spec.dtype else made


def _one_shape(name: str, input: Any, target: Any) -> None:
    shapes = [x.spec.shape if isinstance(x, Handle) else np.shape(x) for x in (input, target)]
    if shapes[0] != shapes[1]:
        raise ShapeError(f"{name}: input and target need one shape, got {shapes[0]} and {shapes[1]}: reshape or broadcast one of them first")


def _difference(name: str, input: Any, target: Any) -> Any:
    _one_shape(name, input, target)
    return sub(input, target)


# ---- of numbers ------------------------------------------------------------------------------------------------------------------------
def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """(input - target) squared, for operands of one shape: the mean, the sum, or with "none" each. Raises ShapeError."""
    if reduction == "mean":
        return losses.mse(input, target)  # type: ignore[no-any-return]
    difference = _difference("mse_loss", input, target)
    return _reduced("mse_loss", mul(difference, difference), reduction)  # type: ignore[no-any-return]


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """|input - target|, for operands of one shape; the gradient where they are equal is 0. reduction and errors as `mse_loss`."""
    return _reduced("l1_loss", losses.huber(_difference("l1_loss", input, target), delta=0.0), reduction)  # type: ignore[no-any-return]


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d**2 / 2 where |d| is below delta, else delta * (|d| - delta / 2), for d = input - target. reduction and errors as `mse_loss`."""
    if not 0 < delta < np.inf:
        raise ValueError(f"huber_loss: delta is {delta}, expected a positive number: mse_loss / 2 is its limit for large ones")
    made = losses.huber(_difference("huber_loss", input, target), delta=float(delta), slope=float(delta))
    return _reduced("huber_loss", made, reduction)  # type: ignore[no-any-return]


def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d**2 / (2 * beta) where |d| is below beta, else |d| - beta / 2, for d = input - target. reduction and errors as `mse_loss`."""
    if not 0 <= beta < np.inf:
        raise ValueError(f"smooth_l1_loss: beta is {beta}, expected a number that is not negative")
    made = losses.huber(_difference("smooth_l1_loss", input, target), delta=float(beta))
    return _reduced("smooth_l1_loss", made, reduction)  # type: ignore[no-any-return]


# ---- of probabilities ------------------------------------------------------------------------------------------------------------------
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Tensor:
    """-target * log(input) - (1 - target) * log(1 - input), for probabilities of one shape; logarithms are not below -100.

    weight: factors that broadcast to that shape. A probability outside 0 to 1 gives NaN. reduction and errors as `mse_loss`.
    """
    made = losses.binary_cross_entropy(input, target)
    return _reduced("binary_cross_entropy", made if weight is None else mul(made, _beside(made, weight)), reduction)  # type: ignore[no-any-return]


def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), finite for every finite logit.

    pos_weight: factors of the first term that broadcast to the shape, for instance one for each class.
    """
    name = "binary_cross_entropy_with_logits"
    if pos_weight is None:
        made = losses.binary_cross_entropy_with_logits(input, target)
    else:
        logits, target = lift(losses.binary_cross_entropy_with_logits, (input, target))
        _one_shape(name, logits, target)
        target = _beside(logits, target)
        positive = mul(mul(_beside(logits, pos_weight), target), neg(logsigmoid(logits)))
        made = add(positive, mul(sub(1.0, target), neg(logsigmoid(neg(logits)))))
    return _reduced(name, made if weight is None else mul(made, _beside(made, weight)), reduction)  # type: ignore[no-any-return]


# ---- of classes ------------------------------------------------------------------------------------------------------------------------
def _class_axis(x: Handle) -> int:
    """Axis 1 of a batch; a vector is one row."""
    return min(1, len(x.spec.shape) - 1)


def _labelled(input: Any, target: Any) -> tuple[Handle, Handle]:
    """The two as Tensors, class indices in int64."""
    x, labels = lift(losses.softmax_cross_entropy, (input, np.asarray(target) if isinstance(target, int) else target))
    if labels.spec.dtype.kind in "iu" and labels.spec.dtype != np.int64:
        labels = cast(labels, dtype=np.dtype(np.int64))
    return x, labels


def _class_weight(name: str, x: Handle, weight: Any) -> Any:
    """The weights as a Tensor, one for each class."""
    if weight is None:
        return None
    made = _beside(x, weight)
    classes = x.spec.shape[_class_axis(x)] if x.spec.shape else 0
    if made.spec.shape != (classes,):
        raise ShapeError(f"{name}: weight has shape {made.spec.shape}, expected one number for each of the {classes} classes of {x.spec!r}")
    if made.needs_grad:
        raise GraphError(f"{name} is not differentiable with respect to weight: pass weight.detach()")
    return made


def _along_classes(x: Handle, weight: Any) -> Any:
    """The weights, shaped to broadcast along the class axis of x."""
    return reshape(weight, shape=(weight.spec.size, *[1] * (len(x.spec.shape) - 1 - _class_axis(x))))


def _nll(name: str, x: Handle, labels: Handle, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    """The weighted terms -x[label], ignored ones 0, and their sum, or their sum over that of the weights."""
    share = constant(1.0, x.spec.dtype) if weight is None else weight
    values = losses.nll(x, labels, ignore_index=ignore_index)
    weights = None
    if weight is not None or reduction == "mean":
        weights = losses.label_weights(labels, share, ignore_index=ignore_index)
    if weight is not None:
        values = mul(values, weights)
    if smoothing:
        axis = _class_axis(x)
        even = sum(x if weight is None else mul(x, _along_classes(x, weight)), axis=axis)
        kept = losses.label_weights(labels, constant(1.0, x.spec.dtype), ignore_index=ignore_index)
        values = sub(scale(values, by=1 - smoothing), scale(mul(even, kept), by=smoothing / max(1, x.spec.shape[axis])))
    return div(sum(values), sum(weights)) if reduction == "mean" else _reduced(name, values, reduction)


def nll_loss(input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-input[target], for log-probabilities input (batch, classes, ...) or (classes,) and class indices target of that shape without classes.

    weight: a factor for each class; targets equal to ignore_index count nothing. The mean is the sum divided by that of the weights of all
    targets. Raises LabelError for an index that is no class.
    """
    x, labels = _labelled(input, target)
    return _nll("nll_loss", x, labels, _class_weight("nll_loss", x, weight), ignore_index, reduction, 0.0)  # type: ignore[no-any-return]


def cross_entropy(input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(input)[target], for logits input (batch, classes, ...) or (classes,).

    target: class indices of any integer dtype and of that shape without classes, or probabilities of the logits' own shape. weight,
    ignore_index, reduction and errors are those of `nll_loss`; of probabilities the mean is over all targets. label_smoothing: the share of
    each target that is spread evenly over the classes.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    logits, labels = _labelled(input, target)
    probable = labels.spec.is_float and labels.spec.shape == logits.spec.shape
    if weight is None and not label_smoothing and reduction == "mean" and not probable and len(logits.spec.shape) == 2:
        if ignore_index == -100:
            return losses.softmax_cross_entropy(logits, labels)  # type: ignore[no-any-return]
        return losses.softmax_cross_entropy(logits, labels, ignore_index=ignore_index)  # type: ignore[no-any-return]
    weight = _class_weight("cross_entropy", logits, weight)
    x, axis = log_softmax(logits, axis=_class_axis(logits)), _class_axis(logits)
    if not probable:
        return _nll("cross_entropy", x, labels, weight, ignore_index, reduction, label_smoothing)  # type: ignore[no-any-return]
    shares = _beside(logits, labels)
    if label_smoothing:
        shares = add(scale(shares, by=1 - label_smoothing), label_smoothing / max(1, x.spec.shape[axis]))
    values = neg(sum(mul(shares, x if weight is None else mul(x, _along_classes(x, weight))), axis=axis))
    return _reduced("cross_entropy", values, reduction)  # type: ignore[no-any-return]
