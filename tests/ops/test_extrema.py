"""Largest and smallest: ties, NaN, nothing, and dtypes that are no floats."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import AxisError, DtypeError, ShapeError
from minigrad.ops import extrema
from minigrad.ops.op import Op

VALUES = [extrema.amax, extrema.amin]
PLACES = [extrema.argmax, extrema.argmin]


def gradient(op: Op, x: Any, **attributes: Any) -> np.ndarray[Any, Any]:
    leaf = mg.tensor(np.asarray(x, np.float64), requires_grad=True)
    op(leaf, **attributes).sum().backward()
    assert leaf.grad is not None
    return np.array(leaf.grad.array)


@pytest.mark.parametrize("op", VALUES)
def test_equal_values_share_the_gradient(op: Op) -> None:
    assert gradient(op, [2.0, 2.0, 2.0, 2.0]).tolist() == [0.25] * 4
    x = [[1.0, 5.0, 5.0], [5.0, 1.0, 1.0]]
    assert np.array_equal(gradient(op, x) != 0, np.array(x) == (5 if op is extrema.amax else 1))
    assert gradient(op, x).sum() == 1


@pytest.mark.parametrize("op", VALUES)
@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (1, 2), ()])
def test_the_gradient_with_ties_is_pytorchs(op: Op, axis: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 3, (4, 3, 5)).astype(np.float64)
    peer = torch.tensor(x, requires_grad=True)
    if axis != ():  # which PyTorch takes for all axes
        getattr(torch, op.name)(peer, dim=tuple(range(3)) if axis is None else axis).sum().backward()
        np.testing.assert_allclose(gradient(op, x, axis=axis), peer.grad.numpy(), rtol=1e-15)
    else:
        assert np.array_equal(gradient(op, x, axis=axis), np.ones_like(x))


@pytest.mark.parametrize("op", VALUES)
def test_a_nan_is_the_extreme_and_gets_the_gradient(op: Op) -> None:
    x = [1.0, np.nan, 3.0, np.nan]
    assert np.isnan(op(mg.tensor(x)).item())
    assert gradient(op, x).tolist() == [0, 0.5, 0, 0.5]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_other_dtypes_stay_what_they_are(axis: Any, dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2 if dtype is np.bool_ else 9, (4, 3, 5)).astype(dtype)
    for op, numpys in ((extrema.amax, np.max), (extrema.amin, np.min)):
        found = op(mg.tensor(x), axis=axis)
        assert found.dtype == dtype and np.array_equal(found.array, numpys(x, axis))
    for op, place in ((extrema.argmax, np.argmax), (extrema.argmin, np.argmin)):
        found = op(mg.tensor(x), axis=axis)
        assert found.dtype == np.int64 and np.array_equal(found.array, place(x, axis))


@pytest.mark.parametrize("op", [*VALUES, *PLACES])
def test_of_nothing_there_is_no_extreme(op: Op) -> None:
    for shape, axis in (((0,), None), ((0, 3), 0), ((2, 0), 1), ((2, 0), None)):
        with pytest.raises(ShapeError, match=f"^{op.name}: .* no elements along axis"):
            op(mg.zeros(*shape), axis=axis)
    assert op(mg.zeros(0, 3), axis=1).shape == (0,)
    assert op(mg.zeros(0, 3), axis=1, keepdims=True).shape == (0, 1)


@pytest.mark.parametrize("op", [*VALUES, *PLACES])
def test_wrong_axes_and_dtypes_are_named(op: Op) -> None:
    with pytest.raises(AxisError, match=f"{op.name}: axis 2"):
        op(mg.zeros(2, 3), axis=2)
    with pytest.raises(AxisError, match="a scalar has no axis"):
        op(mg.tensor(1.0), axis=0)
    with pytest.raises(DtypeError, match=f"{op.name}: x is float16"):
        op(mg.tensor(np.zeros(3, np.float16)))


@pytest.mark.parametrize("op", PLACES)
def test_a_place_is_along_one_axis(op: Op) -> None:
    with pytest.raises(ShapeError, match="along one axis"):
        op(mg.zeros(2, 3), axis=(0, 1))
    assert op(mg.zeros(2, 3), keepdims=True).shape == (1, 1)
