"""PyTorch's short names for dtypes. They are Python's names too: use them as `mg.float`, not by themselves."""
from __future__ import annotations

from typing import Final

from minigrad import config

float: Final = config.float32
double: Final = config.float64
int: Final = config.int32
long: Final = config.int64
bool: Final = config.boolean
