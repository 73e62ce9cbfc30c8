"""The dense layer."""
from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import DtypeError, ShapeError
from minigrad.nn import init
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.ops.matmul import linear, matmul_nt
from minigrad.tape.mode import local
from minigrad.tape.tensor import Tensor


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features).

    weight (out_features, in_features) and bias (out_features,), unless bias=False, start uniform in +-1/sqrt(in_features), as PyTorch's.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.in_features, self.out_features = operator.index(in_features), operator.index(out_features)
        if self.in_features < 0 or self.out_features < 0:
            raise ValueError(f"Linear: sizes are {in_features} and {out_features}, expected numbers that are not negative")
        if device is not None:
            config.device(device)
        kind = np.dtype(dtype) if dtype is not None else config.get_default_dtype()
        self.weight = Parameter(np.zeros((self.out_features, self.in_features), kind))
        self.bias: Any
        if bias:
            self.bias = Parameter(np.zeros(self.out_features, kind))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        if type(x) is Tensor and len(x.spec.shape) == 2 and self.bias is not None:  # what nearly every call is
            return linear(x, self.weight, self.bias)
        if not isinstance(x, Tensor | np.ndarray):
            raise DtypeError(f"Linear: the input is a {type(x).__name__}, expected a Tensor or a NumPy array: use mg.tensor(...)")
        shape = x.shape
        if len(shape) != 2 and shape and shape[-1] != self.in_features:
            raise ShapeError(f"in {local.mode.path}: linear: expected {self.in_features} features along the last axis, got an input of shape "
                             f"{shape}: reshape it (nn.Flatten()), or make this one Linear({shape[-1]}, {self.out_features})")
        if len(shape) != 2 and shape:
            rows = x.reshape((math.prod(shape[:-1]), self.in_features))
            return self.forward(rows).reshape((*shape[:-1], self.out_features))
        return matmul_nt(x, self.weight) if self.bias is None else linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
