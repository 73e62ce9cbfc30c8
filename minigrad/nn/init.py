"""Initial values, written in place; fan-in and fan-out are those of a weight (out, in). All return what they were given."""
from __future__ import annotations

import math
from typing import Any

from minigrad import config
from minigrad.errors import CaptureError, ShapeError
from minigrad.tape.mode import caller, local
from minigrad.tape.tensor import Tensor


def _write(t: Tensor, values: Any) -> Tensor:
    if local.mode.listener is not None:
        raise CaptureError(f"values are drawn at {caller()} inside a captured step, which a replay would not do again: initialise outside")
    t.array[...] = values
    t.clock[0] += 1
    return t


def _fans(t: Tensor) -> tuple[int, int]:
    if t.ndim != 2:
        raise ShapeError(f"fan-in and fan-out need a weight of shape (out, in), got {t.shape}")
    return t.shape[1], t.shape[0]


def calculate_gain(nonlinearity: str) -> float:
    """What a weight's deviation is multiplied by before this activation, as PyTorch: sigmoid and linear 1, tanh 5/3, relu sqrt 2."""
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain knows {', '.join(gains)}, not {nonlinearity!r}")
    return gains[nonlinearity]


def constant_(t: Tensor, value: float) -> Tensor:
    """Every element `value`."""
    return _write(t, value)


def zeros_(t: Tensor) -> Tensor:
    """Every element 0."""
    return _write(t, 0.0)


def uniform_(t: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    return _write(t, config.generator().uniform(a, b, t.shape))


def normal_(t: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with this mean and standard deviation."""
    return _write(t, mean + std * config.generator().standard_normal(t.shape))


def xavier_uniform_(t: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform with variance gain^2 * 2 / (fan-in + fan-out) (Glorot and Bengio 2010)."""
    fan_in, fan_out = _fans(t)
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    return uniform_(t, -bound, bound)


def xavier_normal_(t: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with variance gain^2 * 2 / (fan-in + fan-out) (Glorot and Bengio 2010)."""
    fan_in, fan_out = _fans(t)
    return normal_(t, 0.0, gain * math.sqrt(2 / (fan_in + fan_out)))


def kaiming_uniform_(t: Tensor, nonlinearity: str = "relu") -> Tensor:
    """Uniform with variance gain^2 / fan-in (He et al. 2015)."""
    bound = calculate_gain(nonlinearity) * math.sqrt(3 / _fans(t)[0])
    return uniform_(t, -bound, bound)


def kaiming_normal_(t: Tensor, nonlinearity: str = "relu") -> Tensor:
    """Normal with variance gain^2 / fan-in (He et al. 2015)."""
    return normal_(t, 0.0, calculate_gain(nonlinearity) / math.sqrt(_fans(t)[0]))


glorot_uniform_, glorot_normal_, he_uniform_, he_normal_ = xavier_uniform_, xavier_normal_, kaiming_uniform_, kaiming_normal_
