"""What every picture of the lab has to have."""
from __future__ import annotations

from typing import Any

from minigrad.display import PALETTE

BLACK = "#000000"


def assert_readable(figure: Any) -> None:
    """Labels with units on all axes, a legend outside the data's box wherever lines have to be told apart, safe colours, nothing cut off."""
    figure.draw_without_rendering()
    for axis in figure.axes:
        label = axis.get_ylabel()
        assert label and "(" in label and label.endswith(")"), label
        assert axis.get_legend() is None
        assert {line.get_color() for line in axis.lines} <= {*PALETTE, BLACK}
        for text in (axis.xaxis.label, axis.yaxis.label):
            box = text.get_window_extent()
            assert not text.get_text() or (figure.bbox.x0 <= box.x0 and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1), text
    assert "(" in figure.axes[-1].get_xlabel()
    assert figure.legends or all(len(axis.lines) == 1 for axis in figure.axes)
    for legend in figure.legends:
        assert not any(legend.get_window_extent().overlaps(axis.get_window_extent()) for axis in figure.axes)
