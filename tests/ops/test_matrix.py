"""Every op in every shape and layout: forward against its definition, first and second derivative, a replay with the bits of eager mode."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.op import Op
from minigrad.ops.samples import Case
from tests.ops.inputs import KINDS, generator, inputs
from tests.ops.test_every_op import OPS, Array, cast, check_gradient, check_second, run, stepper, values

#: Ops that return nothing to compare: what they do has a test of its own.
CHECKS = {"guard"}


def listed(*kinds: str, where: Callable[[Op], bool] = lambda op: True) -> list[Any]:
    return [pytest.param(op, kind, i, id=f"{op.name}-{kind}-{i}") for op in OPS if op.name not in CHECKS and where(op)
            for kind in kinds for i in range(len(inputs(op, kind)))]


def definition(op: Op, arrays: Any, attributes: dict[str, Any]) -> Any:
    """Of nothing the mean is NaN, and NumPy warns of it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        return op.definition(*[np.array(a) for a in arrays], **attributes)


EVERY = listed(*KINDS)


def has_derivative(op: Op, arrays: Any, attributes: dict[str, Any]) -> bool:
    """Whether there is one to compare: the mean of nothing has none."""
    return any(op.vjps) and bool(np.isfinite(definition(op, arrays, attributes)).all())


SMOOTH = [p for p in EVERY if has_derivative(p.values[0], *inputs(p.values[0], p.values[1])[p.values[2]])]
#: A derivative that is read from the output is 0 where that has rounded to its limit.
LEAST = 1e-13


def test_every_op_has_shapes() -> None:
    assert [op.name for op in OPS if generator(op) is None] == []
    assert all(inputs(op, "prime") for op in OPS)


@pytest.mark.parametrize(("op", "kind", "i"), EVERY)
def test_float64_is_the_definition(op: Op, kind: str, i: int) -> None:
    arrays, attributes = inputs(op, kind)[i]
    expected = definition(op, arrays, attributes)
    found = run(op, [mg.tensor(a) for a in arrays], attributes).array
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("op", "kind", "i"), EVERY)
def test_float32_is_the_definition_within_its_rounding(op: Op, kind: str, i: int) -> None:
    arrays, attributes = inputs(op, kind)[i]
    given = cast(op, arrays, np.float32)
    expected = definition(op, [a.astype(np.float64) if a.dtype.kind == "f" else a for a in given], attributes)
    found = run(op, [mg.tensor(a) for a in given], attributes).array
    size = np.max(np.abs(expected), initial=1, where=np.isfinite(expected)) if kind == "large" else 1  # what many sum up to rounds with the sum
    np.testing.assert_allclose(found, expected, rtol=4e-6, atol=4e-6 * size)


@pytest.mark.parametrize(("op", "kind", "i"), SMOOTH)
def test_the_gradient_is_the_complex_step_of_the_definition(op: Op, kind: str, i: int, rng: np.random.Generator) -> None:
    with np.errstate(all="ignore"):
        check_gradient(op, *inputs(op, kind)[i], rng, 1 if kind == "large" else 2, LEAST)


@pytest.mark.parametrize(("op", "kind", "i"), SMOOTH)
def test_the_second_derivative_is_the_complex_step_of_the_first(op: Op, kind: str, i: int, rng: np.random.Generator,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    with np.errstate(all="ignore"):
        check_second(op, *inputs(op, kind)[i], rng, monkeypatch, 1 if kind == "large" else 2, LEAST)


# ---- layouts --------------------------------------------------------------------------------------------------------------------------
def transposed(a: Array) -> Array:
    """The same numbers, the first axis fastest in memory."""
    return np.array(a, order="F")


def strided(a: Array) -> Array:
    """The same numbers, every other one of an array that is read backwards."""
    wide = np.full([2 * n for n in a.shape], np.array(99).astype(a.dtype))
    key: Any = (..., *(slice(None, None, -2),) * a.ndim)
    view: Array = wide[key]
    view[...] = a
    return view


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lay", [transposed, strided])
@pytest.mark.parametrize(("op", "kind", "i"), listed("empty", "one", "prime", "broadcast"))
def test_the_order_in_memory_does_not_matter(op: Op, kind: str, i: int, lay: Callable[[Array], Array], dtype: Any) -> None:
    arrays, attributes = inputs(op, kind)[i]
    given = cast(op, arrays, dtype)
    laid = [lay(a) for a in given]
    expected = run(op, [mg.tensor(a) for a in given], attributes).array.tobytes()
    assert run(op, [mg.tensor(a) for a in laid], attributes).array.tobytes() == expected
    if not op.mutates:
        assert op(*laid, **attributes).array.tobytes() == expected
        assert all(np.array_equal(a, b) for a, b in zip(given, laid, strict=True))


# ---- captured -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", [op for op in OPS if op.samples is not None], ids=lambda op: op.name)
def test_a_replay_has_the_bits_of_eager_mode(op: Op, dtype: Any, rng: np.random.Generator) -> None:
    """All shapes in one step."""
    given: list[Case] = [(tuple(cast(op, arrays, dtype)), attributes) for kind in KINDS for arrays, attributes in inputs(op, kind)[:3]]
    steps = [[stepper(op, [(a.shape, a.dtype) for a in arrays], attributes) for arrays, attributes in given] for _ in range(2)]

    def together(parts: list[Callable[..., Any]]) -> Callable[..., Any]:
        return lambda upstreams, arguments: [step(up, *each) for step, up, each in zip(parts, upstreams, arguments, strict=True)]

    outs = [run(op, [mg.tensor(a) for a in arrays], attributes) for arrays, attributes in given]
    eager, captured = together(steps[0]), mg.capture(together(steps[1]))
    for _ in range(4):
        upstreams = [mg.tensor(rng.normal(size=out.shape).astype(out.dtype)) for out in outs]
        arguments = [[mg.tensor((a * rng.uniform(0.9, 1.0)).astype(a.dtype) if a.dtype.kind == "f" else a) for a in arrays] for arrays, _ in given]
        assert values(captured(upstreams, arguments)) == values(eager(upstreams, arguments))
    assert captured.nbytes > 0
