"""Initial values, written in place; fan-in and fan-out are those of a weight (out, in). All return what they were given.

generator: where random numbers come from, a NumPy Generator; by default the one behind `mg.manual_seed`.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, ShapeError
from minigrad.nn.container import Residual
from minigrad.nn.module import Module
from minigrad.tape.inplace import writable
from minigrad.tape.mode import caller, local, no_grad
from minigrad.tape.tensor import Tensor

Generator = np.random.Generator


def _write(t: Tensor, values: Any) -> Tensor:
    if local.mode.listener is not None:
        raise CaptureError(f"values are drawn at {caller()} inside a captured step, which a replay would not do again: initialise outside")
    source = writable(t, "init")
    t.array[...] = values
    t.clock[0] += 1
    if source is not None:
        with no_grad():
            source.base.copy_(source.put(source.base, t))  # type: ignore[attr-defined]
    return t


def _fans(t: Tensor) -> tuple[int, int]:
    if t.ndim < 2:
        raise ShapeError(f"fan-in and fan-out need a weight of shape (out, in), got {t.shape}")
    field = math.prod(t.shape[2:])
    return t.shape[1] * field, t.shape[0] * field


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What a weight's deviation is multiplied by before this activation, as PyTorch: relu sqrt 2, tanh 5/3, selu 3/4, sigmoid and linear 1.

    param: the negative slope of leaky_relu, by default 0.01. SELU's is the value that PyTorch uses, not 1 (Klambauer et al. 2017).
    """
    gains = {"linear": 1.0, "identity": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else float(param)) ** 2))
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain knows {', '.join(gains)}, leaky_relu, not {nonlinearity!r}")
    return gains[nonlinearity]


def constant_(t: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    return _write(t, val)


def zeros_(t: Tensor) -> Tensor:
    """Every element 0."""
    return _write(t, 0.0)


def ones_(t: Tensor) -> Tensor:
    """Every element 1."""
    return _write(t, 1.0)


def eye_(t: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere. Raises ShapeError."""
    if t.ndim != 2:
        raise ShapeError(f"eye_ needs a matrix, got shape {t.shape}")
    return _write(t, np.eye(t.shape[0], t.shape[1]))


def uniform_(t: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    return _write(t, (generator or config.generator()).uniform(a, b, t.shape))


def normal_(t: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with this mean and standard deviation."""
    return _write(t, mean + std * (generator or config.generator()).standard_normal(t.shape))


def trunc_normal_(t: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Generator | None = None) -> Tensor:
    """Normal with this mean and standard deviation before values outside [a, b] are drawn again.

    Raises ValueError if less than a thousandth of the distribution is inside.
    """
    inside = (math.erf((b - mean) / (std * math.sqrt(2))) - math.erf((a - mean) / (std * math.sqrt(2)))) / 2 if std > 0 else 0.0
    if not inside >= 1e-3:
        raise ValueError(f"trunc_normal_: [{a}, {b}] holds {inside:.2g} of a normal distribution with mean {mean} and std {std}")
    rng = generator or config.generator()
    values = mean + std * rng.standard_normal(t.numel())
    while (again := np.flatnonzero((values < a) | (values > b))).size:
        values[again] = mean + std * rng.standard_normal(again.size)
    return _write(t, values.reshape(t.shape))


def xavier_uniform_(t: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain^2 * 2 / (fan-in + fan-out) (Glorot and Bengio 2010)."""
    bound = gain * _root(6, sum(_fans(t)))
    return uniform_(t, -bound, bound, generator)


def xavier_normal_(t: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain^2 * 2 / (fan-in + fan-out) (Glorot and Bengio 2010)."""
    return normal_(t, 0.0, gain * _root(2, sum(_fans(t))), generator)


def _kaiming(t: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    """The standard deviation gain / sqrt(fan)."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is {mode!r}, expected 'fan_in' or 'fan_out'; the activation is nonlinearity=")
    return calculate_gain(nonlinearity, a) * _root(1, _fans(t)[mode == "fan_out"])


def kaiming_uniform_(t: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain^2 / fan (He et al. 2015); a: the negative slope of leaky_relu, 0 for ReLU."""
    bound = math.sqrt(3) * _kaiming(t, a, mode, nonlinearity)
    return uniform_(t, -bound, bound, generator)


def kaiming_normal_(t: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Tensor:
    """Normal with variance gain^2 / fan (He et al. 2015); a: the negative slope of leaky_relu, 0 for ReLU."""
    return normal_(t, 0.0, _kaiming(t, a, mode, nonlinearity), generator)


def lecun_uniform_(t: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform with variance 1 / fan-in (LeCun et al. 1998)."""
    bound = _root(3, _fans(t)[0])
    return uniform_(t, -bound, bound, generator)


def lecun_normal_(t: Tensor, generator: Generator | None = None) -> Tensor:
    """Normal with variance 1 / fan-in (LeCun et al. 1998)."""
    return normal_(t, 0.0, _root(1, _fans(t)[0]), generator)


def orthogonal_(t: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """`gain` times a random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014).

    From the QR decomposition of normal numbers, signs set by R's diagonal so that all such matrices are equally likely (Mezzadri 2007).
    More than two axes: those behind the first count as one. Raises ShapeError for fewer.
    """
    if t.ndim < 2:
        raise ShapeError(f"orthogonal_ needs a weight of shape (out, in), got {t.shape}")
    rows, columns = t.shape[0], math.prod(t.shape[1:])
    drawn = (generator or config.generator()).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return _write(t, gain * (q.T if rows < columns else q).reshape(t.shape))


def sparse_(t: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal with deviation `std`, but a share `sparsity` of each column 0 (Martens 2010). Raises ShapeError for other than a matrix."""
    if t.ndim != 2:
        raise ShapeError(f"sparse_ needs a matrix, got shape {t.shape}")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: sparsity is {sparsity}, expected a share between 0 and 1")
    rng, (rows, columns) = generator or config.generator(), t.shape
    values = std * rng.standard_normal(t.shape)
    order = rng.permuted(np.tile(np.arange(rows)[:, None], columns), axis=0)
    values[order < math.ceil(sparsity * rows)] = 0.0
    return _write(t, values)


def depth_scaled_(target: Module | Tensor | Iterable[Tensor], depth: int | None = None) -> Any:
    """Multiply what a residual branch adds by 1/sqrt(depth), so that the variance of a chain of `depth` blocks stays bounded.

    target: a model, in which the last layer with parameters of every `nn.Residual`'s branch is scaled (weight and bias); a branch by
    itself; or the parameters to be scaled. depth: by default the number of Residuals in the model. Apply it once, after other initial
    values: it multiplies what is there. The branch must be linear in that layer, as it is when nothing or a ReLU follows (Zhang et al. 2019
    for the rule; `nn.Residual(scale=)` does the same without touching weights).
    """
    scaled: list[Any]
    count = depth
    if isinstance(target, Module):
        blocks = [module.module for module in target.modules() if isinstance(module, Residual)]
        count = len(blocks) if depth is None else depth
        scaled = [p for block in blocks or [target] for p in _last_parameters(block)]
    else:
        scaled = [target] if isinstance(target, Tensor) else list(target)
    if not count or count < 1:
        raise ValueError(f"depth_scaled_: depth is {depth}, expected the number of residual blocks" if depth is not None else
                         "depth_scaled_: there is no nn.Residual to count: pass depth")
    for p in {id(p): p for p in scaled}.values():
        _write(p, p.array / math.sqrt(count))
    return target


def _last_parameters(branch: Module) -> list[Any]:
    held = [own for module in branch.modules() if (own := list(module.parameters(recurse=False)))]
    return held[-1] if held else []


def _root(numerator: float, fan: int) -> float:
    """The square root of numerator / fan; 0 for a weight without elements."""
    return math.sqrt(numerator / fan) if fan else 0.0


glorot_uniform_, glorot_normal_, he_uniform_, he_normal_ = xavier_uniform_, xavier_normal_, kaiming_uniform_, kaiming_normal_
