"""A model as a table: what each layer gives out, what it holds, and how large its values and their gradients are before training."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from minigrad import config, display
from minigrad.errors import CaptureError, ShapeError
from minigrad.nn.around import Hooks
from minigrad.ops import reduce
from minigrad.tape import journal
from minigrad.tape.backward import gradients
from minigrad.tape.handle import Array
from minigrad.tape.mode import caller, enable_grad, local
from minigrad.tape.tensor import Tensor, seed, tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("layer", "type", "output shape", "parameters", "trainable", "rms(h)", "rms(dL/dh)")
SHOWN: Final = 200  # layers of a deep net in a notebook, at its beginning and at its end together


class Row(NamedTuple):
    """One layer."""

    layer: str
    type: str
    shape: tuple[int, ...] | None  # of its first output; None if the layer did not run
    parameters: int  # its own, those of layers inside not counted; a shared one counts where it comes first
    trainable: int
    rms: float  # root mean square of the output; NaN if it did not run
    grad_rms: float  # and of the loss's gradient there; NaN if it has none


class Summary:
    """What `mg.summary` gives: a table when shown, `rows`, the columns as arrays, and `plot()` a picture."""

    def __init__(self, rows: Sequence[Row], loss: str) -> None:
        self.rows, self.loss = tuple(rows), loss

    @property
    def layers(self) -> list[str]:
        """The layers' paths."""
        return [row.layer for row in self.rows]

    @property
    def parameters(self) -> Array:
        """Parameters of each layer."""
        return np.array([row.parameters for row in self.rows], np.int64)

    @property
    def trainable(self) -> Array:
        """Parameters of each layer that require gradients."""
        return np.array([row.trainable for row in self.rows], np.int64)

    @property
    def rms(self) -> Array:
        """Root mean square of each layer's output."""
        return np.array([row.rms for row in self.rows])

    @property
    def grad_rms(self) -> Array:
        """Root mean square of the gradient at each layer's output."""
        return np.array([row.grad_rms for row in self.rows])

    @property
    def total(self) -> int:
        """All parameters, a shared one counted once."""
        return int(self.parameters.sum())

    @property
    def total_trainable(self) -> int:
        """All parameters that require gradients."""
        return int(self.trainable.sum())

    def _cells(self) -> list[tuple[str, ...]]:
        return [(row.layer or "(model)", row.type, "not called" if row.shape is None else str(row.shape), f"{row.parameters:,}",
                 "-" if not row.parameters else "yes" if row.trainable == row.parameters else "no" if not row.trainable else f"{row.trainable:,}",
                 _number(row.rms), _number(row.grad_rms)) for row in self.rows]

    def _totals(self) -> str:
        frozen = self.total - self.total_trainable
        return f"Total params: {self.total:,}" + (f" ({frozen:,} frozen)" if frozen else "") + f"; L is {self.loss}"

    def __repr__(self) -> str:
        cells = [COLUMNS, *self._cells()]
        widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
        lines = ["  ".join(x.ljust(w) if i < 3 else x.rjust(w) for i, (x, w) in enumerate(zip(line, widths, strict=True))).rstrip()
                 for line in cells]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], rule, self._totals()])

    def _repr_html_(self) -> str:
        return f"{display.table(COLUMNS, self._cells(), SHOWN)}<p>{escape(self._totals())}</p>"

    def plot(self) -> Figure:
        """How large outputs and gradients are, layer by layer, on a logarithmic scale; needs matplotlib."""
        places = [i for i, row in enumerate(self.rows) if row.shape is not None]
        if not places:
            raise ValueError("this Summary has no layer that ran: there is nothing to plot")
        figure = display.figure("Summary.plot", 9.0, 3.6)
        panels = ((self.rms, "output, rms(h) (dimensionless)", display.BLUE, "o"),
                  (self.grad_rms, "gradient there, rms(dL/dh) (dimensionless)", display.ORANGE, "s"))
        for axis, (values, label, colour, marker) in zip(figure.subplots(1, 2), panels, strict=True):
            values = np.ma.masked_invalid(np.ma.masked_less_equal(values[places], 0.0))
            axis.plot(np.array(places) + 1, values, color=colour, marker=marker, markersize=4, linewidth=1.5)
            axis.set(xlabel="layer (line of the table, 1 is next to the input)", ylabel=label, yscale="log" if values.count() else "linear")
            axis.xaxis.get_major_locator().set_params(integer=True)
            display.grid(axis)
        return figure


def summary(model: Any, x: Any, loss: Callable[[Any], Tensor] | None = None) -> Summary:
    """Run the model once and list its layers: path, type, output shape, parameters, rms of outputs and of the loss's gradient there.

    x: an array or a Tensor, a tuple of several, or a shape such as (32, 784), for which normal numbers are drawn. loss: a function of the
    model's output that gives a scalar; by default the sum of the output. A module that hands on what its last layer gave, as Sequential
    does, has no line of its own. Parameters, gradients, buffers and random state stay as they were. Gradients that are as small in the
    first lines as in no other are what a vanishing gradient looks like before the first step.
    """
    if local.mode.listener is not None:
        raise CaptureError(f"summary at {caller()} inside a captured step: ask for it outside")
    inputs = _inputs(model, x)
    outputs: dict[int, Any] = {}
    with as_it_was(model), enable_grad():
        with _heard(model, outputs):
            out = model(*inputs)
        first = first_tensor(out)
        value = reduce.sum(first) if loss is None and first is not None else loss(out) if loss is not None else None
        if value is not None and (not isinstance(value, Tensor) or value.numel() != 1):
            raise ShapeError(f"summary: loss gave {value.spec!r}, expected a scalar" if isinstance(value, Tensor) else
                             f"summary: loss gave a {type(value).__name__}, expected a scalar Tensor")
        seen = [h for h in outputs.values() if h.needs_grad]
        found: list[Any] = []
        if value is not None and value.needs_grad:
            found = gradients([value], seen, [seed(value, None)], retain_graph=False, create_graph=False)
        sizes = {id(h): _rms(g.array) for h, g in zip(seen, found, strict=False) if g is not None}
    return Summary(list(_rows(model, outputs, sizes)), "the sum of the output" if loss is None else getattr(loss, "__name__", repr(loss)))


def layers_html(model: Any) -> str:
    """The layers of a model as an HTML table: path, type, what its parentheses hold, and how many parameters of its own."""
    rows, counted = [], set[int]()
    for path, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(map(id, own))
        count = sum(p.numel() for p in own)
        rows.append((path or "(model)", type(module).__name__, module.extra_repr(), f"{count:,}" if count else ""))
    total = sum(p.numel() for p in model.parameters())
    return f"{display.table(('layer', 'type', '', 'parameters'), rows, SHOWN)}<p>{total:,} parameters</p>"


def _inputs(model: Any, x: Any) -> tuple[Any, ...]:
    if isinstance(x, tuple | list) and x and all(isinstance(n, int | np.integer) for n in x):
        dtype = next((p.dtype for p in model.parameters() if p.spec.is_float), config.get_default_dtype())
        return (tensor(np.random.default_rng(0).standard_normal(tuple(x)).astype(dtype)),)
    return tuple(x) if isinstance(x, tuple) else (x,)


def first_tensor(out: Any) -> Any:
    """The first Tensor of a module's output."""
    stack = [out]
    while stack:
        x = stack.pop()
        if isinstance(x, Tensor):
            return x
        if isinstance(x, tuple | list):
            stack += reversed(x)
        elif isinstance(x, dict):
            stack += reversed(x.values())
    return None


@contextmanager
def _heard(model: Any, outputs: dict[int, Any]) -> Iterator[None]:
    """Keep what each module gives out when it runs first. Set past `__setattr__`: nothing a captured step relies on changes for good."""
    before = {module: module._hooks for module in model.modules()}

    def hear(module: Any, inputs: Any, out: Any) -> None:
        if id(module) not in outputs and first_tensor(out) is not None:
            outputs[id(module)] = first_tensor(out)

    try:
        for module, hooks in before.items():
            module.__dict__["_hooks"] = heard = Hooks()
            if hooks is not None:
                heard.before, heard.after = dict(hooks.before), dict(hooks.after)
            heard.after[-1] = (hear, False)
        yield
    finally:
        for module, hooks in before.items():
            module.__dict__["_hooks"] = hooks


@contextmanager
def as_it_was(model: Any) -> Iterator[None]:
    """Put buffers and random state back afterwards."""
    buffers = [(x, x.array.copy()) for x in model.buffers()]
    random = config.generator().bit_generator
    state = random.state
    try:
        with journal.aside():
            yield
    finally:
        random.state = state
        for x, values in buffers:
            if not np.array_equal(x.array, values, equal_nan=x.spec.is_float):
                x.array[...] = values
                x.clock[0] += 1


def _rows(model: Any, outputs: dict[int, Any], sizes: dict[int, float]) -> Iterator[Row]:
    counted: set[int] = set()
    for path, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        h = outputs.get(id(module))
        handed_on = h is not None and any(outputs.get(id(child)) is h for child in module.children())
        silent = h is None and any(True for _ in module.children())
        if (handed_on or silent) and not own:
            continue
        counted.update(map(id, own))
        yield Row(path, type(module).__name__, None if h is None else h.shape, sum(p.numel() for p in own),
                  sum(p.numel() for p in own if p.requires_grad), math.nan if h is None else _rms(h.array), sizes.get(id(h), math.nan))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else math.nan


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"
