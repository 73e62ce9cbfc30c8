"""A Telemetry as `mg.watch` leaves it, of numbers that are known."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.health.telemetry import FIGURES, OF_PARAMETERS, Key, Telemetry


def recorded(layers: int | Sequence[str] = 4, steps: int = 12, every: int = 2, kinds: Sequence[str] = tuple(FIGURES)) -> Telemetry:
    """Sizes fall by a decade a layer towards the input, and double within ten steps; shares are 1/4, nothing is not finite."""
    names = [f"hidden{i}" for i in range(layers)] if isinstance(layers, int) else list(layers)
    rise = 2.0 ** (np.arange(steps) / 10)
    figures = {Key("input", "signal", "rms"): np.ones(steps)} if "signal" in kinds else {}
    for i, name in enumerate(names):
        for kind in kinds:
            who = f"{name}.weight" if kind in OF_PARAMETERS else name
            for figure in FIGURES[kind]:
                values = rise * 10.0 ** (i - len(names))
                other = {"mean": -values, "nonfinite": 0 * values} | dict.fromkeys(("zeros", "saturated", "dead"), 0 * values + 0.25)
                figures[Key(who, kind, figure)] = other.get(figure, values)
    return Telemetry(np.arange(steps) * every, figures)
