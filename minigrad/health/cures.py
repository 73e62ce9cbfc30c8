"""Cures, tried on copies of the user's own net with the user's own batch: the loss that a few steps reach, and the slope of dL/dh."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from minigrad import nn
from minigrad.errors import MinigradError
from minigrad.health import measure, trial
from minigrad.health.findings import Trend
from minigrad.nn.module import Module
from minigrad.optim.optimizer import Optimizer
from minigrad.tape.tensor import tensor

#: Rows of the batch that the tries train on, half as many for a large net, and the fewest and the most steps.
ROWS: Final = 64
STEPS: Final = (10, 40)
#: Multiplications and additions that all tries together may cost, so that they stay within about 3 s on one core.
WORK: Final = 6e10
#: From which share of the loss of the net as it is a cure counts as one.
WORTH: Final = 0.98

Change = Callable[[Module], int]  # changes a copy in place, and says in how many places


class Cure(NamedTuple):
    """One remedy: a change of the net, of the batch, or of how it is trained."""

    name: str
    change: Change | None = None
    clip: float | None = None
    lr: float = 1.0  # times the optimizer's
    standardise: bool = False


class Trial(NamedTuple):
    """What came of a cure: the loss at the start and after the last step, and of dL/dh the slope in decades a layer on its way down."""

    cure: str
    start: float
    loss: float
    slope: float
    decades: float  # of dL/dh between the hidden layers with the most and the least
    steps: int


# ---- changes of a net
def _activations(kind: Callable[[], Module], init: Callable[..., Any] | None = None) -> Change:
    def change(model: Module) -> int:
        changed = 0
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, measure.ACTIVATIONS):
                    setattr(module, name, kind())
                    changed += 1
        return changed and changed + (_initial(init)(model) if init is not None else 0)

    return change


def _initial(init: Callable[..., Any]) -> Change:
    """Draw all dense weights anew, biases 0; embeddings and normalisation stay."""
    def change(model: Module) -> int:
        generator = np.random.default_rng(0)
        layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        for layer in layers:
            init(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        return len(layers)

    return change


def _normalised(kind: Callable[..., Module]) -> Change:
    """A normalisation between each dense layer and the activation right behind it."""
    def change(model: Module) -> int:
        changed = 0
        for chain in _chains(model):
            made: list[Module] = []
            for module, following in zip(chain, [*list(chain)[1:], None], strict=True):
                made.append(module)
                if isinstance(module, nn.Linear) and isinstance(following, measure.ACTIVATIONS):
                    made.append(kind(module.out_features, dtype=module.weight.dtype))
                    changed += 1
            chain._refill(made)
        return changed

    return change


def _shortcuts(model: Module) -> int:
    """A shortcut around each dense layer of equal widths with what follows it up to the next, where there is none; branches scaled."""
    inside = {id(part) for module in model.modules() if isinstance(module, nn.Residual) for part in module.modules()}
    blocks: list[nn.Residual] = []
    for chain in _chains(model):
        if id(chain) in inside:
            continue
        made: list[Module] = []
        for part in _parts(list(chain)):
            widths = [(layer.in_features, layer.out_features) for one in part for layer in one.modules() if isinstance(layer, nn.Linear)]
            active = any(isinstance(module, measure.ACTIVATIONS) for one in part for module in one.modules())
            square = active and len(widths) == 1 and widths[0][0] == widths[0][1]
            if square and not any(isinstance(one, nn.Residual) for one in part):
                blocks.append(nn.Residual(nn.Sequential(*part)))
                made.append(blocks[-1])
                inside |= {id(module) for module in blocks[-1].modules()}
            else:
                made += part
        chain._refill(made)
    for block in blocks:
        block.scale = len(blocks) ** -0.5
    return len(blocks)


def _branch_scale(model: Module) -> int:
    blocks = [module for module in model.modules() if isinstance(module, nn.Residual)]
    for block in blocks:
        block.scale = len(blocks) ** -0.5
    return len(blocks) if len(blocks) > 1 else 0


def _chains(model: Module) -> Iterator[nn.Sequential]:
    yield from [module for module in model.modules() if isinstance(module, nn.Sequential)]


def _parts(modules: Sequence[Module]) -> Iterator[list[Module]]:
    """Cut before each module that holds a dense layer."""
    part: list[Module] = []
    for module in modules:
        if part and any(isinstance(one, nn.Linear) for one in module.modules()):
            yield part
            part = []
        part.append(module)
    if part:
        yield part


def _both(*changes: Change) -> Change:
    def change(model: Module) -> int:
        counts = [one(model) for one in changes]
        return sum(counts) if all(counts) else 0

    return change


HE: Final = partial(nn.init.he_normal_, nonlinearity="relu")
GLOROT: Final = nn.init.glorot_normal_
#: All cures, by name.
CURES: Final[Mapping[str, Cure]] = {cure.name: cure for cure in (
    Cure("Glorot init", _initial(GLOROT)),
    Cure("He init", _initial(HE)),
    Cure("ReLU, He init", _activations(nn.ReLU, HE)),
    Cure("leaky ReLU, He init", _activations(nn.LeakyReLU, HE)),
    Cure("tanh, Glorot init", _activations(nn.Tanh, GLOROT)),
    Cure("LayerNorm before activations", _normalised(nn.LayerNorm)),
    Cure("BatchNorm before activations", _normalised(nn.BatchNorm1d)),
    Cure("residual, branches scaled by 1/sqrt(blocks)", _shortcuts),
    Cure("residual and ReLU, He init, branches scaled", _both(_activations(nn.ReLU, HE), _shortcuts)),
    Cure("branches scaled by 1/sqrt(blocks)", _branch_scale),
    Cure("gradient clipped to norm 1", clip=1.0),
    Cure("input standardised", standardise=True),
    Cure("learning rate / 10", lr=0.1),
    Cure("learning rate / 100", lr=0.01),
    Cure("learning rate / 1000", lr=1e-3),
)}
_DEPTH: Final = ("ReLU, He init", "residual and ReLU, He init, branches scaled", "LayerNorm before activations", "BatchNorm before activations",
                 "Glorot init", "residual, branches scaled by 1/sqrt(blocks)", "tanh, Glorot init")
#: Which cures can help against what, the likeliest first.
AGAINST: Final[Mapping[str, Sequence[str]]] = {
    "vanished": _DEPTH,
    "lost in rounding": _DEPTH,
    "exploded": ("branches scaled by 1/sqrt(blocks)", "He init", "Glorot init", "LayerNorm before activations", "BatchNorm before activations",
                 "gradient clipped to norm 1", "learning rate / 10"),
    "saturated": ("Glorot init", "ReLU, He init", "LayerNorm before activations", "BatchNorm before activations", "input standardised",
                  "residual and ReLU, He init, branches scaled"),
    "dead": ("He init", "leaky ReLU, He init", "BatchNorm before activations", "LayerNorm before activations", "learning rate / 10"),
    "zero init": ("Glorot init", "He init", "ReLU, He init"),
    "unnormalised input": ("input standardised", "BatchNorm before activations", "LayerNorm before activations", "gradient clipped to norm 1"),
    "learning rate too large": ("learning rate / 10", "learning rate / 100", "learning rate / 1000", "gradient clipped to norm 1"),
}


class Tried(NamedTuple):
    """All that was tried: the net as it is, the cures by the loss that they reach, and those that this net does not allow."""

    before: Trial
    trials: list[Trial]
    impossible: list[str]
    rows: int
    optimizer: str

    @property
    def best(self) -> Trial | None:
        """The cure that reaches the smallest loss, if it is smaller than without one and than the net's loss as it is."""
        usable = [one for one in self.trials if math.isfinite(one.loss)]
        best = min(usable, key=lambda one: one.loss, default=None)
        return best if best is not None and not any(best.loss > WORTH * loss for loss in (self.before.start, self.before.loss)) else None


def tried(faults: Sequence[str], model: Module, x: Any, y: Any, loss: Callable[..., Any], optimizer: Optimizer | None) -> Tried | None:
    """Try everything that can help against these faults, each for the same few steps; None if nothing of it is a matter of training."""
    names = list(dict.fromkeys(name for fault in faults for name in AGAINST.get(fault, ())))
    if not names:
        return None
    size = sum(p.numel() for p in model.parameters() if p.ndim >= 2)
    full = 6 * size * (len(names) + 1) * ROWS * STEPS[0] <= WORK
    count = trial.length(x)
    used = min(count, ROWS if full else ROWS // 2)
    x, y = trial.rows(x, used, count), trial.rows(y, used, count)
    steps = int(np.clip(WORK / max(6 * size * (len(names) + 1) * used, 1), *STEPS))
    before = _try(Cure("as it is"), model, x, y, loss, optimizer, steps)
    trials, impossible = [], []
    for name in names:
        made = _try(CURES[name], model, x, y, loss, optimizer, steps)
        if made is None:
            impossible.append(name)
        else:
            trials.append(made)
    trials.sort(key=lambda one: one.loss if math.isfinite(one.loss) else math.inf)
    assert before is not None
    return Tried(before, trials, impossible, used, trial.described(trial.optimizer_like(optimizer, model)))


def _try(cure: Cure, model: Module, x: Any, y: Any, loss: Callable[..., Any], optimizer: Optimizer | None, steps: int) -> Trial | None:
    """Train a changed copy; None if the net has no place for the change."""
    copy = deepcopy(model)
    try:
        if cure.change is not None and not cure.change(copy):
            return None
        if cure.standardise:
            x = _standardised(x)
            if x is None:
                return None
        first = measure.measure(copy, x, y, loss)
        losses = trial.trained(copy, trial.optimizer_like(optimizer, copy, cure.lr), x, y, loss, steps, cure.clip)
    except (MinigradError, TypeError, ValueError):  # a forward that counts on what was changed
        if cure.name == "as it is":
            raise
        return None
    flow = first.rms_dh[:-1][::-1]
    decades = np.log10(flow[np.isfinite(flow) & (flow > 0)])
    return Trial(cure.name, float(losses[0]), float(losses[-1]), Trend.of(flow).slope, float(np.ptp(decades)) if decades.size else 0.0, steps)


def _standardised(x: Any) -> Any:
    """Each feature with mean 0 and deviation 1; None for what has no features."""
    if isinstance(x, tuple | list):
        return None
    values = np.asarray(x.detach().numpy() if hasattr(x, "detach") else x)
    if values.dtype.kind != "f" or values.ndim < 2:
        return None
    exact = values.astype(np.float64)
    std = exact.std(axis=0)
    return tensor(((exact - exact.mean(axis=0)) / np.where(std > 0, std, 1.0)).astype(values.dtype))
