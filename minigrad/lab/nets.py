"""Deep nets that differ only in activation and shortcut."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import minigrad as mg
from minigrad import nn

Init = Callable[[mg.Tensor], mg.Tensor]
Activation = Callable[[], nn.Module]
#: Activation, and whether layers of equal width get a shortcut around a branch scaled by 1/sqrt(layers).
KINDS: Final[dict[str, tuple[Activation, bool]]] = {"sigmoid": (nn.Sigmoid, False), "relu": (nn.ReLU, False), "residual relu": (nn.ReLU, True)}


def dense(fan_in: int, fan_out: int, init: Init, bias: bool = True, dtype: Any = None) -> nn.Linear:
    """A dense layer, its weight set by `init`, its bias 0."""
    linear = nn.Linear(fan_in, fan_out, bias=bias, dtype=dtype)
    init(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def deep_net(widths: Sequence[int], activation: Activation, residual: bool, init: Init, scale: float = 1.0) -> nn.Sequential:
    """Dense layers from width to width, an activation behind all but the last, shortcuts where widths match; biases 0.

    init: sets each weight; scale: what a branch is multiplied by before its shortcut is added.
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        linear = dense(fan_in, fan_out, init)
        last = i == len(widths) - 2
        layer: nn.Module = linear if last else nn.Sequential(linear, activation())
        layers.append(nn.Residual(layer, scale) if residual and fan_in == fan_out and not last else layer)
    return nn.Sequential(*layers)


def trio(features: int, classes: int, depth: int, width: int, seed: int) -> dict[str, nn.Sequential]:
    """The three nets of `KINDS` with the same initial weights, by Glorot's rule for all."""
    nets = {}
    for name, (activation, residual) in KINDS.items():
        mg.manual_seed(seed)
        widths = [features, *[width] * (depth - 1), classes]
        nets[name] = deep_net(widths, activation, residual, nn.init.xavier_normal_, scale=depth**-0.5)
    return nets


def weights(model: nn.Module) -> list[mg.Tensor]:
    """The weight of every dense layer, from the input on."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
