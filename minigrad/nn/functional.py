"""PyTorch's `torch.nn.functional` names for the ops of `minigrad.ops`."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.ops.activations import relu as relu
from minigrad.ops.activations import sigmoid as sigmoid
from minigrad.ops.activations import tanh as tanh
from minigrad.ops.losses import mse, softmax_cross_entropy
from minigrad.ops.losses import softmax as _softmax
from minigrad.ops.matmul import linear as linear
from minigrad.ops.residual import residual as residual
from minigrad.ops.shape import cast
from minigrad.tape.handle import Handle
from minigrad.tape.record import lift
from minigrad.tape.tensor import Tensor


def mse_loss(input: Tensor, target: Any) -> Tensor:
    """The mean of (input - target) squared; a scalar. Shapes must be equal."""
    return mse(input, target)  # type: ignore[no-any-return]


def cross_entropy(input: Tensor, target: Any) -> Tensor:
    """The mean of -log softmax(input)[target] over rows; a scalar.

    input: logits (rows, classes); target: integer class indices (rows,). Raises LabelError for an index that is not a class.
    """
    logits, labels = lift(softmax_cross_entropy, (input, target))
    if labels.spec.dtype.kind in "iu" and labels.spec.dtype != np.int64:
        labels = cast(labels, dtype=np.dtype(np.int64))
    return softmax_cross_entropy(logits, labels)  # type: ignore[no-any-return]


def softmax(input: Handle, dim: int = -1) -> Tensor:
    """exp(input) / sum(exp(input)) along the last axis."""
    if dim not in (-1, len(input.spec.shape) - 1):
        raise ValueError(f"softmax works along the last axis, not {dim}")
    return _softmax(input)  # type: ignore[no-any-return]
