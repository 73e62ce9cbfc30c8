"""einsum: NumPy's values for any equation, PyTorch's gradients, few copies, errors that name what does not fit."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import matmul as ops
from minigrad.tape.contraction import _parsed, recipe

Shapes = list[tuple[int, ...]]


def equation(rng: np.random.Generator) -> tuple[str, Shapes]:
    """Up to four operands with up to three letters each: repeated ones, some of size 1, ellipses, with and without a result."""
    letters = "abcdeAZ"
    sizes = {letter: int(rng.integers(1, 5)) for letter in letters}
    hidden = [int(rng.integers(1, 4)) for _ in range(rng.integers(0, 3))]
    dotted = rng.random() < 0.4
    parts, shapes = [], []
    for _ in range(rng.integers(1, 5)):
        some = [str(c) for c in rng.choice(list(letters[:rng.integers(2, 8)]), rng.integers(0, 4))]
        shape = [1 if some.count(c) == 1 and rng.random() < 0.1 else sizes[c] for c in some]
        text = "".join(some)
        if dotted and rng.random() < 0.7:
            at = int(rng.integers(0, len(some) + 1))
            text = f"{text[:at]}...{text[at:]}"
            shape[at:at] = [1 if rng.random() < 0.2 else n for n in hidden[rng.integers(0, len(hidden) + 1):]]
        parts.append(text)
        shapes.append(tuple(shape))
    whole = ",".join(parts)
    if rng.random() < 0.7:
        result = [str(c) for c in rng.permutation(sorted({*whole} - {*",."})) if rng.random() < 0.5]
        if "..." in whole:
            result.insert(int(rng.integers(0, len(result) + 1)), "...")
        whole += "->" + "".join(result)
    return whole, shapes


@pytest.mark.parametrize("seed", range(10))
def test_random_equations_have_numpys_values_and_pytorchs_gradients(seed: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    for _ in range(50):
        text, shapes = equation(rng)
        arrays = [rng.normal(size=shape) for shape in shapes]
        expected = np.einsum(text, *arrays)
        ours: list[Any] = [mg.tensor(a, requires_grad=True) for a in arrays]
        theirs: list[Any] = [torch.tensor(a, requires_grad=True) for a in arrays]
        found, upstream = mg.einsum(text, *ours), rng.normal(size=expected.shape)
        assert found.shape == expected.shape, (text, shapes)
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10, atol=1e-12, err_msg=f"{text} {shapes}")
        found.backward(mg.tensor(upstream))
        torch.einsum(text, *theirs).backward(torch.tensor(upstream))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=f"{text} {shapes}")


KNOWN: list[tuple[str, Shapes]] = [
    ("ii", [(3, 3)]), ("ii->i", [(3, 3)]), ("iij->ji", [(3, 3, 2)]), ("ij->", [(2, 3)]), ("ij->ji", [(2, 3)]), ("ij", [(2, 3)]), ("ba", [(2, 3)]),
    ("i,i", [(3,), (3,)]), ("i,j", [(3,), (2,)]), ("ij,ij->ij", [(2, 3), (2, 3)]), ("ij,jk", [(2, 3), (3, 4)]), ("ij,kj->ki", [(2, 3), (4, 3)]),
    ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]), ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]), ("...ij,...jk", [(2, 1, 2, 3), (4, 3, 2)]),
    ("n,nab,n->ab", [(3,), (3, 2, 2), (3,)]),
    ("a,ab,bc,c->", [(2,), (2, 3), (3, 4), (4,)]), ("i...,i...->...", [(3, 2), (3, 2)]), (",ij->ij", [(), (2, 3)]),
    ("...,...", [(2, 3), (3,)]), ("ij,j...->i...", [(2, 3), (3,)]), ("ij,jk,kl", [(0, 3), (3, 0), (0, 2)]),
    ("ab,bc,cd,de,ef", [(2, 3), (3, 2), (2, 4), (4, 2), (2, 3)]),
]


@pytest.mark.parametrize(("text", "shapes"), KNOWN)
def test_known_equations(text: str, shapes: Shapes, rng: np.random.Generator) -> None:
    arrays = [rng.normal(size=shape) for shape in shapes]
    expected = np.einsum(text, *arrays)
    for spelled in (text, f" {text.replace(',', ' , ')} "):
        found = mg.einsum(spelled, *arrays)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mg.einsum(text, [mg.tensor(a) for a in arrays]).numpy(), expected, rtol=1e-12, atol=1e-13)
    if all(a.size for a in arrays):
        inputs = tuple(mg.tensor(a, requires_grad=True) for a in arrays)
        assert mg.autograd.gradcheck(lambda *xs: mg.einsum(text, *xs), inputs)
        assert mg.autograd.gradgradcheck(lambda *xs: mg.einsum(text, *xs), inputs)


@pytest.mark.parametrize(("text", "shapes"), KNOWN)
def test_captured_steps_have_the_bits_of_eager_mode(text: str, shapes: Shapes, rng: np.random.Generator) -> None:
    w = mg.tensor(rng.normal(size=shapes[-1]).astype(np.float32), requires_grad=True)

    def step(*given: Any) -> Any:
        w.grad = None
        out = mg.einsum(text, *given, w)
        (out * out).sum().backward()
        return out, w.grad

    captured = mg.capture(step)
    for _ in range(4):
        given = [rng.normal(size=shape).astype(np.float32) for shape in shapes[:-1]]
        assert [t.array.tobytes() for t in captured(*given)] == [t.array.tobytes() for t in step(*given)]


@pytest.mark.parametrize("given", [([0, 1], [1, 2], [0, 2]), ([0, 1], [1, 2]), ([5, 1], [1, 2]), ([0, ...], [..., 2], [2, 0, ...]),
                                   ([..., 0, 1], [1, 7], [7, ..., 0])])
def test_lists_of_numbers_are_names_too(given: Any, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(3, 3)), rng.normal(size=(3, 4))
    if given[0] == [0, ...]:
        x = rng.normal(size=(2, 3))
    arguments = [x, given[0], y, given[1], *given[2:]]
    np.testing.assert_allclose(mg.einsum(*arguments).numpy(), np.einsum(*arguments), rtol=1e-12, atol=1e-13)


def used(text: str, *shapes: tuple[int, ...]) -> list[str]:
    """The ops of a contraction."""
    return [move.op.name for move in recipe(*_parsed(text, shapes), shapes)]


def test_products_in_any_orientation_copy_nothing() -> None:
    assert used("ij,jk->ik", (2, 3), (3, 4)) == ["matmul_nn"]
    assert used("ij,kj->ik", (2, 3), (4, 3)) == ["matmul_nt"]
    assert used("ji,jk->ik", (3, 2), (3, 4)) == ["matmul_tn"]
    assert used("ji,kj->ki", (3, 2), (4, 3)) == ["matmul_nn"]
    assert used("ij,kj->ki", (2, 3), (4, 3)) == ["matmul_nt"]
    assert used("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)) == ["reshape", "reshape", "bmm_nt", "reshape"]
    assert used("i,j->ij", (2,), (3,)) == ["reshape", "reshape", "mul"]


def test_chains_are_contracted_at_the_cheap_end_first() -> None:
    moves = recipe(*_parsed("ab,bc,c->a", ((100, 100), (100, 100), (100,))), ((100, 100), (100, 100), (100,)))
    assert 0 not in moves[0].inputs + moves[1].inputs


def test_a_product_has_the_bits_of_matmul(rng: np.random.Generator) -> None:
    x, y = mg.tensor(rng.normal(size=(33, 50)).astype(np.float32)), mg.tensor(rng.normal(size=(50, 21)).astype(np.float32))
    assert mg.einsum("ij,jk", x, y).array.tobytes() == ops.matmul_nn(x, y).array.tobytes()


def test_a_result_is_a_tensor_of_its_own() -> None:
    x = mg.ones(2, 3)
    assert mg.einsum("ij->ij", x) is not x


def test_integers_without_matrix_products() -> None:
    x = mg.tensor(np.arange(6).reshape(2, 3))
    assert mg.einsum("ij->i", x).tolist() == [3, 12]
    assert mg.einsum("i,j->ij", x[0], x[1]).tolist() == [[0, 0, 0], [3, 4, 5], [6, 8, 10]]


@pytest.mark.parametrize(("text", "shapes", "error", "complaint"), [
    ("ij,jk", [(2, 3)], ShapeError, "names 2 operands, got 1"),
    ("ij,jk", [(2, 3), (4, 5)], ShapeError, "axis 'j' of 'ij,jk' has size 4 in operand 1, 3 before it.*equal or 1"),
    ("ij", [(2, 3, 4)], ShapeError, r"operand 0 of 'ij' has 2 names, but shape \(2, 3, 4\) has 3 axes: stand for the others with \.\.\."),
    ("ij...", [(2,)], ShapeError, "has 2 names and an ellipsis, but shape"),
    ("ij->ijk", [(2, 3)], ShapeError, "the result of .* names 'k', which no operand has"),
    ("ij->iji", [(2, 3)], ShapeError, "names 'i' 2 times"),
    ("i1", [(2, 3)], ShapeError, "'1' in 'i1' is not a letter"),
    ("i..", [(2, 3)], ShapeError, r"'\.' in 'i\.\.' is not a letter"),
    ("...i...", [(2, 3)], ShapeError, "has 2 ellipses"),
    ("ii", [(2, 3)], ShapeError, "axis 'i' of 'ii' has size 3 in operand 0, 2 before it"),
    ("ii", [(1, 3)], ShapeError, r"a diagonal of operand 0 of 'ii' needs equal sizes, axis 'i' has \[1, 3\]"),
    ("...i,...i", [(2, 3), (4, 3)], ShapeError, "axis -1 of '...'"),
])
def test_what_does_not_fit_is_refused(text: str, shapes: Shapes, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        mg.einsum(text, *[np.zeros(shape) for shape in shapes])


def test_axes_under_an_ellipsis_that_the_result_lacks_are_summed(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4))
    np.testing.assert_allclose(mg.einsum("...i->i", x).numpy(), x.sum((0, 1)), rtol=1e-12)


def test_what_is_no_operand_is_refused() -> None:
    with pytest.raises(DtypeError, match="einsum: operand 1 is a str"):
        mg.einsum("i,i", mg.ones(3), "x")
