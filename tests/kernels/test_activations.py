"""Activations: accuracy, values at the edges, derivatives against differences, and machine code without a call to libm."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from minigrad_kernels import activations
from minigrad_kernels._host import VECTOR_BYTES

DTYPES = (np.float32, np.float64)
EDGES = (0.0, -0.0, 1e-40, -1e-40, 0.6, -0.6, 88.0, -88.0, -95.0, 1e30, -1e30, np.inf, -np.inf, np.nan)


#: Of the functions with numbers: which.
NUMBERS = {"leaky_relu": (0.1,), "elu": (1.7, 1.1), "hardtanh": (-1.0, 2.0), "softplus": (1.0, 20.0)}


def applied(kernel: Any, *inputs: Any) -> np.ndarray:
    out: np.ndarray = np.empty_like(inputs[0])
    kernel(*inputs, out)
    return out


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.array([float(mpmath.ncdf(mpmath.mpf(float(v)))) for v in x])


def gelu_tanh_share(x: Any) -> Any:
    return 1 / (1 + np.exp(-2 * np.sqrt(2 / np.longdouble(np.pi)) * (x + np.longdouble("0.044715") * x ** 3)))


def silu_slope(x: Any) -> Any:
    s = 1 / (1 + np.exp(-x))
    return s + x * s * (1 - s)


def gelu_tanh_slope(x: Any) -> Any:
    s = gelu_tanh_share(x)
    return s + x * s * (1 - s) * 2 * np.sqrt(2 / np.longdouble(np.pi)) * (1 + 3 * np.longdouble("0.044715") * x * x)


#: Each function in extended precision, how far it may be off: in eps of the result, and in eps of 1.
EXACT: dict[str, tuple[Any, float, float]] = {
    "silu": (lambda x: x / (1 + np.exp(-x)), 2.0, 0.0),
    "silu_grad": (silu_slope, 0.0, 2.0),
    "gelu": (lambda x: x * normal_cdf(x), 5.0, 0.5),
    "gelu_grad": (lambda x: normal_cdf(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.longdouble(np.pi)), 0.0, 2.0),
    "gelu_tanh": (lambda x: x * gelu_tanh_share(x), 2.0, 2.0),
    "gelu_tanh_grad": (gelu_tanh_slope, 0.0, 2.0),
    "softplus": (lambda x: np.logaddexp(0, x), 2.0, 0.0),
    "softplus_grad": (lambda x: 1 / (1 + np.exp(-x)), 2.0, 0.0),
    "logsigmoid": (lambda x: -np.logaddexp(0, -x), 2.0, 0.0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_values_are_right_to_the_last_bits_over_many_decades(name: str, dtype: Any) -> None:
    function, relative, absolute = EXACT[name]
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-16, 16, 3000), rng.normal(size=1000), np.geomspace(1e-12, 1, 200), -np.geomspace(1e-12, 1, 200)]).astype(dtype)
    inputs: list[Any] = [np.ones_like(x), x] if name.endswith("_grad") else [x]
    found = applied(getattr(activations, name), *inputs, *NUMBERS.get(name.removesuffix("_grad"), ()))
    with np.errstate(over="ignore"):
        expected = function(x.astype(np.longdouble))
    eps = np.finfo(dtype).eps
    assert bool((np.abs(found - expected) <= relative * eps * np.abs(expected) + absolute * eps).all())


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "low", "high"), [("leaky_relu", -1e29, 1e30), ("elu", -1.7, 1.1e30), ("hardtanh", -1, 2), ("softplus", 0, 1e30),
                                                   ("logsigmoid", -1e30, 0), ("silu", 0, 1e30), ("gelu", 0, 1e30), ("gelu_tanh", 0, 1e30)])
def test_large_numbers_have_finite_values_and_nan_stays(name: str, low: float, high: float, dtype: Any) -> None:
    found = applied(getattr(activations, name), np.array([-1e30, 1e30, np.nan], dtype), *NUMBERS.get(name, ()))
    np.testing.assert_allclose(found, np.array([low, high, np.nan], dtype), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh", "softplus"])
def test_far_from_zero_slopes_are_zero_and_one(name: str, dtype: Any) -> None:
    x = np.array([-1e30, -1e4, -800, 800, 1e4, 1e30], dtype)
    found = applied(getattr(activations, f"{name}_grad"), np.ones_like(x), x, *NUMBERS.get(name, ()))
    assert np.array_equal(found, [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus_is_the_line_above_its_threshold(dtype: Any) -> None:
    x = np.array([0.9, 1.1], dtype)
    found = applied(activations.softplus, x, 3.0, 3.0)
    np.testing.assert_allclose(found, [np.log1p(np.exp(2.7)) / 3, 1.1], rtol=1e-6)
    slope = applied(activations.softplus_grad, np.ones_like(x), x, 3.0, 3.0)
    assert slope[0] < 0.95 and slope[1] == 1


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "hardtanh", "softplus", "logsigmoid", "silu", "gelu", "gelu_tanh"])
def test_machine_code_is_vectors_without_libm(name: str) -> None:
    kernel = getattr(activations, name)
    applied(kernel, np.zeros(3, np.float32), *NUMBERS.get(name, ()))
    code = next(text for signature, text in kernel.inspect_asm().items() if "float32" in str(signature[0]))
    if VECTOR_BYTES > 16 and ("zmm" in code or "ymm" in code or "xmm" in code):
        assert ("zmm" if VECTOR_BYTES == 64 else "ymm") in code
    assert not any(libm in code for libm in ("tanhf", "expf", "powf", "roundf", "fmaf", "erff", "logf", "log1pf", "expm1f"))
