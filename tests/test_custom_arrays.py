"""`@mg.op(out=...)`: a user's kernel on arrays is an op like any other, and what does not hold is refused with the place and both values."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DtypeError, LabelError, OpError, ShapeError
from minigrad_kernels import abi


def fused_shape(x: Any, weight: Any, bias: Any) -> Any:
    if x.shape[1] != weight.shape[1] or bias.shape != weight.shape[:1]:
        raise ShapeError(f"fused: x {x.shape}, weight {weight.shape} and bias {bias.shape} do not fit")
    return (x.shape[0], weight.shape[0]), x.dtype


@mg.op(out=fused_shape, samples=lambda rng: (rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)),
       definition=lambda x, weight, bias: np.tanh(x @ weight.T + bias))
def fused(x: Any, weight: Any, bias: Any, out: Any) -> None:
    """tanh(x @ weight.T + bias)."""
    for i in range(x.shape[0]):
        for j in range(weight.shape[0]):
            total = bias[j]
            for k in range(x.shape[1]):
                total += x[i, k] * weight[j, k]
            out[i, j] = math.tanh(total)


@fused.vjp("x")
def _(g: Any, weight: Any, out: Any) -> Any:
    return (g * (1 - out * out)) @ weight


@fused.vjp("weight")
def _(g: Any, x: Any, out: Any) -> Any:
    return (g * (1 - out * out)).T @ x


@fused.vjp("bias")
def _(g: Any, out: Any) -> Any:
    return (g * (1 - out * out)).sum(axis=0)


@mg.op(out=lambda x, key: (x.shape, x.dtype), samples=lambda rng: (rng.normal(size=(3, 4)), rng.integers(0, 99, 2)))
def noise(x: Any, key: Any, out: Any, *, p: float = 0.5) -> None:
    """x / (1 - p), or 0 with probability p."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] / (1 - p) if mg.random_at(key, i * x.shape[1] + j) >= p else 0.0


@noise.vjp("x")
def _(g: Any, key: Any, p: float) -> Any:
    return noise(g, key, p=p)


def copied(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = x[i]


def declared(kernel: Callable[..., Any], **changes: Any) -> Any:
    """An op of one vector, with its rule."""
    usual: dict[str, Any] = {"out": lambda x: (x.shape, x.dtype), "samples": lambda rng: rng.normal(size=3), "vjp": {"x": lambda g: g}}
    return mg.op(kernel, **{**usual, **changes})


# ---- an op like any other ------------------------------------------------------------------------------------------------------------
def layer(dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """Arguments of `fused`."""
    rng = np.random.default_rng(1)
    x, weight, bias = (mg.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in ((6, 4), (3, 4), (3,)))
    return x, weight, bias


def test_a_fused_layer_is_the_layer_in_parts() -> None:
    x, weight, bias = layer()
    assert np.allclose(fused(x, weight, bias).array, mg.tanh(mg.nn.functional.linear(x, weight, bias)).array, rtol=1e-13)


def test_first_and_second_derivatives_hold() -> None:
    assert mg.autograd.gradcheck(fused, layer())
    assert mg.autograd.gradgradcheck(fused, layer())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_captured_it_has_the_bits_of_eager(dtype: Any) -> None:
    x, weight, bias = layer(dtype)

    def step(x: Any) -> Any:
        weight.grad = bias.grad = None
        loss = fused(x, weight, bias).square().sum()
        loss.backward()
        return loss.detach(), weight.grad, bias.grad

    expected = [found.numpy() for found in step(x.detach())]
    captured = mg.capture(step)
    for _ in range(4):
        assert all(np.array_equal(a.numpy(), b) for a, b in zip(captured(x.detach()), expected, strict=True))


def test_a_step_with_it_compiles_nothing_but_its_own_entries() -> None:
    x, weight, bias = layer(np.float32)
    plain = mg.capture(lambda x: mg.tanh(x))
    for _ in range(3):
        plain(x.detach())
    fused(x, weight, bias)
    before = len(abi.loaded())
    captured = mg.capture(lambda x: mg.tanh(fused(x, weight, bias)))
    for _ in range(3):
        captured(x.detach())
    assert len(abi.loaded()) == before


def test_its_maths_are_the_project_s_and_not_libm_s() -> None:
    entry = fused.plan(tuple(a.spec for a in layer(np.float32)), {}).steps[0].entry.load()
    names = entry._compiled._library._final_module.functions
    assert not {"tanh", "tanhf"} & {function.name for function in names if function.is_declaration}


def folded0(x: Any, out: Any) -> None:
    out[0] = 3 * x[0]


def folded2(x: Any, out: Any) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j, i] = x[i, j]


def folded4(x: Any, out: Any) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for k in range(x.shape[2]):
                for m in range(x.shape[3]):
                    out[m, k, j, i] = x[i, j, k, m]


@pytest.mark.parametrize(("kernel", "shape", "definition", "rule"), [
    (folded0, (), lambda x: 3 * x, lambda g: g * 3),
    (folded2, (2, 3), np.transpose, lambda g: g.T),
    (folded4, (2, 3, 4, 5), np.transpose, lambda g: g.permute(3, 2, 1, 0)),
])
def test_arrays_have_up_to_four_dimensions_and_a_scalar_is_one_element(kernel: Any, shape: tuple[int, ...], definition: Any, rule: Any) -> None:
    op = mg.op(kernel, out=lambda x: (x.shape[::-1], x.dtype), samples=lambda rng: (rng.normal(size=shape),), definition=definition, vjp={"x": rule})
    x = np.random.default_rng(2).normal(size=shape)
    assert np.array_equal(op(x).array, definition(x))


def test_an_attribute_may_decide_the_shape() -> None:
    @mg.op(out=lambda x, *, times: ((x.shape[0] * times,), x.dtype), samples=lambda rng: [(rng.normal(size=3),), (rng.normal(size=2), {"times": 3})],
           definition=lambda x, times=2: np.repeat(x, times), vjp={"x": lambda g, times: g.reshape(-1, times).sum(axis=1)})
    def repeated(x: Any, out: Any, *, times: int = 2) -> None:
        for i in range(out.size):
            out[i] = x[i // times]

    assert repeated(mg.tensor([1.0, 2.0]), times=3).tolist() == [1, 1, 1, 2, 2, 2]


def picked_kernel(x: Any, labels: Any, out: Any) -> int:
    for i in range(labels.size):
        if not 0 <= labels[i] < x.shape[1]:
            return 0
        out[i] = x[i, labels[i]]
    return 1


picked = mg.op(picked_kernel, out=lambda x, labels: (labels.shape, x.dtype), fails=LabelError("picked: a label is no column"), vjp={"x": None},
               samples=lambda rng: (rng.normal(size=(4, 3)), rng.integers(0, 3, 4)))


def test_a_kernel_may_report_a_failure() -> None:
    x = mg.tensor(np.arange(6.0).reshape(2, 3))
    assert picked(x, mg.tensor([2, 0])).tolist() == [2, 3]
    with pytest.raises(LabelError, match="a label is no column"):
        picked(x, mg.tensor([2, 3]))
    step = mg.capture(lambda labels: picked(x, labels))
    for _ in range(3):
        step(np.array([1, 1]))
    with pytest.raises(LabelError, match="a label is no column"):
        step(np.array([1, -1]))


def test_whole_numbers_come_out_without_a_gradient() -> None:
    def largest(x: Any, out: Any) -> None:
        out[0] = 0
        for i in range(1, x.size):
            if x[i] > x[out[0]]:
                out[0] = i

    op = mg.op(largest, out=lambda x: ((), np.int64), samples=lambda rng: rng.normal(size=5), definition=np.argmax)
    found = op(mg.tensor([1.0, 3.0, 2.0], requires_grad=True))
    assert found.item() == 1 and not found.requires_grad


def test_an_input_declared_without_a_gradient_has_none() -> None:
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    assert not picked(x, mg.tensor([0, 1])).requires_grad


def test_an_input_without_a_rule_is_an_error_and_not_a_gradient_of_zero() -> None:
    op = declared(copied, vjp={})
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with pytest.raises(OpError, match=r"copied has no rule for x: declare it with @copied\.vjp\('x'\)"):
        op(x).sum().backward()


# ---- random numbers --------------------------------------------------------------------------------------------------------------------
def test_random_numbers_are_those_of_the_key_and_the_index() -> None:
    key = np.array([123, 45])
    expected = [[1 / (1 - 0.25) if mg.random_at(key, 4 * i + j) >= 0.25 else 0.0 for j in range(4)] for i in range(3)]
    assert noise(mg.ones(3, 4, dtype=np.float64), key, p=0.25).tolist() == expected


def test_drawing_captured_gives_the_numbers_of_eager() -> None:
    x = mg.ones(5, 8, requires_grad=True)

    def step(values: Any) -> Any:
        x.grad = None
        loss = (noise(x, mg.random_key()) * values).sum()
        loss.backward()
        return loss.detach(), x.grad

    values = mg.randn(5, 8)
    mg.manual_seed(3)
    expected = [[found.numpy() for found in step(values)] for _ in range(5)]
    captured = mg.capture(step)
    mg.manual_seed(3)
    for once in expected:
        assert all(np.array_equal(a.numpy(), b) for a, b in zip(captured(values), once, strict=True))
    assert not np.array_equal(expected[0][1], expected[1][1])


# ---- refusals while it is declared ---------------------------------------------------------------------------------------------------
def short(x: Any, out: Any) -> None:
    for i in range(x.size - 1):
        out[i] = x[i]


def adding(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] += x[i]


def chance(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = x[i] * np.random.rand()  # noqa: NPY002  what a user might write


def beyond(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = x[i + 1]


def clearing(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = x[i]
        x[i] = 0.0


def failing(x: Any, out: Any) -> int:
    for i in range(x.size):
        out[i] = x[i]
    return 3


def sometimes(x: Any, out: Any) -> Any:
    out[0] = x[0]
    if x[0] > 1:
        return 1
    return None


def unknown(x: Any, out: Any) -> None:
    out[0] = x.missing


def rooted(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = math.sqrt(-1 - x[i] * x[i])


@pytest.mark.parametrize(("kernel", "reason"), [
    (short, r"sample 0: out\[2\] is not written: out says the shape \(3,\)"),
    (adding, r"out\[0\] depends on what was there before"),
    (chance, r"out\[0\] differs between two calls on the same arrays"),
    (beyond, r"uses an index outside its array .*: got x float64\[3\], out float64\[3\]"),
    (clearing, "writes to its input x"),
    (failing, "reports a failure, 3"),
    (sometimes, "expected nothing, or on every path a whole number"),
    (unknown, "cannot be compiled"),
    (rooted, r"out\[0\] is nan: take samples for which the op is defined"),
])
def test_a_kernel_that_does_not_hold_is_refused(kernel: Any, reason: str) -> None:
    with pytest.raises(OpError, match=reason):
        declared(kernel)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"definition": lambda x: x[:2]}, r"out says shape \(3,\), the definition gives \(2,\)"),
    ({"definition": lambda x: x + np.array([0, 1, 0])}, r"out\[1\] is -0\.132.*, the definition gives 0\.867"),
    ({"out": lambda x: (x.shape, np.float64)}, r"out says float64 for x float32\[3\]: take the dtype from an input"),
    ({"out": lambda x: x.shape}, r"out returned \(3,\), expected \(shape, dtype\)"),
    ({"out": lambda x: ((1, 1, 1, 1, *x.shape), x.dtype)}, "an output has up to 4 dimensions"),
    ({"vjp": {"x": lambda g: g * 2}}, r"the rule gives -2\.27.* for x\[0\], differences give -1\.136"),
    ({"vjp": {"x": lambda g: g.sum()}}, r"the rule for x gives float64\[\], expected a Tensor float64\[3\], as x is"),
    ({"vjp": {"x": lambda g: g.array}}, "the rule for x gives a ndarray"),
    ({"vjp": {"x": lambda g: g.double()}}, r"in float32: the rule for x gives float64\[3\], expected a Tensor float32\[3\]"),
    ({"vjp": {"x": lambda g, x: g @ x.reshape(1, 3)}}, "the rule for x fails"),
    ({"vjp": {"x": lambda g: afterwards(g)}}, r"NameError: .*declared after it, with @copied\.vjp\('x'\)"),  # type: ignore[name-defined]  # noqa: F821
    ({"vjp": {"x": lambda g, z: g}}, "takes g, then any of out, x, x_spec"),
    ({"vjp": {"z": lambda g: g}}, "no input 'z'"),
    ({"vjp": lambda g: g}, "a rule for each input"),
    ({"samples": None}, "so it needs samples="),
    ({"samples": lambda rng: []}, "samples gave no arrays"),
    ({"samples": lambda rng: (1.0, 2.0)}, r"a sample is the arrays \(x\)"),
    ({"samples": lambda rng: [(np.ones(3),), (np.arange(3),)]}, "both floating and whole numbers"),
    ({"out": lambda x: (x.shape, np.int64), "samples": lambda rng: np.ones(3)}, "whole numbers have no gradient, and such are out in the samples"),
    ({"samples": lambda rng: np.arange(3)}, "whole numbers have no gradient, and such are x in the samples"),
])
def test_a_declaration_that_does_not_hold_is_refused(changes: Any, reason: str) -> None:
    with pytest.raises(OpError, match=reason):
        declared(copied, **changes)


def test_a_rule_that_forgets_an_attribute_is_refused_though_it_holds_at_the_default() -> None:
    def scaled(x: Any, out: Any, *, by: float = 1.0) -> None:
        for i in range(x.size):
            out[i] = by * x[i]

    with pytest.raises(OpError, match=r"for x\[0\], differences give"):
        declared(scaled)


def test_a_rule_that_is_refused_leaves_the_one_before_in_force() -> None:
    op = declared(copied)
    with pytest.raises(OpError, match="differences give"):
        op.vjp("x")(lambda g: g * 2)
    x = mg.ones(3, requires_grad=True)
    op(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1, 1]


def test_a_kernel_without_out_is_refused() -> None:
    with pytest.raises(OpError, match="takes one to 9 arrays, then out"):
        declared(lambda x: x)


def test_arguments_of_arrays_are_refused_for_an_op_of_numbers() -> None:
    with pytest.raises(OpError, match="say their output's shape"):
        mg.op(lambda x: x, vjp=lambda g, y, x: g, samples=lambda rng: rng.normal(size=3))


# ---- refusals while it is called -------------------------------------------------------------------------------------------------------
def test_shapes_that_the_shape_function_does_not_take_are_refused() -> None:
    x, weight, _ = layer()
    with pytest.raises(ShapeError, match=r"fused: x \(6, 4\), weight \(3, 4\) and bias \(4,\) do not fit"):
        fused(x, weight, mg.zeros(4, dtype=np.float64))


def test_an_error_of_the_shape_function_names_op_and_shapes() -> None:
    op = declared(copied, out=lambda x: ({3: (3,)}[x.shape[0]], x.dtype))
    with pytest.raises(ShapeError, match=r"copied: its shape function cannot take x float32\[4\]: KeyError: 4"):
        op(mg.ones(4))


def test_ranks_that_were_not_tried_out_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"got x float32\[2, 2\], but its kernel was tried out with inputs of \(1,\) dimensions"):
        declared(copied)(mg.ones(2, 2))


def test_dtypes_are_not_mixed_in_silence() -> None:
    x, weight, bias = layer()
    with pytest.raises(DtypeError, match="floating inputs need one dtype"):
        fused(x, weight, bias.float())
    with pytest.raises(DtypeError, match="whole numbers are expected"):
        picked(x, mg.ones(6))


# ---- notebooks and copies --------------------------------------------------------------------------------------------------------------
def test_it_works_without_a_source_file_and_a_cell_run_again_makes_another_op() -> None:
    scope: dict[str, Any] = {"mg": mg}
    cell = """
@mg.op(out=lambda x: (x.shape, x.dtype), samples=lambda rng: rng.normal(size=3), vjp={"x": lambda g: g * FACTOR})
def times(x, out):
    for i in range(x.size):
        out[i] = x[i] * FACTOR
"""
    exec(cell.replace("FACTOR", "2.0"), scope)
    first, x = scope["times"], mg.tensor([1.0, 2.0])
    step = mg.capture(lambda x: first(x))
    before = [step(x).tolist() for _ in range(3)]
    exec(cell.replace("FACTOR", "3.0"), scope)
    assert scope["times"](x).tolist() == [3.0, 6.0]
    assert [step(x).tolist() for _ in range(3)] == before == [[2.0, 4.0]] * 3


def test_it_is_its_own_copy() -> None:
    assert copy.deepcopy([fused])[0] is fused
