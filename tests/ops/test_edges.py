"""Elementwise ops at the edges of floating point: zeros of both signs, subnormal, tiny and huge numbers, infinities, NaN, and all pairs of them."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.activations import gelu, gelu_grad, gelu_tanh_grad
from minigrad.ops.op import Op
from minigrad_kernels.activations import INV_SQRT_TAU
from tests.ops.inputs import is_pointwise, pools
from tests.ops.test_every_op import OPS, Array

Dtype = type[np.float32] | type[np.float64]
#: How far from the definition, beside 1; two of the smallest numbers there are may be missing as well.
TOLERANCE: dict[Any, float] = {np.float64: 1e-13, np.float32: 1e-6}

#: Definitions that take complex numbers, which costs them some of these values: what is compared with instead.
REAL: dict[str, Callable[..., Any]] = {
    "clone": lambda x: x,
    "filled": lambda x, value: np.full_like(x, value),
    "abs": np.abs,
    "sign": lambda x: np.where((x == 0) | np.isnan(x), x, np.sign(x)),
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.round,
    "maximum": np.maximum, "minimum": np.minimum, "floor_divide": np.floor_divide,
    "relu": lambda x: np.where(np.isnan(x), x, np.where(x > 0, x, 0)),
    # The limits on either side, where the definition is inf - inf.
    "gelu_tanh_grad": lambda grad, x: np.where(x > 25, grad, np.where(x < -25, grad * 0, gelu_tanh_grad.definition(grad, x))),
    # The polynomials of the tail end at -8.5 in float64 and at -5.6 in float32, where it is 1e-17 and 8e-9.
    "gelu": lambda x: np.where(x < -9, x * 0, gelu.definition(x)),
    "gelu_grad": lambda grad, x: np.where(x < -9, grad * (x * (np.exp(-0.5 * x * x) * INV_SQRT_TAU)), gelu_grad.definition(grad, x)),
    # sigmoid(x) is 1 - sigmoid(-x), which cancels against a target of 1.
    "binary_cross_entropy_with_logits_grad": lambda grad, x, target: grad * np.where(
        x > 0, (1 - target) - np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))), 1 / (1 + np.exp(-x)) - target),
}
#: The sign of a zero is that of an empty sum or of a product with nothing, and means nothing.
ANY_ZERO = {"logsigmoid", "sign_at", "norm_slope", "huber", "huber_grad", "binary_cross_entropy_with_logits", "gelu", "gelu_grad", "gelu_tanh_grad"}
#: Inputs with a narrower domain than all numbers, by name: targets are probabilities, a norm is not negative.
DOMAIN = {("norm_slope", "y"): (1e-9, np.inf), **{(f"binary_cross_entropy{kind}", "target"): (0.0, 1.0)
                                                  for kind in ("", "_grad", "_with_logits", "_with_logits_grad")}}
#: Products of three factors that overflow in the definition's order and not in the kernel's; no number is larger than a norm it is part of.
NOT_AT = {"huber_grad": lambda grad, d: np.abs(grad) > 1e38, "norm_slope": lambda x, y: np.abs(x) > y}


def specials(dtype: Any, few: bool) -> Array:
    """Numbers of every kind, with both signs, and NaN."""
    f: Any = np.finfo(dtype)
    root = float(f.smallest_normal) ** 0.5
    sizes = [0.0, f.smallest_subnormal, 0.5, 1, 30, f.max, np.inf] if few else [
        0.0, f.smallest_subnormal, f.smallest_normal / 8, f.smallest_normal, root, 0.5, 1, 2, 2.5, 30, 300, 1 / root, f.max, np.inf]
    return np.array([sign * size for size in sizes for sign in (1.0, -1.0)] + [np.nan]).astype(dtype)


def grid(op: Op, dtype: Dtype) -> list[Array]:
    """All combinations of special numbers in the op's inputs."""
    values = specials(dtype, few=len(op.inputs) > 2)
    of_each = []
    for name in op.inputs:
        low, high = DOMAIN.get((op.name, name), (-np.inf, np.inf))
        of_each.append(values if low == -high else values[(values >= low) & (values <= high)])
    arrays = [a.ravel() for a in np.meshgrid(*of_each, indexing="ij")]
    with np.errstate(all="ignore"):
        left_out = NOT_AT[op.name](*arrays) if op.name in NOT_AT else np.zeros(arrays[0].shape, bool)
    return [a[~left_out] for a in arrays]


def agrees(op: Op, found: Array, expected: Array) -> Any:
    """Where: NaN with NaN, infinities with their signs, zeros with theirs, numbers within the tolerance."""
    if expected.dtype.kind != "f":
        return found == expected
    dtype = found.dtype.type
    rounded = expected.astype(dtype)
    wide, exact = found.astype(np.float64), expected.astype(np.float64)
    near = np.abs(wide - exact) <= TOLERANCE[dtype] * np.abs(exact) + 2 * float(np.finfo(dtype).smallest_subnormal)
    zeros = (rounded != 0) | (np.signbit(found) == np.signbit(rounded)) | (op.name in ANY_ZERO)
    return zeros & (near | (found == rounded) | (np.isnan(found) & np.isnan(rounded)))


CASES = [pytest.param(op, attributes, id=f"{op.name}-{i}") for op in OPS if is_pointwise(op) and not op.mutates
         for i, (values, attributes) in enumerate(pools(op)) if all(pool.dtype.kind == "f" for pool in values)
         and (op.name, attributes.get("p")) != ("norm_slope", 1)]  # 0**0, which the 1-norm does without


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "attributes"), CASES)
def test_special_values_are_those_of_the_definition(op: Op, attributes: dict[str, Any], dtype: Dtype) -> None:
    """In float32 the definition counts as computed in float32, or in float64 and rounded: intermediate numbers may overflow in one."""
    arrays = grid(op, dtype)
    numbers = {name: float(dtype(value)) for name, value in {**op.defaults, **attributes}.items()}
    good: Any = False
    found = op(*[mg.tensor(a) for a in arrays], **attributes).array
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for inner in (dtype, np.float64):
            good |= agrees(op, found, np.asarray(REAL.get(op.name, op.definition)(*[a.astype(inner) for a in arrays], **numbers)))
    bad = [(*[a[i] for a in arrays], found[i]) for i in np.flatnonzero(~good)[:10]]
    assert not bad, f"{len(bad)} of {found.size}: (inputs..., result)"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "attributes"), CASES)
def test_special_values_have_the_same_bits_alone_and_side_by_side(op: Op, attributes: dict[str, Any], dtype: Dtype) -> None:
    """A vector of numbers, each of another kind, and one number again and again; NaNs may differ in what they carry."""
    arrays = [a[::max(1, a.size // 200)] for a in grid(op, dtype)]
    side_by_side = op(*[mg.tensor(a) for a in arrays], **attributes).array
    alone = np.array([op(*[mg.tensor(a[i:i + 1]) for a in arrays], **attributes).array[0] for i in range(arrays[0].size)])
    np.testing.assert_array_equal(side_by_side, alone)
    assert np.array_equal(np.signbit(side_by_side[side_by_side == 0]), np.signbit(alone[alone == 0])) or side_by_side.dtype.kind != "f"
