"""What all optimisers share: groups of parameters, hyper-parameters that live in memory, and the guard before an update."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from minigrad.errors import CaptureError, NonFiniteError
from minigrad.ops import elementwise, norms, update
from minigrad.ops.op import Op
from minigrad.ops.shape import expand
from minigrad.ops.spec import Spec
from minigrad.optim import state
from minigrad.tape import checked, journal, live, observe
from minigrad.tape.backward import forget
from minigrad.tape.gradnorm import Group
from minigrad.tape.handle import Handle, Leaf, clear_gradient, wrap
from minigrad.tape.live import Numbers
from minigrad.tape.mode import caller, enable_grad, local, no_grad
from minigrad.tape.record import constant
from minigrad.tape.slab import Segment, aligned, moved
from minigrad.tape.tensor import Tensor

#: What may become of a step that is not finite.
POLICIES: Final = ("raise", "skip", "ignore")
#: What PyTorch calls a hyper-parameter that is out of its range.
WORDS: Mapping[str, str] = {"lr": "learning rate", "momentum": "momentum value", "dampening": "dampening value", "eps": "epsilon value",
                            "weight_decay": "weight_decay value", "alpha": "alpha value", "lr_decay": "lr_decay value"}


class Optimizer:
    """Base of all optimisers. A subclass names its hyper-parameters in `slots`, in the order of its kernels, and writes `update`.

    Hyper-parameters stand in memory that kernels read at each step: `param_groups[0]["lr"] = 0.01` is seen by the next one, captured or not.
    """

    slots: ClassVar[tuple[str, ...]]
    #: The words that a hyper-parameter may be.
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: What may be kept for each parameter, under PyTorch's names.
    keeps: ClassVar[tuple[str, ...]] = ()
    #: Whether the number of the step is part of the state.
    counted: ClassVar[bool] = True

    def __init__(self, params: Iterable[Tensor] | Iterable[Mapping[str, Any]], defaults: Mapping[str, Any]) -> None:
        self.check(defaults)
        given: list[Any] = list(params)
        if not given:
            raise ValueError("optimizer got an empty parameter list")
        self.defaults = dict(defaults)
        self._nonfinite = "raise"
        #: Steps that were dropped since they were not finite, with nonfinite="skip".
        self.skipped = 0
        self._begin()
        for one in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self._add(one)

    def _begin(self) -> None:
        """No groups, and nothing kept."""
        self.param_groups: list[Numbers] = []
        self.groups: list[Group] = []
        self._moments: dict[tuple[str, int, int], Any] = {}
        self._mirrors: dict[tuple[str, int, int], tuple[Any, int]] = {}
        self._held: dict[tuple[str, int], Any] = {}  # by name and parameter: windows of the moments
        self._moved = moved.value

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: the parameters themselves, and the state by their order; memory is known by address and is found anew."""
        own = ("param_groups", "groups", "_moments", "_mirrors", "_held", "_moved", "_everything", "_clocks")
        return {"own": {name: value for name, value in self.__dict__.items() if name not in own},
                "parameters": [group.parameters for group in self.groups], "state": self.state_dict()}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept["own"])
        self._begin()
        for parameters, described in zip(kept["parameters"], kept["state"]["param_groups"], strict=True):
            self._add({**described, "params": parameters})
        state.load(self, kept["state"])

    # ---- groups
    def check(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError, in PyTorch's words, for hyper-parameters that make no sense."""
        for name in self.slots:
            if name in WORDS and not 0 <= values[name] < float("inf"):
                raise ValueError(f"Invalid {WORDS[name]}: {values[name]}: {type(self).__name__} takes a finite number that is not negative")
        for i, beta in enumerate(values.get("betas", ())):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}: {type(self).__name__} takes a number from 0 up to, not including, 1")

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """One more group: a dict with "params", one Tensor or several, and its own hyper-parameters; the others are the defaults.

        Captured steps record again. Raises ValueError or TypeError, and adds nothing, for what is not in order.
        """
        if local.mode.listener is not None:
            raise CaptureError(f"a parameter group is added at {caller()} inside a captured step, which a replay would not do again")
        self._add(param_group)
        live.changed()

    def _add(self, described: Mapping[str, Any]) -> None:
        if not isinstance(described, Mapping) or "params" not in described:
            raise TypeError(f"a parameter group is a dict with 'params', got {described!r}")
        given = described["params"]
        parameters: list[Any] = [given] if isinstance(given, Handle) else list(given)
        unknown = [name for name in described if name not in ("params", "initial_lr", *self.defaults)]
        if unknown:
            raise ValueError(f"{type(self).__name__} has no hyper-parameter {unknown[0]!r}: it has {', '.join(self.defaults)}")
        for p in parameters:
            if not isinstance(p, Handle):
                raise TypeError(f"an optimizer takes Tensors, got a {type(p).__name__}")
            if p.record is not None:
                raise ValueError("can't optimize a non-leaf Tensor: give the leaves that it was made from")
        every = [*(p for group in self.groups for p in group.parameters), *parameters]
        if len({id(p) for p in every}) < len(every):
            raise ValueError("some parameters appear in more than one parameter group, or twice in one: list each once")
        numbers = Numbers({**self.defaults, **described, "params": parameters}, self.slots, self.check, self.choices,
                          ("initial_lr",))
        self.param_groups.append(numbers)
        self.groups.append(Group(parameters))
        for p in parameters:
            if p.leaf is None:
                p.leaf = Leaf()
            p.leaf.owned = True
        self._everything = Group(every) if len(self.groups) > 1 else self.groups[0]
        self._clocks: list[list[int]] = []

    # ---- steps
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set every gradient to None; the slots stay and are written anew by the next backward. With False those that are there become zeros."""
        listener = local.mode.listener
        for p in self._everything.parameters:
            leaf = p.leaf
            if leaf is None:
                continue
            if set_to_none:
                clear_gradient(leaf)
                continue
            if listener is not None:
                listener.looked(leaf)
            if leaf.present and leaf.slot is not None:
                leaf.linked = None
                with no_grad():
                    elementwise.copy_(leaf.slot, expand(constant(0.0, p.spec.dtype), shape=p.spec.shape))
        if set_to_none:
            live.gradients.value += 1

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. Raises NonFiniteError, and changes nothing, if their norm is not finite: see `nonfinite`.

        closure: called first, with gradients on, to compute them anew; what it returns is returned. In a group that has no gradient at all
        nothing moves, the count of its steps included.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            if self._nonfinite != "ignore" and not self._passes():
                return loss
            observer = observe.of(self._everything.parameters) if observe.active else None
            if observer is not None:
                for run in self._everything.runs():
                    observer.missed(run)
            for numbers, group in zip(self.param_groups, self.groups, strict=True):
                runs = group.runs()
                if runs and self.counts(numbers):
                    update.count_(numbers.tensor, cell=numbers.age)
                for run in runs:
                    self.update(run, numbers)
                    if observer is not None:
                        observer.updated(run)
            if observer is not None:
                observer.end()
        journal.commit()
        if local.mode.trail is not None:
            forget(local.mode)
        self._tick()
        return loss

    def _passes(self) -> bool:
        """Whether the norm of the gradients is finite; False for a step that is to be skipped. Raises NonFiniteError, which says why."""
        mode = local.mode
        if mode.listener is not None:
            mode.listener.guarded(self)
        total = self._everything.finite_by()
        try:
            norms.guard(self._everything.norm() if total is None else total)
        except NonFiniteError as error:
            journal.roll_back()
            observe.refused()
            try:
                if self._nonfinite == "raise":
                    raise checked.explained(error, self._everything.parameters) from None
            finally:
                forget(mode)
            self.skipped += 1
            if mode.listener is not None:
                mode.listener.refused()
            return False
        return True

    @property
    def nonfinite(self) -> str:
        """What becomes of a step whose gradients' norm is not finite.

        "raise": NonFiniteError, which names where it began; parameters, moments, running statistics and random state stay as they were.
        "skip": they stay, too, the loop goes on, and `skipped` counts. "ignore": no look at the norm, and the update is applied, as in PyTorch.
        Not part of `state_dict`; a captured step records again. Raises ValueError for other words, CaptureError inside a captured step.
        """
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, policy: str) -> None:
        if policy not in POLICIES:
            raise ValueError(f"nonfinite is {policy!r}, expected one of {', '.join(map(repr, POLICIES))}")
        if policy != self._nonfinite:
            if local.mode.listener is not None:
                raise CaptureError(f"nonfinite is set at {caller()} inside a captured step, which a replay would not do again: set it before")
            self._nonfinite = policy
            live.changed()

    def progress(self) -> tuple[int, int]:
        """How many steps were skipped, and a number that moves with every step that was taken: for schedules."""
        return self.skipped, sum(clock[0] for clock in self._clocks)

    def _tick(self) -> None:
        """Move the versions of all parameters. They share one, from the first step on: what was saved of them before is stale then anyway."""
        if not self._clocks:
            every = self._everything.parameters
            clock = [max((p.clock[0] for p in every), default=0)]
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

    def counts(self, numbers: Numbers) -> bool:
        """Whether the update of this group needs the number of the step."""
        return self.counted

    def update(self, run: Segment, numbers: Numbers) -> None:
        """Update one run of parameters, by `apply`."""
        raise TypeError(f"{type(self).__name__} needs an update method")

    def apply(self, op: Op, run: Segment, *others: Any) -> None:
        """Run op(p, grad, *others), others being states and then numbers; where the run is watched, in the form that takes statistics."""
        observer = observe.of(run.leaves) if observe.active else None
        if observer is None or not observer.update(op, run, others):
            op(run.data, run.grad, *others)

    # ---- what is kept for each parameter
    def moment(self, name: str, run: Segment, start: float = 0.0) -> Any:
        """A flat Tensor that mirrors the run, `start` at first, kept from step to step; runs that are cut anew find their old values."""
        self.follow()
        first = run.leaves[0]
        key = (name, id(run.slab), run.offset) if run.slab is not None else (name, 0, id(first))
        found = self._moments.get(key)
        if found is None or found.spec is not run.data.spec or (name, id(first)) not in self._held:
            for p in run.leaves:
                known = self._held.get((name, id(p)))
                mine = self._held[name, id(p)] = self.kept(name, p)
                if known is None or known.address != mine.address:
                    mine.array[...] = start  # the place may have been another parameter's
            if run.slab is not None:
                self._moments[key] = self._part(name, run.slab, run.offset, run.data.spec)
            found = self._moments[key]
        return found

    def follow(self) -> None:
        """Take along what is kept for parameters that were given other memory, in another dtype."""
        if self._moved == moved.value:
            return
        self._moved = moved.value
        stale = [(name, p, held) for p in self._everything.parameters for name in self.keeps
                 if (held := self._held.get((name, id(p)))) is not None]
        values = [held.array.copy() for _, _, held in stale]  # an old place may be a new one of another parameter
        for (name, p, held), array in zip(stale, values, strict=True):
            mine = self.kept(name, p)
            if mine.address != held.address:
                mine.array[...] = array
                mine.clock[0] += 1
                self._held[name, id(p)] = mine

    def kept(self, name: str, p: Any) -> Any:
        """The part of the moment that is this parameter's, with its shape; zeros if there was none."""
        place = getattr(p, "place", None)
        if place is None:
            key = (name, 0, id(p))
            if key not in self._moments or self._moments[key].spec.dtype is not p.spec.dtype:
                self._moments[key] = wrap(aligned(p.spec.size, p.spec.dtype), Spec.of((p.spec.size,), p.spec.dtype))
            flat = self._moments[key]
            return wrap(flat.array.reshape(p.spec.shape), p.spec, flat.clock)
        return self._part(name, place.slab, place.offset, p.spec)

    def _part(self, name: str, slab: Any, offset: int, spec: Spec) -> Any:
        """The moment at a place of the slab. It mirrors the stretch of the slab in which this optimiser's parameters are."""
        key = (name, id(slab), -1)
        whole, begin = self._mirrors.get(key, (None, 0))
        if whole is None or not begin <= offset <= offset + spec.size <= begin + whole.spec.size:
            every: list[Any] = [p for group in self.groups for p in group.parameters if getattr(p, "place", None) is not None]
            places = [(p.place.offset, p.spec.size) for p in every if p.place.slab is slab]
            first, end = min(at for at, _ in places), max(at + size for at, size in places)
            grown = wrap(aligned(end - first, slab.dtype), Spec.of((end - first,), slab.dtype))
            if whole is not None:  # a group was added
                grown.array[begin - first:begin - first + whole.spec.size] = whole.array
                for held, x in self._held.items():
                    at = (x.address - whole.address) // slab.dtype.itemsize
                    if held[0] == name and 0 <= at < whole.spec.size:
                        at += begin - first
                        self._held[held] = wrap(grown.array[at:at + x.spec.size].reshape(x.spec.shape), x.spec, grown.clock)
                self._moments = {known: x for known, x in self._moments.items() if known[:2] != key[:2]}
                live.changed()
            self._mirrors[key] = whole, begin = grown, first
        window = whole.array[offset - begin:offset - begin + spec.size]
        return wrap(window.reshape(spec.shape), spec, whole.clock)

    @property
    def state(self) -> dict[Any, dict[str, Tensor]]:
        """What is kept for each parameter that was updated, e.g. `opt.state[p]["exp_avg"]`: Tensors on the memory that steps write.

        "step" is the count of the parameter's group.
        """
        return {p: found for numbers, group in zip(self.param_groups, self.groups, strict=True) for p in group.parameters
                if (found := state.of_parameter(self, numbers, p))}

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index: {name: array}}, "param_groups": [...]} as PyTorch's, parameters as indices in order; all arrays are copies."""
        return state.taken(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, with the bits of a training that was not interrupted.

        Raises StateError, before anything changes, if it does not fit this optimiser's groups and parameters; ValueError for
        hyper-parameters that make no sense; CaptureError inside a captured step.
        """
        state.load(self, state_dict)

    def __repr__(self) -> str:
        lines = []
        for i, numbers in enumerate(self.param_groups):
            lines += [f"Parameter Group {i}", *(f"    {name}: {numbers[name]}" for name in sorted(numbers) if name != "params")]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + "\n)"
