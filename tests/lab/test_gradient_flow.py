from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import optim
from minigrad.lab.gradient_flow import Flow, FlowLog, gradient_flow, table
from minigrad.lab.nets import KINDS, trio, weights
from minigrad.train import Trainer


def test_the_three_nets_start_from_the_same_weights() -> None:
    nets = trio(features=6, classes=3, depth=5, width=8, seed=0)
    assert list(nets) == list(KINDS)
    reference = [weight.detach().numpy() for weight in weights(nets["relu"])]
    assert [weight.shape for weight in reference] == [(8, 6), (8, 8), (8, 8), (8, 8), (3, 8)]
    for net in nets.values():
        assert all(np.array_equal(one.detach().numpy(), other) for one, other in zip(weights(net), reference, strict=True))


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_flow_agrees_with_finite_differences(kind: str, rng: np.random.Generator) -> None:
    model = trio(6, 3, 4, 8, seed=0)[kind]
    x, y = rng.standard_normal((5, 6)).astype(np.float32), rng.integers(0, 3, 5)
    flow = gradient_flow(model, x, y)
    h = model[0](x).detach().numpy()

    def loss(change: float) -> float:
        top = mg.tensor(h + np.float32(change) * direction)
        for layer in list(model)[1:]:
            top = layer(top)
        return float(F.cross_entropy(top, y).item())

    # The gradient's own direction: the slope along it is the gradient's norm, which is rms times sqrt(size)
    top = mg.tensor(h, requires_grad=True)
    value = top
    for layer in list(model)[1:]:
        value = layer(value)
    (slope,) = mg.autograd.grad(F.cross_entropy(value, y), top)
    assert slope is not None
    direction = slope.numpy() / np.linalg.norm(slope.numpy())
    assert flow.rms_dh[0] * h.size**0.5 == pytest.approx((loss(1e-2) - loss(-1e-2)) / 2e-2, rel=2e-2)
    assert flow.rms_h[0] == pytest.approx(np.sqrt(np.mean(h**2)), rel=1e-6)


def test_weight_norms_are_those_of_backward(rng: np.random.Generator) -> None:
    model = trio(6, 3, 4, 8, seed=0)["residual relu"]
    x, y = rng.standard_normal((5, 6)).astype(np.float32), rng.integers(0, 3, 5)
    flow = gradient_flow(model, x, y)
    assert all(weight.grad is None for weight in weights(model))
    F.cross_entropy(model(x), y).backward()
    expected = [np.linalg.norm(weight.grad.numpy()) for weight in weights(model) if weight.grad is not None]
    assert flow.norm_dw == pytest.approx(expected, rel=1e-5)


def test_the_log_has_an_entry_before_training_and_one_an_epoch(rng: np.random.Generator) -> None:
    model = trio(6, 3, 4, 8, seed=0)["relu"]
    x, y = rng.standard_normal((20, 6)).astype(np.float32), rng.integers(0, 3, 20)
    log = FlowLog(model, x, y, steps_per_epoch=2)
    Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1)).fit(x, y, batch_size=10, epochs=3, verbose=False, callbacks=[log])
    kept = log.arrays()
    assert kept["step"] == [0, 2, 4, 6] and np.shape(kept["rms_h"]) == np.shape(kept["norm_dw"]) == (4, 4)


def test_the_ratio_leaves_the_output_layer_out() -> None:
    assert Flow([1, 1, 1], [1e-6, 1e-2, 5.0], [1, 1, 1]).ratio == pytest.approx(1e-4)
    assert Flow([1, 1], [0.0, 1.0], [1, 1]).ratio is None


def test_the_table_has_a_row_for_each_layer_asked_for() -> None:
    flow = Flow([0.5, 0.25], [1e-9, 1e-3], [2.0, 3.0])
    lines = table({"a": flow, "b": flow}, [1, 2]).splitlines()
    assert len(lines) == 4 and lines[2].split() == ["1"] + ["5.00e-01", "1.00e-09", "2.00e+00"] * 2
