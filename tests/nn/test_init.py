"""Initial values: the deviations and shapes that they promise."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import CaptureError, ShapeError

WIDE = (300, 500)  # out, in


@pytest.mark.parametrize(("fill", "deviation", "bounded"), [
    (lambda t: nn.init.normal_(t, 0.0, 0.3), 0.3, False),
    (lambda t: nn.init.uniform_(t, -1.0, 1.0), 1 / 3 ** 0.5, True),
    (nn.init.xavier_normal_, (2 / 800) ** 0.5, False),
    (nn.init.xavier_uniform_, (2 / 800) ** 0.5, True),
    (lambda t: nn.init.xavier_normal_(t, gain=5 / 3), 5 / 3 * (2 / 800) ** 0.5, False),
    (nn.init.kaiming_normal_, (2 / 500) ** 0.5, False),
    (nn.init.kaiming_uniform_, (2 / 500) ** 0.5, True),
    (lambda t: nn.init.kaiming_normal_(t, nonlinearity="tanh"), 5 / 3 * (1 / 500) ** 0.5, False),
    (lambda t: nn.init.kaiming_normal_(t, 0.5, "fan_out"), (2 / 1.25 / 300) ** 0.5, False),
    (lambda t: nn.init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"), (2 / 300) ** 0.5, True),
    (nn.init.lecun_normal_, (1 / 500) ** 0.5, False),
    (nn.init.lecun_uniform_, (1 / 500) ** 0.5, True),
])
def test_initial_values_have_the_deviation_that_they_promise(fill: Any, deviation: float, bounded: bool) -> None:
    t = mg.zeros(*WIDE, dtype=np.float64)
    assert fill(t) is t
    n = t.numel()
    assert abs(t.array.mean()) < 5 * deviation / n ** 0.5
    assert abs(t.array.std() / deviation - 1) < 5 / (2 * n) ** 0.5
    largest = np.abs(t.array).max() / deviation
    assert 1.7 < largest <= 3 ** 0.5 if bounded else largest > 3.5


def test_a_linear_layer_starts_as_pytorchs() -> None:
    layer = nn.Linear(400, 500)
    for p in (layer.weight, layer.bias):
        assert 0.9 / 20 < np.abs(p.array).max() <= 1 / 20
    assert abs(layer.weight.array.std() * 20 * 3 ** 0.5 - 1) < 0.01


def test_initial_values_follow_from_the_seed() -> None:
    mg.manual_seed(3)
    first = [p.array.copy() for p in nn.Linear(30, 20).parameters()]
    mg.manual_seed(3)
    assert all(np.array_equal(before, p.array) for before, p in zip(first, nn.Linear(30, 20).parameters(), strict=True))


def test_fans_need_a_matrix_and_gains_a_known_activation() -> None:
    with pytest.raises(ShapeError, match=r"\(out, in\), got \(3,\)"):
        nn.init.xavier_normal_(mg.zeros(3))
    with pytest.raises(ValueError, match="tanh, relu, selu, leaky_relu, not 'swish'"):
        nn.init.calculate_gain("swish")
    with pytest.raises(ValueError, match="mode is 'tanh', expected 'fan_in' or 'fan_out'"):
        nn.init.kaiming_normal_(mg.zeros(2, 3), 0, "tanh")


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
def test_gains_and_fans_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert nn.init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3), rel=1e-15)


def test_a_generator_of_ones_own_leaves_the_shared_one_alone() -> None:
    first, second = mg.zeros(3, 4), mg.zeros(3, 4)
    mg.manual_seed(1)
    expected = mg.randn(2).array
    mg.manual_seed(1)
    for t in (first, second):
        nn.init.xavier_normal_(t, generator=np.random.default_rng(5))
    assert np.array_equal(first.array, second.array) and np.array_equal(mg.randn(2).array, expected)


def test_constants_and_the_identity() -> None:
    t = mg.zeros(2, 3)
    assert nn.init.ones_(t).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert nn.init.constant_(t, 2.5).tolist() == [[2.5] * 3] * 2
    assert nn.init.eye_(t).tolist() == [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(ShapeError, match="eye_ needs a matrix"):
        nn.init.eye_(mg.zeros(3))


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 3, 2)])
def test_an_orthogonal_weight_keeps_lengths(shape: tuple[int, ...]) -> None:
    w = nn.init.orthogonal_(mg.zeros(*shape, dtype=np.float64), gain=2.0).array.reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] < w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_a_truncated_normal_stays_inside() -> None:
    t = nn.init.trunc_normal_(mg.zeros(200, 200, dtype=np.float64), mean=1.0, std=2.0, a=0.0, b=4.0).array
    assert t.min() >= 0 and t.max() <= 4 and 0 < t.min() < 0.01 and t.max() > 3.99
    # Mean of the normal distribution between -0.5 and 1.5 deviations, from its density and distribution function.
    assert t.mean() == pytest.approx(1 + 2 * (0.3520653 - 0.1295176) / (0.9331928 - 0.3085375), abs=0.03)
    with pytest.raises(ValueError, match="holds 0 of a normal distribution"):
        nn.init.trunc_normal_(mg.zeros(3), a=50.0, b=60.0)


def test_a_sparse_weight_has_its_share_of_zeros_in_every_column() -> None:
    t = nn.init.sparse_(mg.zeros(20, 30), sparsity=0.31, std=0.5).array
    assert ((t == 0).sum(axis=0) == 7).all() and len({tuple(c) for c in (t == 0).T}) > 1
    with pytest.raises(ValueError, match="share between 0 and 1"):
        nn.init.sparse_(mg.zeros(2, 2), 1.5)


def deep(blocks: int, width: int = 64) -> nn.Sequential:
    return nn.Sequential(*[nn.Residual(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))) for _ in range(blocks)])


def test_depth_scaling_divides_the_last_layer_of_each_branch() -> None:
    model = deep(4)
    before = {name: p.array.copy() for name, p in model.named_parameters()}
    assert nn.init.depth_scaled_(model) is model
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.array, before[name] / (2 if ".2." in name else 1), rtol=1e-7)
    nn.init.depth_scaled_(model.get_parameter("0.module.0.weight"), depth=9)
    np.testing.assert_allclose(model.get_parameter("0.module.0.weight").array, before["0.module.0.weight"] / 3, rtol=1e-7)
    with pytest.raises(ValueError, match=r"no nn.Residual to count: pass depth"):
        nn.init.depth_scaled_(nn.Linear(2, 2))


def test_depth_scaling_keeps_a_deep_chain_bounded(rng: np.random.Generator) -> None:
    sizes = []
    for scaled in (False, True):
        model = deep(50)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        if scaled:
            nn.init.depth_scaled_(model)
        with mg.no_grad():
            sizes.append(float(np.abs(model(rng.normal(size=(8, 64)).astype(np.float32)).array).max()))
    assert sizes[0] > 1e6 and sizes[1] < 50


def test_nothing_is_drawn_inside_a_captured_step() -> None:
    layer = nn.Linear(2, 2)

    @mg.capture
    def step(x: Any) -> Any:
        nn.init.zeros_(layer.weight)
        return layer(x)

    with pytest.raises(CaptureError, match="initialise outside"):
        step(np.ones((1, 2), np.float32))
