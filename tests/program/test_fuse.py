"""Transposed copies vanish from programs where products can read or write transposed, and the bits stay."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg


def program(step: Any) -> list[str]:
    """The names of what the step's program runs."""
    (_, _, made), = step.explain().recordings
    assert made is not None
    return [source.op.name for unit in made.units for _, source in unit]


def products(names: list[str]) -> list[str]:
    """Without what only feeds a step and takes its results."""
    return [name for name in names if name in ("transpose", "permute") or name.startswith(("matmul", "bmm"))]


def values(result: Any) -> list[bytes]:
    return [x.array.tobytes() for x in result] if isinstance(result, tuple) else [result.array.tobytes()]


def weight(*shape: int) -> mg.Tensor:
    return mg.tensor(np.random.default_rng(5).normal(size=shape).astype(np.float32), requires_grad=True)


def trained(forward: Callable[[Any, Any], Any], w: Any, momentum: float = 0.0) -> Callable[[Any], Any]:
    """A step of gradient descent through `forward`."""
    opt = mg.optim.SGD([w], lr=0.01, momentum=momentum)

    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = (forward(x, w) ** 2).mean()
        loss.backward()
        opt.step()
        return loss

    return step


CASES = {
    "right": (lambda x, w: x @ w.T, (5, 7), (9, 7), ["matmul_nt", "matmul_tn"]),
    "left": (lambda x, w: w.T @ x, (7, 5), (7, 9), ["matmul_tn", "matmul_nt"]),
    "transposed in NumPy's words": (lambda x, w: x @ w.transpose(), (5, 7), (9, 7), ["matmul_nt", "matmul_tn"]),
    "stacks": (lambda x, w: x @ w.mT, (3, 5, 7), (3, 9, 7), ["bmm_nt", "bmm_tn"]),
    "a stack and a matrix": (lambda x, w: x @ w.T, (3, 5, 7), (9, 7), ["matmul_nt", "matmul_tn"]),
    "attention": (lambda x, w: (x @ w) @ (x @ w).mT, (3, 5, 7), (7, 7),
                  ["matmul_nn", "matmul_nn", "bmm_nt", "bmm_nn", "bmm_tn", "matmul_tn", "matmul_tn"]),
    "used by a sum too": (lambda x, w: x @ w.T + w.T.sum(0), (5, 7), (9, 7), None),
    "used as it is": (lambda x, w: (lambda t: x @ t + t.sum(0))(w.T), (5, 7), (9, 7), None),
    "both operands": (lambda x, w: x.T @ w.T, (7, 5), (9, 7), None),
    "with itself": (lambda x, w: (lambda t: t @ t)(w.T) * x, (7, 7), (7, 7), None),
    "seen through a view": (lambda x, w: (lambda t: x @ t + t.reshape(-1)[:1])(w.T), (5, 7), (9, 7), None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_step_through_transposes_has_the_bits_of_eager_mode(name: str, rng: np.random.Generator) -> None:
    forward, of_x, of_w, expected = CASES[name]
    first, second = weight(*of_w), weight(*of_w)
    eager, captured = trained(forward, first, 0.9), mg.capture(trained(forward, second, 0.9))
    for _ in range(5):
        x = rng.normal(size=of_x).astype(np.float32)
        assert values(captured(x)) == values(eager(x))
        assert first.array.tobytes() == second.array.tobytes()
    if expected is not None:
        assert products(program(captured)) == expected


def test_a_transpose_that_is_returned_is_made(rng: np.random.Generator) -> None:
    w = weight(9, 7)

    def step(x: Any) -> Any:
        with mg.no_grad():
            t = w.T
            return x @ t, t

    captured = mg.capture(step)
    for _ in range(4):
        x = rng.normal(size=(5, 7)).astype(np.float32)
        assert values(captured(x)) == values(step(x))
    assert products(program(captured)) == ["transpose", "matmul_nn"]


def test_a_product_that_is_returned_is_made_as_it_is(rng: np.random.Generator) -> None:
    w = weight(9, 7)

    def step(x: Any) -> Any:
        with mg.no_grad():
            y = mg.einsum("ik,jk->ij", x, w)
            return y, y.T

    captured = mg.capture(step)
    for _ in range(4):
        x = rng.normal(size=(5, 7)).astype(np.float32)
        assert values(captured(x)) == values(step(x))
    assert products(program(captured)) == ["matmul_nt", "transpose"]


def test_what_is_written_before_the_product_was_copied_before(rng: np.random.Generator) -> None:
    def step(x: Any, y: Any) -> Any:
        z = y * 1.0
        t = z.T
        z.add_(1.0)
        return x @ t, z

    captured = mg.capture(step)
    for _ in range(4):
        x, y = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(9, 7)).astype(np.float32)
        assert values(captured(x, y)) == values(step(x, mg.tensor(y)))
    assert "transpose" in products(program(captured))


def test_an_operand_written_before_the_transpose_was_read_before(rng: np.random.Generator) -> None:
    def step(x: Any, y: Any) -> Any:
        z = y * 1.0
        p = mg.einsum("ik,jk->ij", x, z)
        z.add_(1.0)
        return p.T * 2.0, z

    captured = mg.capture(step)
    for _ in range(4):
        x, y = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(9, 7)).astype(np.float32)
        assert values(captured(x, y)) == values(step(x, mg.tensor(y)))


def test_a_product_that_is_only_transposed_is_made_transposed(rng: np.random.Generator) -> None:
    captured = mg.capture(lambda x, y: mg.einsum("ki,kj->ij", x, y).T * 1.0)
    for _ in range(4):
        x, y = rng.normal(size=(7, 5)), rng.normal(size=(7, 9))
        assert captured(x, y).array.tobytes() == (mg.einsum("ki,kj->ij", x, y).T * 1.0).array.tobytes()
    assert products(program(captured)) == ["matmul_tn"]
