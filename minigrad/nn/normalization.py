"""Normalisation over the batch and over each row."""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minigrad import config
from minigrad.errors import ShapeError
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.ops import normalize, normalize_rows
from minigrad.ops.random import advance_
from minigrad.ops.shape import cast
from minigrad.ops.spec import Shape, Spec
from minigrad.tape import journal
from minigrad.tape.handle import Handle, wrap
from minigrad.tape.mode import local, no_grad
from minigrad.tape.record import lift
from minigrad.tape.tensor import Tensor, tensor


class Running(NamedTuple):
    """Statistics that move with every batch: by `momentum`, or by 1 / count if it is None."""

    mean: Any
    variance: Any
    count: Any
    momentum: float | None


def _where() -> str:
    return f"in {local.mode.path}: " if local.mode.path else ""


@lru_cache(maxsize=256)
def _all(value: float, shape: Shape, dtype: Any) -> Tensor:
    """A Tensor that nobody writes, in place of a missing weight, bias or mean; the same one for a shape, so that programs agree on it."""
    return wrap(np.full(shape, value, dtype), Spec.of(shape, np.dtype(dtype)))  # type: ignore[no-any-return]


def _given(op: Any, input: Any, *beside: Any) -> Any:
    """The input as a Tensor; a plain array in the dtype of the first Tensor of the layer."""
    (x,) = lift(op, (input,))
    dtype = next((y.spec.dtype for y in beside if y is not None), x.spec.dtype)
    return cast(x, dtype=dtype) if x.weak and x.spec.dtype != dtype else x


def _affine(weight: Any, bias: Any, shape: Shape, dtype: Any) -> tuple[Any, Any]:
    """Weight and bias, of ones and zeros where there are none."""
    return _all(1.0, shape, dtype) if weight is None else weight, _all(0.0, shape, dtype) if bias is None else bias


def _channels(x: Handle, name: str) -> int:
    rank = len(x.spec.shape)
    if rank not in (2, 3):
        raise ShapeError(f"{_where()}{name}: expected 2D or 3D input (got {rank}D input): x is (batch, features) or (batch, channels, length), "
                         f"got {x.spec!r}")
    return x.spec.shape[1]


def _by_batch(x: Any, weight: Any, bias: Any, eps: float, running: Running | None) -> Any:
    """Normalised by the statistics of the batch, towards which those of `running` are moved."""
    channels = _channels(x, "batch_norm")
    if x.spec.size <= channels:
        raise ShapeError(f"{_where()}batch_norm: Expected more than 1 value per channel when training, got input size {x.spec.shape}: "
                         "leave such a batch out (drop_last=True), or call eval() first")
    weight, bias = _affine(weight, bias, (channels,), x.spec.dtype)
    out = normalize.batch_norm(x, weight, bias, eps=eps)
    if running is not None:
        with no_grad():
            moments = normalize.batch_moments(x)
            journal.remember(running.mean, running.variance, *([] if running.count is None else [running.count]))
            if running.count is not None:
                advance_(running.count, by=1)
            if running.momentum is None:
                normalize.running_average_(running.mean, running.variance, moments, running.count)
            else:
                normalize.running_(running.mean, running.variance, moments, momentum=running.momentum)
    return out


def _by_running(x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Any:
    weight, bias = _affine(weight, bias, (_channels(x, "batch_norm"),), x.spec.dtype)
    return normalize.batch_norm_by(x, mean, variance, weight, bias, eps=eps)


def batch_norm(input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Each channel of (batch, channels[, length]) less its mean, divided by its standard deviation, times weight plus bias.

    Training: with the batch's own statistics, towards which the running ones move, if given, by `momentum` (the variance without bias); else
    with the running ones. Raises ShapeError for another number of channels, and in training for one value a channel.
    """
    x = _given(normalize.batch_norm, input, weight, bias, running_mean)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("Expected running_mean and running_var to be defined when training=False")
        return _by_running(x, running_mean, running_var, weight, bias, float(eps))  # type: ignore[no-any-return]
    running = None if running_mean is None else Running(running_mean, running_var, None, float(momentum))
    return _by_batch(x, weight, bias, float(eps), running)  # type: ignore[no-any-return]


def layer_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """The last axes of the input, of sizes `normalized_shape`, less their mean, divided by their standard deviation, times weight plus bias.

    weight and bias: of `normalized_shape`, or left out. Raises ShapeError for an input of other sizes.
    """
    shape = _sizes(normalized_shape)
    for name, x in (("weight", weight), ("bias", bias)):
        if x is not None and x.spec.shape != shape:
            raise ShapeError(f"{_where()}layer_norm: {name} has shape {x.spec.shape}, expected normalized_shape {shape}")
    x = _given(normalize_rows.layer_norm, input, weight, bias)
    weight, bias = _affine(weight, bias, shape, x.spec.dtype)
    return normalize_rows.layer_norm(x, weight, bias, eps=float(eps))  # type: ignore[no-any-return]


def _sizes(shape: int | Sequence[int]) -> Shape:
    return tuple(int(n) for n in shape) if isinstance(shape, Sequence) else (int(shape),)


class BatchNorm1d(Module):
    """Normalise each feature of (batch, features), or each channel of (batch, channels, length), over the batch, then scale and shift it.

    weight and bias (num_features,), unless affine=False, start as ones and zeros. Training uses the batch's own statistics; evaluation the
    running ones, unless track_running_stats=False. They move by `momentum`, or are the average of all batches if it is None, and a refused step
    leaves them as they were. S. Ioffe and C. Szegedy, "Batch normalization", ICML 2015; PyTorch's names and defaults.
    """

    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
                 dtype: Any = None) -> None:
        super().__init__()
        self.num_features, self.eps = int(num_features), float(eps)
        self.momentum = None if momentum is None else float(momentum)
        self.affine, self.track_running_stats = affine, track_running_stats
        kind = np.dtype(dtype) if dtype is not None else config.get_default_dtype()
        self.weight: Any = Parameter(np.ones(self.num_features, kind)) if affine else None
        self.bias: Any = Parameter(np.zeros(self.num_features, kind)) if affine else None
        self.register_buffer("running_mean", tensor(np.zeros(self.num_features, kind)) if track_running_stats else None)
        self.register_buffer("running_var", tensor(np.ones(self.num_features, kind)) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(0) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Forget all batches: mean 0, variance 1, count 0."""
        if self.track_running_stats:
            for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
                buffer.copy_(np.full(buffer.shape, value, buffer.dtype))
                journal.keep(buffer)

    def forward(self, x: Any) -> Any:
        given = _given(normalize.batch_norm, x, self.weight, self.running_mean)
        tracked = self.running_mean is not None
        channels = _channels(given, "batch_norm")
        if channels != self.num_features:
            raise ShapeError(f"{_where()}batch_norm: expected {self.num_features} features, got {channels} (got {given.spec!r}): "
                             f"the layer before gives {channels}, so make this one BatchNorm1d({channels})")
        if tracked and not self.training:
            return _by_running(given, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        running = Running(self.running_mean, self.running_var, self.num_batches_tracked, self.momentum) if tracked and self.training else None
        return _by_batch(given, self.weight, self.bias, self.eps, running)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, track_running_stats={self.track_running_stats}"


class LayerNorm(Module):
    """Normalise the last axes, of sizes `normalized_shape`, of each row by themselves, then scale and shift each element.

    weight and bias of `normalized_shape`, unless elementwise_affine=False (or bias=False), start as ones and zeros. J. L. Ba, J. R. Kiros
    and G. E. Hinton, "Layer normalization", 2016; PyTorch's names and defaults.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
                 dtype: Any = None) -> None:
        super().__init__()
        self.normalized_shape, self.eps, self.elementwise_affine = _sizes(normalized_shape), float(eps), elementwise_affine
        kind = np.dtype(dtype) if dtype is not None else config.get_default_dtype()
        self.weight: Any = Parameter(np.ones(self.normalized_shape, kind)) if elementwise_affine else None
        self.bias: Any = Parameter(np.zeros(self.normalized_shape, kind)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
