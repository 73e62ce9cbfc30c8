"""`diagnose`: what is wrong with a net on a batch, in words and figures, and what helps, tried."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from minigrad import display
from minigrad.errors import DataError, MinigradError
from minigrad.health import cures as remedies
from minigrad.health import findings, measure, plots, slopes, trial
from minigrad.health.findings import Evidence, Finding, decades
from minigrad.health.measure import Measurement, Pass
from minigrad.health.telemetry import aligned
from minigrad.nn.functional import cross_entropy
from minigrad.nn.module import Module
from minigrad.nn.summary import first_tensor
from minigrad.optim.optimizer import Optimizer
from minigrad.tape.mode import no_grad
from minigrad.tape.tensor import tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The rate at which an update is tried where no optimizer is given.
LR: Final = 1e-3
#: Steps, and rows at most, on which the user's learning rate is tried.
TRIED_STEPS: Final = 12
TRIED_ROWS: Final = 128
#: Rows on which a loss of guesses means something.
ROWS_TO_GUESS: Final = 8
SHOWN: Final = 40  # lines of a table
#: What a model or loss of one's own may raise when it is copied, cast or given fewer rows.
UNABLE: Final = (MinigradError, TypeError, ValueError, AttributeError)
HEAD: Final = ("layer", "rms(h)", "rms(dL/dh)", "|dL/dW|", "rms(W)", "saturated", "dead", "non-finite")
CURES_HEAD: Final = ("cure", "loss at first", "loss reached", "decades a layer", "steps")


class Diagnosis:
    """What `mg.diagnose` gives: a report when shown.

    measured: a Measurement, arrays by layer; exact: the same in float64. verdicts: Findings, the cause first; healthy: whether none of them
    is a fault. cures: what was tried, or None. notes: what could not be looked at, and why.
    """

    def __init__(self, measured: Measurement, exact: Measurement, verdicts: Sequence[Finding], cures: remedies.Tried | None,
                 notes: Sequence[str]) -> None:
        self.measured, self.exact, self.verdicts, self.cures, self.notes = measured, exact, list(verdicts), cures, list(notes)

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to cure: healthy, or converged."""
        return not any(one.fault for one in self.verdicts)

    @property
    def partial(self) -> bool:
        """Whether matrices of the net are in no layer that was measured, or several in one."""
        return bool(self.measured.unmeasured) or bool((self.measured.matrices > 1).any())

    @property
    def recommendation(self) -> str:
        """What to do, with the figures that speak for it."""
        main = self.verdicts[0]
        if self.healthy:
            return "Nothing to cure in what was measured." if self.partial else "Nothing to cure."
        if main.name == "wrong gradient":
            return "Correct the backward rule first: until then no other figure means what it says. gradcheck names the element."
        if main.name == "non-finite":
            return "Find where the values that are not finite come from, then ask again: all that follows them is unknown."
        if self.cures is None:
            return "No cure was tried."
        best, before = self.cures.best, self.cures.before
        if best is None:
            n = len(self.cures.trials)
            if not n:
                return "This net has no place for any of the cures."
            than = (f"further than the net as it is ({before.loss:.4g} after {before.steps} steps)" if before.loss <= before.start else
                    f"below {before.start:.4g}, where the net as it is stands before its first step")
            return f"{f'None of the {n} cures' if n > 1 else 'No cure that was'} tried lowers the loss at least 2 % {than} on this batch."
        slope = f", dL/dh {decades(best.slope)} decades a layer instead of {decades(before.slope)}" if abs(best.slope - before.slope) >= 0.01 else ""
        return (f"{best.cure[0].upper()}{best.cure[1:]}: loss {best.loss:.3g} after {best.steps} steps of {self.cures.optimizer} on "
                f"{self.cures.rows} rows, {before.loss:.3g} without{slope}.")

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The figures by layer as arrays, by name; those of float64 under "exact_"."""
        return self.measured.arrays() | {f"exact_{name}": value for name, value in self.exact.arrays().items() if name != "layers"}

    def rows(self) -> list[list[str]]:
        """Lines of the table by layer, under `HEAD`."""
        m = self.measured
        bad = m.nonfinite_h + m.nonfinite_dh + m.nonfinite_dw
        return [[name, *(f"{values[i]:.2e}" for values in (m.rms_h, m.rms_dh, m.norm_dw, m.rms_w)),
                 *("" if math.isnan(values[i]) else f"{values[i]:.0%}" for values in (m.saturated, m.dead)), f"{int(bad[i])}" if bad[i] else ""]
                for i, name in enumerate(m.layers)]

    def cure_rows(self) -> list[list[str]]:
        """Lines of the table of cures, under `CURES_HEAD`: the net as it is, then the cures by the loss that they reach."""
        if self.cures is None:
            return []
        return [[one.cure, f"{one.start:.4g}", f"{one.loss:.4g}", decades(one.slope), str(one.steps)]
                for one in (self.cures.before, *self.cures.trials)]

    def _tried(self) -> str:
        assert self.cures is not None
        return f"Tried with {self.cures.optimizer} on {self.cures.rows} rows; decades a layer are of rms(dL/dh) on its way down"

    def sentences(self) -> list[str]:
        """The report without its tables."""
        m = self.measured
        about = f"{len(m.layers)} layer{'s' if len(m.layers) != 1 else ''}, {m.rows} rows, {m.dtype.name}, loss {m.loss:.4g}"
        if math.isfinite(m.input_mean):
            about += f"; the input has mean {m.input_mean:.3g} and deviation {m.input_std:.3g}"
        return [f"{about}.", *[f"{one.name.upper()} ({findings.MEANINGS[one.name]}): {one.words}" for one in self.verdicts],
                *[f"Not looked at: {note}" for note in self.notes], ("" if self.healthy else "Recommended: ") + self.recommendation]

    def __repr__(self) -> str:
        *words, advice = self.sentences()
        lines = self.rows()
        if len(lines) > SHOWN:
            lines = [*lines[:SHOWN // 2], [f"{len(lines) - SHOWN} more", *[""] * (len(HEAD) - 1)], *lines[-SHOWN // 2:]]
        parts = ["\n".join(words), _text(HEAD, lines)]
        if self.cures is not None:
            parts.append(f"{self._tried()}\n{_text(CURES_HEAD, self.cure_rows())}")
            if self.cures.impossible:
                parts.append(f"This net has no place for: {'; '.join(self.cures.impossible)}.")
        return "\n\n".join([*parts, advice])

    def _repr_html_(self) -> str:
        *words, advice = self.sentences()
        parts = [*(f"<p>{escape(one)}</p>" for one in words), display.table(HEAD, self.rows(), SHOWN)]
        if self.cures is not None:
            parts += [f"<p>{escape(self._tried())}</p>", display.table(CURES_HEAD, self.cure_rows())]
            if self.cures.impossible:
                parts.append(f"<p>This net has no place for: {escape('; '.join(self.cures.impossible))}.</p>")
        return "".join([*parts, f"<p><b>{escape(advice)}</b></p>"])

    def plot(self) -> Figure:
        """rms(h), rms(dL/dh) and |dL/dW| by layer, each in a panel with a logarithmic axis; needs matplotlib.

        Zeros are triangles at the lower edge, values that are not finite crosses at the upper one.
        """
        figure = display.figure("Diagnosis.plot", 11.0, 3.8)
        panels = (("rms_h", "nonfinite_h", "signal", "rms(h) (dimensionless)"),
                  ("rms_dh", "nonfinite_dh", "gradient of the signal", "rms(dL/dh) (loss / unit of h)"),
                  ("norm_dw", "nonfinite_dw", "gradient of the weights", "|dL/dW| (loss / unit of W)"))
        drawn = [(self.measured, display.ORANGE, "o", "-")]
        if self.exact is not self.measured:
            drawn.append((self.exact, display.BLUE, "D", "none"))
        marks: dict[str, Any] = {}
        for axis, (name, count, title, label) in zip(figure.subplots(1, 3), panels, strict=True):
            some = False
            for one, colour, marker, style in drawn:
                values = getattr(one, name)
                values = np.ma.masked_where(~(np.isfinite(values) & (values > 0)), values)
                some = some or bool(values.count())
                axis.plot(np.arange(1, len(values) + 1), values, color=colour, marker=marker, linestyle=style, linewidth=1.5,
                          markersize=4 if style == "-" else 7, markerfacecolor=colour if style == "-" else "none", label=one.dtype.name)
                absent = np.isnan(getattr(one, name)) & (getattr(one, count) == 0)  # such as the gradient of a frozen layer
                marks |= plots.marked(axis, np.arange(1, len(values) + 1), np.ma.masked_where(absent, getattr(one, name)), colour)
            axis.set(title=title, xlabel="layer (number from the input)", ylabel=label, yscale="log" if some else "linear")
            if not some:
                axis.set_yticks([])
            axis.xaxis.get_major_locator().set_params(integer=True)
            display.grid(axis)
        figure.suptitle(", ".join(one.name for one in self.verdicts))
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend([*handles, *marks.values()], [*labels, *marks], loc="outside right upper")
        return figure


def _text(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(line.rstrip() for line in aligned([["", *line] for line in (head, *lines)]).replace("\n  ", "\n")[2:].split("\n"))


def diagnose(model: Module, x: Any, y: Any, loss: Callable[..., Any] = cross_entropy, optimizer: Optimizer | None = None, *,
             cures: bool = True) -> Diagnosis:
    """Say what keeps `model` from learning this batch, and try what helps.

    x, y: one batch as the model and `loss(model(x), y)` take it; y may be None for a loss of the output alone. optimizer: the one in use, to
    judge its learning rate and its updates. cures: whether remedies are trained for a few steps on copies. The model, its gradients and
    buffers, the optimizer and the random state stay as they are. Raises what `measure` raises, and DataError for a model none of whose
    parameters wants a gradient, TypeError or ValueError for an optimizer that is none or another model's; all before anything is changed.
    """
    _checked(model, x, loss, optimizer)
    one = measure.run(model, x, y, loss)
    if not any(p.requires_grad for p in model.parameters()):
        raise DataError(f"diagnose: no parameter of {type(model).__name__} has requires_grad=True: nothing in it can learn")
    measured = measure.figures(one)
    notes = _unseen(measured)
    shadow, exact = _in_double(model, x, y, loss, notes)
    evidence = Evidence(measured, measured if exact is None else measure.figures(exact), rate=math.nan if optimizer is None else _rate(optimizer))
    evidence.sizes = [sum(w.numel() for w in layer.weights) for layer in one.layers]
    evidence.bad_weight = next((layer.name for layer in one.layers if not all(np.isfinite(w.array).all() for w in layer.weights)), None)
    evidence.bad_input = _bad_input(x)
    evidence.guess = _guess(one, y, loss)
    evidence.twins = _twins(exact or one)
    if exact is not None and measured.dtype == np.float32:
        evidence.underflown = np.array([_underflown(low, high) for low, high in zip(one.layers, exact.layers, strict=True)])
        evidence.rounding = np.array([_off(low.dh, high.dh) for low, high in zip(one.layers, exact.layers, strict=True)])
    if shadow is not None and math.isfinite(evidence.exact.loss):
        try:
            evidence.wrong = slopes.wrong_rule(shadow)
        except UNABLE as error:
            notes.append(f"the rules of backward: {error}")
    finite = math.isfinite(measured.loss) and not measured.nonfinite_dw.any()
    if finite:
        try:
            _try_steps(evidence, one, model, x, y, loss, optimizer, notes)
        except UNABLE as error:
            notes.append(f"steps of {'SGD' if optimizer is None else trial.described(optimizer)}: {error}")
    verdicts = findings.judged(evidence)
    faults = [found.name for found in verdicts if found.fault]
    found = None
    if cures and faults and faults[0] not in ("wrong gradient", "non-finite"):
        try:
            found = remedies.tried(faults[:1], model, x, y, loss, optimizer)
        except UNABLE as error:
            notes.append(f"cures, for the net could not be trained: {error}")
    return Diagnosis(measured, evidence.exact, verdicts, found, notes)


def _checked(model: Any, x: Any, loss: Any, optimizer: Any) -> None:
    """Raise what `measure.checked` raises, and TypeError or ValueError for an optimizer that is none of this model's."""
    measure.checked("diagnose", model, x, loss)
    if optimizer is None:
        return
    if not isinstance(optimizer, Optimizer):
        what = f"the class {optimizer.__name__}" if isinstance(optimizer, type) else f"a {type(optimizer).__name__}"
        fix = f": pass {optimizer.__name__}(model.parameters(), lr=...)" if isinstance(optimizer, type) else ""
        raise TypeError(f"diagnose: optimizer is {what}, expected one of minigrad.optim over model.parameters(){fix}")
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("diagnose: the optimizer updates none of the model's parameters: make it from this model's parameters()")


def _unseen(m: Measurement) -> list[str]:
    """What the measurement leaves out, as notes."""
    fix = "give each matrix a module of its own, as nn.Linear is, and call that"
    notes = []
    if names := m.unmeasured:
        shown, total = ", ".join(names[:3]) + (" ..." if len(names) > 3 else ""), len(names) + int(m.matrices.sum())
        notes.append(f"{len(names)} of {total} parameters of two or more dimensions ({shown}), for no layer that ran owns them. What goes wrong "
                     f"there is not seen; {fix}")
    notes += [f"the inside of {name}, which owns {n} parameters of two or more dimensions and is measured as one layer. A slope inside it is not "
              f"seen; {fix}" for name, n in zip(m.layers, m.matrices, strict=True) if n > 1]
    return notes


def _bad_input(x: Any) -> str:
    """The first value of the input that is not finite, and where it stands; nothing if there is none."""
    for values in measure.floats(x):
        if (bad := ~np.isfinite(values)).any():
            at = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), values.shape))
            place = f"row {at[0]}, feature {at[1]}" if len(at) == 2 else f"row {at[0]}" if len(at) == 1 else f"row {at[0]}, place {at[1:]}"
            return f"is {values[at]} in {place} (counted from 0)"
    return ""


def _rate(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _in_double(model: Module, x: Any, y: Any, loss: Callable[..., Any], notes: list[str]) -> tuple[trial.Shadow | None, Pass | None]:
    """The net in float64 and one pass of it, or None with a note: a forward of one's own may insist on float32, or not be copyable."""
    try:
        shadow = trial.Shadow(model, x, y, loss)
        return shadow, shadow.run()
    except UNABLE as error:
        notes.append(f"the net in float64, and with it rounding and the rules of backward: {error}")
        return None, None


def _guess(one: Pass, y: Any, loss: Callable[..., Any]) -> float:
    """The loss of the outputs if each stood in another row."""
    output = first_tensor(one.output)
    if y is None or output is None or not output.ndim or len(output) < ROWS_TO_GUESS:
        return math.nan
    order = np.random.default_rng(0).permutation(len(output))
    try:
        with no_grad(), np.errstate(all="ignore"):
            return float(measure.scalar(loss, tensor(output.array[order]), y).array)
    except UNABLE:
        return math.nan


def _twins(one: Pass) -> list[int]:
    """Layers in which all units have the same weights and the same gradient."""
    found = []
    for i, layer in enumerate(one.layers[:-1]):
        w, g = layer.weights[0].array, layer.dw[0] if layer.dw else None
        if len(w) > 1 and (w == w[:1]).all() and (g is None or np.abs(g - g[:1]).max() <= 1e-9 * np.abs(g).max()):
            found.append(i)
    return found


def _underflown(low: Any, high: Any) -> float:
    """The share of dL/dh, or of dL/dW if that is larger, that float64 has and float32 has not."""
    shares = [0.0]
    for a, b in ((low.dh, high.dh), *zip(low.dw, high.dw, strict=True)):
        if a is not None and b is not None and a.dtype == np.float32 and (there := np.isfinite(b) & (b != 0)).any():
            shares.append(float(np.mean(np.abs(a[there]) < np.finfo(np.float32).tiny)))
    return max(shares)


def _off(low: Any, high: Any) -> float:
    """How far the gradient is from the float64 one, relative to that."""
    if low is None or high is None or not (size := measure.rms(high)) or not np.isfinite(size):
        return math.nan
    return measure.rms(low.astype(np.float64) - high) / size


def _try_steps(evidence: Evidence, one: Pass, model: Module, x: Any, y: Any, loss: Callable[..., Any], optimizer: Optimizer | None,
               notes: list[str]) -> None:
    """What one step moves, and where a few lead, both on copies."""
    before = [layer.weights[0].array.copy() for layer in one.layers]
    gradients = [layer.dw[0] if layer.dw else None for layer in one.layers]
    if optimizer is None:
        evidence.update = f"a step of plain SGD (lr {LR}, as no optimizer was given)"
        after: list[Any] = [w if g is None else w - w.dtype.type(LR) * g for w, g in zip(before, gradients, strict=True)]
    else:
        evidence.update = f"a step of {trial.described(optimizer)}"
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        idle = [i for i, layer in enumerate(one.layers) if id(layer.weights[0]) not in held]
        if idle:
            notes.append(f"updates of {', '.join(one.layers[i].name for i in idle)}: the optimizer does not hold these weights")
            gradients = [None if i in idle else g for i, g in enumerate(gradients)]
        copy, stepping = deepcopy((model, optimizer))
        places = {path or measure.ROOT: module for path, module in copy.named_modules()}
        trial.trained(copy, stepping, x, y, loss, 1)
        after = [next(p for p in places[layer.name].parameters(recurse=False) if p.ndim >= 2).array for layer in one.layers]
        count = trial.length(x)
        few = trial.rows(x, TRIED_ROWS, count), trial.rows(y, TRIED_ROWS, count)
        copy, stepping = deepcopy((model, optimizer))
        evidence.losses = trial.trained(copy, stepping, *few, loss, TRIED_STEPS)
        if math.isfinite(evidence.losses[0]) and findings.worst_of(evidence.losses) > findings.OVERSHOOT_WITHOUT_GAIN * evidence.losses[0]:
            copy, stepping = deepcopy((model, optimizer))
            for group in stepping.param_groups:
                group["lr"] = group["lr"] / 10
            evidence.slower = trial.trained(copy, stepping, *few, loss, TRIED_STEPS)
    evidence.unmoved = np.array([_unmoved(*values) for values in zip(before, gradients, after, strict=True)])


def _unmoved(before: Any, gradient: Any, after: Any) -> float:
    """The share of the weights with a gradient that stay the same, bit for bit; 0 where a layer has none."""
    if gradient is None or not (pulled := gradient != 0).any():
        return 0.0
    return float(np.mean(before[pulled] == after[pulled]))
