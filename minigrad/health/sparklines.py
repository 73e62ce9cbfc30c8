"""Numbers as a line of block characters, for a terminal."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

BLOCKS: Final = "▁▂▃▄▅▆▇█"
#: Stand for what is not finite; and, on a logarithmic scale, for what is not above 0, or for zeros where there is nothing else.
BROKEN, NOTHING = "!", "·"


def sparkline(values: Any, width: int = 40, log: bool = False) -> str:
    """One character a value, from the least of them to the largest in eight heights; numbers that are all alike stand at half height.

    Of more than `width` values neighbours share a character, which shows their mean (with log, their geometric mean). One that is NaN or
    infinite gives "!"; with log, one of 0 or less gives "·", and so does 0 where nothing is but 0. Raises ValueError for a width below 1.
    """
    if width < 1:
        raise ValueError(f"sparkline: width is {width}, expected at least 1")
    given = np.asarray(values, np.float64).reshape(-1)
    if not given.size:
        return ""
    first = np.linspace(0, len(given), min(width, len(given)), endpoint=False).astype(np.int64)
    broken = np.logical_or.reduceat(~np.isfinite(given), first)
    all_zero = not given[np.isfinite(given)].any()
    nothing = np.logical_or.reduceat((log & ~(given > 0)) | all_zero, first) & ~broken
    usual = np.where(np.isfinite(given), given, 1.0)
    # Divided first: a sum of large numbers overflows.
    counts = np.diff(np.append(first, len(given)))
    heights = np.add.reduceat((np.log(np.where(usual > 0, usual, 1.0)) if log else usual) / np.repeat(counts, counts), first)
    shown = heights[~(broken | nothing)]
    low, high = (shown.min(), shown.max()) if shown.size else (0.0, 0.0)
    # Rounding of means is no height
    flat = high / 2 - low / 2 <= 1e-12 * max(abs(low), abs(high))
    levels = np.full(len(heights), 3) if flat else np.clip((heights / 2 - low / 2) / (high / 2 - low / 2) * len(BLOCKS), 0, 7).astype(np.int64)
    return "".join(BROKEN if b else NOTHING if n else BLOCKS[level] for b, n, level in zip(broken, nothing, levels, strict=True))
