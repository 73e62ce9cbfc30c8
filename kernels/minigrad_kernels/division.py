"""Whole quotients and what they leave, as Python's // and %, element by element; arrays 1-D, C-contiguous, out last.

Exact for floats of any size, which takes the C library's fmod: these are for indices and schedules, not for a net's hot loops. Integers
divided by 0 give 0, as NumPy's. The smallest integer divided by -1 would end the process, so -1 has a way of its own.
"""
from __future__ import annotations

from typing import Final

from .loops import Zip, element_loop

floor_divide: Final = Zip(lambda x, y: x // y if y != -1 else (-x) // 1, "floor_divide", element_loop)
remainder: Final = Zip(lambda x, y: x % y if y != -1 else -((-x) % 1), "remainder", element_loop)
