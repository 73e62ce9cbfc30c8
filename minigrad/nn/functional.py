"""PyTorch's `torch.nn.functional` names for the ops of `minigrad.ops`."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from minigrad.errors import ShapeError
from minigrad.nn.dropout import dropout as dropout
from minigrad.nn.normalization import batch_norm as batch_norm
from minigrad.nn.normalization import layer_norm as layer_norm
from minigrad.nn.objectives import binary_cross_entropy as binary_cross_entropy
from minigrad.nn.objectives import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from minigrad.nn.objectives import cross_entropy as cross_entropy
from minigrad.nn.objectives import huber_loss as huber_loss
from minigrad.nn.objectives import l1_loss as l1_loss
from minigrad.nn.objectives import mse_loss as mse_loss
from minigrad.nn.objectives import nll_loss as nll_loss
from minigrad.nn.objectives import smooth_l1_loss as smooth_l1_loss
from minigrad.ops import activations, maths
from minigrad.ops.activations import logsigmoid as logsigmoid
from minigrad.ops.activations import sigmoid as sigmoid
from minigrad.ops.activations import tanh as tanh
from minigrad.ops.matmul import linear as linear
from minigrad.ops.op import Op
from minigrad.ops.residual import residual as residual
from minigrad.ops.shape import cast
from minigrad.ops.softmax import log_softmax as _log_softmax
from minigrad.ops.softmax import softmax as _softmax
from minigrad.tape import arranging, reducing
from minigrad.tape.arranging import embedding as embedding
from minigrad.tape.arranging import one_hot as one_hot
from minigrad.tape.inplace import overwrite
from minigrad.tape.tensor import Tensor

# Klambauer et al., arXiv:1706.02515, section 2: the fixed point at mean 0 and variance 1
SELU_ALPHA: Final = 1.6732632423543772848170429916717
SELU_SCALE: Final = 1.0507009873554804934193349852946


def _written(input: Any, inplace: bool, name: str, activation: Op, **numbers: float) -> Any:
    """The activation of input; with inplace=True written into its memory, as PyTorch does it."""
    numbers = {key: number + 0.0 for key, number in numbers.items()}  # no -0.0: an op's plan does not tell it from 0.0
    return overwrite(input, name, lambda: activation(input, **numbers)) if inplace else activation(input, **numbers)


def relu(input: Any, inplace: bool = False) -> Tensor:
    """max(input, 0); the gradient at 0 is 0."""
    return overwrite(input, "relu_", lambda: activations.relu(input)) if inplace else activations.relu(input)  # type: ignore[no-any-return]


def relu_(input: Tensor) -> Tensor:
    """`relu`, written into the memory of input."""
    return relu(input, inplace=True)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where it is positive, else negative_slope * input. Raises ValueError for a negative slope."""
    return _written(input, inplace, "leaky_relu_", activations.leaky_relu, negative_slope=float(negative_slope))  # type: ignore[no-any-return]


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """input, but not below min_val nor above max_val; the gradient there, and at both, is 0."""
    if not min_val <= max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is greater than max_val {max_val}")
    return _written(input, inplace, "hardtanh_", activations.hardtanh, min_val=float(min_val), max_val=float(max_val))  # type: ignore[no-any-return]


def relu6(input: Any, inplace: bool = False) -> Tensor:
    """min(max(input, 0), 6)."""
    return _written(input, inplace, "relu6_", activations.hardtanh, min_val=0.0, max_val=6.0)  # type: ignore[no-any-return]


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha * (exp(input) - 1). Raises ValueError for a negative alpha."""
    return _written(input, inplace, "elu_", activations.elu, alpha=float(alpha))  # type: ignore[no-any-return]


def selu(input: Any, inplace: bool = False) -> Tensor:
    """1.0507 * elu(input, 1.6733): keeps mean 0 and variance 1 from layer to layer (Klambauer et al., arXiv:1706.02515)."""
    return _written(input, inplace, "selu_", activations.elu, alpha=SELU_SCALE * SELU_ALPHA, scale=SELU_SCALE)  # type: ignore[no-any-return]


def silu(input: Any, inplace: bool = False) -> Tensor:
    """input * sigmoid(input), also called swish."""
    return _written(input, inplace, "silu_", activations.silu)  # type: ignore[no-any-return]


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """input * Phi(input), Phi the standard normal distribution function; with approximate="tanh" by a formula that is up to 5e-4 off."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return (activations.gelu if approximate == "none" else activations.gelu_tanh)(input)  # type: ignore[no-any-return]


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * input)) / beta, or input where beta * input is above the threshold."""
    return activations.softplus(input, beta=float(beta), threshold=float(threshold))  # type: ignore[no-any-return]


def softmax(input: Any, dim: int = -1, dtype: Any = None, *, axis: int | None = None) -> Tensor:
    """exp(input) / sum(exp(input)) along `dim`, which `axis` is another name for; dtype: that of the input is cast first."""
    return _softmax(input if dtype is None else cast(input, dtype=np.dtype(dtype)), axis=dim if axis is None else axis)  # type: ignore[no-any-return]


def log_softmax(input: Any, dim: int = -1, dtype: Any = None, *, axis: int | None = None) -> Tensor:
    """log(softmax(input)), finite for every finite input; arguments as `softmax`."""
    return _log_softmax(input if dtype is None else cast(input, dtype=np.dtype(dtype)), axis=dim if axis is None else axis)  # type: ignore[no-any-return]


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """A copy with `value` (default 0) around it; as torch.nn.functional.pad, while `mg.pad` takes NumPy's widths.

    pad: (before, after) of the last axis, then of the one before it, and so on, in one sequence. Raises ShapeError if it does not fit.
    """
    widths = [int(n) for n in pad]
    rank = np.ndim(input) if not isinstance(input, Tensor) else input.ndim
    if len(widths) % 2 or len(widths) > 2 * rank:
        raise ShapeError(f"pad: {tuple(widths)} needs two widths for each axis, the last axis first, of at most {rank}")
    pairs = [(widths[i], widths[i + 1]) for i in range(0, len(widths), 2)]
    return arranging.pad(input, [(0, 0)] * (rank - len(pairs)) + pairs[::-1], mode, 0.0 if value is None else value)


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """input divided by its p-norm along `dim`, or by eps where that is larger."""
    return input / maths.clamp(reducing.norm(input, p, dim, True), eps)  # type: ignore[no-any-return]


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between x1 and x2 along `dim`; each norm counts as eps where it is smaller."""
    norms = [maths.clamp(reducing.norm(x, 2.0, dim), eps) for x in (x1, x2)]
    return reducing.sum(x1 * x2, dim) / (norms[0] * norms[1])  # type: ignore[no-any-return]
