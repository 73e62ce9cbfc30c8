"""Elementwise kernels and the residual connection against NumPy."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import elementwise, residual
from minigrad_kernels.loops import Zip

DTYPES = (np.float32, np.float64)
EDGES = (0.0, -0.0, 1.0, -1.0, 1e-40, 3e38, np.inf, -np.inf, np.nan)


def operands(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    edges = np.array(EDGES, dtype)
    noise = np.random.default_rng(0).normal(size=(2, 50)).astype(dtype)
    return np.concatenate([np.repeat(edges, edges.size), noise[0]]), np.concatenate([np.tile(edges, edges.size), noise[1]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kernels", "numpys"),
    [
        (elementwise.add, np.add),
        (elementwise.sub, np.subtract),
        (elementwise.mul, np.multiply),
        (elementwise.div, np.divide),
        (elementwise.maximum, np.maximum),
        (elementwise.minimum, np.minimum),
    ],
)
def test_arithmetic_is_numpys(kernels: Zip, numpys: Any, dtype: Any) -> None:
    x, y = operands(dtype)
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        kernels.both(x, y, out)
        assert np.array_equal(out, numpys(x, y), equal_nan=True)
        for edge in np.array(EDGES, dtype):
            kernels.left(np.array([edge]), y, out)
            assert np.array_equal(out, numpys(edge, y), equal_nan=True)
            kernels.right(x, np.array([edge]), out)
            assert np.array_equal(out, numpys(x, edge), equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kernel", "numpys"),
    [
        (elementwise.copy, np.positive),
        (elementwise.neg, np.negative),
        (elementwise.abs_, np.abs),
        (elementwise.square, np.square),
        (elementwise.reciprocal, np.reciprocal),
        (elementwise.sqrt, np.sqrt),
        (elementwise.sign, np.sign),
        (elementwise.floor, np.floor),
        (elementwise.ceil, np.ceil),
        (elementwise.trunc, np.trunc),
        (elementwise.round_even, np.rint),
    ],
)
def test_exact_functions_are_numpys(kernel: Any, numpys: Any, dtype: Any) -> None:
    x, _ = operands(dtype)
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        kernel(x, out)
        expected = numpys(x)
    assert np.array_equal(out, expected, equal_nan=True)
    assert np.array_equal(np.signbit(out), np.signbit(expected)) or np.isnan(expected).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan"])
def test_elementary_functions_are_close_to_numpys(name: str, dtype: Any) -> None:
    x = np.abs(operands(dtype)[0])
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        getattr(elementwise, name)(x, out)
        np.testing.assert_allclose(out, getattr(np, name)(x), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_scales_and_shifts(dtype: Any) -> None:
    x, _ = operands(dtype)
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        elementwise.scale(x, 0.1, out)
        assert np.array_equal(out, x * dtype(0.1), equal_nan=True)
        elementwise.shift(x, 0.1, out)
        assert np.array_equal(out, x + dtype(0.1), equal_nan=True)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("kernels", "numpys"), [(elementwise.add, np.add), (elementwise.sub, np.subtract), (elementwise.mul, np.multiply),
                                                (elementwise.maximum, np.maximum), (elementwise.minimum, np.minimum)])
def test_integer_arithmetic_is_numpys(kernels: Zip, numpys: Any, dtype: Any) -> None:
    x, y = np.random.default_rng(0).integers(-50, 50, (2, 67)).astype(dtype)
    out = np.empty_like(x)
    kernels.both(x, y, out)
    assert np.array_equal(out, numpys(x, y))
    kernels.right(x, y[:1], out)
    assert np.array_equal(out, numpys(x, y[0]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_clamp_is_numpys_clip_and_its_gradient_is_that_inside(dtype: Any) -> None:
    x, _ = operands(dtype)
    out, gradient = np.empty_like(x), np.empty_like(x)
    elementwise.clamp(x, -1.0, 2.0, out)
    assert np.array_equal(out, np.clip(x, -1, 2), equal_nan=True)
    elementwise.clamp_grad(np.full_like(x, 3), x, -1.0, 2.0, gradient)
    assert np.array_equal(gradient, np.where((x >= -1) & (x <= 2), 3, 0))
    elementwise.filled(x, 0.1, out)
    assert np.all(out == dtype(0.1))


@pytest.mark.parametrize(
    ("source", "target"), [(np.float32, np.float64), (np.float64, np.float32), (np.int64, np.float32), (np.uint8, np.float32), (np.int64, np.float64)]
)
def test_cast_is_numpys(source: Any, target: Any) -> None:
    x = (np.random.default_rng(0).random(67) * 200).astype(source)
    out = np.empty(67, target)
    elementwise.cast(x, out)
    assert np.array_equal(out, x.astype(target))


def test_fill() -> None:
    out = np.zeros(67, np.float32)
    elementwise.fill(0.1, out)
    assert np.all(out == np.float32(0.1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_a_residual_rounds_the_product_before_the_sum(scale: float, dtype: Any) -> None:
    x, branch = np.random.default_rng(0).normal(size=(2, 67)).astype(dtype)
    out, gradient = np.empty_like(x), np.empty_like(x)
    residual.residual(x, branch, scale, out)
    assert np.array_equal(out, x + dtype(scale) * branch)
    residual.residual_grad(x, scale, gradient)
    assert np.array_equal(gradient, x * dtype(scale))
