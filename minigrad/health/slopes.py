"""Whether backward's gradient is that of the loss: differences along one direction for each layer, in float64."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from minigrad import check
from minigrad.errors import GradcheckError, MinigradError
from minigrad.health import measure, trial
from minigrad.health.measure import Seen
from minigrad.nn.module import Module
from minigrad.nn.summary import as_it_was
from minigrad.ops.op import Op
from minigrad.tape.backward import reachable
from minigrad.tape.mode import enable_grad, no_grad

#: Rows of the batch: a wrong rule is wrong on each, and differences cost a pass each.
ROWS: Final = 16
#: The steps, as shares of the weight's size. Curvature and kinks move with the step, a wrong rule stays.
STEPS: Final = (1e-6, 1e-7, 1e-8)
#: A slope may be wrong if it is further off than this share of the gradient's norm: right ones agree to 1e-6, and of a wrong gradient a random
#: direction sees one part in sqrt(n).
TOLERANCE: Final = 1e-4
#: It is wrong if differences say the same at all steps, to this share of their size and of what they are off.
SAME: Final = 0.05
#: The rounding of a loss near 1 in float64, with room for sums over many elements.
ROUNDING: Final = 1e-14


class Wrong(NamedTuple):
    """A layer behind which a rule is wrong."""

    layer: str
    op: str
    analytic: float
    numeric: float


def wrong_rule(shadow: trial.Shadow) -> Wrong | None:
    """The last layer whose gradient differs from differences, with the op to blame; None if all agree or cannot be told from rounding."""
    count = trial.length(shadow.x)
    x, y = trial.rows(shadow.x, ROWS, count), trial.rows(shadow.y, ROWS, count)
    model, loss = shadow.model, shadow.loss

    def value() -> float:
        with as_it_was(model), no_grad(), np.errstate(all="ignore"):
            return float(measure.scalar(loss, model(*measure.inputs(x)), y).array)

    here = value()
    if not np.isfinite(here) or value() != here:
        return None
    seen = measure.run(model, x, y, loss).layers
    random = np.random.default_rng(0)
    for layer in reversed(seen):
        if not layer.weights[0].needs_grad:  # frozen: no gradient is wanted
            continue
        found = _compared(layer, value, here, random)
        if found is not None:
            return Wrong(layer.name, _blamed(layer, seen, model, x, y, loss), *found)
    return None


def _compared(layer: Seen, value: Callable[[], float], here: float, random: np.random.Generator) -> tuple[float, float] | None:
    """The slope by backward and by differences along the gradient and a random direction together, if they differ."""
    w = layer.weights[0]
    g = layer.dw[0] if layer.dw and layer.dw[0] is not None else np.zeros(w.shape)
    size = float(np.linalg.norm(g))
    drawn = random.standard_normal(w.shape)
    direction = drawn / np.linalg.norm(drawn) + (g / size if np.isfinite(size) and size > 0 else 0.0)
    analytic = float(np.sum(direction * g))
    if not np.isfinite(analytic):
        return None
    before = w.array.copy()
    whole = max(measure.rms(w.array), 1e-3) * w.numel()**0.5

    def slope(step: float) -> float:
        try:
            w.array[...] = before + step * direction
            up = value()
            w.array[...] = before - step * direction
            return (up - value()) / (2 * step)
        finally:
            w.array[...] = before

    found: list[float] = []
    for share in STEPS:
        noise = ROUNDING * max(abs(here), 1e-300) / (share * whole)
        found.append(slope(share * whole))
        off, moved = abs(found[-1] - analytic), abs(found[-1] - found[0])
        # Where the loss is all steps and spikes, differences agree with each other as little as with backward
        if not np.isfinite(off) or off <= TOLERANCE * size + noise or moved > SAME * min(off, max(abs(found[0]), abs(found[-1]))) + noise:
            return None
    return analytic, found[1]


def _used(records: list[Any], layer: Seen) -> int:
    """The serial number of the last op that used the layer's weight."""
    return max((record.serial for record in records if any(parent is w for parent in record.parents for w in layer.weights)), default=0)


def _blamed(layer: Seen, seen: list[Seen], model: Module, x: Any, y: Any, loss: Callable[..., Any]) -> str:
    """The Function that ran between this layer and the next, else the op that `gradcheck` finds, else nothing."""
    with as_it_was(model), enable_grad():
        value = measure.scalar(loss, model(*measure.inputs(x)), y)
    records = reachable([value.record]) if value.record is not None else []
    following = seen[seen.index(layer) + 1:]
    first = _used(records, layer)
    end = min([_used(records, other) for other in following], default=records[0].serial + 1 if records else 0)
    own = next((record.name for record in records if first <= record.serial < end and not isinstance(record.op, Op)), None)
    if own is not None:
        return own
    w = layer.weights[0]
    few = trial.length(x)
    x, y = trial.rows(x, 2, few), trial.rows(y, 2, few)

    def again(weight: Any) -> Any:
        with as_it_was(model):
            return measure.scalar(loss, model(*measure.inputs(x)), y)

    try:
        check.gradcheck(again, w, fast_mode=True)
    except GradcheckError as error:
        return error.op or ""
    except MinigradError:
        pass
    return ""
