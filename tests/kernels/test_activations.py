"""Activations: values at the edges, derivatives against differences, and machine code without a call to libm."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import activations
from minigrad_kernels._host import VECTOR_BYTES

DTYPES = (np.float32, np.float64)
EDGES = (0.0, -0.0, 1e-40, -1e-40, 0.6, -0.6, 88.0, -88.0, -95.0, 1e30, -1e30, np.inf, -np.inf, np.nan)


def applied(kernel: Any, *inputs: np.ndarray) -> np.ndarray:
    out = np.empty_like(inputs[0])
    kernel(*inputs, out)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype: Any) -> None:
    x = np.array(EDGES, dtype)
    assert np.array_equal(applied(activations.relu, x), np.maximum(x, 0), equal_nan=True)
    limits = np.array([-np.inf, 0, np.inf, np.nan], dtype)
    assert np.array_equal(applied(activations.sigmoid, limits), np.array([0, 0.5, 1, np.nan], dtype), equal_nan=True)
    assert np.array_equal(applied(activations.tanh, limits), np.array([-1, 0, 1, np.nan], dtype), equal_nan=True)
    assert np.signbit(applied(activations.tanh, np.array([-0.0], dtype)))[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_passes_the_gradient_of_what_it_let_through(dtype: Any) -> None:
    y, g = np.array([2, 0, -0.0, np.inf, np.nan], dtype), np.array([3, 3, np.nan, 5, 7], dtype)
    assert np.array_equal(applied(activations.relu_grad, g, y), np.array([3, 0, 0, 5, 0], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_written_bit_for_bit(dtype: Any) -> None:
    g, x = np.random.default_rng(0).normal(size=(2, 67)).astype(dtype)
    s, t = applied(activations.sigmoid, x), applied(activations.tanh, x)
    assert np.array_equal(applied(activations.sigmoid_grad, g, s), g * (s * (1 - s)))
    assert np.array_equal(applied(activations.tanh_grad, g, t), g * (1 - t * t))


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_gradients_agree_with_differences(name: str) -> None:
    x = np.linspace(-4, 4, 101)
    h = 1e-4
    function, gradient = getattr(activations, name), getattr(activations, f"{name}_grad")
    slope = sum(w * applied(function, x + k * h) for k, w in ((-2, 1), (-1, -8), (1, 8), (2, -1))) / (12 * h)
    np.testing.assert_allclose(applied(gradient, np.ones_like(x), applied(function, x)), slope, atol=1e-11)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_machine_code_is_vectors_without_libm(name: str) -> None:
    kernel = getattr(activations, name)
    applied(kernel, np.zeros(3, np.float32))
    code = next(text for signature, text in kernel.inspect_asm().items() if "float32" in str(signature[0]))
    if VECTOR_BYTES > 16 and ("zmm" in code or "ymm" in code or "xmm" in code):
        assert ("zmm" if VECTOR_BYTES == 64 else "ymm") in code
    assert not any(libm in code for libm in ("tanhf", "expf", "powf", "roundf", "fmaf"))
