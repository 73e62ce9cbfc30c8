"""`autograd.grad` and `autograd.backward`: PyTorch's arguments, answers and refusals; graphs are freed and leave no cycles."""
from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import GraphError, SavedValueError, ShapeError
from tests.garbage import cycles_left_by


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values), requires_grad=True)


def one(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values))


def lists(found: Any) -> list[Any]:
    return [None if g is None else g.tolist() for g in found]


# ---- grad
def test_several_outputs_add_up_each_with_its_gradient() -> None:
    x = leaf(1.0, 2.0)
    h = x * x
    found = mg.autograd.grad([h, h.sum(), x * 3.0], [x, h], [one(1.0, 10.0), None, one(1.0, 1.0)])
    assert lists(found) == [[2.0 * 2 + 3, 4.0 * 11 + 3], [2.0, 11.0]] and x.grad is None


def test_an_output_may_be_an_input_and_stand_twice() -> None:
    x = leaf(1.0, 2.0)
    seed = one(5.0, 6.0)
    assert lists(mg.autograd.grad([x, x], [x, x], [seed, seed])) == [[10.0, 12.0]] * 2


def test_a_graph_is_freed_unless_it_is_to_stay() -> None:
    x = leaf(2.0)
    y = (x * x).tanh()
    mg.autograd.grad(y, x, retain_graph=True)
    mg.autograd.grad(y, x, create_graph=True)
    mg.autograd.grad(y, x)
    with pytest.raises(GraphError, match="second time"):
        mg.autograd.grad(y, x)
    y = x.tanh()
    mg.autograd.grad(y, x, create_graph=True, retain_graph=False)
    with pytest.raises(GraphError, match="second time"):
        y.backward()


def test_what_is_not_used_raises_or_is_none_or_zeros() -> None:
    x, y = leaf(1.0), leaf(1.0, 2.0)
    for allow in (None, False):
        with pytest.raises(GraphError, match=r"input 1\) appears to not have been used"):
            mg.autograd.grad(x * 2.0, [x, y], allow_unused=allow)
    assert lists(mg.autograd.grad(x * 2.0, [x, y], allow_unused=True)) == [[2.0], None]
    assert lists(mg.autograd.grad(x * 2.0, [x, y], materialize_grads=True)) == [[2.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="materialize_grads"):
        mg.autograd.grad(x * 2.0, [x, y], allow_unused=False, materialize_grads=True)


def test_misuse_of_grad_is_named() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2.0
    with pytest.raises(ShapeError, match="1 gradients were given for 2 outputs"):
        mg.autograd.grad([y, y], x, [one(1.0, 1.0)])
    with pytest.raises(ShapeError, match=r"gradient is float64\[1\], expected float64\[2\]"):
        mg.autograd.grad(y, x, one(1.0))
    with pytest.raises(GraphError, match="implicitly created only for scalar outputs"):
        mg.autograd.grad(y, x)
    with pytest.raises(GraphError, match="element 1 of tensors does not require grad"):
        mg.autograd.grad([y, y.detach()], x, [one(1.0, 1.0)] * 2)
    with pytest.raises(GraphError, match=r"input 0\) does not require grad"):
        mg.autograd.grad(y.sum(), y.detach())


def test_gradients_share_no_memory_with_each_other_or_the_seed() -> None:
    x, y, seed = leaf(1.0, 2.0), leaf(1.0, 2.0), one(1.0, 1.0)
    total = x + y
    found: Any = mg.autograd.grad(total * 1.0, [x, y, total], seed)
    for g in found:
        g.mul_(7.0)
    assert lists(found) == [[7.0, 7.0]] * 3 and seed.tolist() == [1.0, 1.0]
    h = x.reshape(2, 1)
    found = mg.autograd.grad((h * h).sum(), [h, x])
    found[0].zero_()
    assert found[1].tolist() == [2.0, 4.0]


# ---- backward
def test_backward_of_several_roots_is_one_pass() -> None:
    x, seen = leaf(1.0, 2.0), []
    h = x * x
    h.register_hook(lambda g: seen.append(g.tolist()))
    mg.autograd.backward([h.sum(), h, x], [None, one(1.0, 1.0), one(100.0, 100.0)])
    assert seen == [[2.0, 2.0]] and x.grad is not None and x.grad.tolist() == [104.0, 108.0]


def test_backward_to_some_inputs_touches_no_others() -> None:
    x, y = leaf(2.0), leaf(3.0)
    product = x * y
    product.backward(inputs=x, retain_graph=True)
    mg.autograd.backward([product], inputs=[x], retain_graph=True)
    assert lists([x.grad, y.grad]) == [[6.0], None]
    product.backward(inputs=[y])
    assert lists([x.grad, y.grad]) == [[6.0], [2.0]]
    with pytest.raises(GraphError, match="inputs is empty"):
        (x * y).backward(inputs=[])
    with pytest.raises(GraphError, match="does not require grad"):
        x.detach().backward(inputs=[x])


def test_misuse_of_backward_is_named_and_nothing_is_written() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2.0
    with pytest.raises(ShapeError, match="backward: 2 gradients were given for 1 outputs"):
        mg.autograd.backward(y, [one(1.0, 1.0)] * 2)
    with pytest.raises(GraphError, match="element 1 of tensors"):
        mg.autograd.backward([y, y.detach()], [one(1.0, 1.0)] * 2)
    assert x.grad is None


def test_passes_with_a_graph_add_up_and_can_be_differentiated() -> None:
    x = leaf(3.0)
    for _ in range(2):
        (x * x * x).backward(create_graph=True)
    assert x.grad is not None and x.grad.requires_grad and x.grad.tolist() == [54.0]
    assert lists(mg.autograd.grad(x.grad.sum(), x)) == [[36.0]]
    y: Any = leaf(3.0)
    (y * y).backward(create_graph=True)
    y.grad = None
    (y * 2.0).backward()
    found = y.grad
    assert found.tolist() == [2.0] and not found.requires_grad


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_agree_with_pytorch(seed: int) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(seed).uniform(0.2, 1.0, (3, 2, 3))

    def run(make: Any, grad: Any) -> list[Any]:
        choose = np.random.default_rng(seed)  # the same graph for both
        known = [make(v, requires_grad=True) for v in values]
        leaves = list(known)
        for _ in range(12):
            a, b = (known[int(i)] for i in choose.integers(0, len(known), 2))
            kind = choose.integers(0, 6)
            known.append([lambda a, b: a * b, lambda a, b: a + b.tanh(), lambda a, b: a / (b * b + 1.0), lambda a, b: (a - b).sigmoid(),
                          lambda a, b: a * b.sum(), lambda a, b: a.reshape(3, 2).reshape(2, 3) * b][kind](a, b))
        loss = (known[-1] * known[-2]).sum()
        first = grad(loss, leaves, create_graph=True, allow_unused=True)
        again = grad(sum((g * g).sum() for g in first if g is not None), leaves, allow_unused=True, retain_graph=True)
        loss.backward(retain_graph=True)
        loss.backward()
        return [None if g is None else g.detach().tolist() for g in (*first, *again, *[x.grad for x in leaves])]

    ours, theirs = run(mg.tensor, mg.autograd.grad), run(torch.tensor, torch.autograd.grad)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


# ---- memory
def test_a_pass_frees_what_the_graph_kept() -> None:
    x = leaf(1.0, 2.0)
    h = x.exp()
    loss = (h * h).tanh().sum()
    kept = weakref.ref(h)
    del h
    held = [kept() is not None]
    for retain in (True, False):
        loss.backward(retain_graph=retain)
        held.append(kept() is not None)
    assert held == [True, True, False]


def test_a_training_step_leaves_no_cycle_behind() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    x, y = mg.randn(5, 4), mg.tensor([0, 1, 2, 0, 1])

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    assert cycles_left_by(step) == []


# ---- values that were changed
@pytest.mark.parametrize(("write", "name"), [
    (lambda w: w.mul_(2.0), "mul_"),
    (lambda w: w[0:1].zero_(), "zero_"),
    (lambda w: w.__setitem__(0, 5.0), "setitem"),
    (lambda w: w.detach().copy_(np.ones(2)), "copy_"),
])
def test_the_op_that_changed_a_saved_value_is_named_beside_the_one_that_needs_it(write: Any, name: str) -> None:
    x, w = leaf(1.0, 2.0), one(3.0, 4.0)
    y = (x * w).sum()
    write(w)
    with pytest.raises(SavedValueError, match=rf"mul: the backward needs y .*modified by an inplace .*, by {name}: run"):
        y.backward()


def test_an_optimiser_s_step_is_not_taken_for_an_earlier_write() -> None:
    p = nn.Parameter(np.ones(2))
    with mg.no_grad():
        p.mul_(2.0)
    optimizer = optim.SGD([p], lr=0.1)
    y = (p * p).sum()
    y.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(SavedValueError) as caught:
        y.backward()
    assert "mul_" not in str(caught.value)
