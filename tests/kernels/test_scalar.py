"""Elementary functions: error in ulp against a wider format, edges, symmetry, the coefficients' origin, and users' functions."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from math import tanh as hyperbolic_tangent
from typing import Any

import mpmath
import numpy as np
import pytest

from minigrad_kernels import _angles, _exp_log, _powers, loops, scalar
from minigrad_kernels._jit import jit

NAMES = ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh", "sigmoid", "erf")
KERNELS = {name: loops.map1(getattr(scalar, name), f"test_{name}") for name in NAMES}
BY_LANE = {name: loops.map1(getattr(scalar, name), f"test_{name}_by_lane", vector=False) for name in NAMES}
BOUNDS = {"exp": 1.0, "exp2": 1.0, "expm1": 2.0, "log": 1.0, "log2": 0.55, "log10": 0.55, "log1p": 2.0, "sin": 1.5, "cos": 1.5, "tan": 3.0,
          "tanh": 1.5, "sigmoid": 2.0, "erf": 1.5}
WIDER = {name: getattr(np, name, None) for name in NAMES} | {
    "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))),
    "erf": lambda x: np.vectorize(math.erf)(x),
}
DTYPES = (np.float32, np.float64)
EDGES = (0.0, 1.0, 0.55, 0.6, 20.0, 40.0, 87.3, 88.7, 88.8, 103.9, 104.0, 1e-30, 1e-40, 3e38, math.inf, math.nan)


def applied(name: str, x: np.ndarray, kernels: dict[str, Any] = KERNELS) -> np.ndarray:
    out = np.empty_like(x)
    kernels[name](x, out)
    return out


def errors(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units of the last place that got's dtype has at `exact`; inf where only one of them is NaN or they overflow apart."""
    info = np.finfo(got.dtype)
    place = np.ldexp(exact.dtype.type(1), np.maximum(np.frexp(exact)[1] - 1, info.minexp) - info.nmant)
    overflow = np.abs(exact) >= exact.dtype.type(info.max) * (1 + exact.dtype.type(info.eps) / 4)
    with np.errstate(all="ignore"):
        error = np.abs(got - exact) / place
        agree = (np.isnan(got) & np.isnan(exact)) | (got == exact) | (overflow & (got == np.copysign(np.inf, exact)))
    return np.where(agree, 0, np.where(np.isnan(error), np.inf, error))


def float32_inputs(stride: int, start: int = 0, stop: int = 1 << 32) -> np.ndarray:
    return np.arange(start, stop, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_float32_error_over_all_exponents(name: str) -> None:
    x = np.concatenate([float32_inputs(1999), np.array(EDGES, np.float32), -np.array(EDGES, np.float32)])
    with np.errstate(all="ignore"):
        exact = WIDER[name](x.astype(np.float64))
    assert errors(applied(name, x), exact).max() <= BOUNDS[name]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in NAMES if name != "erf"])
def test_float32_error_over_every_number(name: str) -> None:
    for start in range(0, 1 << 32, 1 << 24):
        x = float32_inputs(1, start, start + (1 << 24))
        with np.errstate(all="ignore"):
            exact = WIDER[name](x.astype(np.float64))
        assert errors(applied(name, x), exact).max() <= BOUNDS[name]


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs a format wider than float64")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "erf"])
def test_float64_error(name: str) -> None:
    rng = np.random.default_rng(0)
    near, wide, tiny = rng.uniform(-3, 3, 200_000), rng.uniform(-750, 715, 200_000), np.exp(rng.uniform(-744, 709, 200_000))
    right_angles = np.arange(-20_000, 20_000) * (math.pi / 4)
    x = np.concatenate([near, wide, 1e6 * wide, tiny, -tiny, 1 + near / 8, right_angles, np.array(EDGES), -np.array(EDGES)])
    with np.errstate(all="ignore"):
        exact = WIDER[name](x.astype(np.longdouble))
    assert errors(applied(name, x), exact).max() <= BOUNDS[name]


def test_float64_error_function() -> None:
    x = np.random.default_rng(0).uniform(-6.5, 6.5, 4000)
    with mpmath.workdps(40):
        residue = [abs(mpmath.mpf(float(y)) - mpmath.erf(float(v))) / np.spacing(math.erf(abs(v))) for v, y in zip(x, applied("erf", x), strict=True)]
    assert max(residue) <= BOUNDS["erf"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_one_lane_and_a_scalar_have_the_bits_of_a_vector(name: str, dtype: Any) -> None:
    function = getattr(scalar, name)

    @jit
    def one_by_one(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    noise = np.random.default_rng(0).normal(size=999) * np.repeat([1e-3, 1, 50], 333)
    x = np.concatenate([noise, np.array(EDGES), -np.array(EDGES)]).astype(dtype)
    vectors, alone = applied(name, x), np.empty_like(x)
    one_by_one(x, alone)
    assert np.array_equal(vectors, alone, equal_nan=True)
    assert np.array_equal(vectors, applied(name, x, BY_LANE), equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype: Any) -> None:
    inf, nan = np.inf, np.nan
    table = {
        "exp": ([0, -0.0, inf, -inf, nan, 1e4, -1e4], [1, 1, inf, 0, nan, inf, 0]),
        "expm1": ([0, inf, -inf, nan, 1e4, -1e4], [0, inf, -1, nan, inf, -1]),
        "exp2": ([0, -0.0, 10, -3, inf, -inf, nan, 1e4, -1e4], [1, 1, 1024, 0.125, inf, 0, nan, inf, 0]),
        "log2": ([1, 0, -0.0, 1024, 0.125, inf, -1, -inf, nan], [0, -inf, -inf, 10, -3, inf, nan, nan, nan]),
        "log10": ([1, 0, -0.0, 1000, inf, -1, -inf, nan], [0, -inf, -inf, 3, inf, nan, nan, nan]),
        "sin": ([0, inf, -inf, nan], [0, nan, nan, nan]),
        "cos": ([0, -0.0, inf, -inf, nan], [1, 1, nan, nan, nan]),
        "tan": ([0, inf, -inf, nan], [0, nan, nan, nan]),
        "log": ([1, 0, -0.0, inf, -1, -inf, nan], [0, -inf, -inf, inf, nan, nan, nan]),
        "log1p": ([0, -1, inf, -2, -inf, nan], [0, -inf, inf, nan, nan, nan]),
        "tanh": ([0, inf, -inf, nan, 1e4], [0, 1, -1, nan, 1]),
        "sigmoid": ([0, inf, -inf, nan, 1e4, -1e4], [0.5, 1, 0, nan, 1, 0]),
        "erf": ([0, inf, -inf, nan, 1e4], [0, 1, -1, nan, 1]),
    }
    for name, (x, y) in table.items():
        assert np.array_equal(applied(name, np.array(x, dtype)), np.array(y, dtype), equal_nan=True), name


@pytest.mark.parametrize("name", ["tanh", "erf", "expm1", "log1p", "sin", "tan"])
def test_zero_keeps_its_sign(name: str) -> None:
    assert np.signbit(applied(name, np.array([-0.0, 0.0], np.float32))).tolist() == [True, False]


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "tan"])
def test_odd_to_the_bit(name: str) -> None:
    x = float32_inputs(4099, 0, 0x7F800000)
    assert np.array_equal(applied(name, -x), -applied(name, x), equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_powers_of_two_and_ten_are_exact(dtype: Any) -> None:
    whole = np.arange(-30, 31).astype(dtype)
    assert np.array_equal(applied("exp2", whole), np.ldexp(dtype(1), whole.astype(int)))
    assert np.array_equal(applied("log2", np.ldexp(dtype(1), whole.astype(int))), whole)
    tens = np.arange(11)
    assert np.array_equal(applied("log10", (10.0**tens).astype(dtype)), tens)


@pytest.mark.parametrize("name", ["exp", "tanh", "log"])
def test_monotone(name: str) -> None:
    x = np.sort(float32_inputs(997)[np.isfinite(float32_inputs(997))])
    y = applied(name, x[x > 0] if name == "log" else x)
    assert np.all(y[1:] >= y[:-1])


def interpolated(f: Any, low: Any, high: Any, count: int) -> list[float]:
    """The coefficients, highest power first, of the polynomial through f at `count` Chebyshev nodes of [low, high]."""
    low, high = mpmath.mpf(low), mpmath.mpf(high)
    nodes = [(low + high) / 2 + (high - low) / 2 * mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    powers = mpmath.matrix(count, count)
    for i, node in enumerate(nodes):
        for j in range(count):
            powers[i, j] = node ** (count - 1 - j)
    return [float(c) for c in mpmath.lu_solve(powers, mpmath.matrix([f(node) for node in nodes]))]


def test_the_coefficients_interpolate_their_functions() -> None:
    with mpmath.workdps(50):
        half = mpmath.log(2) / 2 * mpmath.mpf("1.001")

        def exp_rest(r: Any) -> Any:
            return (mpmath.expm1(r) - r) / r**2 if abs(r) > 1e-20 else mpmath.mpf(1) / 2 + r / 6

        def tanh_rest(z: Any) -> Any:
            return (mpmath.tanh(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1) / z

        def erf_rest(z: Any) -> Any:
            return mpmath.erf(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1

        def erfc_rest(u: Any) -> Any:
            x = 2 * (1 + u) / (1 - u)
            return mpmath.erfc(x) * mpmath.exp(x * x)

        def sin_rest(z: Any) -> Any:
            return (mpmath.sin(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1) / z

        def cos_rest(z: Any) -> Any:
            return (mpmath.cos(mpmath.sqrt(z)) - 1 + z / 2) / z**2

        def log_rest(z: Any) -> Any:
            s = mpmath.sqrt(z)
            return ((mpmath.log((1 + s) / (1 - s)) - 2 * s) / (z * s) - mpmath.mpf(2) / 3) / z

        third = mpmath.mpf(1) / 3
        expected = {
            _exp_log.EXP_32: interpolated(exp_rest, -half, half, 5),
            _exp_log.EXP_64: interpolated(exp_rest, -half, half, 11),
            scalar.TANH_32: interpolated(tanh_rest, 0, "0.36", 5),
            scalar.TANH_64: interpolated(tanh_rest, 0, "0.36", 11),
            scalar.ERF_32: interpolated(erf_rest, 0, 1, 7),
            scalar.ERF_64: interpolated(erf_rest, 0, 1, 13),
            _angles.SIN_32: interpolated(sin_rest, 0, str(_angles.LARGEST_SQUARE), 4),
            _angles.SIN_64: interpolated(sin_rest, 0, str(_angles.LARGEST_SQUARE), 7),
            _angles.COS_32: interpolated(cos_rest, 0, str(_angles.LARGEST_SQUARE), 4),
            _angles.COS_64: interpolated(cos_rest, 0, str(_angles.LARGEST_SQUARE), 6),
            _powers.RATIO_32: interpolated(log_rest, 0, str(_powers.LARGEST_SQUARE), 4),
            _powers.RATIO_64: interpolated(log_rest, 0, str(_powers.LARGEST_SQUARE), 8),
            scalar.ERFC_32: interpolated(erfc_rest, -third, third, 7),
            scalar.ERFC_64: interpolated(erfc_rest, -third, mpmath.mpf(1) / 2, 15),
        }
    for ours, theirs in expected.items():
        np.testing.assert_allclose(ours, theirs, rtol=1e-15)


def test_constants_in_several_parts_are_the_constants() -> None:
    with mpmath.workdps(60):
        exact = {"HALF_PI": mpmath.pi / 2, "LN2": mpmath.log(2), "LOG2E": 1 / mpmath.log(2), "LOG10E": 1 / mpmath.log(10),
                 "LOG10_2": mpmath.log10(2), "TWO_THIRDS": mpmath.mpf(2) / 3}
        for name, value in exact.items():
            for dtype in DTYPES:
                parts = getattr(_angles if name == "HALF_PI" else _powers, f"{name}_{np.finfo(dtype).bits}")
                assert all(float(dtype(part)) == part for part in parts)
                assert abs(sum(map(mpmath.mpf, parts)) - value) < value * mpmath.mpf(2) ** (-(np.finfo(dtype).nmant + 1) * len(parts))


# --- a user's function --------------------------------------------------------------------------------------------------------------

HALF = 0.5


def helper(x: Any) -> Any:
    return HALF * np.exp(-x)


def users(f: Any, x: np.ndarray, vector: bool = True) -> np.ndarray:
    out = np.empty_like(x)
    loops.map1(scalar.generic(f), "users", vector=vector)(x, out)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: math.tanh(x) + np.tanh(x) + hyperbolic_tangent(x),
        lambda x: helper(x) + math.pi,
        lambda x: max(x, 0.0) + min(x, 1.0) + abs(x),
        lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
        lambda x: np.where(x > 0, 1.0, -0.5) * np.clip(x, -1, 1) + np.sign(x),
        lambda x: np.log1p(np.exp(-np.abs(x))) + np.square(x) + math.log(x * x + 1),
        lambda x: math.sin(x) + np.cos(x) + x**2.0 * math.exp(1),
    ],
)
def test_math_and_numpy_become_ours(f: Any, vector: bool, dtype: Any) -> None:
    x = np.linspace(-3, 3, 37).astype(dtype)
    np.testing.assert_allclose(users(f, x, vector), [f(float(v)) for v in x], rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


def test_a_function_without_a_source_file() -> None:
    scope: dict[str, Any] = {}
    exec("import math\ndef factory(k):\n    return lambda x: k * math.tanh(x)", scope)
    x = np.linspace(-3, 3, 37)
    np.testing.assert_allclose(users(scope["factory"](2.0), x), 2 * np.tanh(x), rtol=1e-15)


def test_a_comparison_is_ones_and_zeros() -> None:
    x = np.linspace(-3, 3, 37, dtype=np.float32)
    assert np.array_equal(users(lambda x: (x > 0) & (x < 1), x), ((x > 0) & (x < 1)).astype(np.float32))


def test_the_users_function_is_left_alone() -> None:
    assert scalar.generic(helper) is not helper
    assert helper(0.0) == 0.5
    assert helper.__globals__["np"] is np
