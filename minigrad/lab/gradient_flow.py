"""Per layer: how large the signal is on its way up, and the gradient on its way down."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from numpy.typing import NDArray

import minigrad.nn.functional as F
from minigrad import nn
from minigrad.health.measure import measure
from minigrad.train import Callback


@dataclass(frozen=True)
class Flow:
    """One entry a layer, from the input on: rms of its output h, rms of dL/dh, and the 2-norm of dL/dW."""

    rms_h: list[float]
    rms_dh: list[float]
    norm_dw: list[float]

    @property
    def ratio(self) -> float | None:
        """rms(dL/dh) of the first hidden layer over that of the last one; None if nothing comes back at all."""
        first, last = self.rms_dh[0], self.rms_dh[-2]
        return first / last if last else None


def gradient_flow(model: nn.Module, x: NDArray[Any], y: NDArray[Any], loss: Any = F.cross_entropy) -> Flow:
    """The flow through each layer of `model` for the loss of one batch, by default mean cross-entropy; nothing of the model is touched."""
    found = measure(model, x, y, loss)
    return Flow(found.rms_h.tolist(), found.rms_dh.tolist(), found.norm_dw.tolist())


@dataclass
class FlowLog(Callback):
    """Measures the flow on one batch before training and after every epoch."""

    model: nn.Sequential
    x: NDArray[Any]
    y: NDArray[Any]
    steps_per_epoch: int
    step: list[int] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)

    def on_train_begin(self) -> None:
        """Measure at initialisation."""
        self._measure(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Measure after the epoch."""
        self._measure((epoch + 1) * self.steps_per_epoch)

    def _measure(self, step: int) -> None:
        self.step.append(step)
        self.flows.append(gradient_flow(self.model, self.x, self.y))

    def arrays(self) -> dict[str, Any]:
        """Lists for a JSON file: the training steps, and each figure by step and layer."""
        flows = [asdict(flow) for flow in self.flows]
        return {"step": self.step} | {name: [flow[name] for flow in flows] for name in flows[0]}


def table(flows: Mapping[str, Flow], layers: list[int]) -> str:
    """Some layers, counted from 1, of several nets side by side."""
    head = f"{'layer':>5}" + "".join(f"  {name:^32}" for name in flows)
    under = f"{'':>5}" + f"  {'rms(h)':>10} {'rms(dL/dh)':>10} {'|dL/dW|':>10}" * len(flows)
    lines = [f"{layer:>5}" + "".join(f"  {f.rms_h[layer - 1]:10.2e} {f.rms_dh[layer - 1]:10.2e} {f.norm_dw[layer - 1]:10.2e}" for f in flows.values())
             for layer in layers]
    return "\n".join([head, under, *lines])
