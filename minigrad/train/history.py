"""What a training run measured."""
from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from minigrad import display
from minigrad.errors import DataError
from minigrad.health.telemetry import Telemetry
from minigrad.io import load, save
from minigrad.train.callbacks import Callback, Logs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN: Final = 10  # epochs of a long table, at its beginning and at its end together
POINTS: Final = 40  # up to which each epoch gets a marker


class History(Callback):
    """Figures by epoch: `history.history["val_accuracy"][i]` belongs to epoch `history.epoch[i]`, counted from 0.

    `history["loss"]` is an array, `plot()` a picture; a notebook shows a table. `telemetry` is what GradientStats and its like recorded in
    the training, None without one of them.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.telemetry: Telemetry | None = None

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
        """Every figure as an array over epochs, and "epoch" itself, for np.savez or a data frame; telemetry under "telemetry/..."."""
        recorded = {} if self.telemetry is None else {f"telemetry/{name}": values for name, values in self.telemetry.arrays().items()}
        return {"epoch": np.array(self.epoch, np.int64), **{name: self[name] for name in self.history}, **recorded}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a file as `mg.save` does: npz if its name ends so, else safetensors."""
        telemetry = None if self.telemetry is None else self.telemetry.arrays()
        save({"epoch": np.array(self.epoch, np.int64), "history": {name: self[name] for name in self.history}, "telemetry": telemetry}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises DataError for a file that holds something else."""
        found = load(path)
        if not isinstance(found, Mapping) or set(found) != {"epoch", "history", "telemetry"}:
            raise DataError(f"{os.fspath(path)} holds no History: expected what History.save wrote")
        made = cls()
        made.epoch = found["epoch"].tolist()
        made.history = {name: values.tolist() for name, values in found["history"].items()}
        made.telemetry = None if found["telemetry"] is None else Telemetry.from_arrays(found["telemetry"])
        return made

    def __repr__(self) -> str:
        if not self.epoch:
            return "History(no epochs)"
        figures = ", ".join(f"{name} {values[0]:.4g} -> {values[-1]:.4g}" for name, values in self.history.items())
        return f"History({len(self.epoch)} epochs: {figures})"

    def _repr_html_(self) -> str:
        """A table with a line for each epoch, the middle ones of many left out."""
        rows = [(epoch + 1, *[f"{values[i]:.4g}" for values in self.history.values()]) for i, epoch in enumerate(self.epoch)]
        return display.table(["epoch", *self.history], rows, SHOWN)

    def plot(self) -> Figure:
        """One panel for each figure, training and validation together, over epochs counted from 1; needs matplotlib."""
        names = list(dict.fromkeys(name.removeprefix("val_") for name in self.history))
        if not names:
            raise ValueError("this History has no epochs to plot")
        figure = display.figure("History.plot", 4.5 * len(names) + 1.5, 3.6)
        epochs = np.array(self.epoch) + 1
        handles: dict[str, Any] = {}
        for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for key, label, colour, marker, line in ((name, "training", display.BLUE, "o", "-"),
                                                     (f"val_{name}", "validation", display.ORANGE, "s", "--")):
                if key in self.history:
                    (handles[label],) = axis.plot(epochs, self.history[key], color=colour, linestyle=line, linewidth=1.5,
                                                  marker=marker if len(epochs) <= POINTS else None, markersize=4, label=label)
            axis.set(xlabel="epoch", ylabel=name.replace("_", " "))
            axis.xaxis.get_major_locator().set_params(integer=True)
            display.grid(axis)
        figure.legend(list(handles.values()), list(handles), loc="outside right upper", frameon=False)
        return figure
