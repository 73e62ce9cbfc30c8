from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import DataError
from minigrad.health import findings
from minigrad.health.cures import Trial, Tried
from minigrad.health.diagnose import Diagnosis
from minigrad.health.findings import Trend
from minigrad.lab.nets import deep_net
from tests.health.faults import Applied, HalfSwish, dense

X = np.random.default_rng(1).standard_normal((64, 20)).astype(np.float32)
Y = (X @ np.random.default_rng(2).standard_normal((20, 5))).argmax(axis=1)


def net(depth: int, activation: Callable[[], nn.Module], gain: float | None = None, width: int = 32, **options: Any) -> Any:
    return dense(np.random.default_rng(0), [20, *[width] * (depth - 1), 5], activation, gain, **options)


def said(model: nn.Module, x: Any = X, y: Any = Y, **options: Any) -> Diagnosis:
    return mg.diagnose(model, x, y, **{"cures": False, **options})


def names(found: Diagnosis) -> list[str]:
    return [one.name for one in found.verdicts]


def test_a_flat_weight_gradient_hides_no_vanishing() -> None:
    def half_he(weight: Any) -> Any:
        return nn.init.normal_(weight, std=0.5 * (2 / weight.shape[1])**0.5)

    found = said(deep_net([20, *[64] * 19, 5], nn.ReLU, residual=False, init=half_he))
    assert names(found)[0] == "vanished" and not found.healthy
    evidence = found.verdicts[0].evidence
    assert evidence["decades of |dL/dW|"] < 1 < 4 < evidence["decades of dL/dh"]
    assert "|dL/dW| spans only" in found.verdicts[0].words


def test_slope_and_loss_of_a_sigmoid_net_are_those_of_its_figures() -> None:
    found = said(net(12, nn.Sigmoid, 1.0))
    down = np.log10(found.exact.rms_dh[:-1][::-1])
    evidence = found.verdicts[0].evidence
    assert names(found)[0] == "vanished"
    assert evidence["decades of dL/dh"] == pytest.approx(down[0] - down.min(), rel=1e-12)
    assert evidence["slope of dL/dh"] == pytest.approx(np.polyfit(np.arange(11), down, 1)[0], rel=1e-9)
    # The layer where three decades are gone, coming from the output
    assert found.verdicts[0].layer == found.measured.layers[10 - int(np.argmax(down[0] - down >= findings.DECADES))]


@pytest.mark.parametrize("model", [
    net(2, nn.Sigmoid), net(4, nn.ReLU), net(16, nn.ReLU, 2.0, 64), net(12, nn.Tanh, 1.0), net(30, nn.ReLU, 2.0, residual=30**-0.5),
    net(20, nn.ReLU, norm=nn.LayerNorm), net(8, nn.Sigmoid, norm=nn.BatchNorm1d),
], ids=["shallow sigmoid", "shallow ReLU", "He ReLU", "Glorot tanh", "residual", "LayerNorm", "BatchNorm"])
def test_the_healthy_are_not_accused(model: nn.Module) -> None:
    found = said(model)
    assert names(found) == ["healthy"] and found.healthy and found.recommendation == "Nothing to cure."


def test_a_net_at_its_minimum_is_converged_not_vanished() -> None:
    """Experiment 000: one tanh unit that fits y = 2x as well as it can; the loss stays at 0.028."""
    x = np.arange(0.025, 0.51, 0.025)[:, None]
    model = nn.Sequential(nn.Linear(1, 1), nn.Tanh()).double()
    opt = optim.SGD(model.parameters(), lr=0.07)

    def loss(out: Any, y: Any) -> Any:
        return 0.5 * ((out - y)**2).sum()

    @mg.capture
    def step(a: Any, b: Any) -> Any:
        opt.zero_grad()
        value = loss(model(a), b)
        value.backward()
        opt.step()
        return value

    assert names(said(model, x, 2 * x, loss=loss)) == ["healthy"]
    step.repeat(5000, mg.tensor(x), mg.tensor(2 * x))
    found = said(model, x, 2 * x, loss=loss)
    assert names(found) == ["converged"] and found.healthy
    assert found.measured.loss == pytest.approx(0.028213, abs=1e-5) and found.measured.norm_dw[0] < 1e-10


def test_growth_is_an_explosion_and_past_the_largest_float32_too() -> None:
    grown = said(net(24, nn.ReLU, 2.0, residual=1.0))
    assert names(grown)[0] == "exploded" and grown.verdicts[0].evidence["decades of h"] > 3
    burst = said(net(30, nn.LeakyReLU, 2000.0))
    assert names(burst)[:1] == ["exploded"] and not np.isfinite(burst.measured.loss) and np.isfinite(burst.exact.loss)


def test_underflow_is_seen_against_float64() -> None:
    found = said(net(24, nn.Tanh, 1e-4))
    assert names(found)[0] == "lost in rounding" and "vanished" in names(found)
    assert found.measured.rms_dh[0] == 0.0 < found.exact.rms_dh[0] < np.finfo(np.float32).tiny


def test_an_update_below_half_a_unit_in_the_last_place_is_lost() -> None:
    model = net(3, nn.Tanh, 1.0)
    found = said(model, optimizer=optim.SGD(model.parameters(), lr=1e-9))
    assert names(found) == ["lost in rounding"] and "bit for bit the same after a step of SGD(lr=1e-09)" in found.verdicts[0].words
    lost = said(net(20, nn.Sigmoid, 1.0)).verdicts[-1]
    assert lost.name == "lost in rounding" and "after a step of plain SGD (lr 0.001, as no optimizer was given), for" in lost.words


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_equal_units_are_named(value: float) -> None:
    model = net(4, nn.Tanh, 1.0)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, value)
    found = said(model)
    assert names(found)[0] == "zero init" and found.verdicts[0].layer == "0.0"


def test_a_last_layer_of_zeros_is_no_fault() -> None:
    model = net(6, nn.ReLU, 2.0)
    nn.init.zeros_(model[-1].weight)
    assert "zero init" not in names(said(model))


def test_saturated_and_dead_layers_are_named() -> None:
    model = net(5, nn.Sigmoid, 1.0)
    nn.init.constant_(model[2][0].bias, 12.0)
    found = said(model)
    assert names(found)[0] == "saturated" and found.verdicts[0].layer == "2.0"
    model = net(5, nn.ReLU, 2.0)
    nn.init.constant_(model[3][0].bias, -90.0)
    found = said(model)
    assert names(found)[0] == "dead" and found.verdicts[0].layer == "3.0" and found.verdicts[0].evidence["share"] == 1.0


def test_a_rate_that_overshoots_is_told_from_one_that_does_not() -> None:
    model = net(3, nn.ReLU, 2.0)
    assert names(said(model, optimizer=optim.SGD(model.parameters(), lr=0.05))) == ["healthy"]
    found = said(model, optimizer=optim.SGD(model.parameters(), lr=20.0))
    assert names(found) == ["learning rate too large"] and found.verdicts[0].evidence["lr"] == 20.0


@pytest.mark.parametrize(("change", "words"), [
    (lambda x: 128 + 60 * x, "mean 1"), (lambda x: x + 15, "deviations away from 0"),
    (lambda x: x * 10.0**np.linspace(-3, 0.5, 20), "times that of another"),
], ids=["pixels", "offset", "spread"])
def test_inputs_of_odd_sizes_are_told(change: Any, words: str) -> None:
    found = said(net(3, nn.Tanh), change(X).astype(np.float32))
    assert names(found)[0] == "unnormalised input" and words in found.verdicts[0].words


def test_a_normalisation_in_front_takes_care_of_the_input() -> None:
    model = nn.Sequential(nn.BatchNorm1d(20), *net(3, nn.Tanh))
    assert names(said(model, (128 + 60 * X).astype(np.float32))) == ["healthy"]


def test_a_wrong_rule_is_named_with_its_layer() -> None:
    model = net(6, nn.Tanh, 1.0)
    model[3][1] = Applied(HalfSwish)
    found = said(model)
    assert names(found)[0] == "wrong gradient" and found.verdicts[0].layer == "3.0"
    assert "HalfSwish in 3.1" in found.verdicts[0].words and "backward rule" in found.recommendation
    right, wrong = found.verdicts[0].evidence["numeric"], found.verdicts[0].evidence["analytic"]
    assert abs(right - wrong) > 1e-4 * abs(right)


def test_the_first_place_of_nan_is_named() -> None:
    model = net(4, nn.ReLU, 2.0)
    with mg.no_grad():
        model[2][0].weight[1, 1] = np.nan
    found = said(model)
    assert found.verdicts[0].name == "non-finite" and found.verdicts[0].layer == "2.0" and "weights" in found.verdicts[0].words
    bad = X.copy()
    bad[3, 4] = np.inf
    found = said(net(4, nn.ReLU, 2.0), bad)
    assert names(found)[0] == "non-finite" and "1 of 20 features of the input" in found.verdicts[0].words
    assert "the first is inf in row 3, feature 4 (counted from 0)" in found.verdicts[0].words


def test_nothing_of_the_users_is_touched() -> None:
    model = net(20, nn.Sigmoid, 1.0, norm=nn.BatchNorm1d)
    opt = optim.Adam(model.parameters(), lr=1.0)
    state, kept = {name: v.numpy().copy() for name, v in model.state_dict().items()}, opt.state_dict()
    mg.manual_seed(5)
    expected = mg.randn(3).numpy(), nn.Linear(3, 3).weight.detach().numpy().copy()
    mg.manual_seed(5)
    mg.diagnose(model, X, Y, optimizer=opt)
    assert np.array_equal(mg.randn(3).numpy(), expected[0]) and np.array_equal(nn.Linear(3, 3).weight.detach().numpy(), expected[1])
    assert all(np.array_equal(state[name], v.numpy()) for name, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and opt.state_dict()["param_groups"] == kept["param_groups"]
    assert opt.state_dict()["state"].keys() == kept["state"].keys()


class InFloat32(nn.Module):
    """A forward that insists on its dtype, with functions for activations."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(20, 20) for _ in range(16)])
        self.last = nn.Linear(20, 5)

    def forward(self, x: Any) -> Any:
        x = x if isinstance(x, mg.Tensor) else mg.tensor(x)
        assert self.last.weight.dtype == mg.float64 or x.dtype == mg.float32
        if self.last.weight.dtype == mg.float64:
            raise TypeError("float32 only")
        for layer in self.layers:
            x = mg.sigmoid(layer(x))
        return self.last(x)


def test_a_net_that_cannot_be_copied_into_float64_is_diagnosed_without() -> None:
    found = mg.diagnose(InFloat32(), X, Y)
    assert names(found)[0] == "vanished" and found.exact is found.measured
    assert "Not looked at: the net in float64, and with it rounding and the rules of backward: float32 only" in repr(found)
    assert found.cures is not None and "LayerNorm before activations" in found.cures.impossible


def test_a_loss_of_the_output_alone_and_several_inputs() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(20, 4), nn.Linear(20, 4)

        def forward(self, x: Any, z: Any) -> Any:
            return self.a(x) * self.b(z)

    found = mg.diagnose(Pair(), (mg.tensor(X), mg.tensor(X)), None, lambda out: (out**2).mean())
    assert found.measured.layers == ["a", "b"] and np.isfinite(found.measured.norm_dw).all()


def test_the_report_says_layers_verdicts_cures_and_advice() -> None:
    found = mg.diagnose(net(10, nn.Sigmoid, 1.0, width=16), X, Y)
    text, page = repr(found), found._repr_html_()
    assert text.startswith("10 layers, 64 rows, float32, loss") and "VANISHED (" in text
    for word in ("rms(dL/dh)", "|dL/dW|", "saturated", "0.0", "as it is", "ReLU, He init", "Recommended:"):
        assert word in text and word in page, word
    assert page.count("<table>") == 2 and "nan" not in text
    assert set(found.arrays()) >= {"rms_h", "exact_rms_dh", "layers"}
    best = found.cures.best if found.cures is not None else None
    assert best is not None and best.cure.lower() in found.recommendation.lower() and f"{best.loss:.3g}" in found.recommendation


def test_a_long_table_shows_its_ends() -> None:
    text = repr(said(net(60, nn.Tanh, 1.0, width=8)))
    assert "20 more" in text and "59" in text and "30.0" not in text


def test_the_picture_has_three_panels_with_units_and_its_legend_outside() -> None:
    pytest.importorskip("matplotlib")
    figure = said(net(24, nn.Tanh, 1e-4)).plot()
    figure.draw_without_rendering()
    assert len(figure.axes) == 3 and all(axis.get_yscale() == "log" for axis in figure.axes)
    assert all(re.fullmatch(r".+ \(.+\)", label) for axis in figure.axes for label in (axis.get_xlabel(), axis.get_ylabel()))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["float32", "float64", "0, below the scale"]
    assert not any(legend.get_window_extent().overlaps(axis.get_window_extent()) for axis in figure.axes)
    lines = figure.axes[0].lines
    assert {line.get_color() for line in lines} <= set(mg.display.PALETTE) and len({line.get_marker() for line in lines}) == len(lines)


def test_the_picture_of_what_is_not_finite_has_crosses() -> None:
    pytest.importorskip("matplotlib")
    model = net(3, nn.Tanh, 1.0)
    with mg.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    figure = said(model).plot()
    figure.draw_without_rendering()
    assert "not finite" in [text.get_text() for text in figure.legends[0].get_texts()]
    for axis in figure.axes:
        marks: list[Any] = [mark for mark in axis.collections if np.size(mark.get_offsets())]
        assert marks and all(axis.get_window_extent().contains(*point) for mark in marks
                             for point in mark.get_offset_transform().transform(mark.get_offsets()))


def test_a_frozen_layer_has_no_crosses() -> None:
    pytest.importorskip("matplotlib")
    model = net(3, nn.Tanh, 1.0)
    for p in model[0].parameters():
        p.requires_grad_(False)
    assert [text.get_text() for text in said(model).plot().legends[0].get_texts()] == ["float32", "float64"]


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(DataError, match="no layer"):
        mg.diagnose(nn.Sequential(nn.ReLU()), X, Y, loss=F.cross_entropy)


@pytest.mark.parametrize(("values", "slope", "fall"), [
    ([1.0, 0.1, 0.01], -1.0, 2.0), ([1.0, 10.0, 100.0], 1.0, 0.0), ([1.0, 0.0, 0.01], -1.0, 2.0), ([1.0, np.nan, np.inf], np.nan, 0.0),
])
def test_a_trend_is_decades_by_layer(values: list[float], slope: float, fall: float) -> None:
    found: Trend = Trend.of(np.array(values))
    assert [found.slope, found.fall] == pytest.approx([slope, fall], nan_ok=True)


def test_every_finding_has_a_meaning_and_is_a_fault_but_two() -> None:
    assert [name for name in findings.MEANINGS if not findings.Finding(name, "").fault] == ["converged", "healthy"]


def test_a_loss_that_takes_the_users_parameters_leaves_their_gradients_alone() -> None:
    model = net(20, nn.Sigmoid, 1.0)

    def decayed(output: Any, y: Any) -> Any:
        return F.cross_entropy(output, y) + 1e-9 * sum(p.square().sum() for p in model.parameters())

    found = said(model, loss=decayed, optimizer=optim.SGD(model.parameters(), lr=0.1), cures=True)
    assert names(found)[0] == "vanished" and found.cures is not None
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", [dict, tuple, list])
def test_targets_may_be_nested(kind: Any) -> None:
    model = net(3, nn.ReLU, 2.0)
    targets = {"classes": Y, "weight": 1.0} if kind is dict else kind((Y, 1.0))

    def loss(output: Any, y: Any) -> Any:
        classes, weight = y.values() if kind is dict else y
        return F.cross_entropy(output, classes) * weight

    found, plain = (said(model, y=y, loss=of, optimizer=optim.SGD(model.parameters(), lr=0.1))
                    for y, of in ((targets, loss), (Y, F.cross_entropy)))
    assert names(found) == names(plain) == ["healthy"] and not found.notes
    assert np.array_equal(found.measured.norm_dw, plain.measured.norm_dw)


def test_frozen_layers_are_no_wrong_gradients_and_a_model_of_nothing_else_is_refused() -> None:
    model = net(4, nn.ReLU, 2.0)
    first, *others = model.parameters()
    first.requires_grad = False
    assert names(said(model)) == ["healthy"]
    for p in others:
        p.requires_grad = False
    with pytest.raises(DataError, match="no parameter of Sequential has requires_grad=True"):
        said(model)


def test_weights_that_the_optimizer_does_not_hold_are_not_lost_in_rounding() -> None:
    model = net(3, nn.ReLU, 2.0)
    layers = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    found = said(model, optimizer=optim.SGD(layers[:1], lr=0.1))
    assert names(found) == ["healthy"]
    assert found.notes == [f"updates of {', '.join(found.measured.layers[1:])}: the optimizer does not hold these weights"]


def test_a_loss_without_a_gradient_is_judged_with_an_optimizer_too() -> None:
    model = net(3, nn.ReLU, 2.0)
    found = said(model, loss=lambda output, y: F.cross_entropy(output.detach(), y), optimizer=optim.SGD(model.parameters(), lr=0.1))
    assert names(found) == ["wrong gradient"] and found.notes[0].startswith("steps of SGD(lr=0.1): ")
    with mg.no_grad():
        assert names(said(model, optimizer=optim.SGD(model.parameters(), lr=0.1))) == ["healthy"]


class Bare(nn.Module):
    """Ten sigmoid layers of matrices without modules, in a list or as attributes, and a head."""

    def __init__(self, listed: bool, head: bool = True) -> None:
        super().__init__()
        drawn = [nn.Parameter(w) for w in 0.2 * np.random.default_rng(0).standard_normal((10, 20, 20)).astype(np.float32)]
        self.listed, self.head = listed, nn.Linear(20, 5) if head else None
        if listed:
            self.ws = nn.ParameterList(drawn)
        else:
            for i, w in enumerate(drawn):
                setattr(self, f"w{i}", w)

    def forward(self, x: Any) -> Any:
        for i in range(10):
            x = mg.sigmoid(x @ (self.ws[i] if self.listed else getattr(self, f"w{i}")))
        return x if self.head is None else self.head(x)


def test_matrices_outside_layers_are_no_input_and_are_counted() -> None:
    found = said(Bare(listed=True), mg.tensor(X))
    assert "unnormalised input" not in names(found) and found.measured.layers == ["head"] and len(found.measured.unmeasured) == 10
    assert found.measured.input_mean == pytest.approx(X.mean(), abs=1e-6) and found.measured.input_std == pytest.approx(X.std(), rel=1e-5)
    assert found.notes[0].startswith("10 of 11 parameters of two or more dimensions (ws.0, ws.1, ws.2 ...), for no layer that ran owns them")
    assert "1 layer, 64 rows" in repr(found) and found.recommendation == "Nothing to cure in what was measured."
    assert "1 layer, too few for a slope. That is said of what was measured" in found.verdicts[0].words and "0.00" not in found.verdicts[0].words
    assert names(said(Bare(listed=True), mg.tensor(128 + 60 * X)))[0] == "unnormalised input"


@pytest.mark.parametrize("head", [True, False])
def test_a_module_with_several_matrices_is_told_to_be_one_layer(head: bool) -> None:
    model = Bare(listed=False, head=head)
    found = said(model, mg.tensor(X), optimizer=optim.SGD(model.parameters(), lr=0.1))
    assert found.measured.layers == ["(model)", "head"][:1 + head] and found.measured.matrices[0] == 10
    assert found.notes[0].startswith("the inside of (model), which owns 10 parameters") and "(model)" in repr(found)
    assert not any(" of  " in line or line.startswith("  ") for line in repr(found).splitlines())


def test_integers_made_features_before_the_first_layer_are_judged_as_that() -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(20, 5)

        def forward(self, x: Any) -> Any:
            return self.layer(x.to(mg.float32))

    pixels = mg.tensor(np.clip(128 + 60 * X, 0, 255).astype(np.int64))
    assert names(said(Cast(), pixels)) == ["unnormalised input"]


def test_what_is_no_argument_is_refused_before_anything_runs() -> None:
    model, ran = net(3, nn.ReLU), []
    model.register_forward_pre_hook(lambda module, given: ran.append(given))
    sgd = optim.SGD(model.parameters(), lr=0.1)
    for change, error, words in (
            ({"loss": "cross_entropy"}, TypeError, "loss is the str 'cross_entropy', expected a function of (output, y): e.g. F.cross_entropy"),
            ({"loss": sgd}, TypeError, "loss is a SGD, expected a function of (output, y): pass optimizer=SGD(...) by name"),
            ({"loss": nn.CrossEntropyLoss}, TypeError, "loss is the class CrossEntropyLoss"),
            ({"optimizer": optim.SGD}, TypeError, "optimizer is the class SGD, expected one of minigrad.optim over model.parameters(): pass SGD("),
            ({"optimizer": "sgd"}, TypeError, "optimizer is a str"),
            ({"optimizer": optim.SGD(net(2, nn.ReLU).parameters(), lr=0.1)}, ValueError, "updates none of the model's parameters"),
            ({"x": X.tolist()}, TypeError, "x is a list of list, expected an array, a Tensor or a tuple of them"),
            ({"x": X[:0], "y": Y[:0]}, DataError, "x has shape (0, 20), no rows"),
            ({"model": F.relu}, TypeError, "model is a function, expected an nn.Module"),
            ({"model": nn.Linear}, TypeError, "model is the class Linear, expected an object: pass Linear(...)")):
        with pytest.raises(error, match=re.escape(words)):
            mg.diagnose(**{"model": model, "x": X, "y": Y, **change})
    assert not ran


def test_no_cure_is_said_against_what_the_net_reaches_by_itself() -> None:
    def trial(name: str, start: float, loss: float) -> Trial:
        return Trial(name, start, loss, -1e-4, 0.0, 40)

    found = said(net(20, nn.Sigmoid, 1.0))
    for before, words in ((trial("as it is", 2.348, 2.259), "at least 2 % further than the net as it is (2.259 after 40 steps) on this batch."),
                          (trial("as it is", 2.348, np.nan), "at least 2 % below 2.348, where the net as it is stands before its first step")):
        found.cures = Tried(before, [trial("a", 2.49, 2.269 if before.loss < 3 else 2.4)] * 3, [], 64, "SGD(lr=0.1)")
        assert found.recommendation.startswith("None of the 3 cures tried lowers the loss") and words in found.recommendation
        assert "-0.00" not in repr(found) and "0.00" in repr(found)
