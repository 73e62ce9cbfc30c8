"""The table of a model: what it says, and that asking for it changes nothing."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import CaptureError, ShapeError
from minigrad.nn.summary import Summary

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def xor_net() -> nn.Sequential:
    """2-4, ten residual 4-4, 4-1, all sigmoid: the net of the XOR experiment."""
    def dense(a: int, b: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(a, b), nn.Sigmoid())

    return nn.Sequential(dense(2, 4), *[nn.Residual(dense(4, 4)) for _ in range(10)], dense(4, 1))


def test_the_xor_net_has_217_parameters() -> None:
    table = mg.summary(xor_net(), (4, 2))
    assert table.total == table.total_trainable == 217
    assert "Total params: 217" in repr(table)
    assert [r.parameters for r in table.rows if r.type == "Linear"] == [12, *[20] * 10, 5]


def test_a_row_has_path_type_shape_parameters_and_sizes() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Residual(nn.Linear(5, 5), scale=0.5))
    model[0].requires_grad_(False)
    h: Any = [X]
    for layer in model:
        h.append(layer(h[-1]))
    table = model.summary(X)
    assert table.layers == ["0", "1", "2", "2.module"]
    assert [row.shape for row in table.rows] == [(6, 5)] * 4
    assert (table.parameters.tolist(), table.trainable.tolist()) == ([20, 0, 0, 30], [0, 0, 0, 30])
    np.testing.assert_allclose(table.rms[:3], [np.sqrt((x.array ** 2).mean()) for x in h[1:]], rtol=1e-6)
    np.testing.assert_allclose(table.grad_rms[2:], [1.0, 0.5], rtol=1e-6)
    assert np.isnan(table.grad_rms[:2]).all()
    assert str(table).splitlines()[-1] == "Total params: 50 (20 frozen); L is the sum of the output"


def test_the_gradients_are_those_of_the_loss() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))

    def half_square(out: Any) -> Any:
        return (out * out).sum() * 0.5

    table = mg.summary(model, mg.tensor(X), half_square)
    h = mg.tensor(model[0](X).detach().numpy(), requires_grad=True)
    half_square(model[2](model[1](h))).backward()
    assert h.grad is not None
    assert table.grad_rms[0] == pytest.approx(np.sqrt((h.grad.array ** 2).mean()), rel=1e-6)
    assert table.loss == "half_square"
    with pytest.raises(ShapeError, match=r"loss gave float32\[6, 1\], expected a scalar"):
        mg.summary(model, X, lambda out: out)
    with pytest.raises(ShapeError, match="loss gave a int"):
        mg.summary(model, X, lambda out: 3)  # type: ignore[arg-type, return-value]


def test_a_vanishing_gradient_shows() -> None:
    model = nn.Sequential(*[part for _ in range(20) for part in (nn.Linear(8, 8), nn.Sigmoid())])
    table = mg.summary(model, (16, 8))
    assert table.grad_rms[0] < 1e-10 * table.grad_rms[-1]


class Noted(nn.Module):
    """State of every kind that a forward pass may change."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", mg.tensor(np.zeros(3, np.float32)))

    seen: mg.Tensor

    def forward(self, x: Any) -> Any:
        with mg.no_grad():
            self.seen.copy_(x.detach().numpy().mean(axis=0) + mg.rand(3).numpy())
        return x


def test_model_gradients_and_random_numbers_stay_as_they_were() -> None:
    model = nn.Sequential(Noted(), nn.Linear(3, 3))
    model(mg.tensor(X)).sum().backward()
    heard: list[int] = []
    model[1].register_full_backward_hook(lambda m, gi, go: heard.append(1))
    step = mg.capture(lambda x: model[1](x))
    for _ in range(3):
        step(X)
    program = next(iter(step._replays.values()))[0].program
    mg.manual_seed(4)
    expected = mg.rand(3).array
    mg.manual_seed(4)
    state = [x.array.tobytes() for x in (*model.state_dict().values(), *[p.grad for p in model.parameters()]) if x is not None]
    for training in (True, False):
        model.train(training)
        model.summary(mg.tensor(X))
        assert model.training is training
    assert [x.array.tobytes() for x in (*model.state_dict().values(), *[p.grad for p in model.parameters()]) if x is not None] == state
    assert np.array_equal(mg.rand(3).array, expected) and not heard
    assert all(module._hooks is None or not module._hooks.after for module in model.modules())
    model.train()
    step(X)
    assert next(iter(step._replays.values()))[0].program is program


def test_a_summary_alone_makes_no_program_stale() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    step = mg.capture(lambda x: model(x))
    for _ in range(3):
        step(X)
    recorded = [recording.runs for recording in step.explain().recordings]
    model.summary(X)
    step(X)
    assert [recording.runs for recording in step.explain().recordings] == recorded == [2]


def test_what_did_not_run_and_what_is_shared_is_said() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)
            self.tied = nn.Linear(3, 3)
            self.tied.weight = self.used.weight

        def forward(self, x: Any) -> Any:
            return self.tied(self.used(x)), 5

    table = mg.summary(Odd(), X)
    by_name = {row.layer: row for row in table.rows}
    assert by_name["unused"].shape is None and math.isnan(by_name["unused"].rms) and "not called" in repr(table)
    assert by_name["tied"].parameters == 3 and table.total == sum(p.numel() for p in Odd().parameters())


def test_it_is_shown_in_a_notebook_and_escapes_names() -> None:
    class Strange(nn.Identity):
        pass

    Strange.__name__ = "<Strange>"
    shown = mg.summary(nn.Sequential(nn.Linear(3, 2), Strange(), nn.Tanh()), X)._repr_html_()
    assert shown.startswith("<table>") and "&lt;Strange&gt;" in shown and "<Strange>" not in shown


def test_it_can_be_drawn() -> None:
    pytest.importorskip("matplotlib")
    drawn = mg.summary(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), X)
    figure = drawn.plot()
    values, gradients = figure.axes
    assert np.array_equal(values.lines[0].get_ydata(), drawn.rms) and np.array_equal(gradients.lines[0].get_ydata(), drawn.grad_rms)
    assert all(axis.get_yscale() == "log" and "(" in axis.get_xlabel() and "(dimensionless)" in axis.get_ylabel() for axis in figure.axes)
    with pytest.raises(ValueError, match="no layer that ran"):
        Summary([], "L").plot()


def test_a_module_is_a_table_in_a_notebook() -> None:
    shared = nn.Linear(3, 3)
    html = nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(3, 2))._repr_html_()
    assert html.count("<tr>") == 1 + 4 and "<td>12</td>" in html and "20 parameters" in html
    assert "in_features=3, out_features=2" in html


def test_several_inputs_and_a_forward_that_fails() -> None:
    class Sum(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

    assert mg.summary(Sum(), (mg.ones(2), mg.ones(2))).rows[0].rms == 2.0
    model = nn.Sequential(nn.Linear(9, 9))
    with pytest.raises(ShapeError):
        mg.summary(model, X)
    assert model[0]._hooks is None


def test_not_inside_a_captured_step() -> None:
    model = nn.Linear(3, 3)

    @mg.capture
    def step(x: Any) -> Any:
        model.summary(x)
        return model(x)

    with pytest.raises(CaptureError, match="ask for it outside"):
        step(X)
