"""Matrix products of all ranks: NumPy's values and shapes, PyTorch's gradients, one set of bits, errors that name the fix."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import AxisError, DtypeError, ShapeError
from minigrad.ops import matmul as ops

LEFT = [(3,), (1,), (0,), (2, 3), (1, 3), (2, 0), (5, 2, 3), (1, 2, 3), (0, 2, 3), (4, 1, 2, 3), (4, 5, 1, 3)]
RIGHT = [(3,), (1,), (0,), (3, 4), (3, 1), (0, 2), (5, 3, 4), (1, 3, 4), (0, 3, 4), (4, 1, 3, 2), (4, 5, 3, 1), (2, 1, 5, 3, 2)]


def fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        np.matmul(np.zeros(a), np.zeros(b))
    except ValueError:
        return False
    return True


FITTING = [pair for pair in itertools.product(LEFT, RIGHT) if fits(*pair)]
OTHERS = [pair for pair in itertools.product(LEFT, RIGHT) if not fits(*pair)]


@pytest.mark.parametrize(("a", "b"), FITTING)
def test_matmul_is_numpys(a: tuple[int, ...], b: tuple[int, ...], rng: np.random.Generator) -> None:
    x, y = rng.normal(size=a), rng.normal(size=b)
    expected = x @ y
    for found in (mg.tensor(x) @ mg.tensor(y), mg.matmul(x, y), x @ mg.tensor(y), mg.tensor(x) @ y, mg.tensor(x).matmul(y)):
        assert isinstance(found, mg.Tensor) and found.shape == expected.shape and found.dtype == np.float64
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("a", "b"), OTHERS)
def test_what_numpy_refuses_is_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"matmul\w*: (inner sizes differ|batch axes).*: .+"):
        mg.matmul(np.zeros(a), np.zeros(b))


@pytest.mark.parametrize(("a", "b"), FITTING)
def test_gradients_are_pytorchs(a: tuple[int, ...], b: tuple[int, ...], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, y, g = rng.normal(size=a), rng.normal(size=b), rng.normal(size=(np.zeros(a) @ np.zeros(b)).shape)
    ours: list[Any] = [mg.tensor(array, requires_grad=True) for array in (x, y)]
    theirs: list[Any] = [torch.tensor(array, requires_grad=True) for array in (x, y)]
    (ours[0] @ ours[1]).backward(mg.tensor(g))
    (theirs[0] @ theirs[1]).backward(torch.tensor(g))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad.shape == mine.shape
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("a", "b"), [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 1, 2, 3), (4, 3, 2)), ((2, 3), (2, 3, 2)),
                                      ((3,), (2, 3, 2))])
def test_gradients_of_gradients(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = mg.randn(a, dtype=mg.float64, requires_grad=True), mg.randn(b, dtype=mg.float64, requires_grad=True)
    assert mg.autograd.gradcheck(mg.matmul, (x, y))
    assert mg.autograd.gradgradcheck(mg.matmul, (x, y))


# ---- bits --------------------------------------------------------------------------------------------------------------------------
FORMS = {"nn": (ops.bmm_nn, ops.matmul_nn), "nt": (ops.bmm_nt, ops.matmul_nt), "tn": (ops.bmm_tn, ops.matmul_tn)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("of_a", "of_b"), [((3,), (3,)), ((40,), (40,)), ((40, 1), (3,)), ((2, 1), (5,)), ((), (3,)), ((2, 1, 2), (3, 1))])
def test_each_product_of_a_stack_has_the_bits_of_its_own(form: str, of_a: Any, of_b: Any, dtype: Any, rng: np.random.Generator) -> None:
    many, one = FORMS[form]
    for m, k, n in ((1, 1, 1), (4, 3, 5), (1, 33, 7), (9, 40, 1), (17, 230, 50)):
        a = rng.normal(size=(*of_a, *((k, m) if form[0] == "t" else (m, k)))).astype(dtype)
        b = rng.normal(size=(*of_b, *((n, k) if form[1] == "t" else (k, n)))).astype(dtype)
        out = many(mg.tensor(a), mg.tensor(b)).array
        batch = np.broadcast_shapes(of_a, of_b)
        wide_a, wide_b = np.broadcast_to(a, (*batch, *a.shape[-2:])), np.broadcast_to(b, (*batch, *b.shape[-2:]))
        for at in np.ndindex(batch):
            assert out[at].tobytes() == one(mg.tensor(wide_a[at].copy()), mg.tensor(wide_b[at].copy())).array.tobytes(), (m, k, n)


def test_a_vector_has_the_bits_of_a_row_or_a_column(rng: np.random.Generator) -> None:
    x, w = mg.tensor(rng.normal(size=(50, 300)).astype(np.float32)), mg.tensor(rng.normal(size=(300, 70)).astype(np.float32))
    whole = (x @ w).array
    assert (x[3] @ w).array.tobytes() == whole[3].tobytes()
    assert (x @ w[:, 5]).array.tobytes() == whole[:, 5].tobytes()
    assert (x[3] @ w[:, 5]).array.tobytes() == whole[3, 5].tobytes()
    assert (x.reshape(5, 10, 300) @ w).array.tobytes() == whole.tobytes()


@pytest.mark.parametrize(("a", "b"), [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((40, 2, 3), (40, 3, 2)),
                                      ((2, 1, 2, 3), (4, 3, 2)), ((5, 2, 3), (3, 4))])
def test_captured_steps_have_the_bits_of_eager_mode(a: tuple[int, ...], b: tuple[int, ...], rng: np.random.Generator) -> None:
    w = mg.tensor(rng.normal(size=b).astype(np.float32), requires_grad=True)

    def step(x: Any) -> Any:
        w.grad = None
        out = x @ w
        (out * out).sum().backward()
        return out, w.grad

    captured = mg.capture(step)
    for _ in range(4):
        x = rng.normal(size=a).astype(np.float32)
        assert [t.array.tobytes() for t in captured(x)] == [t.array.tobytes() for t in step(x)]
    assert captured.nbytes > 0


# ---- by name -----------------------------------------------------------------------------------------------------------------------
NAMED: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[tuple[Any, Any]]]] = {
    "mm": (mg.mm, np.matmul, [((2, 3), (3, 4))]),
    "mv": (mg.mv, np.matmul, [((2, 3), (3,))]),
    "bmm": (mg.bmm, np.matmul, [((5, 2, 3), (5, 3, 4)), ((0, 2, 3), (0, 3, 4))]),
    "dot": (mg.dot, np.dot, [((3,), (3,)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((2, 4, 3), (3,)), ((3,), (2, 3, 4)),
                           ((2, 5, 3), (4, 3, 2)), ((), (2, 3))]),
    "inner": (mg.inner, np.inner, [((3,), (3,)), ((2, 3), (4, 3)), ((2, 5, 3), (4, 3)), ((3,), (2, 5, 3)), ((2,), ())]),
    "outer": (mg.outer, np.outer, [((3,), (4,)), ((2, 3), (4,)), ((), (2,)), ((0,), (3,))]),
    "vecdot": (mg.vecdot, lambda x, y: (x * y).sum(-1), [((3,), (3,)), ((2, 3), (5, 1, 3)), ((2, 0), (2, 0))]),
    "tensordot": (mg.tensordot, np.tensordot, [((2, 3, 4), (3, 4, 5)), ((3, 4), (3, 4))]),
}


@pytest.mark.parametrize(("name", "a", "b"), [(name, *pair) for name in NAMED for pair in NAMED[name][2]])
def test_named_products_are_numpys(name: str, a: tuple[int, ...], b: tuple[int, ...], rng: np.random.Generator) -> None:
    ours, numpys, _ = NAMED[name]
    x, y = rng.normal(size=a), rng.normal(size=b)
    expected = numpys(x, y)
    found = ours(mg.tensor(x), mg.tensor(y))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)
    if hasattr(mg.Tensor, name):
        assert getattr(mg.tensor(x), name)(mg.tensor(y)).array.tobytes() == found.array.tobytes()
    if x.size and y.size:
        assert mg.autograd.gradcheck(ours, (mg.tensor(x, requires_grad=True), mg.tensor(y, requires_grad=True)))


@pytest.mark.parametrize("axes", [0, 1, 2, ([1, 0], [0, 1]), (0, 1), ([-1], [-2]), ([], []), ([0, 2], [1, 0])])
def test_tensordot_over_any_axes(axes: Any, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(3, 3, 3)), rng.normal(size=(3, 3, 3, 2))
    np.testing.assert_allclose(mg.tensordot(x, y, axes).numpy(), np.tensordot(x, y, axes), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mg.tensordot(x, y, dims=axes).numpy(), np.tensordot(x, y, axes), rtol=1e-12, atol=1e-13)


def test_plain_numbers_take_the_dtype_beside_them() -> None:
    x = mg.ones(2, 3)
    for found in (np.ones((4, 2)) @ x, x @ np.ones(3, np.float64), x @ np.ones((3, 2), np.int64), mg.einsum("ij,,jk", x, 2.0, np.ones((3, 3)))):
        assert found.dtype == np.float32
    assert mg.matmul(np.ones((2, 2)), np.ones(2)).dtype == np.float64


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: mg.ones(2, 3) @ mg.ones(4, 3), ShapeError, r"matmul_nn: inner sizes differ, 3 against 4 .*float32\[2, 3\].*float32\[4, 3\].*b\.mT"),
    (lambda: mg.ones(5, 2, 3) @ mg.ones(5, 2, 3), ShapeError, r"matmul: inner sizes differ, 3 against 2 .*b\.mT"),
    (lambda: mg.ones(2, 3) @ mg.ones(4), ShapeError, "matmul: inner sizes differ, 3 against 4 .*the only one of b"),
    (lambda: mg.ones(5, 2, 3) @ mg.ones(4, 3, 2), ShapeError, r"matmul: batch axes \(5,\) and \(4,\) do not broadcast"),
    (lambda: mg.ones(2, 3) @ 2.0, ShapeError, r"matmul: a scalar is no matrix .*with \*"),
    (lambda: mg.ones(2, 3) @ [1.0], DtypeError, r"matmul: operand 1 is a list.*mg\.tensor"),
    (lambda: mg.ones(2, 3) @ mg.ones(3, 4, dtype=mg.float64), DtypeError, "float32 and float64 are not mixed"),
    (lambda: mg.ones(2, 3) @ mg.ones(4, 3, 4, dtype=mg.float64), DtypeError, "bmm_nn: float32 and float64 are not mixed"),
    (lambda: mg.ones(2, 3, dtype=mg.int64) @ mg.ones(3, dtype=mg.int64), DtypeError, "a is int64, expected float32 or float64.*astype"),
    (lambda: mg.mm(mg.ones(2), mg.ones(2, 2)), ShapeError, "mm: a has 1 axes, expected 2 .*use matmul"),
    (lambda: mg.mv(mg.ones(2, 2), mg.ones(2, 2)), ShapeError, "mv: b has 2 axes, expected 1"),
    (lambda: mg.bmm(mg.ones(1, 2, 2), mg.ones(3, 2, 2)), ShapeError, "bmm: 1 matrices against 3 .*use matmul"),
    (lambda: mg.inner(mg.ones(2), mg.ones(3)), ShapeError, "inner: axis 0 of a has size 2, axis 0 of b has 3"),
    (lambda: mg.tensordot(mg.ones(2), mg.ones(3), 2), AxisError, "tensordot: 2 axes, expected 0 to 1"),
    (lambda: mg.tensordot(mg.ones(2, 3), mg.ones(3), ([0, 1], [0])), AxisError, "2 axes of a against 1 of b"),
    (lambda: mg.tensordot(mg.ones(2, 3), mg.ones(3), ([2], [0])), AxisError, r"\[2\] are not axes of a"),
    (lambda: mg.tensordot(mg.ones(2, 3), mg.ones(3), ([1, 1], [0, 0])), AxisError, "each once"),
    (lambda: ops.bmm_nn(mg.ones(3), mg.ones(3, 3)), ShapeError, "bmm_nn: a has 1 dimensions, expected at least 2"),
    (lambda: ops.bmm_nt(mg.ones(2, 2, 3), mg.ones(2, 3, 2)), ShapeError, "bmm_nt: inner sizes differ, 3 against 2"),
    (lambda: ops.bmm_tn(mg.ones(2, 2, 3), mg.ones(3, 2, 2)), ShapeError, "bmm_tn: batch axes"),
])
def test_what_does_not_fit_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
