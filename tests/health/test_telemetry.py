from __future__ import annotations

import numpy as np
import pytest

from minigrad.health.telemetry import FIGURES, Key, Telemetry
from tests.health.recorded import recorded


def test_figures_are_found_by_layer_and_by_parameter() -> None:
    found = recorded(["body.0", "head"], steps=3)
    assert found.layers == ["input", "body.0", "head"] and found.parameters == ["body.0.weight", "head.weight"]
    assert np.array_equal(found["head"].grad.std, found["head.weight"].grad.std) and found["head"].flow.rms.shape == (3,)
    names, values = found.matrix("flow", "rms")
    assert names == ["body.0", "head"] and np.array_equal(values[1], found["head"].flow.rms)
    assert "head grad: mean" in repr(found["head"].grad) and "Layer(head: weight, grad" in repr(found["head"])


def test_what_was_not_recorded_is_named() -> None:
    found = recorded(2, kinds=("grad",))
    with pytest.raises(KeyError, match=r"nothing was recorded of 'tail': there is hidden0\.weight, hidden1\.weight"):
        found["tail"]
    with pytest.raises(AttributeError, match="nothing of kind 'flow' was recorded of 'hidden1': there is grad"):
        _ = found["hidden1"].flow
    with pytest.raises(AttributeError, match="has no figure 'rms': it has mean, std, l2"):
        _ = found["hidden1"].grad.rms
    with pytest.raises(ValueError, match=r"no picture 'pie': there is overview, gradient_flow"):
        found.plot("pie")


def test_arrays_and_back() -> None:
    before = recorded(["a.b/c", ""], steps=5)
    after = Telemetry.from_arrays(before.arrays())
    assert list(after.figures) == list(before.figures) and np.array_equal(after.steps, before.steps)
    assert all(np.array_equal(after.figures[key], values) for key, values in before.figures.items())
    with pytest.raises(KeyError, match="steps"):
        Telemetry.from_arrays({})


def test_a_table_shows_every_figure_of_a_step() -> None:
    found = recorded(2, steps=3)
    found.figures[Key("hidden0.weight", "update", "mean_abs")] = np.array([1.0, 2.0, 0.125])
    head, *lines = found.table().splitlines()
    assert len(lines) == 1 + 2 * len(FIGURES) and head.endswith("mean_abs")
    assert next(line for line in lines if line.startswith("hidden0.weight") and " update " in line).endswith("0.125")
    assert found.table(0) != found.table(-1)
    assert found._repr_html_().count("<tr>") == len(lines) + 1 and repr(found) == (
        "Telemetry(3 steps recorded, the last is step 4; 3 layers, 2 parameters)")


@pytest.mark.parametrize("kind", list(FIGURES))
def test_each_figure_has_a_name_for_axes(kind: str) -> None:
    labels = [Telemetry.label(kind, figure) for figure in FIGURES[kind]]
    assert len(set(labels)) == len(labels) and not any("{" in label for label in labels)
    assert Telemetry.label("flow", "rms") == "rms(dL/dh)" and Telemetry.label("grad", "l2") == "|dL/dW|"
    assert Telemetry.label("update", "ratio") == "|change of W in a step| / |W|"


def test_a_sparkline_for_each_layer() -> None:
    found = recorded(3, steps=20)
    head, *lines = found.sparklines(width=10).splitlines()
    assert head == "rms(dL/dh), step 0 to 38" and [line.split()[0] for line in lines] == ["hidden0", "hidden1", "hidden2"]
    assert all(line.split()[2][0] == "▁" and line.split()[2][-1] == "█" and len(line.split()[2]) == 10 for line in lines)
    assert lines[-1].split()[1] == "0.1"
    assert found.sparklines("signal", "dead").splitlines()[1].split()[1:] == ["0.25", "▄" * 20, "0.25"]
    assert recorded(2, kinds=("weight",)).sparklines().startswith("standard deviation of W")
    with pytest.raises(ValueError, match="no rms of grad was recorded"):
        found.sparklines("grad", "rms")
    with pytest.raises(ValueError, match=r"no figure of foo was recorded: there is rms, mean, .*dead of signal; mean, std, l2 of weight"):
        found.sparklines("foo")
    assert recorded(1, steps=2, kinds=("grad",)).sparklines("grad", "nonfinite").splitlines()[1].split()[2] == "··"


def test_before_the_first_step_the_fix_is_said() -> None:
    for nothing in (Telemetry(np.array([], np.int64), {}), recorded(steps=0)):
        with pytest.raises(ValueError, match="sparklines: no step was recorded yet: train first"):
            nothing.sparklines()
        with pytest.raises(ValueError, match="table: no step was recorded yet: train first"):
            nothing.table()


def test_a_wrong_name_gets_the_choices() -> None:
    with pytest.raises(KeyError, match="no x of foo was recorded: there is mean, std, l2 of weight; l2, ratio of update"):
        recorded(kinds=("weight", "update")).matrix("foo", "x")
    with pytest.raises(KeyError, match="no step was recorded yet"):
        Telemetry(np.array([], np.int64), {}).matrix("grad", "l2")
    with pytest.raises(KeyError, match=r"of 'hiden7': the closest of 41 names are hidden7, .*; \.layers and \.parameters list them") as caught:
        recorded(20)["hiden7"]
    assert len(str(caught.value)) < 160
