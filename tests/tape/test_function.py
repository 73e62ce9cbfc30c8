"""`Function`: both styles, several outputs, any order of derivatives; what is wrong in it is named; captured it has the same bits."""
from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd import Function, gradcheck, gradgradcheck, once_differentiable
from minigrad.errors import GraphError, OpError, SavedValueError, ShapeError
from tests.garbage import cycles_left_by


def leaf(*values: float, dtype: Any = np.float64) -> mg.Tensor:
    return mg.tensor(np.array(values, dtype), requires_grad=True)


class Cube(Function):
    """x^3 by the input."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, = ctx.saved_tensors
        return g * x * x * 3.0


class Exp(Function):
    """exp(x) by the output, in the style of PyTorch 2."""

    @staticmethod
    def forward(x: Any) -> Any:
        return x.exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0]


class ProductAndExp(Function):
    """x * y and k * exp(x), by inputs and an output."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, k: float = 1.0) -> Any:
        p, e = x * y, x.exp() * k
        ctx.save_for_backward(x, None, y, e)
        return p, e

    @staticmethod
    def backward(ctx: Any, gp: Any, ge: Any) -> Any:
        x, nothing, y, e = ctx.saved_tensors
        assert nothing is None
        return gp * y + ge * e, gp * x, None


def made(forward: Any, backward: Any) -> Any:
    """A Function of these two."""
    kind: Any = type("Made", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})
    return kind.apply


@pytest.mark.parametrize("f", [Cube.apply, Exp.apply, lambda x: Exp.apply(Cube.apply(x) * x)])
def test_first_and_second_derivatives_are_the_differences(f: Any) -> None:
    assert gradcheck(f, leaf(0.5, -0.7, 1.2)) and gradgradcheck(f, leaf(0.5, -0.7, 1.2))


@pytest.mark.parametrize("f", [
    lambda x, y: ProductAndExp.apply(x, y, 2.0),
    lambda x, y: ProductAndExp.apply(x, y)[0],
    lambda x, y: ProductAndExp.apply(x, y)[1],
    lambda x, y: ProductAndExp.apply(x, y * x)[1] ** 2,
])
def test_several_outputs_and_unused_ones(f: Any) -> None:
    inputs = leaf(0.5, -0.7), leaf(2.0, 3.0)
    assert gradcheck(f, inputs) and gradgradcheck(f, inputs)


def test_a_saved_output_keeps_its_place_in_the_graph_when_nobody_holds_it() -> None:
    class Swap(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            a, b = x * x, x * 2.0
            ctx.save_for_backward(a)
            return a, b

        @staticmethod
        def backward(ctx: Any, ga: Any, gb: Any) -> Any:
            return gb * ctx.saved_tensors[0]

    x = leaf(3.0)
    b = Swap.apply(x)[1]
    g, = mg.autograd.grad(b.sum(), x, create_graph=True)
    assert g is not None and g.tolist() == [9.0]
    second, = mg.autograd.grad(g.sum(), x, allow_unused=True)  # of a by its own rule, which is zero
    assert g.requires_grad and second is not None and second.tolist() == [0.0]


def test_backward_runs_once_for_all_inputs_and_outputs_and_once_a_pass() -> None:
    ran = []

    def backward(ctx: Any, ga: Any, gb: Any) -> Any:
        ran.append(1)
        return ga + gb, ga - gb

    x, y = leaf(1.0), leaf(2.0)
    a, b = made(lambda ctx, x, y: (x + y, x - y), backward)(x, y)
    loss = (a * 3.0 + b).sum()
    for passes in (1, 2):
        loss.backward(retain_graph=True)
        assert len(ran) == passes
    assert x.grad is not None and y.grad is not None and x.grad.tolist() == [8.0] and y.grad.tolist() == [4.0]


def test_the_graph_of_a_second_pass_from_the_same_seed_is_its_own() -> None:
    x, y, seed = leaf(2.0), leaf(3.0), mg.tensor(np.ones(1))
    p, _ = ProductAndExp.apply(x, y)
    first, = mg.autograd.grad(p, x, seed, retain_graph=True)
    second, = mg.autograd.grad(p, x, seed, create_graph=True)
    assert first is not None and second is not None and not first.requires_grad and second.requires_grad


def test_needs_input_grad_says_which_arguments_do() -> None:
    seen = []

    def forward(ctx: Any, x: Any, n: int, y: Any) -> Any:
        seen.append(ctx.needs_input_grad)
        return x * n + y

    apply = made(forward, lambda ctx, g: (g * 2.0, None, None))
    apply(leaf(1.0), 2, mg.tensor([1.0], dtype=np.float64))
    apply(mg.tensor([1.0], dtype=np.float64), 2, leaf(1.0))
    assert seen == [(True, False, False), (False, False, True)]


def test_none_is_no_gradient() -> None:
    x, y = leaf(1.0), leaf(2.0)
    apply = made(lambda ctx, x, y: x * y, lambda ctx, g: (g, None))
    apply(x, y).sum().backward()
    assert y.grad is None and x.grad is not None
    assert mg.autograd.grad(apply(x, y).sum(), [y], allow_unused=True) == (None,)
    z = leaf(2.0)
    (apply(x, z * 1.0) + z).sum().backward()
    assert z.grad is not None and z.grad.tolist() == [1.0]


def test_gradients_beyond_the_arguments_may_be_none() -> None:
    x = leaf(1.0)
    made(lambda ctx, x: x * 2.0, lambda ctx, g: (g * 2.0, None, None))(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0]


@pytest.mark.parametrize("materialize", [True, False])
def test_an_output_that_nothing_depends_on_brings_zeros_or_none(materialize: bool) -> None:
    seen: list[Any] = []

    def forward(ctx: Any, x: Any) -> Any:
        ctx.set_materialize_grads(materialize)
        return x * 1.0, x * 2.0, x * 3.0

    def backward(ctx: Any, *gradients: Any) -> Any:
        seen.append([None if g is None else g.tolist() for g in gradients])
        return next(g for g in gradients if g is not None)

    made(forward, backward)(leaf(1.0, 2.0))[1].sum().backward()
    unused = [0.0, 0.0] if materialize else None
    assert seen == [[unused, [1.0, 1.0], unused]]


def test_outputs_that_are_marked_or_not_numbers_carry_no_gradient() -> None:
    def forward(ctx: Any, x: Any) -> Any:
        order, copy = x.argmax(), x * 1.0
        ctx.mark_non_differentiable(copy, x)
        return order, copy, x * 2.0, x

    x = leaf(1.0, 3.0)
    order, copy, twice, same = made(forward, lambda ctx, g: g * 2.0)(x)
    assert (order.requires_grad, copy.requires_grad, twice.requires_grad, same.requires_grad) == (False, False, True, False)
    twice.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0]


def test_an_argument_or_a_leaf_that_is_returned_stays_what_it_is() -> None:
    x, w = leaf(1.0), leaf(5.0)
    same, other, twice, again = made(lambda ctx, x: (x, w, *[x * 2.0] * 2), lambda ctx, a, b, c, d: a + b * 10.0 + c * 100.0 + d * 1000.0)(x)
    assert same is not x and other is not w and x.is_leaf and w.is_leaf and twice is not again
    (same + other + twice + again).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1111.0] and w.grad is None


def test_what_backward_writes_into_its_gradient_reaches_nobody_else() -> None:
    def backward(ctx: Any, g: Any) -> Any:
        g.mul_(5.0)
        return g

    x = leaf(1.0)
    loss = made(lambda ctx, x: x * 1.0, backward)(x)
    loss.backward()
    other = leaf(1.0)
    (other * 1.0).backward()  # starts from the same constant
    assert x.grad is not None and other.grad is not None and x.grad.tolist() == [5.0] and other.grad.tolist() == [1.0]


def test_an_inner_result_of_one_size_is_not_mistaken_for_the_gradient() -> None:
    def backward(ctx: Any, g: Any) -> Any:
        b = g * 3.0
        a = b * 7.0
        return a, b

    x, y = leaf(1.0, 2.0), leaf(1.0, 2.0)
    for passes in (1.0, 2.0):  # the second pass finds the slots made
        made(lambda ctx, x, y: x + y, backward)(x, y).sum().backward()
        assert x.grad is not None and y.grad is not None and x.grad.tolist() == [21.0 * passes] * 2 and y.grad.tolist() == [3.0 * passes] * 2


# ---- what is refused
def test_a_saved_tensor_that_was_modified_is_named_with_the_op_that_did() -> None:
    x = leaf(2.0)
    h = x * 1.0
    y = Cube.apply(h)
    h.mul_(2.0)
    with pytest.raises(SavedValueError, match=r"Cube: the backward needs saved_tensors\[0\].*by mul_"):
        y.backward()
    y = Exp.apply(x)
    y.detach().add_(1.0)
    with pytest.raises(SavedValueError, match=r"Exp: the backward needs saved_tensors\[0\].*by add_"):
        y.backward()


def test_a_second_backward_raises_and_what_was_saved_is_freed() -> None:
    x = leaf(2.0)
    kept: list[Any] = []

    def forward(ctx: Any, x: Any) -> Any:
        big = x * 3.0
        ctx.save_for_backward(big)
        kept.extend([weakref.ref(big), ctx])
        return x * x

    y = made(forward, lambda ctx, g: g * ctx.saved_tensors[0])(x)
    assert kept[0]() is not None
    y.backward()
    assert kept[0]() is None
    with pytest.raises(GraphError, match="second time, at Made"):
        y.backward()
    with pytest.raises(GraphError, match="saved_tensors were freed"):
        _ = kept[1].saved_tensors


@pytest.mark.parametrize(("result", "error", "words"), [
    (lambda g: (g, g), OpError, "Made.backward returned 2 gradients, expected 1"),
    (lambda g: (), OpError, "returned 0 gradients"),
    (lambda g: g[:2], ShapeError, r"float64\[2\] for argument 0, expected a Tensor float64\[3\]"),
    (lambda g: g.float(), ShapeError, r"float32\[3\] for argument 0"),
    (lambda g: 1.0, ShapeError, "a float for argument 0"),
])
def test_wrong_gradients_are_named(result: Any, error: Any, words: str) -> None:
    y = made(lambda ctx, x: x * 2.0, lambda ctx, g: result(g))(leaf(1.0, 2.0, 3.0))
    with pytest.raises(error, match=words):
        y.sum().backward()


def test_misuse_is_named() -> None:
    with pytest.raises(OpError, match="a gradient for argument 1, which is not a Tensor"):
        made(lambda ctx, x, k: x * k, lambda ctx, g: (g, g))(leaf(1.0), 2.0).backward()
    with pytest.raises(TypeError, match="returned a float, expected a Tensor"):
        made(lambda ctx, x: 1.0, None)(leaf(1.0))
    with pytest.raises(TypeError, match="save_for_backward takes Tensors, got a int"):
        made(lambda ctx, x: ctx.save_for_backward(3), None)(leaf(1.0))
    with pytest.raises(GraphError, match="need one dtype"):
        made(lambda ctx, x: (x * 2.0, x.float()), None)(leaf(1.0))
    with pytest.raises(TypeError, match="static method forward"):
        Function.apply(leaf(1.0))


def test_a_backward_that_is_differentiable_once_refuses_a_second_derivative() -> None:
    class Once(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            return mg.tensor(2.0 * g.numpy() * ctx.saved_tensors[0].detach().numpy())

    x = leaf(3.0)
    assert gradcheck(Once.apply, x)
    g, = mg.autograd.grad(Once.apply(x).sum(), x, create_graph=True)
    assert g is not None and g.tolist() == [6.0]
    with pytest.raises(GraphError, match="Once: trying to differentiate twice"):
        g.sum().backward()
    assert x.is_leaf


# ---- off the tape, in programs, and gone
def test_without_a_graph_it_only_computes() -> None:
    with mg.no_grad():
        assert not Cube.apply(leaf(2.0)).requires_grad
    assert not Cube.apply(mg.tensor([2.0])).requires_grad


def test_it_leaves_no_cycle_behind() -> None:
    def step() -> None:
        x = leaf(0.5, 0.25)
        p, e = ProductAndExp.apply(Cube.apply(x), Exp.apply(x))
        (p + e).sum().backward()
        g, = mg.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
        assert g is not None
        g.sum().backward()

    assert cycles_left_by(step) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_captured_it_has_the_same_bits(dtype: Any) -> None:
    def run(capture: bool) -> list[bytes]:
        w = mg.tensor(np.linspace(0.1, 0.5, 4).astype(dtype), requires_grad=True)

        def step(x: Any) -> Any:
            w.grad = None
            p, e = ProductAndExp.apply(Cube.apply(w * x), w)
            loss = (p * p + Exp.apply(e)).sum()
            loss.backward()
            return loss, w.grad

        f = mg.capture(step) if capture else step
        found = []
        for k in range(5):
            loss, g = f(mg.tensor(np.arange(4).astype(dtype) * 0.1 + k))
            found += [loss.detach().numpy().tobytes(), g.numpy().tobytes()]
        return found

    assert run(False) == run(True)


def test_it_agrees_with_pytorch() -> None:
    torch = pytest.importorskip("torch")

    class Theirs(torch.autograd.Function):  # type: ignore[misc,name-defined]
        forward = staticmethod(ProductAndExp.forward)
        backward = staticmethod(ProductAndExp.backward)

    values = np.array([0.5, -0.25]), np.array([2.0, 4.0])
    found: list[Any] = []
    apply: Any
    make: Any
    for apply, make in ((ProductAndExp.apply, mg.tensor), (Theirs.apply, torch.tensor)):
        x, y = make(values[0], requires_grad=True), make(values[1], requires_grad=True)
        p, e = apply(x, y, 1.5)
        grad: Any = mg.autograd.grad if make is mg.tensor else torch.autograd.grad
        gx, gy = grad((p * e).sum(), [x, y], create_graph=True)
        second = grad((gx * gx).sum() + gy.sum(), [x, y])
        found.append([g.detach().numpy() for g in (gx, gy, *second)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-13)
