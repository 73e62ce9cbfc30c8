"""What a notebook shows: tables in HTML and pictures, alike throughout the library."""
from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that fades on white.
PALETTE: Final = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
ORANGE, BLUE = PALETTE[:2]
MARKERS: Final = "osDv^<>"
#: Rows and columns of a large matrix, at each end.
SIDE: Final = 8


def table(head: Sequence[object], rows: Sequence[Sequence[object]], shown: int | None = None) -> str:
    """An HTML table, everything in it escaped; of more than `shown` rows only the first and the last."""
    half = len(rows) if shown is None or len(rows) <= shown else shown // 2
    lines = [_line("td", row) for row in rows[:half]]
    if half < len(rows):
        lines += [f"<tr><td colspan='{len(head)}'>{len(rows) - 2 * half} more</td></tr>", *[_line("td", row) for row in rows[-half:]]]
    return f"<table><thead>{_line('th', head)}</thead><tbody>{''.join(lines)}</tbody></table>"


def values(array: NDArray[Any], caption: str) -> str:
    """An array in HTML: a vector or a matrix as a table without its middle, if it is large; anything else as NumPy writes it."""
    if not 1 <= array.ndim <= 2 or not array.size:
        return f"<pre>{escape(np.array2string(array, separator=', ', threshold=2 * SIDE**2))}</pre><p>{escape(caption)}</p>"
    rows, columns = _ends(array.shape[0] if array.ndim == 2 else 1), _ends(array.shape[-1])
    matrix = np.atleast_2d(array)
    cells = [["\N{HORIZONTAL ELLIPSIS}" if i is None or j is None else _number(matrix[i, j]) for j in columns] for i in rows]
    head = ["", *["\N{HORIZONTAL ELLIPSIS}" if j is None else j for j in columns]]
    return f"{table(head, [['' if i is None else i, *line] for i, line in zip(rows, cells, strict=True)])}<p>{escape(caption)}</p>"


def _ends(count: int) -> list[int | None]:
    """All places of an axis, or the first and the last with None in between."""
    return [*range(count)] if count <= 2 * SIDE else [*range(SIDE), None, *range(count - SIDE, count)]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, np.floating) else str(value)


def _line(tag: str, cells: Sequence[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def figure(who: str, width: float, height: float) -> Figure:
    """An empty picture, in inches, which a notebook shows by itself. Raises ImportError, with what to install, for `who` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{who} needs matplotlib: pip install 'minigrad-numba[plot]'") from error
    made: Figure = type("Figure", (Figure,), {"_repr_png_": _png})(figsize=(width, height), layout="constrained")
    return made


def _png(picture: Any) -> bytes:
    written = io.BytesIO()
    picture.savefig(written, format="png")
    return written.getvalue()


def grid(axis: Any) -> None:
    """Light lines behind the data."""
    axis.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)
