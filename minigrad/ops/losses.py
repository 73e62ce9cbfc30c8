"""Losses, each followed by its gradient, an op of its own."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.errors import LabelError
from minigrad.ops import rules
from minigrad.ops.activations import hardtanh_grad, logsigmoid, sigmoid, sigmoid_grad
from minigrad.ops.elementwise import add, div, log, mul, neg, scale, sub
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.reduce import sum
from minigrad.ops.samples import Case, Samples, labelled, reals, several, shaped
from minigrad.ops.shape import cast, reshape
from minigrad.ops.softmax import softmax, softmax_grad
from minigrad.ops.spec import Spec
from minigrad_kernels import losses as kernels

Array = np.ndarray[Any, np.dtype[Any]]


@op(kernel=kernels.mse, shape=rules.loss, samples=several(shaped((4, 3), (4, 3)), shaped((67,), (67,))), flops=per_element(3))
def mse(x: Value, target: Value) -> Value:
    """Mean of (x - target) squared."""
    return np.mean((x - target) ** 2)


@mse.vjp("x")
def _(g: Value, x: Value, target: Value) -> Value:
    return mse_grad(g, x, target)


@mse.vjp("target")
def _(g: Value, x: Value, target: Value) -> Value:
    return neg(mse_grad(g, x, target))


@op(kernel=kernels.mse_grad, shape=rules.loss_grad, samples=shaped((), (4, 3), (4, 3)), flops=per_element(2))
def mse_grad(grad: Value, x: Value, target: Value) -> Value:
    """grad * 2 / n * (x - target)."""
    return grad * 2 / max(1, x.size) * (x - target)


@mse_grad.vjp("grad")
def _(g: Value, x: Value, target: Value) -> Value:
    return sum(mul(g, mse_grad(1.0, x, target)))


@mse_grad.vjp("x")
def _(g: Value, grad: Value, x_spec: Spec) -> Value:
    return scale(mul(grad, g), by=2 / max(1, x_spec.size))


@mse_grad.vjp("target")
def _(g: Value, grad: Value, x_spec: Spec) -> Value:
    return scale(mul(grad, g), by=-2 / max(1, x_spec.size))


# ---- of class labels -----------------------------------------------------------------------------------------------------------------
def _no_class(name: str, at: int, classes: Callable[..., int]) -> Callable[..., LabelError]:
    """What makes the error of an op whose input `at` are labels; `classes` is of the op's arrays."""

    def error(*arrays: Array, ignore_index: int = -100, **_: Any) -> LabelError:
        text = f"{name}: a label is negative or not below the number of classes"
        if not arrays:
            return LabelError(f"{text}: labels are class indices 0 to classes - 1")
        count, labels = classes(*arrays), arrays[at]
        bad = np.argwhere((labels != ignore_index) & ((labels < 0) | (labels >= count)))[0]
        row = ", ".join(map(str, bad)) or "0"
        return LabelError(f"{text}: row {row} has label {labels[tuple(bad)]}, and there are {count} classes: labels are class indices "
                          f"0 to {count - 1}, or ignore_index={ignore_index}")

    return error


def _class_axis(x: Value) -> int:
    return min(1, np.ndim(x) - 1)


def _labelled(*shape: int, spoil: int = -100, **attributes: Any) -> Samples:
    """A float array (batch, classes, ...) or (classes,), and labels for it, some of them ignored."""

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        x = rng.uniform(-3, 3, shape)
        labels = rng.integers(0, shape[_class_axis(x)], shape[:1] + shape[2:] if len(shape) > 1 else ())
        if labels.size > 2:
            labels.flat[1] = spoil
        yield (x, labels), attributes

    return cases


def _ignoring(samples: Samples, label: int = -100) -> Samples:
    """The cases with the first label replaced by one that is ignored."""

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        for (*front, labels), attributes in samples(rng):
            labels[0] = label
            yield (*front, labels), {**attributes, **({"ignore_index": label} if label != -100 else {})}

    return cases


@op(kernel=kernels.softmax_cross_entropy, integers=("labels",), shape=rules.class_loss,
    samples=several(labelled(4, 3), labelled(2, 19), _ignoring(labelled(5, 3)), _ignoring(labelled(5, 3), label=1)), flops=per_element(14),
    fails=_no_class("softmax_cross_entropy", 1, lambda x, labels: x.shape[1]))
def softmax_cross_entropy(x: Value, labels: Value, *, ignore_index: int = -100) -> Value:
    """Mean of log(sum(exp(x))) - x[label] over the rows whose label is not ignore_index: logits (rows, classes), int64 labels (rows,)."""
    x, labels = x[labels != ignore_index], labels[labels != ignore_index]
    high = np.max(x.real, axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(x - high), axis=1)) + high[:, 0] - x[np.arange(len(x)), labels])


@softmax_cross_entropy.vjp("x")
def _(g: Value, x: Value, labels: Value, ignore_index: int) -> Value:
    return softmax_cross_entropy_grad(g, x, labels, ignore_index=ignore_index)


@op(kernel=kernels.softmax_cross_entropy_grad, integers=("labels",), shape=rules.class_loss_grad,
    samples=several(labelled(4, 3, with_grad=True), labelled(2, 19, with_grad=True), _ignoring(labelled(5, 3, with_grad=True)),
                    _ignoring(labelled(5, 3, with_grad=True), label=1)), flops=per_element(16))
def softmax_cross_entropy_grad(grad: Value, x: Value, labels: Value, *, ignore_index: int = -100) -> Value:
    """grad / rows * (softmax(x) - onehot(labels)) in the rows whose label is not ignore_index, else 0."""
    kept = labels != ignore_index
    return grad / kept.sum() * (softmax.definition(x) - np.eye(x.shape[1])[np.where(kept, labels, 0)]) * kept[:, None]


@softmax_cross_entropy_grad.vjp("grad")
def _(g: Value, x: Value, labels: Value, ignore_index: int) -> Value:
    return sum(mul(g, softmax_cross_entropy_grad(1.0, x, labels, ignore_index=ignore_index)))


@softmax_cross_entropy_grad.vjp("x")
def _(g: Value, grad: Value, x: Value, labels: Value, x_spec: Spec, ignore_index: int) -> Value:
    kept = cast(label_weights(labels, 1.0, ignore_index=ignore_index), dtype=x_spec.dtype)
    share = reshape(mul(grad, div(kept, sum(kept))), shape=(x_spec.shape[0], 1))
    return mul(share, softmax_grad(g, softmax(x)))


@op(kernel=kernels.nll, integers=("labels",), shape=rules.class_values, fails=_no_class("nll", 1, lambda x, labels: x.shape[_class_axis(x)]),
    samples=several(_labelled(4, 3), _labelled(5, 7, spoil=3, ignore_index=3), _labelled(6), _labelled(3, 4, 2, 5)))
def nll(x: Value, labels: Value, *, ignore_index: int = -100) -> Value:
    """-x at each label, 0 where the label is ignore_index: x (batch, classes, ...) or (classes,), int64 labels of that shape without classes."""
    axis = _class_axis(x)
    kept = labels != ignore_index
    found = np.take_along_axis(x, np.expand_dims(np.where(kept, labels, 0), axis), axis)
    return np.where(kept, -np.squeeze(found, axis), 0)


@nll.vjp("x")
def _(g: Value, labels: Value, x_spec: Spec, ignore_index: int) -> Value:
    return nll_grad(g, labels, classes=x_spec.shape[min(1, len(x_spec.shape) - 1)], ignore_index=ignore_index)


def _rows_of(samples: Samples, classes: int) -> Samples:
    """The cases of `nll` with a gradient of the labels' shape in the place of x."""

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        for (_, labels), attributes in samples(rng):
            yield (np.asarray(rng.uniform(-3, 3, labels.shape)), labels), {**attributes, "classes": classes}

    return cases


@op(kernel=kernels.nll_grad, integers=("labels",), shape=rules.class_values_grad,
    fails=LabelError("nll_grad: a label is negative or not below the number of classes: labels are class indices 0 to classes - 1"),
    samples=several(_rows_of(_labelled(4, 3), 3), _rows_of(_labelled(5, 7, spoil=3, ignore_index=3), 7), _rows_of(_labelled(6), 6),
                    _rows_of(_labelled(3, 4, 2, 5), 4)))
def nll_grad(grad: Value, labels: Value, *, classes: int, ignore_index: int = -100) -> Value:
    """-grad at each label, 0 elsewhere: the shape of the labels with `classes` as axis 1, or as the only axis."""
    axis = min(1, np.ndim(labels))
    hot = np.moveaxis(np.eye(classes)[np.where(labels == ignore_index, 0, labels)], -1, axis)
    return np.expand_dims(-grad * (labels != ignore_index), axis) * hot


@nll_grad.vjp("grad")
def _(g: Value, labels: Value, ignore_index: int) -> Value:
    return nll(g, labels, ignore_index=ignore_index)


def _weighted(shape: tuple[int, ...], weights: tuple[int, ...]) -> Samples:
    def cases(rng: np.random.Generator) -> Iterator[Case]:
        labels = rng.integers(0, 5, shape)
        labels.flat[0] = -100
        yield (labels, rng.uniform(0.5, 2, weights)), {}

    return cases


@op(kernel=kernels.label_weights, integers=("labels",), shape=rules.class_weights,
    fails=_no_class("label_weights", 0, lambda labels, weight: weight.size), samples=several(_weighted((7,), (5,)), _weighted((3, 4), ())))
def label_weights(labels: Value, weight: Value, *, ignore_index: int = -100) -> Value:
    """The weight of each label's class, or the only weight; 0 where the label is ignore_index. Not differentiable, as in PyTorch."""
    kept = labels != ignore_index
    return np.where(kept, np.asarray(weight)[np.where(kept, labels, 0)] if np.ndim(weight) else weight, 0)


# ---- element by element --------------------------------------------------------------------------------------------------------------
@op(kernel=kernels.huber, shape=rules.elementwise, flops=per_element(5),
    samples=several(reals(-3, 3), reals(-3, 3, delta=0.0), reals(-3, 3, delta=0.5, slope=2.0)))
def huber(d: Value, *, delta: float = 1.0, slope: float = 1.0) -> Value:
    """slope * d**2 / (2 * delta) where |d| is below delta, else slope * (|d| - delta / 2); slope * |d| with delta = 0."""
    a = np.where(d.real < 0, -d, d)
    return np.where(a.real < delta, slope / 2 * d * d / (delta or 1.0), slope * (a - delta / 2))


@huber.vjp("d")
def _(g: Value, d: Value, delta: float, slope: float) -> Value:
    return huber_grad(g, d, delta=delta, slope=slope)


@op(kernel=kernels.huber_grad, shape=rules.elementwise, flops=per_element(5),
    samples=several(reals(-3, 3, arity=2), reals(-3, 3, arity=2, delta=0.0), reals(-3, 3, arity=2, delta=0.5, slope=2.0)))
def huber_grad(grad: Value, d: Value, *, delta: float = 1.0, slope: float = 1.0) -> Value:
    """grad * slope * d / delta where |d| is below delta, else grad * slope * sign(d)."""
    return grad * slope * np.where(np.abs(d.real) < delta, d / (delta or 1.0), np.sign(d.real))


@huber_grad.vjp("grad")
def _(g: Value, d: Value, delta: float, slope: float) -> Value:
    return huber_grad(g, d, delta=delta, slope=slope)


@huber_grad.vjp("d")
def _(g: Value, grad: Value, d: Value, delta: float, slope: float) -> Value:
    return scale(hardtanh_grad(mul(g, grad), d, min_val=-delta, max_val=delta), by=slope / delta if delta else 0.0)


@op(kernel=kernels.binary_cross_entropy, shape=rules.paired, samples=reals(0.05, 0.95, arity=2), flops=per_element(28))
def binary_cross_entropy(p: Value, target: Value) -> Value:
    """-target * log(p) - (1 - target) * log(1 - p), logarithms not below -100, as PyTorch's; NaN for a p outside 0 to 1."""
    hit, miss = np.log(p), np.log1p(-p)
    return (target - 1) * np.where(miss.real < -100, -100, miss) - target * np.where(hit.real < -100, -100, hit)


@binary_cross_entropy.vjp("p")
def _(g: Value, p: Value, target: Value) -> Value:
    return binary_cross_entropy_grad(g, p, target)


@binary_cross_entropy.vjp("target")
def _(g: Value, p: Value) -> Value:
    return mul(g, sub(log(sub(1.0, p)), log(p)))


@op(kernel=kernels.binary_cross_entropy_grad, shape=rules.paired, samples=reals(0.05, 0.95, arity=3), flops=per_element(6))
def binary_cross_entropy_grad(grad: Value, p: Value, target: Value) -> Value:
    """grad * (p - target) / (p * (1 - p)), the divisor not below 1e-12, as PyTorch's."""
    spread = p * (1 - p)
    return grad * (p - target) / np.where(spread.real < 1e-12, 1e-12, spread)


@binary_cross_entropy_grad.vjp("grad")
def _(g: Value, p: Value, target: Value) -> Value:
    return binary_cross_entropy_grad(g, p, target)


@binary_cross_entropy_grad.vjp("p")
def _(g: Value, grad: Value, p: Value, target: Value) -> Value:
    rest = sub(1.0, p)
    return mul(mul(g, grad), add(div(target, mul(p, p)), div(sub(1.0, target), mul(rest, rest))))


@binary_cross_entropy_grad.vjp("target")
def _(g: Value, grad: Value, p: Value) -> Value:
    return neg(div(mul(g, grad), mul(p, sub(1.0, p))))


@op(kernel=kernels.binary_cross_entropy_with_logits, shape=rules.paired, samples=reals(-5, 5, arity=2), flops=per_element(32))
def binary_cross_entropy_with_logits(x: Value, target: Value) -> Value:
    """-target * log(sigmoid(x)) - (1 - target) * log(1 - sigmoid(x)), without overflow or cancellation."""
    return -target * logsigmoid.definition(x) - (1 - target) * logsigmoid.definition(-x)


@binary_cross_entropy_with_logits.vjp("x")
def _(g: Value, x: Value, target: Value) -> Value:
    return binary_cross_entropy_with_logits_grad(g, x, target)


@binary_cross_entropy_with_logits.vjp("target")
def _(g: Value, x: Value) -> Value:
    return neg(mul(g, x))


@op(kernel=kernels.binary_cross_entropy_with_logits_grad, shape=rules.paired, samples=reals(-5, 5, arity=3), flops=per_element(20))
def binary_cross_entropy_with_logits_grad(grad: Value, x: Value, target: Value) -> Value:
    """grad * (sigmoid(x) - target)."""
    return grad * (1 / (1 + np.exp(-x)) - target)


@binary_cross_entropy_with_logits_grad.vjp("grad")
def _(g: Value, x: Value, target: Value) -> Value:
    return binary_cross_entropy_with_logits_grad(g, x, target)


@binary_cross_entropy_with_logits_grad.vjp("x")
def _(g: Value, grad: Value, x: Value) -> Value:
    return sigmoid_grad(mul(g, grad), sigmoid(x))


@binary_cross_entropy_with_logits_grad.vjp("target")
def _(g: Value, grad: Value) -> Value:
    return neg(mul(g, grad))
