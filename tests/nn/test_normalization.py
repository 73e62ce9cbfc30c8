"""Batch and layer normalisation: PyTorch's values and buffers, running statistics that a refused step leaves, captured as eager."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import NonFiniteError, ShapeError
from minigrad.program import encode
from minigrad.tape.random import state

Array = np.ndarray[Any, np.dtype[Any]]
SHAPES = [(16, 5), (7, 33), (4, 5, 6), (3, 2, 40)]


def buffers(module: nn.Module) -> list[bytes]:
    return [b.array.tobytes() for m in module.modules() if isinstance(m, nn.BatchNorm1d)
            for b in (m.running_mean, m.running_var, m.num_batches_tracked)]


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = mg.get_num_threads()
    mg.set_num_threads(2)
    monkeypatch.setattr(encode, "WORTH_SHARING", -1.0)
    monkeypatch.setattr(encode, "BARRIER_SECONDS", 0.0)
    yield
    mg.set_num_threads(before)


# ---- values ------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_comes_out_with_mean_0_and_variance_1(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    axes = (0,) if len(shape) == 2 else (0, 2)
    y = nn.BatchNorm1d(shape[1], eps=0.0, dtype=mg.float64)(mg.tensor(rng.normal(3, 2, shape))).array
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-12)


@pytest.mark.parametrize("normalized", [(6,), (5, 6), (4, 5, 6)])
def test_a_row_comes_out_with_mean_0_and_variance_1(normalized: tuple[int, ...], rng: np.random.Generator) -> None:
    y = nn.LayerNorm(normalized, eps=0.0, dtype=mg.float64)(mg.tensor(rng.normal(3, 2, (4, 5, 6)))).array
    axes = tuple(range(-len(normalized), 0))
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_pytorchs(shape: tuple[int, ...], momentum: float | None, affine: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours = nn.BatchNorm1d(shape[1], momentum=momentum, affine=affine, dtype=mg.float64)
    theirs = torch.nn.BatchNorm1d(shape[1], momentum=momentum, affine=affine, dtype=torch.float64)
    if affine:
        weight, bias = rng.normal(size=(2, shape[1]))
        with mg.no_grad(), torch.no_grad():
            ours.weight.copy_(weight), ours.bias.copy_(bias)
            theirs.weight.copy_(torch.tensor(weight)), theirs.bias.copy_(torch.tensor(bias))
    for training in (True, True, True, False):
        ours.train(training), theirs.train(training)
        x, g = rng.normal(1, 2, shape), rng.normal(size=shape)
        a, b = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        for p in ours.parameters():
            p.grad = None
        theirs.zero_grad()
        y, z = ours(a), theirs(b)
        y.backward(mg.tensor(g))
        z.backward(torch.tensor(g))
        assert a.grad is not None
        pairs = [(y.detach(), z.detach()), (a.grad, b.grad), (ours.running_mean, theirs.running_mean), (ours.running_var, theirs.running_var)]
        pairs += [(ours.weight.grad, theirs.weight.grad), (ours.bias.grad, theirs.bias.grad)] if affine else []
        for mine, other in pairs:
            np.testing.assert_allclose(mine.array, other.numpy(), rtol=1e-9, atol=1e-11)
        assert ours.num_batches_tracked.item() == theirs.num_batches_tracked.item()
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("normalized", [(6,), (5, 6)])
@pytest.mark.parametrize("weighted", ["weight and bias", "weight", "neither"])
def test_layer_norm_is_pytorchs(normalized: tuple[int, ...], weighted: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    how = {"elementwise_affine": weighted != "neither", "bias": weighted == "weight and bias"}
    ours, theirs = nn.LayerNorm(normalized, dtype=mg.float64, **how), torch.nn.LayerNorm(normalized, dtype=torch.float64, **how)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x, g = rng.normal(1, 2, (4, 5, 6)), rng.normal(size=(4, 5, 6))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        values = rng.normal(size=normalized)
        with mg.no_grad(), torch.no_grad():
            mine.copy_(values), other.copy_(torch.tensor(values))
    a, b = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(a), theirs(b)
    y.backward(mg.tensor(g))
    z.backward(torch.tensor(g))
    assert a.grad is not None
    weights = [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for mine, other in [(y.detach(), z.detach()), (a.grad, b.grad), *weights]:
        np.testing.assert_allclose(mine.array, other.numpy(), rtol=1e-9, atol=1e-11)


def test_the_functions_are_pytorchs(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, (mean, weight, bias), var = rng.normal(size=(6, 4)), rng.normal(size=(3, 4)), rng.uniform(0.5, 2, 4)
    for training in (True, False):
        ours, theirs = [mg.tensor(v) for v in (mean, var, weight, bias)], [torch.tensor(v) for v in (mean, var, weight, bias)]
        how: dict[str, Any] = {"training": training, "momentum": 0.3}
        expected = torch.nn.functional.batch_norm(torch.tensor(x), theirs[0], theirs[1], theirs[2], theirs[3], **how)
        found = F.batch_norm(mg.tensor(x), ours[0], ours[1], ours[2], ours[3], **how)
        np.testing.assert_allclose(found.array, expected.numpy(), rtol=1e-9, atol=1e-11)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.array, b.numpy(), rtol=1e-12)
    np.testing.assert_allclose(F.batch_norm(mg.tensor(x), None, None, training=True).array,
                               torch.nn.functional.batch_norm(torch.tensor(x), None, None, training=True).numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(F.layer_norm(mg.tensor(x), [4]).array, torch.nn.functional.layer_norm(torch.tensor(x), [4]).numpy(), rtol=1e-9)


def test_without_tracking_evaluation_uses_the_batch_too(rng: np.random.Generator) -> None:
    layer, x = nn.BatchNorm1d(3, track_running_stats=False), mg.tensor(rng.normal(size=(5, 3)).astype(np.float32))
    assert layer.running_mean is None and np.array_equal(layer(x).array, layer.eval()(x).array)


def test_a_plain_array_takes_the_layers_dtype(rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 3))
    for layer in (nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False), nn.LayerNorm(3)):
        assert layer(x).dtype == mg.float32
        assert layer.eval()(x).dtype == mg.float32


def test_forgetting_starts_anew(rng: np.random.Generator) -> None:
    layer = nn.BatchNorm1d(3)
    before = buffers(layer)
    layer(rng.normal(size=(5, 3)))
    assert buffers(layer) != before
    layer.reset_running_stats()
    assert buffers(layer) == before


# ---- errors --------------------------------------------------------------------------------------------------------------------------
def test_what_does_not_fit_is_named_with_its_layer_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5))
    before = buffers(model)
    with pytest.raises(ShapeError, match=r"in 1: batch_norm: expected 5 features, got 4 .*make this one BatchNorm1d\(4\)"):
        model(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"in 1: batch_norm: expected 5 features, got 4"):
        model.eval()(np.ones((2, 3)))
    model = nn.Sequential(nn.BatchNorm1d(4))
    for bad in ((1, 4), (1, 4, 1), (0, 4)):
        with pytest.raises(ShapeError, match=r"in 0: batch_norm: Expected more than 1 value per channel when training, got input size"):
            model(np.ones(bad))
    with pytest.raises(ShapeError, match=r"in 0: batch_norm: expected 2D or 3D input \(got 1D input\)"):
        model(np.ones(4))
    assert buffers(model) == buffers(nn.BatchNorm1d(4)) and before == buffers(nn.BatchNorm1d(5))
    assert model.eval()(np.ones((1, 4))).shape == (1, 4)
    with pytest.raises(ShapeError, match=r"in 0: layer_norm: expected x to end in the sizes \(4,\)"):
        nn.Sequential(nn.LayerNorm(4))(np.ones((2, 5)))
    with pytest.raises(ShapeError, match=r"layer_norm: weight has shape \(3,\), expected normalized_shape \(4,\)"):
        F.layer_norm(np.ones((2, 4)), 4, mg.ones(3))
    with pytest.raises(ValueError, match="to be defined when training=False"):
        F.batch_norm(np.ones((2, 4)), None, None)


# ---- steps ---------------------------------------------------------------------------------------------------------------------------
def training(momentum: float | None = 0.1, dropout: float = 0.2) -> tuple[nn.Sequential, optim.SGD, Any]:
    mg.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 20), nn.BatchNorm1d(20, momentum=momentum), nn.ReLU(), nn.Dropout(dropout), nn.Linear(20, 20),
                          nn.LayerNorm(20), nn.Tanh(), nn.BatchNorm1d(20, momentum=momentum), nn.Linear(20, 3))
    opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(x: Any, labels: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss

    return model, opt, step


def left(model: nn.Module) -> list[bytes]:
    """Parameters, running statistics and the random state."""
    return [*(p.array.tobytes() for p in model.parameters()), *buffers(model), state().array.tobytes()]


def batches(steps: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.normal(1, 2, (steps, 12, 6)).astype(np.float32), rng.integers(0, 3, (steps, 12))


@pytest.mark.parametrize("how", ["captured", "repeat", "scan"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_captured_step_leaves_what_the_eager_loop_leaves(how: str, workers: int, momentum: float | None, request: pytest.FixtureRequest) -> None:
    if workers == 2:
        request.getfixturevalue("two_workers")
    steps = 200
    xs, labels = batches(steps)
    if how == "repeat":
        xs[:], labels[:] = xs[0], labels[0]
    model, _, plain = training(momentum)
    losses = [float(plain(x, y)) for x, y in zip(xs, labels, strict=True)]
    expected = left(model)
    model, _, plain = training(momentum)
    step = mg.capture(plain)
    if how == "captured":
        found = [float(step(x, y)) for x, y in zip(xs, labels, strict=True)]
    else:
        found = (step.scan(xs, labels) if how == "scan" else step.repeat(steps, xs[0], labels[0])).tolist()
    assert found == losses and left(model) == expected
    assert model[1].num_batches_tracked.item() == steps


def test_modes_switched_between_calls_are_seen() -> None:
    xs, labels = batches(40)
    runs = []
    for wrapped in (False, True):
        model, _, plain = training()
        predict = lambda x, model=model: model(x)  # noqa: E731
        step, infer = (mg.capture(plain), mg.capture(predict)) if wrapped else (plain, lambda x, predict=predict: predict(mg.tensor(x)))
        seen = []
        for i, (x, y) in enumerate(zip(xs, labels, strict=True)):
            if i % 8 == 7:
                model.eval()
                before = left(model)
                with mg.no_grad():
                    seen.append(infer(x).array.tobytes())
                assert left(model) == before
                model.train()
            seen.append(step(x, y).array.tobytes())
        runs.append([*seen, *left(model)])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("how", ["eager", "recorded", "called", "called again", "repeat", "scan"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_refused_step_leaves_the_running_statistics(how: str, momentum: float | None) -> None:
    xs, labels = batches(6)
    model, _, plain = training(momentum)
    step = plain if how == "eager" else mg.capture(plain)
    good = {"recorded": 1, "called": 2}.get(how, 4)
    for x, y in zip(xs[:good], labels, strict=False):
        step(x, y)
    before, bad = left(model), xs[5].copy()
    bad[3, 2] = np.inf
    for _ in range(3):
        with pytest.raises(NonFiniteError):
            _ = (step.repeat(2, bad, labels[5]) if how == "repeat" else step.scan(np.stack([bad] * 2), np.stack([labels[5]] * 2)) if how == "scan"
                 else step(bad, labels[5]))
        assert left(model) == before
    found = [float(step(x, y)) for x, y in zip(xs[good:], labels[good:], strict=True)]
    after = left(model)
    model, _, plain = training(momentum)
    for x, y in zip(xs[:good], labels, strict=False):
        plain(x, y)
    assert [float(plain(x, y)) for x, y in zip(xs[good:], labels[good:], strict=True)] == found
    assert left(model) == after


def test_a_scan_that_stops_has_committed_the_steps_before() -> None:
    xs, labels = batches(10)
    xs[7, 0, 0] = np.nan
    model, _, plain = training()
    step = mg.capture(plain)
    with pytest.raises(NonFiniteError):
        step.scan(xs, labels)
    found = left(model)
    model, _, plain = training()
    for x, y in zip(xs[:7], labels, strict=False):
        plain(x, y)
    assert left(model) == found


def test_a_layer_used_twice_in_a_step_counts_both_batches() -> None:
    xs, labels = batches(6)
    ends = []
    for wrapped in (False, True):
        mg.manual_seed(0)
        layer, last = nn.BatchNorm1d(6), nn.Linear(6, 3)
        opt = optim.SGD([*layer.parameters(), *last.parameters()], lr=0.1)

        def plain(x: Any, y: Any, layer: Any = layer, last: Any = last, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = F.cross_entropy(last(layer(layer(x))), y)
            loss.backward()
            opt.step()
            return loss

        step = mg.capture(lambda x, y, plain=plain: plain(x, y)) if wrapped else plain
        losses = [float(step(x, y)) for x, y in zip(xs, labels, strict=True)]
        assert layer.num_batches_tracked.item() == 12
        ends.append([losses, buffers(layer)])
    assert ends[0] == ends[1]


def test_the_second_derivative_of_a_normalised_loss_is_that_of_differences(rng: np.random.Generator) -> None:
    """A gradient penalty through both layers, against central differences of the penalty."""
    batch, layer = nn.BatchNorm1d(4, dtype=mg.float64), nn.LayerNorm(4, dtype=mg.float64)
    x, w = rng.normal(size=(5, 4)), mg.tensor(rng.normal(size=(5, 4)))

    def penalty(values: Array, want: bool = False) -> Any:
        g: Any
        t: Any = mg.tensor(values, requires_grad=True)
        (g,) = mg.autograd.grad((layer(batch(t) * w) * w).sum(), [t], create_graph=True)
        total = (g * g).sum()
        (h,) = mg.autograd.grad(total, [t])
        return h if want else float(total.detach())

    found, step = penalty(x, want=True).array, 1e-6
    for index in ((0, 0), (2, 3), (4, 1)):
        moved = np.zeros_like(x)
        moved[index] = step
        assert found[index] == pytest.approx((penalty(x + moved) - penalty(x - moved)) / (2 * step), rel=1e-6, abs=1e-7)
