from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.errors import CaptureError, DataError, ShapeError
from minigrad.health.measure import measure, rms


def batch(rng: np.random.Generator, rows: int = 12, features: int = 6) -> tuple[NDArray[Any], NDArray[Any]]:
    return rng.standard_normal((rows, features)).astype(np.float32), rng.integers(0, 3, rows)


def plain(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), *middle, nn.Linear(8, 3))


def test_the_figures_are_those_of_plain_numpy(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    model = plain().double()
    found = measure(model, x.astype(np.float64), y)
    w = [layer.weight.detach().numpy() for layer in model if isinstance(layer, nn.Linear)]
    b = [layer.bias.detach().numpy() for layer in model if isinstance(layer, nn.Linear)]
    h1 = np.tanh(x @ w[0].T + b[0])
    h2 = np.maximum(h1 @ w[1].T + b[1], 0)
    out = h2 @ w[2].T + b[2]
    p = np.exp(out - out.max(axis=1, keepdims=True))
    d3 = (p / p.sum(axis=1, keepdims=True) - np.eye(3)[y]) / len(x)
    d2 = d3 @ w[2]
    z2 = d2 * (h2 > 0)
    d1 = z2 @ w[1]
    z1 = d1 * (1 - h1**2)
    assert found.layers == ["0", "2", "4"] and found.rows == 12 and found.dtype == np.float64
    for name, values in (("rms_h", (h1, h2, out)), ("rms_dh", (d1, d2, d3)), ("rms_w", w)):
        assert getattr(found, name) == pytest.approx([np.sqrt(np.mean(v**2)) for v in values], rel=1e-10), name
    assert found.norm_dw == pytest.approx([np.linalg.norm(g) for g in (z1.T @ x, z2.T @ h1, d3.T @ h2)], rel=1e-10)
    assert found.saturated[0] == np.mean(np.abs(h1) >= 0.98) and np.isnan(found.saturated[1:]).all()
    assert found.dead[1] == np.mean((h2 == 0).all(axis=0)) and np.isnan(found.dead[[0, 2]]).all()
    assert found.feature_mean == pytest.approx(x.mean(axis=0), abs=1e-7) and found.feature_std == pytest.approx(x.std(axis=0), rel=1e-6)
    assert found.input_mean == pytest.approx(x.mean(), abs=1e-7) and found.input_std == pytest.approx(x.std(), rel=1e-6)


def test_nothing_is_touched(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    heard: list[Any] = []
    model = plain(nn.BatchNorm1d(8), nn.Dropout(0.5))
    model[0].register_forward_hook(lambda module, given, out: heard.append(out))
    F.cross_entropy(model(x), mg.tensor(y)).backward()
    state = {name: values.numpy().copy() for name, values in model.state_dict().items()}
    grads = [p.grad.numpy().copy() for p in model.parameters() if p.grad is not None]
    mg.manual_seed(3)
    expected = mg.randn(4).numpy()
    mg.manual_seed(3)
    hooks = [module._hooks for module in model.modules()]
    measure(model, x, y)
    measure(model, x, y)
    assert np.array_equal(mg.randn(4).numpy(), expected)
    assert all(np.array_equal(state[name], values.numpy()) for name, values in model.state_dict().items())
    assert all(np.array_equal(p.grad.numpy(), g) for p, g in zip(model.parameters(), grads, strict=True) if p.grad is not None)
    assert all(module._hooks is before for module, before in zip(model.modules(), hooks, strict=True)) and len(heard) == 3
    assert model.training


def test_h_is_what_the_next_layer_gets(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Residual(nn.Sequential(nn.Linear(8, 8), nn.ReLU())), nn.Linear(8, 3))
    first = model[:3](x).detach().numpy()
    second = model[:4](x).detach().numpy()
    found = measure(model, x, y)
    assert found.layers == ["0", "3.module.0", "4"]
    assert found.rms_h[:2] == pytest.approx([np.sqrt(np.mean(h.astype(np.float64)**2)) for h in (first, second)], rel=1e-6)


class Loop(nn.Module):
    """Runs one layer three times, and its activations are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        h = mg.sigmoid(self.first(x))
        for _ in range(3):
            h = F.relu(self.again(h))
        return self.last(h)


class Loose(nn.Module):
    """One matrix that belongs to no module that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.ws = nn.ParameterList([nn.Parameter(mg.ones(6, 3))])

    def forward(self, x: Any) -> Any:
        return x @ self.ws[0]


def test_the_input_is_x_itself_and_not_what_the_first_layer_gets(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    found = measure(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), 5 + 2 * x, y)
    assert found.feature_mean == pytest.approx((5 + 2 * x).mean(axis=0), rel=1e-5) and found.first_mean == pytest.approx(0, abs=1e-5)
    flat = measure(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), mg.tensor(x.reshape(12, 2, 3)), y)  # in the shape in which the layer gets it
    assert flat.feature_mean == pytest.approx(x.mean(axis=0), abs=1e-6) and flat.matrices.tolist() == [1] and not flat.unmeasured


def test_of_a_layer_that_runs_again_the_last_run_counts(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    model = Loop()
    found = measure(model, x, y)
    h = mg.sigmoid(model.first(mg.tensor(x)))
    for _ in range(3):
        h = F.relu(model.again(h))
    assert found.layers == ["first", "again", "last"]
    assert found.rms_h[1] == pytest.approx(np.sqrt(np.mean(h.detach().numpy().astype(np.float64)**2)), rel=1e-6)
    assert not np.isnan(found.saturated[0]) and not np.isnan(found.dead[1])


@pytest.mark.parametrize("exponent", [-300, -200, -45, 0, 200, 300])
def test_squares_neither_underflow_nor_overflow(exponent: int) -> None:
    assert rms(np.array([3.0, 4.0]) * 10.0**exponent) == pytest.approx(np.sqrt(12.5) * 10.0**exponent, rel=1e-12)


def test_rms_of_what_is_not_finite_says_so() -> None:
    assert np.isnan(rms(np.array([1.0, np.nan]))) and rms(np.array([1.0, -np.inf])) == np.inf and np.isnan(rms(np.empty(0)))
    assert rms(np.zeros(3)) == 0.0


def test_ends_of_ranges_count_as_saturated(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    for activation, bias in ((nn.Sigmoid(), 10.0), (nn.Sigmoid(), -10.0), (nn.Tanh(), 10.0), (nn.Hardtanh(-2.0, 3.0), 10.0)):
        model = nn.Sequential(nn.Linear(6, 8), activation, nn.Linear(8, 3))
        nn.init.constant_(model[0].bias, bias)
        assert measure(model, x, y).saturated[0] == 1.0
        nn.init.zeros_(model[0].bias)
        assert measure(model, x, y).saturated[0] < 0.2


def test_units_off_for_the_whole_batch_are_dead(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    for activation in (nn.ReLU(), nn.ReLU6(), nn.ReLU(inplace=True)):
        model = nn.Sequential(nn.Linear(6, 8), activation, nn.Linear(8, 3))
        with mg.no_grad():
            model[0].bias[:5] = -100.0
        assert measure(model, x, y).dead[0] >= 5 / 8


def test_values_that_are_not_finite_are_counted(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    model = plain()
    with mg.no_grad():
        model[2].weight[3, 2] = np.nan
    found = measure(model, x, y)
    assert found.nonfinite_h.tolist()[:2] == [0, 12] and found.nonfinite_h[2] > 0 and found.nonfinite_dw[0] > 0


def test_integers_for_an_embedding_have_no_features(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 3))
    found = measure(model, rng.integers(0, 10, (5, 3)), rng.integers(0, 3, 5))
    assert found.layers == ["0", "2"] and found.feature_mean.size == 0 and np.isnan(found.input_mean)
    assert np.isfinite(found.norm_dw).all() and set(found.arrays()) >= {"layers", "rms_h", "rms_dh", "norm_dw"}


def test_what_does_not_flow_is_nan(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    model = plain()
    model[0].requires_grad_(False)
    found = measure(model, x, y)
    assert np.isnan(found.norm_dw[0]) and np.isnan(found.rms_dh[0]) and np.isfinite(found.norm_dw[1:]).all()


def test_errors_say_what_is_wrong(rng: np.random.Generator) -> None:
    x, y = batch(rng)
    with pytest.raises(DataError, match="ReLU has no module that owns a parameter"):
        measure(nn.ReLU(), x, y)
    with pytest.raises(ShapeError, match="expected a scalar"):
        measure(plain(), x, y, lambda out, target: out)
    with pytest.raises(ShapeError, match="the loss gave a float"):
        measure(plain(), x, y, lambda out, target: 1.0)
    with pytest.raises(TypeError, match="measure: x is a list of list, expected an array"):
        measure(plain(), x.tolist(), y)
    with pytest.raises(DataError, match="no layer of Loose ran: its forward calls none of ws: give each matrix a module"):
        measure(Loose(), mg.tensor(x), None, lambda out: out.mean())
    with pytest.raises(CaptureError, match="inside a captured step"):
        mg.capture(lambda a: measure(plain(), a, y))(x)
