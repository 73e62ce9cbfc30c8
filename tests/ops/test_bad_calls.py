"""Bad calls of every op: each a typed error that names the op and says what came, raised before anything has changed; no crash, no leak."""
from __future__ import annotations

import traceback
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import DtypeError, IndexRangeError, LabelError, MinigradError, ShapeError
from minigrad.nn import functional
from minigrad.ops.op import Op
from minigrad.train import Trainer
from tests.ops.bad_calls import Call, bad_calls
from tests.ops.test_every_op import OPS

#: Ops whose errors name the function that everybody calls.
CALLED = {"gather_along": "gather", "scatter_along": "scatter_add", "guard": "step was refused"}


def raised(call: Call, op: Op) -> Exception | None:
    try:
        op(*call.inputs, **call.attributes)
    except Exception as error:  # noqa: BLE001  which ones are good is what is tested
        return error
    return None


def complaint(error: Exception, op: Op) -> str:
    """What is wrong with an error; nothing, if it is a good one."""
    frame = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    if "minigrad" not in frame.f_globals.get("__name__", ""):
        return f"raised in {frame.f_globals.get('__name__')}"
    if not isinstance(error, MinigradError) and type(error) not in (TypeError, ValueError):
        return f"a {type(error).__name__}"
    if op.name not in str(error) and CALLED.get(op.name, op.name) not in str(error):
        return "does not name the op"
    return "says too little" if len(str(error)) < len(op.name) + 12 else ""


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_a_bad_call_is_a_typed_error_and_changes_nothing(op: Op) -> None:
    found = []
    for call in bad_calls(op):
        tensors = [x for x in call.inputs if isinstance(x, mg.Tensor)]
        before = [(x, x.array.copy(), list(x.clock)) for x in tensors]
        error = raised(call, op)
        if error is None:
            if call.wrong:
                found.append(f"{call.what}: was taken")
            continue
        wrong = complaint(error, op)
        if wrong:
            found.append(f"{call.what}: {wrong}: {type(error).__name__}: {str(error)[:200]}")
        for x, array, clock in before:
            if not np.array_equal(x.array, array, equal_nan=array.dtype.kind == "f") or x.clock != clock or x.grad is not None:
                found.append(f"{call.what}: an input was changed")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_a_bad_call_leaves_the_plans_alone(op: Op) -> None:
    """Of what is refused nothing is kept, so that a good call before and after are the same."""
    call = next(iter(bad_calls(op)))
    raised(call, op)
    before = dict(op.plans)
    for call in list(bad_calls(op))[:4]:
        assert raised(call, op) is not None
    assert op.plans == before


# ---- layers, losses and what is around them ---------------------------------------------------------------------------------------------
def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def test_a_layer_says_where_it_is_and_what_it_wants() -> None:
    inner = nn.Sequential(nn.Linear(4, 3), nn.Linear(5, 2))
    with pytest.raises(ShapeError, match=r"in .*1: linear: expected 5 features, got 3.*Linear\(3, 2\)"):
        inner(mg.ones((2, 4)))


LOSSES = [functional.mse_loss, functional.l1_loss, functional.huber_loss, functional.smooth_l1_loss, functional.binary_cross_entropy,
          functional.binary_cross_entropy_with_logits]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_losses_refuse_targets_of_another_shape(loss: Any) -> None:
    x, y = mg.rand((4, 1), requires_grad=True), mg.rand((4,))
    with pytest.raises(ShapeError, match=r"one shape"):
        loss(x, y)
    assert x.grad is None


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_losses_refuse_a_reduction_that_is_none(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"'average' is not a valid value for reduction"):
        loss(mg.rand((4,)), mg.rand((4,)), reduction="average")


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_labels_outside_the_classes(label: int) -> None:
    logits = mg.zeros((4, 3), requires_grad=True)
    labels = mg.tensor(np.array([0, 1, label, 2]))
    with pytest.raises(LabelError, match=rf"row 2 has label {label}, and there are 3 classes"):
        functional.cross_entropy(logits, labels)
    assert logits.grad is None


def test_labels_that_are_no_class_indices() -> None:
    with pytest.raises((DtypeError, ShapeError), match="label"):
        functional.cross_entropy(mg.zeros((4, 3)), mg.zeros((3,)))


@pytest.mark.parametrize("index", [7, -8, 2**40])
def test_an_embedding_has_no_such_row(index: int) -> None:
    table = nn.Embedding(7, 2)
    with pytest.raises(IndexRangeError, match="embedding"):
        table(mg.tensor(np.array([0, index])))
    assert table.weight.grad is None


def test_an_embedding_of_floats() -> None:
    with pytest.raises(DtypeError, match="float"):
        nn.Embedding(7, 2)(mg.zeros((2,)))


@pytest.mark.parametrize(("x", "y"), [((5, 4), (4,)), ((0, 4), (0,))])
def test_a_trainer_wants_as_many_answers_as_rows(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    trained = net()
    before = [p.array.copy() for p in trained.parameters()]
    trainer = Trainer(trained, functional.cross_entropy, optim.SGD(trained.parameters(), lr=0.1))
    with pytest.raises(MinigradError, match="rows"):
        trainer.fit(np.ones(x, np.float32), np.zeros(y, np.int64), epochs=1)
    assert all(np.array_equal(p.array, old) for p, old in zip(trained.parameters(), before, strict=True))


# ---- in place -----------------------------------------------------------------------------------------------------------------------------
def test_a_result_that_does_not_fit_changes_nothing() -> None:
    x = mg.ones((3,))
    for wrong, kind in ((mg.ones((2, 3)), ShapeError), (mg.ones((4,)), ShapeError)):
        with pytest.raises(kind):
            x.add_(wrong)
    assert x.array.tolist() == [1, 1, 1] and x.clock[0] == 0


def test_overlapping_parts_of_one_memory_are_what_copies_of_them_would_give() -> None:
    x = mg.arange(8.0)
    x[1:].copy_(x[:-1])
    assert x.array.tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    y = mg.arange(8.0)
    y[:-1].add_(y[1:])
    assert y.array.tolist() == [1, 3, 5, 7, 9, 11, 13, 7]
