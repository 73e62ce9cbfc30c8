"""Running a kernel through its uniform entry, in parts, as workers would."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, machine

Through = Callable[..., int]


@pytest.fixture(scope="session")
def through() -> Through:
    """`through(kernel, layout, dims, *arrays, parts=1, immediates={})` runs every part, last first; 1 if each part said so."""

    def run(kernel: Any, layout: abi.Layout, dims: dict[str, int], *arrays: np.ndarray[Any, Any], parts: int = 1,
            immediates: dict[str, float] | None = None) -> int:
        entry = abi.entry(kernel, layout, tuple(a.dtype for a in arrays)).load()
        scratch = np.zeros(parts * abi.SCRATCH_BYTES, np.uint8)
        addresses = [a.ctypes.data for a in arrays] + [scratch.ctypes.data]
        assert all(a.flags.c_contiguous for a in arrays)
        words = np.array([*layout.words(dims, immediates), *addresses], np.int64)
        status = 1
        for part in reversed(range(parts)):
            program = np.array([entry.index, machine.PARALLEL, machine.HEADER_WORDS + words.size, *words])
            state = machine.new_state()
            done = machine.calls().run(program.ctypes.data, program.size, 0, 1, part, parts, state.ctypes.data, machine.table_address())
            status = min(status, int(done))
        return status

    return run
