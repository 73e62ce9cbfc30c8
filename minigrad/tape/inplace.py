"""In-place operations: values are written into a Tensor's memory, and the graph of every view of it says so.

A view is a run of elements of one memory. Writing through it makes the whole memory `put_range` of what it was, and every other view
that overlaps `take_range` of that, so that gradients flow as if nothing had been shared.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.ops import elementwise, ranges
from minigrad.tape.handle import Handle, Kin, twin
from minigrad.tape.mode import GradMode, local
from minigrad.tape.record import attach


def overwrite(target: Handle, name: str, compute: Callable[[], Any]) -> Any:
    """Write what `compute` gives into `target`'s memory and make `target` that result in the graph; returns `target`.

    The result must have the target's shape and dtype. Raises GraphError, before anything is written, for a leaf that requires gradients, and
    for a view of one, unless gradients are off.
    """
    kin: Kin | None = getattr(target, "kin", None)
    recording = local.mode.grad
    if recording and target.needs_grad:
        if target.record is None:
            raise GraphError(f"{name}: a leaf Variable that requires grad is being used in an in-place operation: write it under mg.no_grad()")
        if kin is not None and kin.root.record is None and kin.root.needs_grad:
            raise GraphError(f"{name}: a view of a leaf Variable that requires grad is being used in an in-place operation: "
                             "write it under mg.no_grad()")
    result = compute()
    if result.spec.shape != target.spec.shape:
        raise ShapeError(f"{name}: the result has shape {result.spec.shape}, which does not fit into the Tensor's {target.spec.shape}")
    if result.spec is not target.spec:
        raise DtypeError(f"{name}: the result is {result.spec.dtype.name} and cannot be written into a Tensor of {target.spec.dtype.name}: "
                         "convert one of them, or assign the result to a new name")
    record = result.record
    if record is not None and record.kept is not None:
        for i, kept in enumerate(record.kept):
            if kept.address == target.address and kept.spec is target.spec:  # its rule needs the value from before
                with GradMode(False):
                    record.kept[i] = elementwise.clone(kept)
                record.versions[i] = record.kept[i].clock[0]
    with GradMode(False):
        elementwise.copy_(target, result)
    if recording and (result.needs_grad or target.needs_grad or (kin is not None and kin.root.needs_grad)):
        if kin is None:
            target.record, target.needs_grad = record, result.needs_grad
        else:
            _retrace(kin, target, result)
    return target


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
