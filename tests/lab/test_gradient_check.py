from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from minigrad.lab import gradient_check as experiment
from minigrad.lab.experiment import Lab, Picture, Table
from tests.lab.pictures import assert_readable


@pytest.fixture
def rehearsal(make: Callable[..., Lab]) -> Lab:
    """The experiment with 50 steps."""
    lab = make(quick=True, predict=[0.25])
    experiment.run(lab)
    return lab


def test_what_a_rehearsal_checks_is_exact(rehearsal: Lab) -> None:
    assert len(rehearsal.checks) == 20 and [check.what for check in rehearsal.checks if not check.passed] == []


def test_cost_and_gradient_at_the_start() -> None:
    model = experiment.unit()
    loss = experiment.cost(model, experiment.X, experiment.Y)
    loss.backward()
    assert f"{loss.item():.9f}" == "0.580293369"
    assert [f"{p.grad.item():.9f}" for p in model.parameters()] == ["-0.293672806", "0.701677274"]  # type: ignore[union-attr]


def test_native_steps_are_those_of_numpy() -> None:
    losses, sizes, passed = experiment.train(experiment.unit(), 100)
    w = b = 0.5
    for step in range(100):
        out = np.tanh(w * experiment.X + b)
        slope = (out - experiment.Y) * (1 - out**2)
        assert losses[step] == pytest.approx(experiment.exact_cost(w, b), rel=1e-12)
        assert sizes[step] == pytest.approx(abs((slope * experiment.X).sum()), rel=1e-12)
        w, b = w - experiment.LEARNING_RATE * (slope * experiment.X).sum(), b - experiment.LEARNING_RATE * slope.sum()
        if step + 1 in passed:
            assert passed[step + 1] == pytest.approx((w, b), rel=1e-12)
    assert list(passed) == [1, 10, 100]
    assert tuple(round(x, 6) for x in passed[100]) == experiment.COURSE[100][:2]


def test_the_slope_of_tanh_never_overflows(rng: np.random.Generator) -> None:
    z = np.concatenate([rng.uniform(-1000, 1000, 1000), rng.normal(size=1000), [-800.0, 0.0, 800.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        safe, own = experiment.derivative_of_tanh(z), experiment.slope_of_tanh(z)
    np.testing.assert_allclose(own, safe, rtol=0, atol=1e-15)
    near = np.abs(z) < 300
    np.testing.assert_allclose(safe[near], 4 / (np.exp(z[near]) + np.exp(-z[near])) ** 2, rtol=1e-12)
    assert safe[-3] == safe[-1] == own[-3] == own[-1] == 0 and safe[-2] == own[-2] == 1


def test_inputs_are_predicted(rehearsal: Lab, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Lab], capsys: pytest.CaptureFixture[str]) -> None:
    given = [item for item in rehearsal.items if isinstance(item, Table)][-1]
    assert given.caption == "Inputs that were given" and [row[0] for row in given.rows] == ["0.25"]
    typed = iter(["0.1, 0.3", "what", ""])
    monkeypatch.setattr("builtins.input", lambda question: next(typed))
    lab = make(asks=True, predict=None)
    experiment.predict(lab, experiment.unit())
    (table,) = (item for item in lab.items if isinstance(item, Table))
    assert [list(row) for row in table.rows] == [[f"{x:g}", f"{np.tanh(0.5 * x + 0.5):.4f}", f"{2 * x:g}"] for x in (0.1, 0.3)]
    assert "'what' is not a number" in capsys.readouterr().out


def test_pictures(rehearsal: Lab) -> None:
    pytest.importorskip("matplotlib")
    pictures = {item.name: item.figure for item in rehearsal.items if isinstance(item, Picture)}
    assert set(pictures) == {"course", "fit"}
    for figure in pictures.values():
        assert_readable(figure)
