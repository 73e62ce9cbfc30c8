from __future__ import annotations

import sys

import numpy as np
import pytest

from minigrad.train import History


def filled(epochs: int = 2) -> History:
    history = History()
    for epoch in range(epochs):
        history.on_epoch_end(epoch, {"loss": 2.0 / 8**epoch, "val_loss": 1.0, "accuracy": 0.5})
    return history


def test_it_shows_where_figures_came_from_and_to() -> None:
    assert repr(History()) == "History(no epochs)"
    assert repr(filled()) == "History(2 epochs: loss 2 -> 0.25, val_loss 1 -> 1, accuracy 0.5 -> 0.5)"


def test_figures_are_arrays() -> None:
    history = filled(3)
    assert len(history) == 3 and history["loss"].tolist() == [2, 0.25, 0.03125]
    assert {name: len(values) for name, values in history.arrays().items()} == {"epoch": 3, "loss": 3, "val_loss": 3, "accuracy": 3}
    with pytest.raises(KeyError, match="no figure 'f1': there is loss, val_loss, accuracy"):
        history["f1"]


def test_a_figure_that_an_epoch_lacks_is_nan() -> None:
    history = History()
    for epoch, logs in enumerate([{"a": 1.0}, {"b": 2.0}, {"a": 3.0, "b": 4.0}]):
        history.on_epoch_end(epoch, logs)
    assert np.array_equal(history["a"], [1, np.nan, 3], equal_nan=True) and np.array_equal(history["b"], [np.nan, 2, 4], equal_nan=True)


@pytest.mark.parametrize(("epochs", "rows"), [(0, 1), (3, 4), (10, 11), (25, 12)])
def test_a_notebook_gets_a_table_of_bounded_length(epochs: int, rows: int) -> None:
    html = filled(epochs)._repr_html_()
    assert html.count("<tr>") == rows and ("15 more" in html) == (epochs == 25)


def test_names_are_escaped() -> None:
    history = History()
    history.on_epoch_end(0, {"<b>": 1.0})
    assert "&lt;b&gt;" in history._repr_html_()


def test_the_picture_has_a_panel_for_each_figure_and_names_its_axes() -> None:
    pytest.importorskip("matplotlib")
    figure = filled(3).plot()
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy"]
    assert all(axis.get_xlabel() == "epoch" and axis.get_legend() is None for axis in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "validation"]
    assert len({line.get_color() for line in figure.axes[0].lines}) == len({line.get_linestyle() for line in figure.axes[0].lines}) == 2
    assert np.array_equal(figure.axes[0].lines[0].get_xdata(), [1, 2, 3])
    figure.canvas.draw()


def test_without_epochs_or_matplotlib_the_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'minigrad-numba\[plot\]'"):
        filled().plot()
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="no epochs to plot"):
        History().plot()
