"""Gradient hooks see the whole gradient, in order, and may replace it; `retain_grad` keeps it; both in captured steps too."""
from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import GraphError, ShapeError
from tests.garbage import cycles_left_by


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values), requires_grad=True)


class Seen(list[Any]):
    """What a hook saw; `saw` gives what the hook returns."""

    def saw(self, what: Any, result: Any = None) -> Any:
        self.append(what)
        return result


def at_leaf(x: Any) -> Any:
    """The Tensor itself."""
    return x


def at_result(x: Any) -> Any:
    """A result made of it."""
    return x * 1.0


places = pytest.mark.parametrize("place", [at_leaf, at_result])


@places
def test_a_hook_sees_the_whole_gradient_once_a_pass(place: Any) -> None:
    x, seen = leaf(1.0, 2.0), Seen()
    h = place(x)
    h.register_hook(lambda g: seen.saw(g.tolist()))
    loss = (h * h).sum() + (h * 3.0).sum() + h.sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert seen == [[6.0, 8.0]] * 2  # each pass its own, not the sum so far
    assert x.grad is not None and x.grad.tolist() == [12.0, 16.0]


@places
def test_hooks_run_in_order_and_each_sees_what_the_last_one_gave(place: Any) -> None:
    x, seen = leaf(1.0), Seen()
    h = place(x)
    for k in (2.0, 3.0):
        h.register_hook(partial(lambda k, g: seen.saw((k, g.item()), g * k), k))
    h.register_hook(lambda g: seen.saw((0.0, g.item())))
    (h * 5.0).backward()
    assert seen == [(2.0, 5.0), (3.0, 10.0), (0.0, 30.0)]
    assert x.grad is not None and x.grad.tolist() == [30.0]


@places
def test_a_hook_that_is_removed_is_not_called(place: Any) -> None:
    x, seen = leaf(1.0), Seen()
    h = place(x)
    first = h.register_hook(lambda g: seen.saw(1))
    second = h.register_hook(lambda g: seen.saw(2))
    with h.register_hook(lambda g: seen.saw(3)):
        (h * 2.0).backward(retain_graph=True)
    first.remove()
    first.remove()
    (h * 2.0).backward(retain_graph=True)
    second.remove()
    (h * 2.0).backward()
    assert seen == [1, 2, 3, 2]


@places
def test_a_hook_may_remove_itself(place: Any) -> None:
    x, seen = leaf(1.0), Seen()
    h = place(x)

    def once(g: Any) -> None:
        seen.append(g.item())
        handle.remove()

    handle = h.register_hook(once)
    h.register_hook(lambda g: seen.saw(-1.0))
    (h * 2.0).backward(retain_graph=True)
    (h * 2.0).backward()
    assert seen == [2.0, -1.0, -1.0]


@places
def test_what_a_hook_writes_in_place_counts_and_reaches_nobody_else(place: Any) -> None:
    x, y = leaf(1.0), leaf(1.0)
    h = place(x)
    h.register_hook(lambda g: g.mul_(4.0) and None)
    (h + y).backward()  # both get the same gradient, which is a constant of the library
    z = leaf(1.0)
    (z + 0.0).backward()
    for leaf_, expected in ((x, 4.0), (y, 1.0), (z, 1.0)):
        assert leaf_.grad is not None and leaf_.grad.tolist() == [expected]


@pytest.mark.parametrize(("give", "words"), [
    (lambda g: g[:1], r"returned float64\[1\], expected None or a Tensor float64\[2\]"),
    (lambda g: g.float(), r"returned float32\[2\]"),
    (lambda g: 2.0, "returned float"),
])
@places
def test_a_hook_that_gives_something_else_is_named(place: Any, give: Any, words: str) -> None:
    x = leaf(1.0, 2.0)
    h = place(x)
    h.register_hook(give)
    with pytest.raises(ShapeError, match=words):
        h.sum().backward()
    assert x.grad is None


@places
def test_an_error_in_a_hook_leaves_the_next_pass_alone(place: Any) -> None:
    x = leaf(1.0, 2.0)
    h = place(x)
    with h.register_hook(lambda g: 1 / 0), pytest.raises(ZeroDivisionError):
        (h * h).sum().backward(retain_graph=True)
    (h * h).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 4.0]


def test_a_hook_needs_a_gradient() -> None:
    with pytest.raises(GraphError, match="doesn't require gradient"):
        mg.tensor([1.0]).register_hook(lambda g: None)
    with pytest.raises(GraphError, match="can't retain_grad"):
        mg.tensor([1.0]).retain_grad()


def test_hooks_take_part_in_autograd_grad_and_their_ops_in_second_derivatives() -> None:
    x = leaf(3.0)
    h = x * x
    with h.register_hook(lambda g: g * g):
        first, = mg.autograd.grad((h * h).sum(), x, create_graph=True)  # (2 h)^2 2 x = 8 x^5
    assert first is not None and first.tolist() == [8.0 * 3.0 ** 5]
    second, = mg.autograd.grad(first.sum(), x)
    assert second is not None and second.tolist() == [40.0 * 3.0 ** 4]


def test_a_hook_on_the_root_sees_what_backward_began_with() -> None:
    x, seen = leaf(1.0), Seen()
    x.register_hook(lambda g: seen.saw(g.item(), g * 2.0))
    x.backward(mg.tensor([5.0], dtype=mg.float64))
    assert seen == [5.0] and x.grad is not None and x.grad.tolist() == [10.0]


# ---- retain_grad
def test_a_result_keeps_its_gradient_until_it_is_gone() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3.0
    h.retain_grad()
    h.retain_grad()
    x.retain_grad()  # does nothing: leaves do anyway
    loss = (h * h).sum()
    loss.backward(retain_graph=True)
    assert h.retains_grad and h.grad is not None and h.grad.tolist() == [6.0, 12.0]
    before = h.grad
    loss.backward()
    assert h.grad.tolist() == [12.0, 24.0] and before.tolist() == [6.0, 12.0]
    h.grad = None
    assert h.grad is None
    gone = weakref.ref(h)
    del h
    assert gone() is None


def test_what_is_retained_is_what_earlier_hooks_gave() -> None:
    x = leaf(1.0)
    h = x * 3.0
    h.register_hook(lambda g: g * 10.0)
    h.retain_grad()
    h.backward()
    assert h.grad is not None and h.grad.tolist() == [10.0] and x.grad is not None and x.grad.tolist() == [30.0]


def test_a_result_that_is_named_as_an_input_gets_a_gradient() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3.0
    (h * h).sum().backward(inputs=[h])
    assert h.grad is not None and h.grad.tolist() == [6.0, 12.0] and x.grad is None


def test_a_retained_gradient_can_carry_a_graph() -> None:
    x = leaf(2.0)
    h = x * x
    h.retain_grad()
    (h * h).sum().backward(create_graph=True)
    assert h.grad is not None and h.grad.requires_grad
    g, = mg.autograd.grad(h.grad.sum(), x)
    assert g is not None and g.tolist() == [8.0]


# ---- programs and memory
@places
def test_captured_what_a_hook_did_is_replayed_with_the_same_bits(place: Any, rng: np.random.Generator) -> None:
    values, batch = rng.normal(size=5), rng.normal(size=(6, 5))

    def run(captured: bool) -> list[bytes]:
        w = mg.tensor(values, requires_grad=True)
        if place is at_leaf:
            w.register_hook(lambda g: g * 0.5 + g.tanh())

        def step(x: Any) -> Any:
            w.grad = None
            h = w * x
            if place is at_result:
                h.register_hook(lambda g: g * 0.5 + g.tanh())
            h.retain_grad()
            loss = (h * h).sum()
            loss.backward()
            return loss, h.grad, w.grad

        f = mg.capture(step) if captured else step
        return [x.detach().numpy().tobytes() for row in batch for x in f(mg.tensor(row))]

    assert run(False) == run(True)


def test_a_leaf_s_hook_that_comes_or_goes_makes_a_captured_step_record_again() -> None:
    w = leaf(1.0)

    @mg.capture
    def step(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad

    x = mg.tensor(np.array([3.0]))
    found = [step(x).item() for _ in range(3)]
    with w.register_hook(lambda g: g * 2.0):
        found += [step(x).item() for _ in range(3)]
    found += [step(x).item() for _ in range(3)]
    assert found == [3.0] * 3 + [6.0] * 3 + [3.0] * 3


def test_hooks_leave_no_cycle_behind() -> None:
    def step() -> None:
        x = leaf(1.0, 2.0)
        h = x * 2.0
        h.register_hook(lambda g: g * 2.0)
        h.retain_grad()
        (h * h).sum().backward()
        assert h.grad is not None

    assert cycles_left_by(step) == []


def test_they_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch")

    def run(make: Any) -> Any:
        x, seen = make(np.array([1.0, 2.0]), requires_grad=True), Seen()
        x.register_hook(lambda g: seen.saw(g.tolist(), g * 3.0))
        h = x * x
        h.retain_grad()
        h.register_hook(lambda g: seen.saw(g.tolist(), g + 1.0))
        h.register_hook(lambda g: seen.saw(g.tolist()))
        loss = (h * x).sum() + h.sum()
        loss.backward(retain_graph=True)
        loss.backward()
        return seen, x.grad.tolist()

    assert run(mg.tensor) == run(torch.tensor)
