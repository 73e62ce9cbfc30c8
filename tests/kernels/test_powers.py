"""Powers: error in ulp against a wider format, NumPy's edges, exact products, one lane and a vector with the same bits."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from minigrad_kernels import elementwise, loops, scalar
from minigrad_kernels._jit import jit

DTYPES = (np.float32, np.float64)
EDGES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.5, 1.5, 1e-40, 1e30, 2.0**24 + 2, np.inf, np.nan)
BY_LANE = loops.zip2(scalar.pow, "test_pow_by_lane", vector=False)
BY_OPERATOR = loops.zip2(lambda x, y: x ** y, "test_pow_by_operator")
BY_NUMBERS = loops.map1(lambda x: x ** 0.5 + 2.0 ** x + x ** -1, "test_pow_by_numbers")


def power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    elementwise.power.both(x, y, out)
    return out


def by_squaring(x: np.ndarray, exponent: int) -> np.ndarray:
    out = np.empty_like(x)
    elementwise.power_by_squaring(x, float(exponent), out)
    return out


def errors(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """In units of the last place at `exact`, of a wider format; 0 where both overflow."""
    info = np.finfo(got.dtype)
    place = np.ldexp(exact.dtype.type(1), np.maximum(np.frexp(exact)[1] - 1, info.minexp) - info.nmant)
    with np.errstate(all="ignore"):
        over = (np.abs(exact) >= exact.dtype.type(info.max)) & (got == np.copysign(np.inf, exact))
        return np.where(over, 0, np.abs(got - exact) / place)


def samples(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Bases over all exponents with results over all exponents, and both factors near 1."""
    rng = np.random.default_rng(0)
    widest, smallest, largest = (87, -103, 88) if dtype == np.float32 else (700, -744, 709)
    x, y = np.exp(rng.uniform(-widest, widest, 200_000)), rng.uniform(smallest, largest, 200_000)
    return (np.concatenate([x, rng.uniform(0.5, 2, 50_000)]).astype(dtype),
            np.concatenate([y / np.log(x), rng.uniform(-128, 128, 50_000)]).astype(dtype))


def test_float32_error() -> None:
    x, y = samples(np.float32)
    assert errors(power(x, y), np.power(x.astype(np.float64), y.astype(np.float64))).max() <= 1.0


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs a format wider than float64")
def test_float64_error() -> None:
    x, y = samples(np.float64)
    assert errors(power(x, y), np.power(x.astype(np.longdouble), y.astype(np.longdouble))).max() <= 1.0


def test_float64_error_against_many_digits() -> None:
    x, y = (a[::500].copy() for a in samples(np.float64))
    with mpmath.workdps(40):
        for a, b, got in zip(x.tolist(), y.tolist(), power(x, y).tolist(), strict=True):
            exact = mpmath.mpf(a) ** mpmath.mpf(b)
            assert abs(mpmath.mpf(got) - exact) <= mpmath.mpf(float(np.spacing(float(exact))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_and_signs_are_numpys(dtype: Any) -> None:
    edges = np.array(EDGES, dtype)
    every = np.concatenate([edges, -edges])
    x, y = np.repeat(every, every.size), np.tile(every, every.size)
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    found = power(x, y)
    np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(dtype).eps, atol=np.finfo(dtype).smallest_subnormal)
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.signbit(found[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_power_of_a_small_whole_number_is_exact(dtype: Any) -> None:
    for x in range(-9, 10):
        for y in range(8):
            base, exponent, expected = np.array([x], dtype), np.array([y], dtype), dtype(x**y)
            assert power(base, exponent) == expected
            assert y == 0 or by_squaring(base, y) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [1, 2, 3, 7, 10, 31, 64])
def test_products_are_close_to_the_power(exponent: int, dtype: Any) -> None:
    rng, wide = np.random.default_rng(0), np.float64 if dtype == np.float32 else np.longdouble
    tiny, huge = (-100, 88) if dtype == np.float32 else (-740, 709)
    x = np.concatenate([np.exp(rng.uniform(tiny / exponent, huge / exponent, 10_000)), np.linspace(-1.3, 1.3, 999)]).astype(dtype)
    if dtype == np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("needs a format wider than float64")
    assert errors(by_squaring(x, exponent), np.power(x.astype(wide), exponent)).max() <= 1.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_infinities_and_nans(dtype: Any) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e30, -1e30], dtype)
    for exponent in (1, 2, 3, 64, 63):
        with np.errstate(all="ignore"):
            expected = np.power(x, dtype(exponent))
        np.testing.assert_allclose(by_squaring(x, exponent), expected, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_lane_and_a_scalar_have_the_bits_of_a_vector(dtype: Any) -> None:
    @jit
    def one_by_one(x, y, out):
        for i in range(x.size):
            out[i] = scalar.pow(x[i], y[i])

    x, y = (a[::251].copy() for a in samples(dtype))
    vectors, alone, lanes = power(x, y), np.empty_like(x), np.empty_like(x)
    one_by_one(x, y, alone)
    BY_LANE(x, y, lanes)
    assert np.array_equal(vectors, alone)
    assert np.array_equal(vectors, lanes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_operator_is_the_function_and_no_libm(dtype: Any) -> None:
    x, y = (a[::251].copy() for a in samples(dtype))
    out = np.empty_like(x)
    BY_OPERATOR(x, y, out)
    assert np.array_equal(out, power(x, y))
    assert not any(name in code for code in BY_OPERATOR.inspect_asm().values() for name in ("powf", "pow@", "\tpow"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vector_beside_a_number_can_be_raised(dtype: Any) -> None:
    x = np.random.default_rng(0).uniform(0.1, 9, 37).astype(dtype)
    out = np.empty_like(x)
    BY_NUMBERS(x, out)
    assert np.allclose(out, np.sqrt(x) + np.exp2(x) + 1 / x, rtol=8 * np.finfo(dtype).eps)
