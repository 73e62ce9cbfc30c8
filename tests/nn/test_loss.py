"""Losses as modules and functions: PyTorch's values and gradients with every option, labels that are no class, empty batches."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.errors import DtypeError, GraphError, LabelError, ShapeError

REDUCTIONS = ("mean", "sum", "none")
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(6, 5)), RNG.normal(size=(6, 5))
P, Q = RNG.uniform(0.02, 0.98, (6, 5)), RNG.uniform(size=(6, 5))
LABELS = np.array([0, 4, 2, 3, 3, 1])
IGNORING = np.array([0, -100, 2, 3, -100, 1])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.1, 3.0])
SHARES = RNG.dirichlet(np.ones(5), 6)
IMAGE, IMAGE_LABELS = RNG.normal(size=(2, 5, 3, 4)), RNG.integers(0, 5, (2, 3, 4))

#: A loss's name, input, target and options; arrays among the options become tensors.
CASES: list[tuple[str, Any, Any, dict[str, Any]]] = [
    ("mse_loss", X, T, {}),
    ("l1_loss", X, T, {}),
    ("huber_loss", X, T, {}),
    ("huber_loss", X, T, {"delta": 0.3}),
    ("smooth_l1_loss", X, T, {}),
    ("smooth_l1_loss", X, T, {"beta": 0.3}),
    ("smooth_l1_loss", X, T, {"beta": 0.0}),
    ("binary_cross_entropy", P, Q, {}),
    ("binary_cross_entropy", P, Q, {"weight": WEIGHT}),
    ("binary_cross_entropy_with_logits", X, Q, {}),
    ("binary_cross_entropy_with_logits", X, Q, {"weight": WEIGHT}),
    ("binary_cross_entropy_with_logits", X, Q, {"pos_weight": WEIGHT}),
    ("binary_cross_entropy_with_logits", X, Q, {"pos_weight": WEIGHT, "weight": Q}),
    *[(name, x, target, options) for name in ("nll_loss", "cross_entropy") for x, target, options in (
        (X, LABELS, {}), (X, IGNORING, {}), (X, LABELS, {"ignore_index": 3}), (X, LABELS, {"weight": WEIGHT}),
        (X, IGNORING, {"weight": WEIGHT}), (X, LABELS, {"weight": WEIGHT, "ignore_index": 3}), (X[0], LABELS[2], {}),
        (X[0], LABELS[2], {"weight": WEIGHT}), (IMAGE, IMAGE_LABELS, {}), (IMAGE, IMAGE_LABELS, {"weight": WEIGHT, "ignore_index": 2}))],
    *[("cross_entropy", x, target, {"label_smoothing": 0.1, **options}) for x, target in ((X, IGNORING), (X, SHARES), (IMAGE, IMAGE_LABELS),
                                                                                        (X[0], LABELS[1])) for options in ({}, {"weight": WEIGHT})],
    ("cross_entropy", X, LABELS, {"label_smoothing": 1.0, "ignore_index": 3, "weight": WEIGHT}),
    ("cross_entropy", X, SHARES, {}),
    ("cross_entropy", X, SHARES, {"weight": WEIGHT}),
    ("cross_entropy", IMAGE, RNG.dirichlet(np.ones(5), (2, 3, 4)).transpose(0, 3, 1, 2).copy(), {"weight": WEIGHT}),
    ("cross_entropy", X[0], SHARES[0], {}),
]
IDS = [f"{name}-{'x'.join(map(str, np.shape(x)))}-{'-'.join(options)}" for name, x, _, options in CASES]
MODULES = {"mse_loss": "MSELoss", "l1_loss": "L1Loss", "huber_loss": "HuberLoss", "smooth_l1_loss": "SmoothL1Loss",
           "binary_cross_entropy": "BCELoss", "binary_cross_entropy_with_logits": "BCEWithLogitsLoss", "nll_loss": "NLLLoss",
           "cross_entropy": "CrossEntropyLoss"}


def made(make: Callable[[Any], Any], options: dict[str, Any]) -> dict[str, Any]:
    return {name: make(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}


def gradients(loss: Any, inputs: list[Any], up: Any) -> list[Any]:
    loss.backward(up)
    return [None if x.grad is None else x.grad.numpy() for x in inputs]


# ---- PyTorch's values
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "x", "target", "options"), CASES, ids=IDS)
def test_values_and_gradients_are_pytorchs(name: str, x: Any, target: Any, options: dict[str, Any], reduction: str) -> None:
    torch = pytest.importorskip("torch")
    smooth = np.asarray(target).dtype.kind == "f"
    ours = [mg.tensor(x, requires_grad=True), mg.tensor(np.asarray(target), requires_grad=smooth)]
    theirs = [torch.tensor(x, requires_grad=True), torch.tensor(np.asarray(target), requires_grad=smooth)]
    found = getattr(F, name)(*ours, reduction=reduction, **made(mg.tensor, options))
    expected = getattr(torch.nn.functional, name)(*theirs, reduction=reduction, **made(torch.tensor, options))
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    assert found.shape == tuple(expected.shape)
    up = np.random.default_rng(3).normal(size=found.shape)
    for g, e in zip(gradients(found, ours, mg.tensor(up)), gradients(expected, theirs, torch.tensor(up)), strict=True):
        assert (g is None) is (e is None)
        if g is not None:
            np.testing.assert_allclose(g, e, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "x", "target", "options"), CASES, ids=IDS)
def test_modules_keep_the_options(name: str, x: Any, target: Any, options: dict[str, Any], reduction: str) -> None:
    module = getattr(nn, MODULES[name])(reduction=reduction, **made(mg.tensor, options))
    expected = getattr(F, name)(mg.tensor(x), mg.tensor(target), reduction=reduction, **made(mg.tensor, options))
    assert module(mg.tensor(x), mg.tensor(target)).numpy().tobytes() == expected.numpy().tobytes()
    assert list(module.state_dict()) == [key for key in ("weight", "pos_weight") if key in options]


@pytest.mark.parametrize(("name", "x", "target", "options"), CASES, ids=IDS)
def test_plain_arrays_take_the_dtype_of_the_input(name: str, x: Any, target: Any, options: dict[str, Any]) -> None:
    assert getattr(F, name)(mg.tensor(x.astype(np.float32)), target, **options).dtype == np.float32


@pytest.mark.parametrize(("name", "x", "target", "options"), CASES, ids=IDS)
def test_a_captured_loss_has_the_bits_of_eager_mode(name: str, x: Any, target: Any, options: dict[str, Any]) -> None:
    leaf: Any = mg.tensor(x.astype(np.float32), requires_grad=True)
    options = made(lambda a: mg.tensor(a.astype(np.float32)), options)

    def step(target: Any) -> Any:
        leaf.grad = None
        loss = getattr(F, name)(leaf, target, **options)
        loss.backward()
        return loss, leaf.grad

    captured = mg.capture(step)
    given = np.asarray(target, np.float32) if np.asarray(target).dtype.kind == "f" else np.asarray(target)
    for _ in range(4):
        assert [t.numpy().tobytes() for t in captured(given)] == [t.detach().numpy().tobytes() for t in step(mg.tensor(given))]


def test_without_options_it_is_one_op() -> None:
    x: Any = mg.tensor(X, requires_grad=True)
    assert F.cross_entropy(x, LABELS).grad_fn.op.name == "softmax_cross_entropy"  # type: ignore[union-attr]
    assert F.cross_entropy(x, LABELS, ignore_index=3).grad_fn.op.name == "softmax_cross_entropy"  # type: ignore[union-attr]
    assert F.mse_loss(x, T).grad_fn.op.name == "mse"  # type: ignore[union-attr]


def test_the_two_ways_to_a_mean_agree() -> None:
    for labels in (LABELS, IGNORING):
        found = []
        for weight in (None, np.ones(5)):
            x: Any = mg.tensor(X, requires_grad=True)
            loss = F.cross_entropy(x, labels, weight)
            loss.backward()
            found.append((float(loss), x.grad.numpy()))
        np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-14)
        np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12, atol=1e-15)


def test_smoothed_labels_are_probabilities() -> None:
    shares = 0.9 * np.eye(5)[LABELS] + 0.02
    smoothed, soft = F.cross_entropy(mg.tensor(X), LABELS, label_smoothing=0.1), F.cross_entropy(mg.tensor(X), shares)
    np.testing.assert_allclose(float(smoothed), float(soft), rtol=1e-13)


# ---- large numbers
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"weight": [1.0, 2.0, 3.0]}, {"reduction": "sum"}])
def test_extreme_logits_have_finite_losses_and_gradients(options: dict[str, Any], dtype: Any) -> None:
    x: Any = mg.tensor(np.array([[1e4, -1e4, 0], [1e30, 0, -1e30], [-1e30, -1e30, -1e30], [0, -np.inf, 0]], dtype), requires_grad=True)
    loss = F.cross_entropy(x, np.array([1, 0, 2, 0]), **options)
    loss.backward()
    assert np.isfinite(float(loss)) and np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("pos_weight", [None, [2.0]])
def test_extreme_binary_logits_have_finite_losses_and_gradients(pos_weight: Any) -> None:
    x: Any = mg.tensor(np.array([1e30, -1e30, 1e4, -1e4, 80, -80], np.float32), requires_grad=True)
    for target in (0.0, 1.0):
        x.grad = None
        F.binary_cross_entropy_with_logits(x, np.full(6, target), reduction="none", pos_weight=pos_weight).backward(mg.tensor(np.ones(6, np.float32)))
        assert np.isfinite(x.grad.numpy()).all()


# ---- labels
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_labels_have_any_integer_dtype(dtype: Any) -> None:
    expected = F.cross_entropy(mg.tensor(X), LABELS).numpy().tobytes()
    assert F.cross_entropy(mg.tensor(X), LABELS.astype(dtype)).numpy().tobytes() == expected


@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}, {"reduction": "sum"}])
def test_a_label_that_is_no_class_is_named_with_its_row(options: dict[str, Any]) -> None:
    labels = IGNORING.copy()
    labels[3:5] = 7, -1
    for call in (F.cross_entropy, F.nll_loss):
        if call is F.nll_loss and "label_smoothing" in options:
            continue
        with pytest.raises(LabelError, match=r"a label is negative or not below the number of classes: row 3 has label 7, and there are 5 classes"):
            call(mg.tensor(X), labels, **options)
    with pytest.raises(LabelError, match=r"row 1 has label -100.*or ignore_index=3"):
        F.cross_entropy(mg.tensor(X), labels, ignore_index=3, **options)
    spoilt = IMAGE_LABELS.copy()
    spoilt[1, 2, 3] = 9
    with pytest.raises(LabelError, match="row 1, 2, 3 has label 9"):
        F.cross_entropy(mg.tensor(IMAGE), spoilt)
    with pytest.raises(LabelError, match="row 0 has label 5"):
        F.cross_entropy(mg.tensor(X[0]), 5)


@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT.astype(np.float32)}])
def test_a_captured_step_refuses_the_label_and_says_where(options: dict[str, Any]) -> None:
    options = made(mg.tensor, options)

    @mg.capture
    def step(x: Any, labels: Any) -> Any:
        return F.cross_entropy(x, labels, **options)

    wrong = LABELS.copy()
    wrong[2] = 5
    x = X.astype(np.float32)
    for _ in range(5):
        with pytest.raises(LabelError, match="a label is negative or not below the number of classes"):
            step(x, wrong)
        assert float(step(x, LABELS)) == float(F.cross_entropy(mg.tensor(x), LABELS, **options))
    with pytest.raises(LabelError, match=r"\(step 0, .*test_loss.py:\d+"):
        step(x, wrong)


# ---- nothing to average
@pytest.mark.parametrize(("name", "x", "target", "options"), [c for c in CASES if np.ndim(c[1]) > 1], ids=[i for i, c in zip(IDS, CASES, strict=True)
                                                                                                   if np.ndim(c[1]) > 1])
def test_of_an_empty_batch_the_mean_is_nan_and_the_sum_zero(name: str, x: Any, target: Any, options: dict[str, Any]) -> None:
    options = {key: value[:0] if np.ndim(value) == 2 else value for key, value in options.items()}
    for reduction, expected in (("mean", np.nan), ("sum", 0.0)):
        leaf: Any = mg.tensor(x[:0], requires_grad=True)
        loss = getattr(F, name)(leaf, target[:0], reduction=reduction, **options)
        np.testing.assert_equal(float(loss), expected)
        loss.backward()
        assert leaf.grad.shape == x[:0].shape


@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT}])
def test_if_all_rows_are_ignored_the_mean_is_nan_and_the_sum_zero(options: dict[str, Any]) -> None:
    assert np.isnan(float(F.cross_entropy(mg.tensor(X), np.full(6, -100), **options)))
    assert float(F.cross_entropy(mg.tensor(X), np.full(6, -100), reduction="sum", **options)) == 0


# ---- what does not fit
@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda x: F.mse_loss(x, X[0]), ShapeError, "mse: the inputs need one shape"),
    (lambda x: F.mse_loss(x, X[0], reduction="sum"), ShapeError, r"mse_loss: input and target need one shape, got \(6, 5\) and \(5,\)"),
    (lambda x: F.l1_loss(x, X[0]), ShapeError, "l1_loss: input and target need one shape"),
    (lambda x: F.binary_cross_entropy(x, X[0]), ShapeError, "binary_cross_entropy: the inputs need one shape"),
    (lambda x: F.binary_cross_entropy_with_logits(x, X[0], pos_weight=WEIGHT), ShapeError, "binary_cross_entropy_with_logits: input and target"),
    (lambda x: F.mse_loss(x, T, reduction="avg"), ValueError, "mse_loss: 'avg' is not a valid value for reduction"),
    (lambda x: nn.CrossEntropyLoss(reduction="avg"), ValueError, "CrossEntropyLoss: 'avg' is not a valid value for reduction"),
    (lambda x: F.huber_loss(x, T, delta=0), ValueError, "huber_loss: delta is 0, expected a positive number"),
    (lambda x: F.smooth_l1_loss(x, T, beta=-1), ValueError, "smooth_l1_loss: beta is -1"),
    (lambda x: F.cross_entropy(x, LABELS, label_smoothing=1.5), ValueError, "label_smoothing must be between 0 and 1, got 1.5"),
    (lambda x: F.cross_entropy(x, LABELS, np.ones(4)), ShapeError, r"weight has shape \(4,\), expected one number for each of the 5 classes"),
    (lambda x: F.cross_entropy(x, LABELS, x[0]), GraphError, "cross_entropy is not differentiable with respect to weight"),
    (lambda x: F.cross_entropy(x, np.eye(5, dtype=np.int64)[LABELS]), ShapeError, "pass one class index a row, int64"),
    (lambda x: F.nll_loss(x, LABELS[:4]), ShapeError, r"nll: x needs labels of shape \(6,\)"),
    (lambda x: F.cross_entropy(x, LABELS.astype(np.float64)), DtypeError, "labels are float64, expected int64 class indices"),
])
def test_what_does_not_fit_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(mg.tensor(X, requires_grad=True))
