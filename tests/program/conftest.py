"""What a training step may change, as bytes."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minigrad import nn, optim


def bits(opt: optim.SGD) -> list[bytes]:
    """Parameters, and their momentum without what pads it between them: what only a step that passed its guard may change."""
    parameters = [p for group in opt.groups for p in group.parameters]
    slabs = {id(p.place.slab): opt._moments.get(("momentum_buffer", id(p.place.slab), -1)) for p in parameters if isinstance(p, nn.Parameter)}
    moments = [np.zeros(p.spec.size, p.dtype) if (whole := slabs[id(p.place.slab)]) is None
               else whole.array[p.place.offset:p.place.offset + p.spec.size] for p in parameters if isinstance(p, nn.Parameter)]
    return [*(p.array.tobytes() for p in parameters), *(m.tobytes() for m in moments)]


@pytest.fixture
def committed() -> Callable[[Any], list[bytes]]:
    return bits
