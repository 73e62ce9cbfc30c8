"""Activations, each followed by its derivative, which reads the forward pass's output; arrays 1-D, out last and allowed to be an input."""
from __future__ import annotations

from typing import Final

from . import loops, scalar
from .loops import Kernel
from .simd import select

# max(x, 0), and a NaN stays: NaN <= 0 does not hold.
relu: Final[Kernel] = loops.map1(lambda x: select(x <= 0.0, 0.0, x), "relu")
relu_grad: Final[Kernel] = loops.zip2(lambda g, y: select(y > 0.0, g, 0.0), "relu_grad")

sigmoid: Final[Kernel] = loops.map1(scalar.sigmoid, "sigmoid")
sigmoid_grad: Final[Kernel] = loops.zip2(lambda g, y: g * (y * (1.0 - y)), "sigmoid_grad")

tanh: Final[Kernel] = loops.map1(scalar.tanh, "tanh")
tanh_grad: Final[Kernel] = loops.zip2(lambda g, y: g * (1.0 - y * y), "tanh_grad")
