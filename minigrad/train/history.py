"""What a training run measured."""
from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from minigrad.train.callbacks import Callback, Logs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart
TRAINED: Final = "#0072B2"
VALIDATED: Final = "#D55E00"
SHOWN: Final = 10  # epochs of a long table, at its beginning and at its end together
POINTS: Final = 40  # up to which each epoch gets a marker


class History(Callback):
    """Figures by epoch: `history.history["val_accuracy"][i]` belongs to epoch `history.epoch[i]`, counted from 0.

    `history["loss"]` is an array, `plot()` a picture; a notebook shows a table.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Append the epoch's figures; one that an epoch lacks is NaN there."""
        for name in [*self.history, *logs]:
            values = self.history.setdefault(name, [])
            values += [float("nan")] * (len(self.epoch) - len(values))
            if len(values) == len(self.epoch):
                values.append(float(logs.get(name, float("nan"))))
        self.epoch.append(epoch)

    def __len__(self) -> int:
        return len(self.epoch)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name not in self.history:
            raise KeyError(f"no figure {name!r}: there is {', '.join(self.history) or 'none yet'}")
        return np.array(self.history[name])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every figure as an array over epochs, and "epoch" itself, for np.savez or a data frame."""
        return {"epoch": np.array(self.epoch, np.int64), **{name: self[name] for name in self.history}}

    def __repr__(self) -> str:
        if not self.epoch:
            return "History(no epochs)"
        figures = ", ".join(f"{name} {values[0]:.4g} -> {values[-1]:.4g}" for name, values in self.history.items())
        return f"History({len(self.epoch)} epochs: {figures})"

    def _repr_html_(self) -> str:
        """A table with a line for each epoch, the middle ones of many left out."""
        numbers = list(range(len(self.epoch)))
        parts = [numbers] if len(numbers) <= SHOWN else [numbers[:SHOWN // 2], numbers[-(SHOWN // 2):]]
        lines = ["".join(f"<tr><td>{self.epoch[i] + 1}</td>" + "".join(f"<td>{values[i]:.4g}</td>" for values in self.history.values()) + "</tr>"
                         for i in part) for part in parts]
        gap = f"<tr><td colspan='{len(self.history) + 1}'>{len(numbers) - SHOWN} more</td></tr>"
        head = "".join(f"<th>{escape(name)}</th>" for name in ["epoch", *self.history])
        return f"<table><thead><tr>{head}</tr></thead><tbody>{gap.join(lines)}</tbody></table>"

    def plot(self) -> Figure:
        """One panel for each figure, training and validation together, over epochs counted from 1; needs matplotlib."""
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ImportError("History.plot needs matplotlib: pip install 'minigrad-numba[plot]'") from error
        names = list(dict.fromkeys(name.removeprefix("val_") for name in self.history))
        if not names:
            raise ValueError("this History has no epochs to plot")
        figure = Figure(figsize=(4.5 * len(names) + 1.5, 3.6), layout="constrained")
        epochs = np.array(self.epoch) + 1
        handles: dict[str, Any] = {}
        for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for key, label, colour, marker, line in ((name, "training", TRAINED, "o", "-"), (f"val_{name}", "validation", VALIDATED, "s", "--")):
                if key in self.history:
                    (handles[label],) = axis.plot(epochs, self.history[key], color=colour, linestyle=line, linewidth=1.5,
                                                  marker=marker if len(epochs) <= POINTS else None, markersize=4, label=label)
            axis.set(xlabel="epoch", ylabel=name.replace("_", " "))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.grid(True, color="#DDDDDD", linewidth=0.6)
            axis.set_axisbelow(True)
        figure.legend(list(handles.values()), list(handles), loc="outside right upper", frameon=False)
        return figure
