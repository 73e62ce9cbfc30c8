"""What a notebook shows of Tensors: tables of bounded size, escaped."""
from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import display


@pytest.mark.parametrize(("rows", "shown", "lines"), [(0, None, 1), (5, None, 6), (5, 5, 6), (6, 5, 1 + 5), (100, 10, 12)])
def test_a_long_table_leaves_out_its_middle(rows: int, shown: int | None, lines: int) -> None:
    html = display.table(["a", "b"], [(i, -i) for i in range(rows)], shown)
    assert html.count("<tr>") == html.count("</tr>") == lines
    if shown is not None and rows > shown:
        assert f"{rows - shown // 2 * 2} more" in html and f"<td>{rows - 1}</td>" in html


def test_everything_in_a_table_is_escaped() -> None:
    html = display.table(["<a>"], [["<script>"], ["&"]])
    assert "<a>" not in html and "<script>" not in html and "&lt;script&gt;" in html and "&amp;" in html


@pytest.mark.parametrize("shape", [(1,), (16,), (17,), (3, 4), (16, 17), (1000, 1000)])
def test_vectors_and_matrices_are_tables_of_bounded_size(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    html = mg.tensor(values)._repr_html_()
    assert html.count("<tr>") <= 1 + 17 and html.count("<td>") <= 17 * 18 and f"<p>float32[{', '.join(map(str, shape))}]</p>" in html
    assert f"<td>{values.reshape(-1)[-1]:.4g}</td>" in html and ("\N{HORIZONTAL ELLIPSIS}" in html) == (max(shape) > 16)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4), (40, 40, 40)])
def test_other_shapes_are_written_as_numpy_writes_them(shape: tuple[int, ...]) -> None:
    html = mg.zeros(*shape)._repr_html_()
    assert html.startswith("<pre>") and len(html) < 3000


def test_it_says_where_a_tensor_comes_from() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert "requires_grad=True" in x._repr_html_() and "grad_fn=&lt;mul&gt;" in (x * x)._repr_html_()
    assert "<td>True</td>" in (x > 1)._repr_html_() and "int64[2]" in mg.tensor([1, 2])._repr_html_()


def test_a_picture_shows_itself() -> None:
    pytest.importorskip("matplotlib")
    figure = display.figure("this test", 2.0, 1.0)
    figure.subplots().plot([1, 2])
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
