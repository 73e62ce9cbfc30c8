"""The reverse sweep: records of one pass, latest first, without recursion."""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from minigrad.errors import GraphError, SavedValueError
from minigrad.ops import elementwise, reduce
from minigrad.ops import shape as shapes
from minigrad.ops.spec import Shape
from minigrad.tape import hooks, live
from minigrad.tape.handle import Handle, Leaf, handed, slot_for_writing, twin
from minigrad.tape.mode import GradMode, Mode, local
from minigrad.tape.record import Record

#: A pass over more records than this leaves enough free memory behind to hand it back.
TRIM_RECORDS: Final = 100_000


def trim() -> None:
    """Give freed memory back to the system: glibc keeps a heap whose last block is in use, 27 MB after a million records."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if give_back is not None:
        give_back(0)


def reachable(roots: Iterable[Record]) -> list[Record]:
    """The records that the roots were made from, themselves included, latest first."""
    seen = set(roots)
    stack = list(seen)
    while stack:
        for parent in stack.pop().parents:
            if type(parent) is Record and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=attrgetter("serial"), reverse=True)


def _kept(record: Record, create_graph: bool) -> Sequence[Handle]:
    """The values that the record kept, as they were. Raises if they are gone or were changed."""
    kept = record.kept
    if kept is None:
        raise GraphError(f"Trying to backward through the graph a second time, at {record.name}: its saved values were freed by the "
                         "first pass. Pass retain_graph=True to that one, or run the forward again.")
    for value, version, position in zip(kept, record.versions, record.op.positions(record.mask), strict=True):
        if value.clock[0] != version:
            name = "out" if position < 0 else record.op.inputs[position]
            by = f", by {value.clock[1]}" if value.clock[2:] == value.clock[:1] else ""
            raise SavedValueError(f"{record.name}: the backward needs {name} ({value.spec!r}) as it was, but it was modified by an inplace "
                                  f"operation since (version {value.clock[0]}, expected {version}){by}: run backward before changing it")
    if not create_graph:
        return kept
    linked = list(kept)
    for i, position in enumerate(record.op.positions(record.mask)):
        if position < 0:  # kept without its place in the graph, to avoid a cycle
            linked[i] = twin(kept[i])
            linked[i].record, linked[i].needs_grad = record, True
    return linked


def _arguments(record: Record, i: int, kept: Sequence[Handle]) -> list[Any]:
    """What the rule of input i is called with, beside g."""
    attributes, specs = record.attributes, record.specs
    return [kept[key] if kind == 0 else attributes.get(key, default) if kind == 1 else specs[key]
            for kind, key, default in record.op.sources(record.mask, i)]


def unbroadcast(g: Any, shape: Shape) -> Any:
    """Sum `g` over the axes along which an operand of `shape` was repeated."""
    lead = len(g.spec.shape) - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and g.spec.shape[lead + i] != 1)
    g = reduce.sum(g, axis=axes, keepdims=False) if axes else g
    return g if g.spec.shape == shape else shapes.reshape(g, shape=shape)


def accumulate(handle: Handle, g: Any) -> None:
    """Add a finished contribution to a leaf's gradient slot; the first one is written there."""
    leaf = leaf_of(handle)
    if leaf.present:
        elementwise.add_(leaf.slot, g)
        leaf.linked = None
        return
    slot = slot_for_writing(handle)
    if g is not slot:
        elementwise.copy_(slot, g)
    leaf.present = True


def leaf_of(handle: Handle) -> Leaf:
    """The state of a leaf whose gradient is about to be added to; a recorder hears that it was looked at."""
    leaf = handle.leaf
    if leaf is None:
        leaf = handle.leaf = Leaf()
    listener = local.mode.listener
    if listener is not None:
        listener.looked(leaf)
    return leaf


def keep_graph(handle: Handle, g: Any) -> None:
    """Add a contribution, with its own graph, to a leaf's gradient; the slot gets the values."""
    leaf = leaf_of(handle)
    before = leaf.linked if leaf.linked is not None else leaf.slot if leaf.present else None
    total = elementwise.scale(g, by=1.0) if before is None else elementwise.add(before, g)
    slot = slot_for_writing(handle)
    with GradMode(False):
        elementwise.copy_(slot, total)
    leaf.linked, leaf.present = total, True


class Swept(NamedTuple):
    """What a sweep found at the wanted places, and how many records it went through."""

    found: dict[Any, Any]
    records: int


def sweep(roots: dict[Record, Any], *, retain_graph: bool, create_graph: bool, leaf: Callable[[Handle, Any], None],
          wanted: set[Any] | None = None) -> Swept:
    """Send each root's gradient back; `leaf` receives each contribution to a leaf.

    With `wanted` (records and leaves), only what leads there is computed, and the records' gradients are returned.
    """
    order = reachable(roots)
    useful = None if wanted is None else _leading_to(order, wanted)
    found: dict[Any, Any] = {}
    late: dict[Handle, Any] = {}  # of leaves with hooks, which see the whole gradient of a pass
    mode = local.mode
    listens, outer = mode.listener is not None, mode.turn
    to_slots = wanted is None and not create_graph
    trail = None
    if to_slots:
        if mode.trail is not None:
            forget(mode)
        if _owned(order):
            few = len(order) <= TRAIL_RECORDS
            trail = Trail(dict(roots) if few else {}, order if few else [], not retain_graph, len(order))
    dropped = trail is None or not trail.order
    hooked = hooks.registered
    for root, gradient in roots.items():
        root.grad = gradient
    try:
        with GradMode(create_graph):
            for record in order:
                g, record.grad = record.grad, None
                if g is None:
                    continue
                if listens:
                    mode.turn = record
                if hooked and hasattr(record, "hooks"):
                    g = hooks.run(record.hooks, g)
                if wanted is not None and record in wanted:
                    found[record] = g
                if useful is not None and record not in useful:
                    continue
                kept: Any = record.kept
                if create_graph or kept is None or [x.clock[0] for x in kept] != record.versions:
                    kept = _kept(record, create_graph)
                op, mask, specs, parents = record.op, record.mask, record.specs, record.parents
                for i, rule, positions in op.ruled.get(mask) or op.rules(mask):
                    # Written out for what nearly every rule is: half of what a rule costs in Python is spent here.
                    parent: Any = parents[i]
                    if parent is None or (useful is not None and parent not in useful):
                        continue
                    inner = type(parent) is Record
                    slot = None
                    if to_slots and not inner:
                        own = parent.leaf
                        if own is None or own.slot is None or own.hooks or mode.listener is not None or handed:
                            if not (own is not None and own.hooks) and not leaf_of(parent).present:
                                slot = mode.destination = slot_for_writing(parent)
                        elif not own.present:  # `slot_for_writing` where there is nobody to tell
                            slot = mode.destination = own.slot
                            slot.clock[0] += 1
                            own.linked = None
                    if positions is None:
                        given = rule(g, *_arguments(record, i, kept))
                    elif not positions:
                        given = rule(g)
                    else:
                        given = rule(g, kept[positions[0]]) if len(positions) == 1 else rule(g, *[kept[p] for p in positions])
                    if given is None:  # a Function's word for no gradient
                        mode.destination = None
                        continue
                    if given.spec is not specs[i] and given.spec.shape != specs[i].shape:
                        given = unbroadcast(given, specs[i].shape)
                    if inner:
                        before = parent.grad
                        parent.grad = given if before is None else elementwise.add(before, given)
                        continue
                    mode.destination = None
                    if given is slot:
                        parent.leaf.present = True
                    elif parent.leaf is not None and parent.leaf.hooks:
                        late[parent] = elementwise.add(late[parent], given) if parent in late else given
                    else:
                        leaf(parent, given)
                if not retain_graph:
                    record.kept = None
                    if dropped:
                        record.parents = ()
            mode.turn = outer
            for handle, g in late.items():
                assert handle.leaf is not None and handle.leaf.hooks is not None
                leaf(handle, hooks.run(handle.leaf.hooks, g))
    finally:
        mode.destination, mode.turn, mode.trail = None, outer, trail or mode.trail
        for record in order:
            record.grad = None
        live.gradients.value += 1
    return Swept(found, len(order))


#: A pass over more records than this is not kept.
TRAIL_RECORDS: Final = 20_000


class Trail(NamedTuple):
    """What a backward pass went through, kept until the optimiser's guard has passed, so that a refused step can be computed again."""

    roots: dict[Record, Any]  # with the gradients that the pass began with
    order: list[Record]  # latest first
    consumed: bool  # whether the pass used the records up
    records: int  # which are not kept if they are too many


def forget(mode: Mode) -> None:
    """Let go of the last pass, without recursion."""
    trail, mode.trail = mode.trail, None
    if trail is not None and trail.consumed:
        for record in trail.order:
            record.parents = ()


def _owned(order: list[Record]) -> bool:
    """Whether one of the first things that was done has an optimiser's parameter."""
    for record in order[:-5:-1]:
        for parent in record.parents:
            if isinstance(parent, Handle) and parent.leaf is not None and parent.leaf.owned:
                return True
    return False


def _leading_to(order: list[Record], wanted: set[Any]) -> set[Any]:
    """The records of `order` from which something wanted can be reached, and what is wanted itself; a record that is used up might."""
    useful = set(wanted)
    for record in reversed(order):
        if record.kept is None or any(parent in useful for parent in record.parents if isinstance(parent, Record | Handle)):
            useful.add(record)
    return useful


def require_graph(outputs: Sequence[Handle]) -> None:
    """Raise GraphError for an output that no gradient flows through."""
    for i, output in enumerate(outputs):
        if not output.needs_grad:
            raise GraphError(f"element {i} of tensors does not require grad and does not have a grad_fn: "
                             "nothing that it was made from has requires_grad=True, or it was made under no_grad()")


def send_back(outputs: Sequence[Handle], seeds: Sequence[Any], *, retain_graph: bool, create_graph: bool,
              inputs: Sequence[Handle] | None = None) -> None:
    """Add the gradients of several outputs, together, to every leaf that they were made from, or to `inputs` alone."""
    require_graph(outputs)
    if inputs is not None:
        if not inputs:
            raise GraphError("backward: inputs is empty: leave it out to send the gradient to every leaf")
        for x, g in zip(inputs, gradients(outputs, inputs, seeds, retain_graph=retain_graph, create_graph=create_graph), strict=True):
            if g is not None:
                add_up(x, g, create_graph)
        live.gradients.value += 1
        return
    take = keep_graph if create_graph else accumulate
    roots: dict[Record, Any] = {}
    for output, seed in zip(outputs, seeds, strict=True):
        if output.record is not None:
            with GradMode(create_graph):
                roots[output.record] = elementwise.add(roots[output.record], seed) if output.record in roots else seed
        else:
            leaf = output.leaf
            take(output, hooks.run(leaf.hooks, seed) if leaf is not None and leaf.hooks else seed)
            live.gradients.value += 1
    if roots and sweep(roots, retain_graph=retain_graph, create_graph=create_graph, leaf=take).records > TRIM_RECORDS:
        trim()


def add_up(handle: Handle, g: Any, create_graph: bool) -> None:
    """Add a gradient, which nobody else holds, to a result's `.grad`, which lives as long as the result, or to a leaf's."""
    if handle.record is None:
        (keep_graph if create_graph else accumulate)(handle, g)
        return
    if handle.leaf is None:
        handle.leaf = Leaf()
    leaf = handle.leaf
    leaf.linked = g if leaf.linked is None else elementwise.add(leaf.linked, g)
    leaf.present = True


def gradients(outputs: Sequence[Handle], inputs: Sequence[Handle], seeds: Sequence[Any], *, retain_graph: bool,
              create_graph: bool) -> list[Any]:
    """The gradient of the outputs with respect to each input, or None where an output does not depend on it; `.grad` is not touched."""
    sums: dict[Any, Any] = {}

    def take(place: Any, g: Any) -> None:
        sums[place] = elementwise.add(sums[place], g) if place in sums else g

    places = [x.record or x for x in inputs]
    roots: dict[Record, Any] = {}
    with GradMode(create_graph):
        for output, seed in zip(outputs, seeds, strict=True):
            if output.record is None:
                if any(output is place for place in places):
                    take(output, seed)
            else:
                roots[output.record] = elementwise.add(roots[output.record], seed) if output.record in roots else seed
        if roots:
            for place, g in sweep(roots, retain_graph=retain_graph, create_graph=create_graph, leaf=take, wanted=set(places)).found.items():
                take(place, g)
    with GradMode(create_graph):
        taken = {seed.address for seed in seeds}  # nobody else may hold what was given, or another input's gradient
        for place, g in sums.items():
            if g.address in taken:
                sums[place] = elementwise.clone(g)
            taken.add(g.address)
    return [sums.get(place) for place in places]
