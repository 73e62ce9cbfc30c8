"""The dense layer."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import config
from minigrad.nn import init
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.ops.matmul import linear, matmul_nt


class Linear(Module):
    """x @ weight.T + bias: (batch, in_features) -> (batch, out_features).

    weight (out_features, in_features) and bias (out_features,), unless bias=False, start uniform in +-1/sqrt(in_features), as PyTorch's.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        kind = np.dtype(dtype) if dtype is not None else config.get_default_dtype()
        bound = 1 / np.sqrt(in_features) if in_features else 0.0
        self.weight = Parameter(np.zeros((out_features, in_features), kind))
        init.uniform_(self.weight, -bound, bound)
        self.bias: Any = Parameter(np.zeros(out_features, kind)) if bias else None
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        return matmul_nt(x, self.weight) if self.bias is None else linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
