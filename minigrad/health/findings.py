"""What is wrong with a net, by name: thresholds, and the rules that turn figures into findings."""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from minigrad.health.measure import Floats, Measurement
from minigrad.health.slopes import Wrong

#: Decades between the largest and the smallest of the hidden layers. One learning rate serves all of them: at a factor of 1000 the slow end
#: takes a thousand steps for one of the fast. Residual stacks of 2 decades still learn (experiments.md 005, L = 10), of 3.5 do not (L = 20).
DECADES: Final = 3.0
#: Half of a layer's elements near the ends of the range: half of what comes back is multiplied by less than 4 % of the slope at the middle.
SATURATED: Final = 0.5
#: Deep He-initialised ReLU nets have up to 50 % of units off for a whole batch, for the inputs become alike (Hanin and Rolnick 2018).
DEAD: Final = 0.9
#: Batches below this say nothing about a unit that is off for all of them.
ROWS_FOR_DEAD: Final = 8
#: Inputs should be around 0 with a deviation around 1 (LeCun et al., Efficient BackProp, 1998). Pixels from 0 to 1 and from 0 to 16 pass.
INPUT_SIZE: Final = (1e-2, 20.0)
#: The largest deviation of a feature against the lower quartile's: SGD's rate is bound by the square of it.
FEATURE_SPREAD: Final = 100.0
#: How far the features' means are from 0, in deviations.
FEATURE_OFFSET: Final = 10.0
#: Sum of |W| |dL/dW| over the layers, by the loss of guesses: how much of it a change of the weights by their own size could move, to first
#: order. At a start it is 0.1 to 10.
STATIONARY: Final = 1e-2
#: The loss by that of the same outputs given to the wrong rows, which is 1 for a net that knows nothing: from where on the batch is learned,
#: whatever the figures look like, and from where on nothing is left to learn.
FITTED: Final = 0.1
LEARNED: Final = 1e-3
#: Share of elements that are 0 or subnormal although float64 has them.
UNDERFLOWN: Final = 0.5
#: Relative difference of the float32 gradient to the float64 one.
ROUNDED: Final = 0.5
#: Share of weights that one step leaves as they are, bit for bit, although their gradient is not 0; of nearly all if the rate is a guess.
UNMOVED: Final = 0.5
UNMOVED_BY_GUESS: Final = 0.95
#: Where the loss on one and the same batch may be after a few steps, times its start; momentum overshoots on its way to less.
RISE: Final = 1.05
#: In between it may rise this much, or less if a tenth of the rate gets further meanwhile.
OVERSHOOT: Final = 100.0
OVERSHOOT_WITHOUT_GAIN: Final = 2.0

#: What each finding is, in a few words.
MEANINGS: Final[Mapping[str, str]] = {
    "non-finite": "values that are no numbers come in or out",
    "wrong gradient": "backward's gradient is not that of the loss",
    "unnormalised input": "the features are far from mean 0 and deviation 1, or far from each other",
    "zero init": "all units of a layer are the same and get the same gradient, so they stay the same",
    "dead": "units that are off for every row get no gradient",
    "saturated": "activations sit at the ends of their range, where the slope is next to 0",
    "exploded": "signal or gradient grows by decades from layer to layer",
    "lost in rounding": "what the layers should get is smaller than the dtype can hold or add",
    "vanished": "signal or gradient shrinks by decades from layer to layer",
    "learning rate too large": "steps overshoot: the loss on the same batch rises",
    "converged": "the gradient is small in all layers alike, for there is nothing left to learn on this batch",
    "healthy": "signal and gradient pass through all layers at about the same size",
}
#: Not faults.
FINE: Final = ("converged", "healthy")


@dataclass(frozen=True)
class Finding:
    """One thing that was found: its name, a sentence with figures, the first layer concerned, and the figures by name."""

    name: str
    words: str
    layer: str | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def fault(self) -> bool:
        """Whether it is something to cure."""
        return self.name not in FINE

    def __str__(self) -> str:
        return f"{self.name}: {self.words}"


@dataclass
class Evidence:
    """What was measured. exact: the same in float64, or the first itself where that is not to be had."""

    measured: Measurement
    exact: Measurement
    guess: float = math.nan  # the loss of the outputs given to the wrong rows
    twins: list[int] = field(default_factory=list)  # layers all of whose units are alike
    wrong: Wrong | None = None
    underflown: Floats = field(default_factory=lambda: np.empty(0))
    rounding: Floats = field(default_factory=lambda: np.empty(0))
    unmoved: Floats = field(default_factory=lambda: np.empty(0))
    update: str = ""  # which step was tried
    losses: Floats = field(default_factory=lambda: np.empty(0))  # of a few steps with the user's optimizer
    slower: Floats = field(default_factory=lambda: np.empty(0))  # and with a tenth of its rate, if it was tried
    rate: float = math.nan
    sizes: list[int] = field(default_factory=list)  # weights of each layer
    bad_weight: str | None = None  # the layer whose weights are not finite
    bad_input: str = ""  # the first value of the input that is not finite, and where it stands

    @property
    def fitted(self) -> bool:
        """Whether the net has learned its batch."""
        return math.isfinite(self.guess) and self.measured.loss <= FITTED * self.guess

    @property
    def relative_gradient(self) -> float:
        """Sum of |W| |dL/dW| over layers, by the loss of guesses."""
        m = self.exact
        scale = np.nanmax([abs(m.loss), self.guess]) if math.isfinite(self.guess) else abs(m.loss)
        size = np.array([n**0.5 for n in self.sizes])
        return float(np.nansum(m.rms_w * size * m.norm_dw) / scale) if scale else math.nan


@dataclass(frozen=True)
class Trend:
    """A figure of the hidden layers against depth: decades per layer (NaN of fewer than two), and the largest fall, with where it ends."""

    slope: float
    fall: float
    where: int

    @classmethod
    def of(cls, values: Floats) -> Trend:
        """Of values along the way, in its direction."""
        usable = np.isfinite(values) & (values > 0)
        logs = np.log10(values[usable])
        places = np.flatnonzero(usable)
        if len(logs) < 2:
            return cls(math.nan, 0.0, 0)
        falls = np.maximum.accumulate(logs) - logs
        where = int(np.argmax(falls >= min(DECADES, falls.max())))
        return cls(float(np.polyfit(places, logs, 1)[0]), float(falls.max()), int(places[where]))


def judged(e: Evidence) -> list[Finding]:
    """All findings, causes before what follows from them; one that is no fault if there are no others."""
    m = e.measured
    finite = bool(np.isfinite(m.loss)) and not m.nonfinite_h.any() and not m.nonfinite_dh.any() and not m.nonfinite_dw.any()
    found = [*([] if finite else _nonfinite(e)), *_wrong(e), *_input(e)]
    flow = [*_symmetric(e), *_dead(e), *_saturated(e), *_exploded(e), *_underflow(e), *_vanished(e)] if not e.fitted else []
    found += flow
    found += _rate(e)
    converged = not found and _is_small(e)
    found += [] if e.fitted or converged or not finite else _lost(e)
    if e.fitted or converged:
        found = [one for one in found if one.name != "unnormalised input"]
    # An explosion is why numbers are not finite, where it is seen in float64
    if any(one.name == "exploded" for one in found):
        found.sort(key=lambda one: one.name == "non-finite")
    if found:
        return found
    ratio = e.relative_gradient
    if converged:
        state = f"The loss is {m.loss:.3g}, that of guesses {e.guess:.3g}" if math.isfinite(e.guess) else f"The loss is {m.loss:.3g}"
        words = (f"{state}, and to first order all weights together could move {ratio:.1e} of it: the gradient is small in all layers alike, "
                 "at a stationary point. That is no vanishing gradient.")
        return [Finding("converged", words, None, {"loss": m.loss, "guess": e.guess, "relative gradient": ratio})]
    up, down = Trend.of(_hidden(e.exact.rms_h)), Trend.of(_hidden(e.exact.rms_dh)[::-1])
    words = (f"{len(m.layers)} layers, too few for a slope." if math.isnan(up.slope) and math.isnan(down.slope) else
             f"{len(m.layers)} layers: rms(h) changes by {decades(up.slope)} decades a layer on its way up, "
             f"rms(dL/dh) by {decades(down.slope)} on its way down.").replace("1 layers", "1 layer" if len(m.layers) == 1 else "1 layers")
    if m.unmeasured or (m.matrices > 1).any():
        words += " That is said of what was measured, which is not the whole net: see what was not looked at."
    return [Finding("healthy", words, None, {"slope of h": up.slope, "slope of dL/dh": down.slope, "relative gradient": ratio})]


def decades(slope: float) -> str:
    """A slope with its sign; 0 has none, and what is unknown is a dash."""
    return "-" if math.isnan(slope) else "0.00" if abs(slope) < 0.005 else f"{slope:+.2f}"


def _hidden(values: Floats) -> Floats:
    """Without the output, whose width and loss set a scale of their own."""
    return values[:-1]


def _is_small(e: Evidence) -> bool:
    if not math.isfinite(e.measured.loss):
        return False
    return e.relative_gradient <= STATIONARY or (e.fitted and e.measured.loss <= LEARNED * e.guess)


def _nonfinite(e: Evidence) -> list[Finding]:
    m = e.measured
    if e.bad_weight is not None:
        return [Finding("non-finite", f"The weights of {e.bad_weight} hold values that are not finite.", e.bad_weight)]
    first = f", the first {e.bad_input}" if e.bad_input else ""
    if m.feature_mean.size and not np.isfinite(m.feature_mean).all():
        bad = int(np.count_nonzero(~np.isfinite(m.feature_mean)))
        return [Finding("non-finite", f"{bad} of {m.feature_mean.size} features of the input hold values that are not finite{first}.", m.layers[0],
                        {"features": bad})]
    if e.bad_input:
        return [Finding("non-finite", f"The input holds values that are not finite{first}.", m.layers[0])]
    for what, counts in (("h", m.nonfinite_h), ("dL/dh", m.nonfinite_dh[::-1]), ("dL/dW", m.nonfinite_dw[::-1])):
        if counts.any():
            at = int(np.argmax(counts > 0))
            name = m.layers[at] if what == "h" else m.layers[::-1][at]
            return [Finding("non-finite", f"{int(counts[at])} values of {what} at {name} are not finite, the first on the way "
                            f"{'up' if what == 'h' else 'down'}.", name, {"values": float(counts[at])})]
    return [Finding("non-finite", f"The loss is {m.loss}, though all layers are finite: look at the loss itself, or at the targets.", None)]


def _wrong(e: Evidence) -> list[Finding]:
    if e.wrong is None:
        return []
    w = e.wrong
    blamed = f" The rule of {w.op} is wrong." if w.op else ""
    words = (f"Along one direction of {w.layer}'s weights backward says {w.analytic:.4g}, differences of the loss in float64 say {w.numeric:.4g}; "
             f"the layers behind it agree.{blamed}")
    return [Finding("wrong gradient", words, w.layer, {"analytic": w.analytic, "numeric": w.numeric})]


def _input(e: Evidence) -> list[Finding]:
    words, evidence = _odd(e.exact.feature_mean, e.exact.feature_std)
    # A net that normalises its input itself, before the first layer, is not at fault
    cured = e.exact.first_mean.size and not _odd(e.exact.first_mean, e.exact.first_std)[0]
    return [Finding("unnormalised input", f"{words}.", e.measured.layers[0], evidence)] if words and not cured else []


def _odd(mean: Floats, std: Floats) -> tuple[str, dict[str, float]]:
    """What is wrong with features of these means and deviations, or nothing; and the figures."""
    if not mean.size or not (np.isfinite(mean).all() and np.isfinite(std).all()):
        return "", {}
    size = float(np.sqrt(np.mean(mean**2 + std**2)))
    moving = std[std > 0]
    spread = float(moving.max() / np.quantile(moving, 0.25)) if moving.size > 1 else 1.0
    offset = float(np.sqrt(np.mean(mean**2) / np.mean(std**2))) if moving.size else 0.0
    low, high = INPUT_SIZE
    deviation = float(np.sqrt(np.mean(std**2) + np.var(mean)))
    words = (f"The input has mean {mean.mean():.3g} and deviation {deviation:.3g}" if not low <= size <= high else
             f"One feature's deviation is {spread:.2g} times that of another" if spread > FEATURE_SPREAD else
             f"The features' means are {offset:.2g} deviations away from 0" if offset > FEATURE_OFFSET else "")
    return words, {"rms": size, "spread of deviations": spread, "offset": offset}


def _symmetric(e: Evidence) -> list[Finding]:
    names = [e.measured.layers[i] for i in e.twins]
    return [Finding("zero init", f"All units of {', '.join(names[:4])}{' ...' if len(names) > 4 else ''} have the same weights and get the same "
                    "gradient: no step tells them apart.", names[0], {"layers": float(len(names))})] if names else []


def _dead(e: Evidence) -> list[Finding]:
    share = np.nan_to_num(e.exact.dead)
    if e.measured.rows < ROWS_FOR_DEAD or not (share >= DEAD).any():
        return []
    at, count = int(np.argmax(share >= DEAD)), int(np.count_nonzero(share >= DEAD))
    words = f"{share[at]:.0%} of the units behind {e.measured.layers[at]} are 0 for all {e.measured.rows} rows"
    return [Finding("dead", words + (f", as in {count - 1} other layers." if count > 1 else "."), e.measured.layers[at],
                    {"share": float(share[at]), "layers": float(count)})]


def _saturated(e: Evidence) -> list[Finding]:
    share = np.nan_to_num(e.exact.saturated)
    if not (share >= SATURATED).any():
        return []
    at, count = int(np.argmax(share >= SATURATED)), int(np.count_nonzero(share >= SATURATED))
    words = f"{share[at]:.0%} of the elements behind {e.measured.layers[at]} are within 1 % of an end of their range"
    return [Finding("saturated", words + (f", as in {count - 1} other layers." if count > 1 else "."), e.measured.layers[at],
                    {"share": float(share[at]), "layers": float(count)})]


def _exploded(e: Evidence) -> list[Finding]:
    names = e.measured.layers
    h, dh = _hidden(e.exact.rms_h), _hidden(e.exact.rms_dh)
    up, down = Trend.of(1 / np.where(h > 0, h, np.nan)), Trend.of(1 / np.where(dh > 0, dh, np.nan)[::-1])
    if max(up.fall, down.fall) < DECADES:
        return []
    parts = [f"{what} grows by {t.fall:.1f} decades on its way {way} ({decades(-t.slope)} a layer)"
             for what, way, t in (("rms(h)", "up", up), ("rms(dL/dh)", "down", down)) if t.fall >= DECADES]
    layer = names[up.where] if up.fall >= DECADES else names[len(dh) - 1 - down.where]
    return [Finding("exploded", f"{' and '.join(parts)}.", layer,
                    {"decades of h": up.fall, "decades of dL/dh": down.fall, "slope of h": -up.slope, "slope of dL/dh": -down.slope})]


def _vanished(e: Evidence) -> list[Finding]:
    names = e.measured.layers
    h, dh = _hidden(e.exact.rms_h), _hidden(e.exact.rms_dh)
    up, down = Trend.of(h), Trend.of(dh[::-1])
    if max(up.fall, down.fall) < DECADES:
        return []
    parts = [f"{what} loses {t.fall:.1f} decades on its way {way} ({decades(t.slope)} a layer)"
             for what, way, t in (("rms(dL/dh)", "down", down), ("rms(h)", "up", up)) if t.fall >= DECADES]
    norms = e.exact.norm_dw[(e.exact.norm_dw > 0) & np.isfinite(e.exact.norm_dw)]
    spread = float(np.log10(norms.max() / norms.min())) if norms.size else math.nan
    flat = f" |dL/dW| spans only {spread:.1f} decades and does not show it." if spread < DECADES / 2 else ""
    layer = names[len(dh) - 1 - down.where] if down.fall >= DECADES else names[up.where]
    return [Finding("vanished", f"{' and '.join(parts)}.{flat}", layer,
                    {"decades of dL/dh": down.fall, "decades of h": up.fall, "slope of dL/dh": down.slope, "slope of h": up.slope,
                     "decades of |dL/dW|": spread})]


def _underflow(e: Evidence) -> list[Finding]:
    names, dtype = e.measured.layers, e.measured.dtype.name
    for share, limit, words in ((e.underflown, UNDERFLOWN, f"of the gradient that float64 has at {{0}} is 0 or subnormal in {dtype}"),
                                (e.rounding, ROUNDED, f"is how far the {dtype} gradient at {{0}} is from the float64 one")):
        bad = np.flatnonzero(np.nan_to_num(share) >= limit)
        if bad.size:
            at = int(bad[-1])  # the first on the way down
            count = f", and of {bad.size - 1} layers before it" if bad.size > 1 else ""
            return [Finding("lost in rounding", f"{min(share[at], 9.99):.0%} {words.format(names[at])}{count}.", names[at],
                            {"share": float(share[at]), "layers": float(bad.size)})]
    return []


def _lost(e: Evidence) -> list[Finding]:
    bad = np.flatnonzero(np.nan_to_num(e.unmoved) >= (UNMOVED_BY_GUESS if math.isnan(e.rate) else UNMOVED))
    if not bad.size:
        return []
    at = int(bad[0])
    words = (f"{e.unmoved[at]:.0%} of the weights of {e.measured.layers[at]} are bit for bit the same after {e.update}, for the update is below half "
             f"a unit in the last place{f'; so it is in {bad.size - 1} other layers' if bad.size > 1 else ''}.")
    return [Finding("lost in rounding", words, e.measured.layers[at], {"share": float(e.unmoved[at]), "layers": float(bad.size)})]


def _rate(e: Evidence) -> list[Finding]:
    if len(e.losses) < 2 or not math.isfinite(e.losses[0]):
        return []
    start, worst, last = float(e.losses[0]), worst_of(e.losses), last_of(e.losses)
    slower = bool(len(e.slower)) and last > last_of(e.slower) and worst > OVERSHOOT_WITHOUT_GAIN * start
    if not (last > RISE * start or worst > OVERSHOOT * start or slower):
        return []
    shown = f"{worst:.3g}" if math.isfinite(worst) else "no number"
    end = f", and to {last:.3g} in the end" if math.isfinite(last) else ""
    return [Finding("learning rate too large", f"With lr {e.rate:.3g} the loss on this one batch goes from {start:.3g} to {shown} "
                    f"in {len(e.losses) - 1} steps{end}.", None, {"start": start, "worst": worst, "last": last, "lr": e.rate})]


def worst_of(losses: Floats) -> float:
    """The largest loss behind the first; inf for one that is no number."""
    return float(np.nan_to_num(losses[1:], nan=np.inf, posinf=np.inf).max())


def last_of(losses: Floats) -> float:
    """The mean of the last third; inf for one that is no number."""
    rest = np.nan_to_num(losses[1:], nan=np.inf, posinf=np.inf)
    return float(np.mean(rest[-max(1, len(rest) // 3):]))
