"""Shapes, orders, parts and joins against NumPy and PyTorch, values and gradients, eager and captured."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import AxisError, DeviceError, DtypeError, IndexRangeError, LabelError, ShapeError

torch = pytest.importorskip("torch")

DATA = np.arange(24.0).reshape(2, 3, 4)
INDEX = np.array([[[0, 2, 1, 0]], [[1, 1, 0, 2]]])

#: Functions that read alike in both libraries.
ALIKE: dict[str, Callable[[Any, Any], Any]] = {
    "reshape": lambda lib, x: x.reshape(4, -1), "view": lambda lib, x: x.view(6, 4), "flatten": lambda lib, x: x.flatten(1),
    "flatten-middle": lambda lib, x: lib.flatten(x, 0, 1), "ravel": lambda lib, x: x.ravel(), "unflatten": lambda lib, x: x.unflatten(2, (2, -1)),
    "squeeze": lambda lib, x: x[:1].squeeze(), "squeeze-dim": lambda lib, x: x[:1, :, :1].squeeze(0), "squeeze-none": lambda lib, x: x.squeeze(1),
    "unsqueeze": lambda lib, x: x.unsqueeze(-2), "permute": lambda lib, x: x.permute(2, 0, 1), "transpose": lambda lib, x: x.transpose(0, -1),
    "swapaxes": lambda lib, x: lib.swapaxes(x, 0, 1), "mT": lambda lib, x: x.mT, "T": lambda lib, x: x[0].T, "t": lambda lib, x: x[0].t(),
    "movedim": lambda lib, x: lib.movedim(x, 0, 2), "movedims": lambda lib, x: x.movedim((0, 1), (-1, 0)), "flip": lambda lib, x: x.flip(0, 2),
    "flip-one": lambda lib, x: lib.flip(x, (1,)), "roll": lambda lib, x: x.roll(5, 2), "roll-flat": lambda lib, x: lib.roll(x, -3),
    "rolls": lambda lib, x: lib.roll(x, (1, -2), (0, 2)), "expand": lambda lib, x: x[:1].expand(5, -1, 4), "repeat": lambda lib,
    x: x.repeat(2, 1, 2, 3),
    "tile": lambda lib, x: lib.tile(x, (3, 1)), "broadcast_to": lambda lib, x: lib.broadcast_to(x[:, :1], (2, 3, 4)),
    "split": lambda lib, x: lib.cat([p * (i + 2.0) for i, p in enumerate(x.split(2, 1))], 1),
    "split-sizes": lambda lib, x: lib.cat([p * (i + 2.0) for i, p in enumerate(lib.split(x, [1, 3], -1))], -1),
    "chunk": lambda lib, x: lib.cat([p * (i + 2.0) for i, p in enumerate(x.chunk(3, 2))], 2), "unbind": lambda lib,
    x: x.unbind(1)[1] * x.unbind(1)[2],
    "iterate": lambda lib, x: sum(row * (i + 1.0) for i, row in enumerate(x)), "narrow": lambda lib, x: x.narrow(1, 1, 2), "select": lambda lib,
    x: x.select(2, -1),
    "cat": lambda lib, x: lib.cat([x, x[:, :0], x[:, 1:] * 2.0], 1), "cat-many": lambda lib,
    x: lib.cat([x[i % 2] * (i + 1.0) for i in range(19)], -1),
    "concatenate": lambda lib, x: lib.concatenate([x, x * 3.0], axis=-1), "stack": lambda lib, x: lib.stack([x, x * x, x], -2),
    "hstack": lambda lib, x: lib.hstack([x, x * 2.0]), "vstack": lambda lib, x: lib.vstack([x[0, 0], x[1, 2] * 2.0]),
    "index_select": lambda lib, x: x.index_select(1, lib.tensor([2, 0, 2])), "gather": lambda lib, x: x.gather(1, lib.tensor(INDEX)),
    "gather-less": lambda lib, x: lib.gather(x, 2, lib.tensor([[[3, 0, 0, 1, 1]]])), "take_along_dim": lambda lib,
    x: lib.take_along_dim(x, lib.tensor(INDEX), 1),
    "take_along_dim-wide": lambda lib, x: lib.take_along_dim(x, lib.tensor([[[1], [2], [0]]]), 2),
    "scatter_add": lambda lib, x: x.scatter_add(1, lib.tensor(INDEX), x[:, 1:2] * 2.0), "scatter_add-less": lambda lib,
    x: x.scatter_add(2, lib.tensor([[[1, 1]]]), x[1:, 1:2, 2:]),
    "index_add": lambda lib, x: x.index_add(2, lib.tensor([1, 1, 3]), x[:, :, :3] * x[:, :, 1:]),
    "masked_fill": lambda lib, x: x.masked_fill(lib.tensor([True, False, False, True]), -2.0), "masked_select": lambda lib,
    x: x.masked_select(lib.tensor(DATA > 7)),
    "tril": lambda lib, x: lib.tril(x), "triu": lambda lib, x: lib.triu(x, 1), "float": lambda lib, x: x.float(),
}


def made(lib: Any, act: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    x = lib.tensor(DATA.copy(), requires_grad=True)
    out = act(lib, x)
    weights = np.random.default_rng(1).normal(size=tuple(out.shape))
    (out * lib.tensor(weights).type_as(out)).sum().backward()
    return out, x.grad


@pytest.mark.parametrize("name", ALIKE)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    (ours, our_gradient), (theirs, their_gradient) = (made(lib, ALIKE[name]) for lib in (mg, torch))
    assert ours.shape == tuple(theirs.shape) and ours.array.flags.c_contiguous
    np.testing.assert_allclose(ours.array, theirs.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(our_gradient.array, their_gradient.numpy(), rtol=1e-6 if name == "float" else 1e-13, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in ALIKE if name not in ("masked_select",)])
def test_a_captured_step_has_the_bits_of_eager_mode(name: str, rng: np.random.Generator) -> None:
    leaf = mg.ones(2, 3, 4, dtype=mg.float64, requires_grad=True)

    class Lib:
        """Index Tensors that stand outside the step."""

        def __init__(self) -> None:
            self.kept: dict[str, Any] = {}

        def tensor(self, data: Any) -> Any:
            if repr(data) not in self.kept:
                self.kept[repr(data)] = mg.tensor(data)
            return self.kept[repr(data)]

        def __getattr__(self, name: str) -> Any:
            return getattr(mg, name)

    lib = Lib()
    ALIKE[name](lib, leaf)

    def step(x: Any) -> Any:
        leaf.grad = None
        out = ALIKE[name](lib, x * leaf)
        (out * out).sum().backward()
        return out, leaf.grad

    captured = mg.capture(step)
    for _ in range(4):
        x = rng.normal(size=(2, 3, 4))
        found, expected = captured(x), step(mg.tensor(x))
        assert [t.array.tobytes() for t in found] == [t.array.tobytes() for t in expected]


def test_views_share_memory_and_copies_do_not() -> None:
    x: Any = mg.tensor(DATA)
    for view in (x.reshape(-1), x.flatten(), x.ravel(), x.unsqueeze(0), x[:1].squeeze(0), x.unbind()[1], x.split(1)[1], x.chunk(2)[0], *x,
        x.narrow(0, 1, 1)):
        assert np.shares_memory(view.array, x.array)
    for copy in (x.permute(0, 1, 2), x.permute(2, 1, 0), x.transpose(0, 1), x.mT, x.flip(0), x[:1].flip(0), x.movedim(0, 1), x.repeat(1, 1, 1),
        x.roll(0, 0),
                 mg.cat([x]), x.split(2, 1)[0]):
        assert not np.shares_memory(copy.array, x.array)


def test_numpys_names_and_defaults() -> None:
    x = mg.tensor(DATA)
    assert np.array_equal(x.transpose().array, DATA.T) and np.array_equal(x.T.array, DATA.T)
    assert np.array_equal(x.transpose((1, 0, 2)).array, DATA.transpose(1, 0, 2))
    assert np.array_equal(mg.moveaxis(x, 0, -1).array, np.moveaxis(DATA, 0, -1)) and np.array_equal(mg.flip(x).array, np.flip(DATA))
    assert np.array_equal(mg.expand_dims(x, (0, 2)).array, np.expand_dims(DATA, (0, 2)))
    assert np.array_equal(mg.take_along_axis(x, INDEX, 1).array, np.take_along_axis(DATA, INDEX, 1))
    assert np.array_equal(mg.concatenate([x, DATA], axis=1).array, np.concatenate([DATA, DATA], axis=1))
    a, b = mg.meshgrid(np.arange(3.0), np.arange(2.0))
    assert (a.tolist(), b.tolist()) == ([[0, 0], [1, 1], [2, 2]], [[0, 1], [0, 1], [0, 1]])


@pytest.mark.parametrize("widths", [1, (1, 2), ((0, 1), (2, 0), (1, 1)), ((0, 0), (0, 0), (0, 0))])
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_pad_is_numpys_and_gives_the_inner_gradient(widths: Any, value: float) -> None:
    x = mg.tensor(DATA, requires_grad=True)
    out = mg.pad(x, widths, constant_values=value)
    expected = np.pad(DATA, widths, constant_values=value)
    assert np.array_equal(out.array, expected)
    (out * mg.tensor(expected)).sum().backward()
    assert x.grad is not None and np.array_equal(x.grad.array, DATA)


def test_pad_cuts_where_a_width_is_negative() -> None:
    assert np.array_equal(mg.pad(DATA, ((0, 0), (-1, 1), (1, -2))).array, np.pad(DATA, ((0, 0), (0, 1), (1, 0)))[:, 1:, :-2])


@pytest.mark.parametrize("source", [np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("target", [np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_])
def test_any_dtype_becomes_any_other(source: Any, target: Any) -> None:
    array = np.array([0.0, 1.0, 2.0, 100.0, 0.5]).astype(source)
    found = mg.tensor(array).astype(target)
    assert found.dtype == target and np.array_equal(found.array, array.astype(target))


def test_dtype_methods() -> None:
    x: Any = mg.tensor(np.array([0.0, 1.5, np.nan]))
    assert [t.dtype.name for t in (x.float(), x.double(), x.long(), x.int(), x.bool(), x.type_as(mg.ones(1)), x.to("float32"), x.to(np.int64),
        x.to("cpu"))] == [
        "float32", "float64", "int64", "int32", "bool", "float32", "float32", "int64", "float64"]
    assert x.bool().tolist() == [False, True, True] and x.type() == "float64" and x.type(np.float32).dtype == np.float32
    assert x.to("cpu") is x and x.double() is x and x.to(mg.ones(1)).dtype == np.float32
    with pytest.raises(DeviceError):
        x.to("cuda")
    for wrong in ("no dtype", np.float16, complex):
        with pytest.raises((DtypeError, DeviceError)):
            x.astype(wrong)


def test_len_iteration_and_membership() -> None:
    x = mg.tensor(DATA)
    assert len(x) == 2 and [row.shape for row in x] == [(3, 4), (3, 4)] and 5.0 in x and 99.0 not in x
    with pytest.raises(TypeError, match="0-d"):
        iter(mg.tensor(1.0))


def test_one_hot_and_embedding() -> None:
    assert mg.one_hot(mg.tensor([0, 2]), 4).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]] and mg.one_hot([[1], [0]]).shape == (2, 1, 2)
    with pytest.raises(LabelError, match=r"index\[1\] is 4, out of range for size 4"):
        mg.one_hot(np.array([0, 4]), 4)
    weight = mg.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    out = mg.embedding(np.array([[2, 0], [2, 1]]), weight, padding_idx=-2)
    assert out.tolist() == [[[4, 5], [0, 1]], [[4, 5], [2, 3]]]
    out.sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [[1, 1], [0, 0], [2, 2]]
    with pytest.raises(IndexRangeError, match=r"embedding: index\[0\] is 3, out of range for size 3"):
        mg.embedding(np.array([3]), weight)


@pytest.mark.parametrize(("act", "error", "words"), [
    (lambda x: x.permute(0, 0, 1), AxisError, "not an order"), (lambda x: x.transpose(0, 3), AxisError, "axis 3 does not exist"),
    (lambda x: x.split([1, 1], 2), ShapeError, "do not add up"), (lambda x: mg.cat([]), ShapeError, "at least one"),
    (lambda x: mg.cat([x, x[:1]], 1), ShapeError, "must be equal"), (lambda x: mg.cat([x, x.float()], 1), DtypeError, "one dtype"),
    (lambda x: mg.stack([x, x[0]]), ShapeError, "all shapes must be equal"), (lambda x: x.repeat(2), ShapeError, "a count"),
    (lambda x: x.unflatten(2, (3, -1)), ShapeError, "do not make up"), (lambda x: x.gather(0, [0, 1]), ShapeError, "shapes must be equal"),
    (lambda x: x.narrow(0, 1, 2), ShapeError, "not inside"), (lambda x: x.masked_fill(mg.ones(4), 0.0), DtypeError, "integers or bool"),
    (lambda x: x.index_select(0, [2]), IndexRangeError, r"index\[0\] is 2"), (lambda x: x.flatten(2, 1), AxisError, "behind"),
])
def test_what_does_not_fit_is_told_why(act: Callable[[Any], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        act(mg.tensor(DATA))
