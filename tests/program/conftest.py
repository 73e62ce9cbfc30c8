"""What a training step may change, as bytes."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from minigrad import optim


def bits(opt: optim.SGD) -> list[bytes]:
    """Parameters, and their momentum without what pads it between them: what only a step that passed its guard may change."""
    moments = [opt.moment("momentum_buffer", run).array[start:start + n].tobytes()
               for group in opt.groups for run in group.runs() for start, n in run.blocks.array.T]
    return [*(p.array.tobytes() for group in opt.groups for p in group.parameters), *moments]


@pytest.fixture
def committed() -> Callable[[Any], list[bytes]]:
    return bits
