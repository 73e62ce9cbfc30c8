"""The state of a Tensor: its array, the address that kernels read, its version, and where its gradient goes."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from minigrad.ops.spec import Spec
from minigrad.tape.mode import local
from minigrad_kernels import machine

if TYPE_CHECKING:
    from minigrad.tape.record import Record

Array = np.ndarray[Any, np.dtype[Any]]


def _pointer_of(array_object: int) -> int:
    """The compiled call, fetched when the first Tensor is made: importing minigrad compiles and loads nothing."""
    global _pointer_of
    _pointer_of = machine.calls().pointer_of
    return _pointer_of(array_object)


def address_of(array: Array) -> int:
    """Where the array's data is: what `array.ctypes.data` says, in 0.1 us instead of 0.9."""
    return _pointer_of(id(array))


class Leaf:
    """Where a leaf's gradient is kept: a slot that lives as long as the leaf and is written by backward, eager or captured."""

    __slots__ = ("slot", "present", "linked", "handed", "norm", "normed", "shared_clock", "owned", "hooks", "groups")

    def __init__(self, slot: Handle | None = None) -> None:
        self.slot = slot
        self.present = False
        self.linked: Handle | None = None  # the same gradient with its own graph, if backward was recorded
        self.handed: weakref.ref[Handle] | None = None  # what `.grad` gave out, as long as the slot holds the same gradient
        self.norm: Handle | None = None  # the norm over a group of gradients, this one among them
        self.normed = -1  # and the version of the slot when it was taken
        self.shared_clock = False  # whether an optimiser has given the leaf its clock
        self.owned = False  # whether it is an optimiser's
        self.hooks: dict[int, Any] | None = None  # called with the gradient before it is added
        self.groups: dict[tuple[int, ...], Any] | None = None  # of parameters of which this one is the first: see `gradnorm.group_of`


class Handle:
    """What the tape needs of a Tensor; `minigrad.tape.tensor.Tensor` adds what people need."""

    __slots__ = ("array", "address", "spec", "clock", "needs_grad", "record", "leaf", "weak", "kin", "source", "__weakref__")

    #: The public class, set where it is defined.
    concrete: ClassVar[type[Handle]]
    #: Its kind for copies of what NumPy would give as a view.
    excerpt: ClassVar[type[Handle]]

    array: Array
    address: int
    spec: Spec
    clock: list[Any]  # [version, last op that wrote it, version then], shared by all views of one memory and by the parameters of one optimiser
    needs_grad: bool  # `requires_grad`, as the tape reads it
    record: Record | None
    leaf: Leaf | None
    weak: bool  # plain NumPy input: takes the dtype of the Tensor that it meets
    kin: Kin  # the views of one memory; not set where there are none
    source: Source  # of a copy that writes reach all the same; not set for any other


class Source(NamedTuple):
    """What a strided part was copied from, its version then, and what puts the part back."""

    base: Handle
    version: int
    put: Callable[[Any, Any], Any]


class Kin:
    """The Tensors on one memory, so that a write through one of them can tell the graph of the others."""

    __slots__ = ("root", "members")

    def __init__(self, first: Handle) -> None:
        self.root = twin(first)  # stands for the whole memory, even when the Tensor that owned it is gone
        self.root.record, self.root.needs_grad = first.record, first.needs_grad
        self.members: list[weakref.ref[Handle]] = [weakref.ref(first)]

    def join(self, other: Handle) -> None:
        """Count `other` in."""
        if len(self.members) > 32:
            self.members = [member for member in self.members if member() is not None]
        self.members.append(weakref.ref(other))
        other.kin = self


def wrap(array: Array, spec: Spec, clock: list[Any] | None = None, weak: bool = False) -> Any:
    """A Tensor on this C-contiguous array, without copying it."""
    handle = Handle.concrete.__new__(Handle.concrete)
    handle.array = array
    handle.address = _pointer_of(id(array))
    handle.spec = spec
    handle.clock = [0] if clock is None else clock
    handle.needs_grad = False
    handle.record = None
    handle.leaf = None
    handle.weak = weak
    return handle


def twin(handle: Handle) -> Any:
    """Another Tensor on the same memory, outside the graph."""
    other = Handle.concrete.__new__(Handle.concrete)
    other.array = handle.array
    other.address = handle.address
    other.spec = handle.spec
    other.clock = handle.clock
    other.needs_grad = False
    other.record = None
    other.leaf = None
    other.weak = False
    return other


def view(handle: Handle, spec: Spec, start: int = 0) -> Any:
    """A Tensor on the same memory with another shape: all of it, or a run of elements from `start` on."""
    if spec.size == handle.spec.size:
        other = wrap(handle.array.reshape(spec.shape), spec, handle.clock)
    else:
        other = wrap(handle.array.reshape(-1)[start:start + spec.size].reshape(spec.shape), spec, handle.clock)
    kin = getattr(handle, "kin", None)
    if kin is None:
        kin = handle.kin = Kin(handle)
    kin.join(other)
    if type(handle) is Handle.excerpt:
        other.__class__ = Handle.excerpt
    return other


def excerpt(made: Any, base: Handle | None = None, put: Callable[[Any, Any], Any] | None = None) -> Any:
    """Say of a copy that NumPy would give a view instead: a write to it would be lost, unless `put(base, part)` gives the base with it."""
    if type(made) is Handle.concrete and not hasattr(made, "kin"):
        made.__class__ = Handle.excerpt
        if base is not None and put is not None:
            made.source = Source(base, base.clock[0], put)
    return made


def empty(spec: Spec) -> Any:
    """A Tensor of fresh memory, not filled."""
    return wrap(np.empty(spec.shape, spec.dtype), spec)


# ---- gradient slots -----------------------------------------------------------------------------------------------------------------
#: Leaves whose gradient somebody may still hold; looked at before any slot is written again.
handed: list[Leaf] = []


def gradient(handle: Handle) -> Any:
    """The leaf's gradient as a Tensor on its slot, or None."""
    leaf = handle.leaf
    if leaf is None or not leaf.present:
        return None
    if leaf.linked is not None:
        return leaf.linked
    if leaf.slot is None:
        return None
    listener = local.mode.listener
    if listener is not None:
        listener.gave(leaf)
    held = leaf.handed() if leaf.handed is not None else None
    if held is None:
        held = twin(leaf.slot)
        leaf.handed = weakref.ref(held)
        handed.append(leaf)
    return held


def reclaim(ending: Container[int] = ()) -> None:
    """Give every gradient that is still held, and no longer its leaf's, memory of its own, so that slots can be written.

    ending: ids of leaves whose gradient is about to be replaced.
    """
    still: list[Leaf] = []
    for leaf in handed:
        held = leaf.handed() if leaf.handed is not None else None
        if held is None:
            leaf.handed = None
        elif leaf.present and id(leaf) not in ending:
            still.append(leaf)
        else:
            listener = local.mode.listener
            if listener is not None:
                listener.parted(leaf)
            leaf.handed = None
            held.array = held.array.copy()
            held.address = address_of(held.array)
    handed[:] = still


def slot_for_writing(handle: Handle) -> Handle:
    """The leaf's slot, ready to be overwritten: made on first use, gradients that a user still holds moved out."""
    leaf = handle.leaf
    if leaf is None:
        leaf = handle.leaf = Leaf()
    if leaf.slot is None:
        leaf.slot = empty(handle.spec)
    if handed:
        reclaim((id(leaf),))
    leaf.slot.clock[0] += 1
    leaf.linked = None
    listener = local.mode.listener
    if listener is not None:
        listener.kept(leaf.slot)
    return leaf.slot


def clear_gradient(leaf: Leaf) -> None:
    """Set the leaf's gradient to None; its slot stays."""
    leaf.present = False
    leaf.linked = None
    listener = local.mode.listener
    if listener is not None:
        listener.cleared(leaf)
