"""An optimiser's state as plain arrays, and back."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.errors import CaptureError, StateError
from minigrad.ops.spec import Spec
from minigrad.tape import live
from minigrad.tape.handle import Handle, wrap
from minigrad.tape.live import Numbers
from minigrad.tape.mode import caller, local

if TYPE_CHECKING:
    from minigrad.optim.optimizer import Optimizer


def of_parameter(optimizer: Optimizer, numbers: Numbers, p: Any) -> dict[str, Any]:
    """What is kept for one parameter, by name, as Tensors on the memory that steps write."""
    optimizer.follow()
    kept = {name: found for name in optimizer.keeps
            if (found := optimizer._held.get((name, id(p)))) is not None and found.spec is p.spec}
    if kept and optimizer.counts(numbers):
        age = numbers.tensor.array[numbers.age:numbers.age + 1].reshape(())
        return {"step": wrap(age, Spec.of((), age.dtype), numbers.tensor.clock), **kept}
    return kept


def taken(optimizer: Optimizer) -> dict[str, Any]:
    """PyTorch's structure, with copies."""
    states: dict[int, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    at = 0
    for numbers, group in zip(optimizer.param_groups, optimizer.groups, strict=True):
        indices = list(range(at, at + len(group.parameters)))
        for index, p in zip(indices, group.parameters, strict=True):
            kept = of_parameter(optimizer, numbers, p)
            if kept:
                states[index] = {name: x.array.copy() for name, x in kept.items()}
        groups.append({**{name: value for name, value in numbers.items() if name != "params"}, "params": indices})
        at += len(indices)
    return {"state": states, "param_groups": groups}


def load(optimizer: Optimizer, given: Mapping[str, Any]) -> None:
    """Check everything, then write."""
    if local.mode.listener is not None:
        raise CaptureError(f"an optimiser's state is loaded at {caller()} inside a captured step, which a replay would not do again")
    name = type(optimizer).__name__
    if not isinstance(given, Mapping) or not {"state", "param_groups"} <= given.keys():
        raise StateError(f"{name}.load_state_dict: expected a dict with 'state' and 'param_groups', got {_shown(given)}")
    groups = list(given["param_groups"])
    if len(groups) != len(optimizer.groups):
        raise StateError(f"{name}.load_state_dict: loaded state dict has a different number of parameter groups: {len(groups)}, "
                         f"the optimizer has {len(optimizer.groups)}")
    found: list[tuple[dict[str, Any], list[dict[str, np.ndarray[Any, Any]]], float]] = []
    for i, (described, numbers, group) in enumerate(zip(groups, optimizer.param_groups, optimizer.groups, strict=True)):
        where = f"{name}.load_state_dict: parameter group {i}"
        indices = list(described.get("params", ()))
        if len(indices) != len(group.parameters):
            raise StateError(f"{where}: loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                             f"{len(indices)} parameters for {len(group.parameters)}")
        found.append((_hyper(where, described, numbers), *_states(where, optimizer, [given["state"].get(k, {}) for k in indices], group.parameters)))
    for (hyper, states, age), numbers, group in zip(found, optimizer.param_groups, optimizer.groups, strict=True):
        numbers.update(hyper)
        numbers.tensor.array[numbers.age] = age
        for p, kept in zip(group.parameters, states, strict=True):
            _put(optimizer, p, kept)
    for name, slab, offset in list(optimizer._moments):
        if slab and offset >= 0:
            del optimizer._moments[name, slab, offset]  # windows over runs: which parameters they hold something for is found anew
    live.changed()


def _shown(value: Any) -> str:
    return f"one with {', '.join(map(repr, value))}" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def _hyper(where: str, described: Mapping[str, Any], numbers: Numbers) -> dict[str, Any]:
    """The group's hyper-parameters, those that are missing as they are. PyTorch's switches for its own ways of computing are passed over."""
    hyper = {key: value for key, value in described.items() if key in numbers or key in numbers.notes}
    hyper.pop("params", None)
    unknown = described.keys() - hyper.keys() - {"params", "foreach", "capturable", "differentiable", "fused"}
    if unknown:
        raise StateError(f"{where} has {min(unknown)!r}, which this optimizer does not: it has {', '.join(numbers)}")
    hyper = {key: tuple(value) if isinstance(value, list) else value for key, value in hyper.items()}
    numbers.accepts(hyper)
    return hyper


def _states(where: str, optimizer: Optimizer, given: list[Mapping[str, Any]], parameters: tuple[Handle, ...]
            ) -> tuple[list[dict[str, np.ndarray[Any, Any]]], float]:
    """Each parameter's arrays, in its dtype and shape, and the steps that the group has made."""
    states: list[dict[str, np.ndarray[Any, Any]]] = []
    ages: set[float] = set()
    for k, (kept, p) in enumerate(zip(given, parameters, strict=True)):
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for key, value in kept.items():
            if value is None:
                continue
            array = np.asarray(value.array if isinstance(value, Handle) else value)
            if key == "step":
                ages.add(float(array))
            elif key not in optimizer.keeps:
                raise StateError(f"{where}, parameter {k} has {key!r}, which {type(optimizer).__name__} does not keep: "
                                 f"it keeps {', '.join(optimizer.keeps)}")
            elif array.shape != p.spec.shape:
                raise StateError(f"{where}, parameter {k}: {key} has shape {array.shape}, the parameter {p.spec.shape}")
            else:
                arrays[key] = array.astype(p.spec.dtype)
        states.append(arrays)
    if len(ages) > 1:
        raise StateError(f"{where}: its parameters have made {sorted(ages)} steps: here a group has one count for all of them, "
                         "so give parameters that were not always updated a group of their own")
    if optimizer.counted and any(states) and not ages:
        raise StateError(f"{where} has no 'step': {type(optimizer).__name__} needs the number of steps that were made")
    return states, ages.pop() if ages else 0.0


def _put(optimizer: Optimizer, p: Handle, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write what is kept for one parameter; what the state does not have is forgotten."""
    for key in optimizer.keeps:
        if key in arrays:
            mine = optimizer._held[key, id(p)] = optimizer.kept(key, p)
            mine.array[...] = arrays[key]
            mine.clock[0] += 1
        else:
            known = optimizer._held.pop((key, id(p)), None)
            if known is not None:
                known.array[...] = 0
                known.clock[0] += 1
