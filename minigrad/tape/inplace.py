"""In-place operations: values are written into a Tensor's memory, and the graph of every view of it says so.

A view is a run of elements of one memory. Writing through it makes the whole memory `put_range` of what it was, and every other view
that overlaps `take_range` of that, so that gradients flow as if nothing had been shared.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.ops import elementwise, ranges
from minigrad.tape import journal
from minigrad.tape.handle import Handle, Kin, Source, twin
from minigrad.tape.mode import GradMode, local
from minigrad.tape.record import Record, attach, next_serial


def overwrite(target: Handle, name: str, compute: Callable[[], Any]) -> Any:
    """Write what `compute` gives into `target`'s memory and make `target` that result in the graph; returns `target`.

    The result must have the target's shape and dtype. Raises GraphError, before anything is written, for a leaf that requires gradients, and
    for a view of one, unless gradients are off.
    """
    source = writable(target, name)
    kin: Kin | None = getattr(target, "kin", None)
    recording = local.mode.grad
    if recording:
        _check_leaves(target, kin, name)
    first = next_serial()
    result = compute()
    if result.spec.shape != target.spec.shape:
        raise ShapeError(f"{name}: the result has shape {result.spec.shape}, which does not fit into the Tensor's {target.spec.shape}")
    if result.spec is not target.spec:
        raise DtypeError(f"{name}: the result is {result.spec.dtype.name} and cannot be written into a Tensor of {target.spec.dtype.name}: "
                         "convert one of them, or assign the result to a new name")
    with GradMode(False):
        if result.address != target.address and _overlap(result, target):
            result = _moved(result)
        _keep_values(result, target, first)
    if recording and result.needs_grad and (result.record is None or result.record.serial < first):
        result = elementwise.clone(result)  # a leaf, or a result with a life of its own: the target needs a place of its own in the graph
    before = twin(target)
    before.record, before.needs_grad = target.record, target.needs_grad
    with GradMode(False):
        elementwise.copy_(target, result)
    if local.mode.journal:
        journal.keep(target)
    target.clock[1] = name
    if recording and (result.needs_grad or target.needs_grad or (kin is not None and kin.root.needs_grad)):
        placed = twin(target)
        if result.needs_grad:
            placed.record, placed.needs_grad = result.record, True
        else:  # of what was there, nothing is left, but it still has a gradient, of zeros
            attach(placed, ranges.put_range, (before, result), {"start": 0})
        if kin is None:
            target.record, target.needs_grad = placed.record, placed.needs_grad
        else:
            _retrace(kin, target, placed)
    if source is not None:
        overwrite(source.base, name, lambda: source.put(source.base, target))
        target.source = source._replace(version=source.base.clock[0])
    return target


def writable(target: Handle, name: str) -> Source | None:
    """What has to be written with the target: nothing, or what it is a strided part of. Raises GraphError where a write would be lost."""
    if type(target) is not Handle.excerpt:
        return None
    source: Source | None = getattr(target, "source", None)
    if source is None:
        raise GraphError(f"{name}: this Tensor is a copy of elements that are not neighbours in memory (a transposition, a part of a strided "
                         "slice), so what it was taken from would not change: write x[...] = values there, or clone() it first")
    if source.base.clock[0] != source.version:
        raise GraphError(f"{name}: this strided slice is a copy, and what it was taken from has been written since: take the slice again, "
                         "or clone() it")
    if local.mode.grad:
        _check_leaves(source.base, getattr(source.base, "kin", None), name)
    return source


def _check_leaves(target: Handle, kin: Kin | None, name: str) -> None:
    """Raise GraphError if the target is a leaf that requires gradients, or a view of one."""
    if target.needs_grad and target.record is None:
        raise GraphError(f"{name}: a leaf Variable that requires grad is being used in an in-place operation: write it under mg.no_grad()")
    if kin is not None:
        members = [kin.root, *[member for reference in kin.members if (member := reference()) is not None]]
        if any(member.needs_grad and member.record is None for member in members):
            raise GraphError(f"{name}: a view of a leaf Variable that requires grad is being used in an in-place operation: "
                             "write it under mg.no_grad()")


def _overlap(x: Handle, y: Handle) -> bool:
    """Whether two Tensors share memory."""
    return x.address < y.address + y.spec.nbytes and y.address < x.address + x.spec.nbytes


def _moved(x: Handle) -> Any:
    """The same values and the same place in the graph, in memory of their own. Call it with gradients off."""
    made = elementwise.clone(x)
    made.record, made.needs_grad = x.record, x.needs_grad
    return made


def _keep_values(result: Handle, target: Handle, first: int) -> None:
    """Move what the records of the computation kept of the target's memory away: their rules need the values from before."""
    stack = [result.record] if result.record is not None else []
    seen: set[Any] = set()
    while stack:
        record = stack.pop()
        if record in seen or record.serial < first:
            continue
        seen.add(record)
        stack += [parent for parent in record.parents if type(parent) is Record]
        record.parents = tuple([None if isinstance(parent, np.ndarray) and np.may_share_memory(parent, target.array) else parent
                                for parent in record.parents])
        for i, kept in enumerate(record.kept or ()):
            if _overlap(kept, target):
                assert record.kept is not None
                record.kept[i] = _moved(kept)
                record.versions[i] = record.kept[i].clock[0]


def _retrace(kin: Kin, target: Handle, result: Handle) -> None:
    """Give the memory, and each view of it, its new place in the graph."""
    root = kin.root
    before = twin(root)
    before.record, before.needs_grad = root.record, root.needs_grad
    start = (target.address - root.address) // root.spec.dtype.itemsize
    if result.spec is root.spec:
        root.record, root.needs_grad = result.record, result.needs_grad
    else:
        attach(root, ranges.put_range, (before, result), {"start": start})
    for reference in kin.members:
        member = reference()
        if member is None:
            continue
        first = (member.address - root.address) // root.spec.dtype.itemsize
        if member is target:
            member.record, member.needs_grad = result.record, result.needs_grad
        elif member.spec is root.spec:
            member.record, member.needs_grad = root.record, root.needs_grad
        elif first < start + target.spec.size and start < first + member.spec.size:
            attach(member, ranges.take_range, (root,), {"start": first, "shape": member.spec.shape})
