"""Learning-rate schedules: PyTorch's `torch.optim.lr_scheduler` names. `step()` works in eager mode and inside a captured step alike.

A schedule gives the rate after any number of its steps, from the rate at the beginning. A step is two native operations: count, and
write the entry of the count in a table into the optimiser's memory. Python fills the table just ahead of the steps that are taken, so
a replay of many steps follows the schedule without Python between them.
"""
from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Final

import numpy as np

from minigrad.errors import CaptureError, StateError
from minigrad.ops import update
from minigrad.ops.spec import Spec
from minigrad.optim.optimizer import Optimizer
from minigrad.tape.handle import wrap
from minigrad.tape.live import HORIZON, Numbers
from minigrad.tape.mode import caller, local, no_grad

FLOAT64: Final = np.dtype(np.float64)


def _cells(count: int) -> Any:
    return wrap(np.zeros(count), Spec.of((count,), FLOAT64))


class _Track:
    """A number of one parameter group that follows a schedule, and its next values."""

    def __init__(self, numbers: Numbers, cell: int, value: Callable[[int], float]) -> None:
        self.numbers, self.cell, self.value = numbers, cell, value
        self.table = _cells(HORIZON)


class LRScheduler:
    """Base of the schedules: a subclass writes `rate`, the rate of a group after so many steps, as a formula that needs no earlier rate.

    Each step sets the rate anew: a rate set by hand in between lasts until the next one, and of two schedules on one optimiser the later
    one counts (`SequentialLR` puts one behind the other). Call `step()` after the optimiser's; in a captured step a refused step does not
    count. last_epoch: -1 to begin, else the number of steps made, for which the groups need an "initial_lr".
    """

    #: Attributes that are no part of `state_dict`.
    _bound: ClassVar[frozenset[str]] = frozenset({"optimizer", "_clock", "_tracks", "_filled", "_progress"})

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        if local.mode.listener is not None:
            raise CaptureError(f"a {type(self).__name__} is made at {caller()} inside a captured step: make it once, outside")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when resuming an optimizer")
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self._clock = _cells(1)
        self._filled = -1  # the last step for which the tables have a value
        self._tracks = [track for i, group in enumerate(optimizer.param_groups) for track in self.tracks(i, group)]
        self._start(max(last_epoch, 0))

    def tracks(self, i: int, group: Numbers) -> list[_Track]:
        """What of group i follows the schedule."""
        return [_Track(group, group.cell("lr"), lambda count: self.rate(i, count))]

    def rate(self, i: int, count: int) -> float:
        """The rate of group i after `count` steps."""
        raise TypeError(f"{type(self).__name__} needs a rate method")

    def _start(self, count: int) -> None:
        """Be at this step, with the rates of it."""
        self._clock.array[0] = count
        self._filled = -1
        self._progress = self.optimizer.progress()
        for track in self._tracks:
            track.numbers.tensor.array[track.cell] = track.value(count)

    # ---- steps
    @property
    def last_epoch(self) -> int:
        """The number of steps made."""
        return int(self._clock.array[0])

    def step(self) -> None:
        """One step further: each group's rate becomes that of the new count; not if all the optimiser did since the last one was to skip."""
        listener, before = local.mode.listener, self._progress
        self._progress = now = self.optimizer.progress()
        if now[0] > before[0] and now[1] == before[1]:
            return
        self.prepare(1)
        if listener is not None:
            listener.prepares(self.prepare, HORIZON)
        with no_grad():
            update.count_(self._clock, cell=0)
            for track in self._tracks:
                update.schedule_(track.numbers.tensor, self._clock, track.table, cell=track.cell)

    def prepare(self, steps: int) -> None:
        """See to it that the tables hold the values of the next `steps` steps, HORIZON at most."""
        now = self.last_epoch
        for count in range(max(now, self._filled) + 1, now + steps + 1):
            values = [track.value(count) for track in self._tracks]
            for track, value in zip(self._tracks, values, strict=True):
                track.table.array[count % HORIZON] = value
            self._filled = count

    def get_last_lr(self) -> list[float]:
        """The rate of each group, as it is now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    # ---- state
    def state_dict(self) -> dict[str, Any]:
        """The count, the rates at the beginning, and the schedule's own numbers; LambdaLR's functions are left out."""
        return {"last_epoch": self.last_epoch,
                **{name: copy(value) for name, value in self.__dict__.items() if name not in self._bound}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; the rates themselves are part of the optimiser's. Raises StateError for the state of another kind."""
        if local.mode.listener is not None:
            raise CaptureError(f"a schedule's state is loaded at {caller()} inside a captured step, which a replay would not do again")
        own = self.state_dict()
        if own.keys() != state_dict.keys():
            raise StateError(f"{type(self).__name__}.load_state_dict: expected {', '.join(own)}, got {', '.join(map(str, state_dict))}")
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise StateError(f"{type(self).__name__}.load_state_dict: {len(state_dict['base_lrs'])} groups, the optimizer has {len(self.base_lrs)}")
        self.__dict__.update({name: copy(value) for name, value in state_dict.items() if name != "last_epoch" and name not in self._bound})
        self._clock.array[0] = state_dict["last_epoch"]
        self._filled = -1


class LambdaLR(LRScheduler):
    """The initial rate times `lr_lambda(count)`; one function, or a list with one for each group.

    In a captured step the function is called ahead of the steps that are replayed, once for each count: it may depend on the count alone.
    """

    _bound = LRScheduler._bound | {"lr_lambdas"}

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]], last_epoch: int = -1) -> None:
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, Sequence) else [lr_lambda] * len(optimizer.param_groups)
        if len(self.lr_lambdas) != len(optimizer.param_groups):
            raise ValueError(f"Expected {len(optimizer.param_groups)} lr_lambdas, but got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, count: int) -> float:
        return self.base_lrs[i] * self.lr_lambdas[i](count)


class StepLR(LRScheduler):
    """The initial rate times gamma for each `step_size` steps that are complete."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size is {step_size}, expected at least 1")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, count: int) -> float:
        return self.base_lrs[i] * self.gamma ** (count // self.step_size)


class MultiStepLR(LRScheduler):
    """The initial rate times gamma for each milestone that is reached."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, count: int) -> float:
        return self.base_lrs[i] * self.gamma ** bisect_right(self.milestones, count)


class ConstantLR(LRScheduler):
    """The initial rate times `factor` until `total_iters` steps are made, then the initial rate."""

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            raise ValueError("Constant multiplicative factor expected to be between 0 and 1.")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, count: int) -> float:
        return self.base_lrs[i] * (self.factor if count < self.total_iters else 1.0)


class LinearLR(LRScheduler):
    """The initial rate times a factor that goes in a straight line from start_factor to end_factor in `total_iters` steps."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5,
                 last_epoch: int = -1) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError("Starting multiplicative factor expected to be greater than 0 and less or equal to 1.")
        if not 0 <= end_factor <= 1:
            raise ValueError("Ending multiplicative factor expected to be between 0 and 1.")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, count: int) -> float:
        done = min(self.total_iters, count) / self.total_iters if self.total_iters else 1.0
        return self.base_lrs[i] * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ExponentialLR(LRScheduler):
    """The initial rate times gamma ** count."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, count: int) -> float:
        return self.base_lrs[i] * self.gamma ** count


class CosineAnnealingLR(LRScheduler):
    """eta_min + (initial - eta_min) * (1 + cos(pi * count / T_max)) / 2 (Loshchilov & Hutter 2017, without restarts)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:  # noqa: N803  PyTorch's name
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max is {T_max}, expected at least 1")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, count: int) -> float:
        return self.eta_min + (self.base_lrs[i] - self.eta_min) * (1 + math.cos(math.pi * count / self.T_max)) / 2


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to max_lr in the first `pct_start` of `total_steps`, then down to a `final_div_factor`th of the start.

    Smith & Topin 2019, in PyTorch's form: with cycle_momentum the momentum, or the first of `betas`, goes from max_momentum down to
    base_momentum and back. three_phase: down to the start first, then to the end. Raises ValueError for a step beyond total_steps.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None, epochs: int | None = None,
                 steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos", cycle_momentum: bool = True,
                 base_momentum: float = 0.85, max_momentum: float = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4,
                 three_phase: bool = False, last_epoch: int = -1) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1:
            raise ValueError(f"Expected positive integer total_steps, but got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        groups = optimizer.param_groups
        highest = list(max_lr) if isinstance(max_lr, Sequence) else [max_lr] * len(groups)
        if len(highest) != len(groups):
            raise ValueError(f"expected {len(groups)} values for max_lr, got {len(highest)}")
        if cycle_momentum and not {"momentum", "betas"} & groups[0].keys():
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.total_steps, self.max_lrs, self.anneal_strategy, self.cycle_momentum = total_steps, highest, anneal_strategy, cycle_momentum
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        up = float(pct_start * total_steps) - 1
        self.ends = [up, 2 * up, float(total_steps - 1)] if three_phase else [up, float(total_steps - 1)]
        if last_epoch == -1:
            for group, top in zip(groups, highest, strict=True):
                group["initial_lr"] = top / div_factor
                if cycle_momentum:
                    group.update({"momentum": max_momentum} if "momentum" in group else {"betas": (max_momentum, *group["betas"][1:])})
        super().__init__(optimizer, last_epoch)

    def tracks(self, i: int, group: Numbers) -> list[_Track]:
        momentum = [_Track(group, group.cell("momentum" if "momentum" in group else "betas"), self._momentum)] if self.cycle_momentum else []
        return [*super().tracks(i, group), *momentum]

    def rate(self, i: int, count: int) -> float:
        low, high = self.base_lrs[i], self.max_lrs[i]
        last = low / self.final_div_factor
        return self._along([low, high, low, last] if len(self.ends) == 3 else [low, high, last], count)

    def _momentum(self, count: int) -> float:
        high, low = self.max_momentum, self.base_momentum
        return self._along([high, low, high, high] if len(self.ends) == 3 else [high, low, high], count)

    def _along(self, corners: list[float], count: int) -> float:
        """The value between the corners, which stand at step 0 and at the ends of the phases."""
        if count > self.total_steps:
            raise ValueError(f"Tried to step {count} times. The specified number of total steps is {self.total_steps}")
        begin = 0.0
        for phase, end in enumerate(self.ends):
            if count <= end or phase == len(self.ends) - 1:
                done = (count - begin) / (end - begin)
                low, high = corners[phase], corners[phase + 1]
                return high + (low - high) / 2 * (1 + math.cos(math.pi * done)) if self.anneal_strategy == "cos" else low + (high - low) * done
            begin = end
        return corners[-1]


class SequentialLR(LRScheduler):
    """One schedule until the first milestone, the next one, from its own beginning, until the second, and so on."""

    _bound = LRScheduler._bound | {"_schedulers"}

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1) -> None:
        if not schedulers:
            raise ValueError("SequentialLR expects at least one scheduler")
        if any(one.optimizer is not optimizer for one in schedulers):
            raise ValueError("SequentialLR expects all schedulers to belong to the same optimizer as the one passed in")
        if any(len(one._tracks) != len(optimizer.param_groups) for one in schedulers):
            raise ValueError("SequentialLR takes schedules of rates alone: give OneCycleLR cycle_momentum=False")
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(f"SequentialLR expects number of schedulers provided to be one more than the number of milestone points, "
                             f"but got {len(schedulers)} and {len(milestones)}")
        self._schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, count: int) -> float:
        at = bisect_right(self.milestones, count)
        return self._schedulers[at].rate(i, count - (self.milestones[at - 1] if at else 0))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [one.state_dict() for one in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for one, theirs in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            one.load_state_dict(theirs)


class ReduceLROnPlateau:
    """Multiplies the rates by `factor` when a metric has not improved for more than `patience` steps. Eager mode only: the metric is read.

    mode: "min" or "max" of the metric; threshold: what counts as better, a fraction of the best with threshold_mode "rel", else a
    difference; cooldown: steps after a reduction that do not count; min_lr: the lowest rate, or one for each group; eps: a smaller
    reduction is not made.
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
                 threshold_mode: str = "rel", cooldown: int = 0, min_lr: float | Sequence[float] = 0.0, eps: float = 1e-8) -> None:
        if factor >= 1.0:
            raise ValueError("Factor should be < 1.0.")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        if mode not in ("min", "max"):
            raise ValueError(f"mode {mode} is unknown!")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold mode {threshold_mode} is unknown!")
        groups = optimizer.param_groups
        self.min_lrs = list(min_lr) if isinstance(min_lr, Sequence) else [min_lr] * len(groups)
        if len(self.min_lrs) != len(groups):
            raise ValueError(f"expected {len(groups)} min_lrs, got {len(self.min_lrs)}")
        self.optimizer, self.mode, self.factor, self.patience, self.cooldown = optimizer, mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.eps = threshold, threshold_mode, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def is_better(self, metric: float, best: float) -> bool:
        """Whether the metric improves on the best by more than the threshold."""
        sign = 1.0 if self.mode == "max" else -1.0
        margin = self.threshold if self.threshold_mode == "abs" else None
        return metric * sign > best * sign + margin if margin is not None else metric * sign > best * (1 + sign * self.threshold) * sign

    def step(self, metrics: Any) -> None:
        """Count one step with this metric, a number or a Tensor of one element. Raises CaptureError inside a captured step."""
        if local.mode.listener is not None:
            raise CaptureError(f"ReduceLROnPlateau.step is called at {caller()} inside a captured step, where no value is known: "
                               "call it between the steps, with what they return")
        current = float(metrics)
        self.last_epoch += 1
        if self.is_better(current, self.best):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                new = max(group["lr"] * self.factor, lowest)
                if group["lr"] - new > self.eps:
                    group["lr"] = new
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self) -> list[float]:
        """The rate of each group, as it is now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`. Raises StateError for the state of another kind."""
        own = self.state_dict()
        if own.keys() != state_dict.keys():
            raise StateError(f"ReduceLROnPlateau.load_state_dict: expected {', '.join(own)}, got {', '.join(map(str, state_dict))}")
        self.__dict__.update(state_dict)
