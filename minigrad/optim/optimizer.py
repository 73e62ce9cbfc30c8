"""What all optimisers share: groups of parameters, hyper-parameters that live in memory, and the guard before an update."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from minigrad.errors import NonFiniteError
from minigrad.ops import norms
from minigrad.ops.spec import Spec
from minigrad.tape import journal, live
from minigrad.tape.gradnorm import Group
from minigrad.tape.handle import Handle, Leaf, clear_gradient, wrap
from minigrad.tape.live import Numbers
from minigrad.tape.mode import local, no_grad
from minigrad.tape.slab import Segment, aligned
from minigrad.tape.tensor import Tensor


class Optimizer:
    """Base of all optimisers. A subclass names its hyper-parameters in `slots` and writes `update`."""

    slots: ClassVar[tuple[str, ...]]

    def __init__(self, params: Iterable[Tensor] | Iterable[Mapping[str, Any]], defaults: Mapping[str, Any]) -> None:
        given: list[Any] = list(params)
        if not given:
            raise ValueError("optimizer got an empty parameter list")
        described = given if isinstance(given[0], Mapping) else [{"params": given}]
        self.param_groups: list[Numbers] = []
        self.groups: list[Group] = []
        for one in described:
            parameters = list(one["params"])
            unknown = [name for name in one if name != "params" and name not in defaults]
            if unknown:
                raise ValueError(f"{type(self).__name__} has no hyper-parameter {unknown[0]!r}: it has {', '.join(defaults)}")
            for p in parameters:
                if not isinstance(p, Handle):
                    raise TypeError(f"an optimizer takes Tensors, got a {type(p).__name__}")
                if p.record is not None:
                    raise ValueError("can't optimize a non-leaf Tensor: give the leaves that it was made from")
            self.param_groups.append(Numbers({**defaults, **one, "params": parameters}, self.slots))
            self.groups.append(Group(parameters))
        every = [p for group in self.groups for p in group.parameters]
        if len({id(p) for p in every}) < len(every):
            raise ValueError("an optimizer's parameter groups share a parameter: list each once")
        self._everything = Group(every) if len(self.groups) > 1 else self.groups[0]
        self._moments: dict[tuple[str, int, int], Any] = {}
        self._clocks: list[list[int]] = []

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set every gradient to None; the slots stay and are written anew by the next backward."""
        if not set_to_none:
            raise ValueError("zero_grad(set_to_none=False) would keep zeros to add to: leave set_to_none out, a missing gradient is written anew")
        for p in self._everything.parameters:
            if p.leaf is not None:
                clear_gradient(p.leaf)
        live.gradients.value += 1

    def step(self) -> None:
        """Update every parameter that has a gradient. Raises NonFiniteError, and changes nothing, if their norm is not finite."""
        with no_grad():
            total = self._everything.finite_by()
            try:
                norms.guard(self._everything.norm() if total is None else total)
            except NonFiniteError:
                journal.roll_back()
                raise
            for numbers, group in zip(self.param_groups, self.groups, strict=True):
                for run in group.runs():
                    self.update(run, numbers.tensor)
        journal.commit()
        self._tick()

    def _tick(self) -> None:
        """Move the versions of all parameters. They share one, from the first step on: what was saved of them before is stale then anyway."""
        if not self._clocks:
            every = self._everything.parameters
            clock = [max(p.clock[0] for p in every)]
            for p in every:
                if p.leaf is None:
                    p.leaf = Leaf()
                if not p.leaf.shared_clock:
                    p.clock, p.leaf.shared_clock = clock, True
            self._clocks = list({id(p.clock): p.clock for p in every}.values())
        listener = local.mode.listener
        for clock in self._clocks:
            clock[0] += 1
            if listener is not None:
                listener.ticked(clock)

    def update(self, run: Segment, hyper: Any) -> None:
        """Update one run of parameters."""
        raise TypeError(f"{type(self).__name__} needs an update method")

    def moment(self, name: str, run: Segment) -> Any:
        """A flat Tensor of zeros that mirrors the run, kept from step to step; runs that are cut anew find their old values."""
        if run.slab is None:
            key = (name, 0, id(run.leaves[0]))
            if key not in self._moments:
                self._moments[key] = wrap(aligned(run.data.spec.size, run.data.spec.dtype), run.data.spec)
            return self._moments[key]
        key = (name, id(run.slab), run.offset)
        found = self._moments.get(key)
        if found is None or found.spec is not run.data.spec:
            whole = (name, id(run.slab), -1)
            if whole not in self._moments:
                self._moments[whole] = wrap(aligned(run.slab.elements, run.slab.dtype), Spec.of((run.slab.elements,), run.slab.dtype))
            window = self._moments[whole].array[run.offset:run.offset + run.data.spec.size]
            found = self._moments[key] = wrap(window, run.data.spec, self._moments[whole].clock)
        return found

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={self.param_groups[0][name]}" for name in self.slots)
        return f"{type(self).__name__}({numbers}, {len(self._everything.parameters)} parameters)"
