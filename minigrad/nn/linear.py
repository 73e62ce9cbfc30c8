"""The dense layer."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import config
from minigrad.nn import init
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.ops.matmul import linear


class Linear(Module):
    """x @ weight.T + bias: (batch, in_features) -> (batch, out_features).

    weight (out_features, in_features) and bias (out_features,) start uniform in +-1/sqrt(in_features), as PyTorch's.
    """

    def __init__(self, in_features: int, out_features: int, dtype: Any = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        kind = np.dtype(dtype) if dtype is not None else config.get_default_dtype()
        bound = 1 / np.sqrt(in_features) if in_features else 0.0
        self.weight = Parameter(np.zeros((out_features, in_features), kind))
        self.bias = Parameter(np.zeros(out_features, kind))
        init.uniform_(self.weight, -bound, bound)
        init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"
