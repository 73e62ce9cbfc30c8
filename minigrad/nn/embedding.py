"""Rows of a table by index."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import ShapeError
from minigrad.nn import init
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.tape.arranging import embedding


class Embedding(Module):
    """Integer indices of any shape -> that shape and a last axis of embedding_dim: rows of weight (num_embeddings, embedding_dim).

    weight starts normal with mean 0 and deviation 1, as PyTorch's. The row `padding_idx` starts with zeros and gets no gradient.
    Raises IndexRangeError for an index that is no row.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ShapeError(f"Embedding: padding_idx {padding_idx} is not a row of {num_embeddings}")
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        kind = np.dtype(dtype) if dtype is not None else config.get_default_dtype()
        self.weight = Parameter(np.zeros((num_embeddings, embedding_dim), kind))
        init.normal_(self.weight)
        if padding_idx is not None:
            self.weight.array[padding_idx] = 0

    def forward(self, input: Any) -> Any:
        return embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}" + (f", padding_idx={self.padding_idx}" if self.padding_idx is not None else "")
