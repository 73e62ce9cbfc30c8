"""Loading saved values into a module: everything is checked before anything is written."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import CaptureError, StateError
from minigrad.tape import journal
from minigrad.tape.handle import Array, Handle
from minigrad.tape.mode import caller, local


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found on one side only."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def load(owner: str, own: Mapping[str, Handle], given: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """Write the values of `given` into the Tensors of `own`, by name. Raises StateError, which lists all that does not fit."""
    if not isinstance(given, Mapping):
        raise TypeError(f"load_state_dict takes a dict of names and values, not a {type(given).__name__}: what model.state_dict() or mg.load gave")
    if local.mode.listener is not None:
        raise CaptureError(f"load_state_dict at {caller()} inside a captured step, which a replay would not do again: load between the calls")
    keys = IncompatibleKeys([name for name in own if name not in given], [name for name in given if name not in own])
    problems = []
    if strict and keys.unexpected_keys:
        problems.append(f"Unexpected key(s) in state_dict: {_quoted(keys.unexpected_keys)}.")
    if strict and keys.missing_keys:
        problems.append(f"Missing key(s) in state_dict: {_quoted(keys.missing_keys)}.")
    values: dict[str, Array] = {}
    for name, x in own.items():
        if name in given:
            value = given[name].array if isinstance(given[name], Handle) else np.asarray(given[name])
            problem = misfit(name, value, x)
            if problem:
                problems.append(problem)
            else:
                values[name] = value
    if problems:
        raise StateError(f"Error(s) in loading state_dict for {owner}:\n\t" + "\n\t".join(problems))
    places = {x.address: name for name, x in own.items()}
    for name, value in values.items():
        if places.get(value.ctypes.data, name) != name:
            values[name] = value.copy()  # another of our own Tensors, which may be written before it is read
    for name, value in values.items():
        write(own[name], value)
        journal.keep(own[name])  # a step that is refused later leaves what was loaded
    return keys


def misfit(name: str, value: Array, x: Handle) -> str:
    """Why the value cannot be written into the Tensor; "" if it can."""
    if value.shape != x.spec.shape:
        return f"size mismatch for {name}: the saved value has shape {value.shape}, the shape in the current model is {x.spec.shape}."
    if value.dtype.kind not in "fiub" or not np.can_cast(value.dtype, x.spec.dtype, "same_kind"):
        return f"dtype mismatch for {name}: the saved value is {value.dtype.name}, the current model's {x.spec.dtype.name}."
    if value.dtype.kind == "f" and value.dtype.itemsize > x.spec.dtype.itemsize:
        largest = np.finfo(x.spec.dtype).max
        over = np.isfinite(value) & (np.abs(value) > largest)
        if over.any():
            return (f"overflow for {name}: {np.abs(value)[over].max():.4g} of the saved {value.dtype.name} value is too large for "
                    f"{x.spec.dtype.name}: convert the model with .double() first.")
    return ""


def write(x: Handle, values: Any) -> None:
    """Put values in a Tensor's memory; what was saved of it for a backward pass is stale then."""
    x.array[...] = values
    x.clock[0] += 1


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
