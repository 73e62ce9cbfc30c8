"""A NaN at any place of a row is in all that the row's reductions and normalisations give, and in no other row."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F

LABELS = np.zeros(3, np.int64)
OF_ROWS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "cross_entropy": lambda x: F.cross_entropy(x, LABELS, reduction="none").reshape(3, 1),
    "cross_entropy, smoothed": lambda x: F.cross_entropy(x, LABELS, reduction="none", label_smoothing=0.1).reshape(3, 1),
    "logsumexp": lambda x: mg.logsumexp(x, 1, keepdims=True),
    "amax": lambda x: mg.amax(x, 1, keepdims=True),
    "amin": lambda x: mg.amin(x, 1, keepdims=True),
    "max": lambda x: mg.max(x, 1, True).values,
    "sum": lambda x: mg.sum(x, 1, keepdims=True),
    "norm": lambda x: mg.norm(x, axis=1, keepdims=True),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
}
OF_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: F.softmax(x, 0),
    "log_softmax": lambda x: F.log_softmax(x, 0),
    "logsumexp": lambda x: mg.logsumexp(x, 0, keepdims=True),
    "amax": lambda x: mg.amax(x, 0, keepdims=True),
    "amin": lambda x: mg.amin(x, 0, keepdims=True),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("function", "across"), [*((f, False) for f in OF_ROWS.values()), *((f, True) for f in OF_COLUMNS.values())],
                         ids=[*OF_ROWS, *(f"{name} of columns" for name in OF_COLUMNS)])
def test_a_nan_is_seen_wherever_it_is(function: Callable[[Any], Any], across: bool, dtype: Any) -> None:
    for n in (2, 3, 7, 15, 16, 17, 33, 65):
        for at in range(n):
            x = np.random.default_rng(n).normal(size=(3, n)).astype(dtype)
            x[1, at] = np.nan
            found = function(mg.tensor(np.ascontiguousarray(x.T) if across else x)).numpy()
            spoilt = np.isnan(found.T if across else found)
            assert spoilt[1].all() and not spoilt[[0, 2]].any(), (n, at)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_loss_of_a_batch_with_a_nan_is_nan(dtype: Any) -> None:
    for at in range(19):
        x = np.random.default_rng(at).normal(size=(3, 19)).astype(dtype)
        x[1, at] = np.nan
        assert np.isnan(F.cross_entropy(mg.tensor(x), LABELS).item())


def test_infinities_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    rows = np.array([[np.inf, 1, 2], [-np.inf] * 3, [-np.inf, 0, 1], [np.inf, np.inf, 0], [-np.inf, np.inf, 0]], np.float32)
    ours, theirs = mg.tensor(rows), torch.tensor(rows)
    for name in ("softmax", "log_softmax", "logsumexp"):
        np.testing.assert_allclose(getattr(ours, name)(1).numpy(), getattr(theirs, name)(1).numpy(), rtol=1e-6)
