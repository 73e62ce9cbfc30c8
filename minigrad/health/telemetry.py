"""What was recorded of a training, as arrays: figures of weights, gradients, updates and signals by step."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad import display
from minigrad.health import plots
from minigrad.health.sparklines import sparkline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

#: The figures of each kind of series, in the order of tables. Shares are from 0 to 1; `nonfinite` counts elements, `l2` is the 2-norm.
FIGURES: Final[Mapping[str, tuple[str, ...]]] = {
    "weight": ("mean", "std", "l2"),
    "grad": ("mean", "std", "l2", "max", "zeros", "nonfinite"),
    "update": ("l2", "ratio"),
    "signal": ("mean", "std", "rms", "max", "zeros", "nonfinite", "saturated", "dead"),
    "flow": ("mean", "std", "rms", "max", "zeros", "nonfinite"),
}
#: What each kind is, for labels: h is a layer's output behind its activation.
SYMBOLS: Final[Mapping[str, str]] = {"weight": "W", "grad": "dL/dW", "update": "change of W in a step", "signal": "h", "flow": "dL/dh"}
#: What each figure is, of a symbol.
MEANINGS: Final[Mapping[str, str]] = {
    "mean": "mean of {}", "std": "standard deviation of {}", "l2": "|{}|", "rms": "rms({})", "max": "largest |{}|", "mean_abs": "mean |{}|",
    "zeros": "share of zeros in {}", "nonfinite": "non-finite in {}", "saturated": "share of saturated units", "dead": "share of dead units",
    "ratio": "|{}| / |W|",
}
#: What a sparkline is drawn of, the first that was recorded.
SPARKS: Final = (("flow", "rms"), ("grad", "l2"), ("update", "ratio"), ("signal", "rms"), ("weight", "std"))
OF_PARAMETERS: Final = ("weight", "grad", "update")
SHOWN: Final = 40  # lines of a table
LISTED: Final = 10  # names in an error; of more, the closest


class Key(NamedTuple):
    """Whose figure: a parameter's path, or a layer's; which kind of series; which figure of it."""

    name: str
    kind: str
    figure: str

    def __str__(self) -> str:
        return "/".join(self)


class Series:
    """The figures of one parameter's weight, gradient or update, or of one layer's signal or flow: attributes are arrays over steps."""

    def __init__(self, name: str, kind: str, figures: Mapping[str, Floats]) -> None:
        self.name, self.kind, self.figures = name, kind, dict(figures)

    def __getattr__(self, figure: str) -> Floats:
        if figure.startswith("_") or figure not in self.figures:
            raise AttributeError(f"{self.kind} of {self.name!r} has no figure {figure!r}: it has {', '.join(self.figures)}")
        return self.figures[figure]

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.3g}" for name, values in self.figures.items() if len(values))
        return f"Series({self.name} {self.kind}: {last or 'nothing recorded'})"


class Layer:
    """All series of one layer, or of one parameter."""

    def __init__(self, name: str, series: Mapping[str, Series]) -> None:
        self.name, self.series = name, dict(series)

    def __getattr__(self, kind: str) -> Series:
        if kind.startswith("_") or kind not in self.series:
            raise AttributeError(f"nothing of kind {kind!r} was recorded of {self.name!r}: there is {', '.join(self.series) or 'nothing'}")
        return self.series[kind]

    def __repr__(self) -> str:
        return f"Layer({self.name}: {', '.join(self.series)})"


class Telemetry:
    """Figures by step; `telemetry["hidden"].grad.std` is an array over the recorded steps.

    steps: (n,) int64, the numbers of the recorded steps, from 0 on.
    figures: by `Key`, arrays (n,) float64. Parameters are named by path ("hidden.weight"), layers by the path of the module that holds their
    weight, in the order in which the net runs them; "input" is what the first layer gets, "(input)" in a net with a layer of that name.
    """

    def __init__(self, steps: NDArray[np.int64], figures: Mapping[Key, Floats]) -> None:
        self.steps = steps
        self.figures = dict(figures)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def parameters(self) -> list[str]:
        """Paths of the parameters of which something was recorded, in the net's order."""
        return list(dict.fromkeys(key.name for key in self.figures if key.kind in OF_PARAMETERS))

    @property
    def layers(self) -> list[str]:
        """Paths of the layers whose signal or flow was recorded, from the input on."""
        return list(dict.fromkeys(key.name for key in self.figures if key.kind not in OF_PARAMETERS))

    def __getitem__(self, name: str) -> Layer:
        """Of a parameter by its path, or of a layer: its signal and flow, and weight, gradient and update of its parameter `weight`."""
        weight = f"{name}.weight" if name else "weight"
        found: dict[str, dict[str, Floats]] = {}
        for key, values in self.figures.items():
            if key.name == name or (key.name == weight and key.kind in OF_PARAMETERS):
                found.setdefault(key.kind, {})[key.figure] = values
        if not found:
            raise KeyError(f"nothing was recorded of {name!r}: {self._names_like(name)}")
        return Layer(name, {kind: Series(name, kind, figures) for kind, figures in found.items()})

    def matrix(self, kind: str, figure: str) -> tuple[list[str], Floats]:
        """The names that have this figure, in the net's order, and its values (names, steps). Raises KeyError where it was not recorded."""
        found = {key.name: values for key, values in self.figures.items() if key.kind == kind and key.figure == figure}
        if not found:
            raise KeyError(f"no {figure} of {kind} was recorded: {self._choices()}")
        return list(found), np.array(list(found.values())).reshape(len(found), len(self))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """"steps", and every figure under "name/kind/figure": for np.savez, mg.save or a data frame."""
        return {"steps": self.steps, **{str(key): values for key, values in self.figures.items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Telemetry:
        """What `arrays` gave, read back. Raises KeyError for a mapping without "steps"."""
        figures = {Key(*name.rsplit("/", 2)): np.asarray(values, np.float64) for name, values in arrays.items() if name.count("/") >= 2}
        return cls(np.asarray(arrays["steps"], np.int64), figures)

    def _names_like(self, name: str) -> str:
        """What there is instead of a name: of many, the closest."""
        names = list(dict.fromkeys([*self.layers, *self.parameters]))
        if len(names) <= LISTED:
            return f"there is {', '.join(names)}" if names else plots.NOT_YET
        close = get_close_matches(name, names, n=3, cutoff=0.0)
        return f"the closest of {len(names)} names are {', '.join(close)}; .layers and .parameters list them"

    def _choices(self) -> str:
        """What there is instead of a figure, by kind."""
        kinds: dict[str, dict[str, None]] = {}
        for key in self.figures:
            kinds.setdefault(key.kind, {})[key.figure] = None
        listed = [f"{', '.join(figures)} of {kind}" for kind, figures in kinds.items()]
        return f"there is {'; '.join(listed)}" if listed else plots.NOT_YET

    # ---- showing
    @staticmethod
    def label(kind: str, figure: str) -> str:
        """What a figure is called on an axis: rms(dL/dh)."""
        return MEANINGS.get(figure, figure + " of {}").format(SYMBOLS.get(kind, kind))

    def plot(self, kind: str | None = None, /, **options: Any) -> Figure:
        """A picture: "gradient_flow", "heat_map", "over_time" or "update_ratio", with the options of these; all of them unless said.

        Options: steps= of gradient_flow, kind= and figure= of heat_map and over_time, history= of all together. Raises ValueError for
        another name, or where what it shows was not recorded; needs matplotlib.
        """
        draw = plots.PICTURES.get(kind or "overview")
        if draw is None:
            raise ValueError(f"Telemetry.plot: there is no picture {kind!r}: there is {', '.join(plots.PICTURES)}")
        return draw(self, **options)  # type: ignore[no-any-return]

    def sparklines(self, kind: str | None = None, figure: str | None = None, width: int = 40) -> str:
        """A line of text for each layer: how one figure went over the steps, on a logarithmic scale of its own, from its first value to its last.

        The figure is rms(dL/dh) unless said, or else the next best that was recorded. Raises ValueError where it was not.
        """
        there = list(dict.fromkeys((key.kind, key.figure) for key in self.figures))
        asked = [pair for pair in [*SPARKS, *there] if pair in there and kind in (None, pair[0]) and figure in (None, pair[1])]
        if not len(self):
            raise ValueError(f"sparklines: {plots.NOT_YET}")
        if not asked:
            raise ValueError(f"sparklines: no {figure or 'figure'} of {kind or 'anything'} was recorded: {self._choices()}")
        names, values = self.matrix(*asked[0])
        steps = f"step {self.steps[0]} to {self.steps[-1]}"
        log = asked[0][1] not in ("mean", *plots.LINEAR)
        ends = [(f"{row[0]:.3g}", f"{row[-1]:.3g}") for row in values]
        widths = [max(map(len, names)), max(len(first) for first, _ in ends)]
        return "\n".join([f"{self.label(*asked[0])}, {steps}", *[f"{name:<{widths[0]}}  {first:>{widths[1]}}  {sparkline(row, width, log)}  {last}"
                                                                for name, (first, last), row in zip(names, ends, values, strict=True)]])

    def rows(self, step: int = -1) -> tuple[list[str], list[list[str]]]:
        """Head and lines of a table of one recorded step, the last unless said: a line for each layer and parameter."""
        known = [figure for figures in FIGURES.values() for figure in figures]
        head = ["layer or parameter", "kind", *dict.fromkeys([*known, *[key.figure for key in self.figures]])]
        lines: dict[tuple[str, str], dict[str, str]] = {}
        for key, values in self.figures.items():
            lines.setdefault((key.name, key.kind), {})[key.figure] = f"{values[step]:.3g}" if len(values) else ""
        return head, [[name, kind, *[line.get(figure, "") for figure in head[2:]]] for (name, kind), line in lines.items()]

    def table(self, step: int = -1) -> str:
        """All figures of one recorded step, the last unless said, as text. Raises ValueError before the first."""
        if not len(self):
            raise ValueError(f"table: {plots.NOT_YET}")
        head, lines = self.rows(step)
        return aligned([head, *lines])

    def __repr__(self) -> str:
        last = f", the last is step {self.steps[-1]}" if len(self) else ""
        return f"{type(self).__name__}({len(self)} steps recorded{last}; {len(self.layers)} layers, {len(self.parameters)} parameters)"

    def _repr_html_(self) -> str:
        head, lines = self.rows()
        return display.table(head, lines, SHOWN) if len(self) else f"<p>{self!r}</p>"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first two to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(line, widths, strict=True))).rstrip()
                     for line in lines)
