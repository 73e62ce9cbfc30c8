"""Module: parameters, buffers and submodules by attribute, their names, hooks, and the path that errors quote."""
from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from minigrad import config
from minigrad.errors import DeviceError, DtypeError
from minigrad.nn import around, state, tree
from minigrad.nn.parameter import Parameter, retype
from minigrad.nn.summary import Summary, layers_html, summary
from minigrad.tape import live
from minigrad.tape.conversion import dtype_of
from minigrad.tape.creation import zeros
from minigrad.tape.hooks import Removable
from minigrad.tape.mode import local
from minigrad.tape.record import next_serial
from minigrad.tape.tensor import Tensor

_caller = sys._getframe

#: Counts changes of who holds whom: a module looks for its path again when this has moved.
_places = live.Counter()


class Module:
    """Base of all layers: assign Parameters and Modules as attributes, write `forward`, call the object."""

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _transient: frozenset[str]  # names of buffers that are not saved
    _hooks: around.Hooks | None
    _above: tuple[weakref.ref[Module], str] | None  # what holds this module, and as what
    _path: str  # in the model, for error texts; right as long as _placed is _places
    _placed: int

    def __init__(self) -> None:
        self.__dict__.update(_parameters={}, _buffers={}, _modules={}, _transient=frozenset(), training=True, _hooks=None, _above=None,
                             _path="", _placed=-1)

    # ---- attributes
    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...  # what register_buffer and the like add

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if "_modules" not in own:
            if isinstance(value, Parameter | Module):
                raise AttributeError(f"cannot assign {name!r} before Module.__init__() call: call super().__init__() first")
            own[name] = value
            return
        kind: dict[str, Any] | None
        if isinstance(value, Parameter):
            kind = self._parameters
        elif isinstance(value, Module):
            kind = self._modules
        else:
            kind = next((held for held in (self._parameters, self._buffers, self._modules) if name in held), None)
            if kind is not None and value is not None and not (kind is self._buffers and isinstance(value, Tensor)):
                what, wanted = (("parameter", "nn.Parameter") if kind is self._parameters else
                                ("buffer", "Tensor") if kind is self._buffers else ("child module", "nn.Module"))
                raise TypeError(f"cannot assign '{type(value).__name__}' as {what} '{name}' ({wanted} or None expected): "
                                f"del the attribute first, or write into it")
        self._put(kind, name, value)

    def _put(self, kind: dict[str, Any] | None, name: str, value: Any) -> None:
        """Make `value` the attribute `name`, listed in `kind` and nowhere else, at its old place in the order if it had one."""
        before = self._modules.get(name)
        for held in (self._parameters, self._buffers, self._modules):
            if held is not kind and name in held:
                del held[name]
        if kind is not self._buffers and name in self._transient:
            self.__dict__["_transient"] = self._transient - {name}
        if kind is not None:
            kind[name] = value
        if before is not None and before is not value:
            self._release(before, name)
        if kind is self._modules and value is not None:
            self._hold(value, name)
        if kind is self._parameters and value is not None and not hasattr(value, "home"):
            value.home = (weakref.ref(self), name)
        # The plain attribute is what a forward pass reads: a look-up through __getattr__ would cost it 0.5 us.
        self.__dict__[name] = value
        live.changed()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._parameters.pop(name, None)
        self._buffers.pop(name, None)
        child = self._modules.pop(name, None)
        if child is not None:
            self._release(child, name)
        self.__dict__["_transient"] = self._transient - {name}
        live.changed()

    def _register(self, kind: dict[str, Any], name: str, value: Any) -> None:
        what = "parameter" if kind is self._parameters else "buffer" if kind is self._buffers else "module"
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"a {what}'s name is a string without dots that is not empty, not {name!r}")
        if (name in self.__dict__ or hasattr(type(self), name)) and name not in kind:
            raise KeyError(f"attribute '{name}' already exists")
        self._put(kind, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make `param` a parameter under `name`, as assigning it does; None keeps the name for later."""
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot register a {type(param).__name__} as parameter '{name}' (nn.Parameter or None expected)")
        self._register(self._parameters, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Keep a Tensor that is state but no parameter, such as a running mean: saved with the module unless persistent=False.

        A Tensor assigned to the name later is the buffer from then on. What a step changes should be written into the buffer in place.
        """
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot register a {type(tensor).__name__} as buffer '{name}' (Tensor or None expected): use mg.tensor(...)")
        self._register(self._buffers, name, tensor)
        self.__dict__["_transient"] = self._transient - {name} if persistent else self._transient | {name}

    def register_module(self, name: str, module: Module | None) -> None:
        """Make `module` a child under `name`, as assigning it does."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"cannot register a {type(module).__name__} as module '{name}' (nn.Module or None expected)")
        self._register(self._modules, name, module)

    add_module = register_module

    # ---- its place in the model
    def _hold(self, child: Module, name: str) -> None:
        """Tell a child where it is. One that is held elsewhere already keeps that place, so that a slice of a model renames nothing."""
        if child._above is None or child._above[0]() is None:
            child.__dict__["_above"] = (weakref.ref(self), name)
        _places.value += 1

    def _release(self, child: Module, name: str) -> None:
        if child._above is not None and child._above[0]() is self and child._above[1] == name and self._modules.get(name) is not child:
            child.__dict__["_above"] = None
        _places.value += 1

    def _find_path(self) -> str:
        """The path from the outermost module, worked out from the nearest one above whose own is known."""
        now = _places.value
        climbed: list[tuple[Module, str]] = []
        at, path = self, ""
        while at._placed != now and at._above is not None and len(climbed) < now:
            above = at._above[0]()
            if above is None:
                break
            climbed.append((at, at._above[1]))
            at = above
        if at._placed == now:
            path = at._path
        for module, name in reversed(climbed):
            path = f"{path}.{name}" if path else name
            module.__dict__.update(_path=path, _placed=now)
        if not climbed and at._placed != now:
            self.__dict__.update(_path="", _placed=now)
        return path

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_above", "_path", "_placed", "_found")}
        return kept | {name: dict(kept[name]) for name in ("_parameters", "_buffers", "_modules")}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept, _above=None, _path="", _placed=-1)
        for name, child in self._modules.items():
            if child is not None:
                self._hold(child, name)
        for name, parameter in self._parameters.items():
            if parameter is not None:
                parameter.home = (weakref.ref(self), name)

    # ---- running
    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module computes; write this one."""
        raise TypeError(f"{type(self).__name__} needs a forward method")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        mode = local.mode
        before = mode.path
        if not before:  # errors name the line
            frame = _caller(1)
            mode.sites.append((next_serial(), frame.f_code, frame.f_lasti))
        mode.path = (self._path if self._placed == _places.value else self._find_path()) or before or type(self).__name__
        try:
            if self._hooks is not None:
                return self._hooks.call(self, inputs, options)
            return self.forward(*inputs, **options) if options else self.forward(*inputs)
        finally:
            mode.path = before

    def _hook(self, kind: str, hook: Any, prepend: bool) -> Removable:
        if self._hooks is None:
            self.__dict__["_hooks"] = around.Hooks()
        return Removable(getattr(self._hooks, kind), hook, prepend=prepend)

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False) -> Removable:
        """Call `hook(module, args)` before each forward; what it returns, unless None, is taken as the arguments.

        with_kwargs: call `hook(module, args, kwargs)`, which returns None or both. In a captured step hooks run while recording, and what
        they compute with ops is part of the program; their other effects are not repeated.
        """
        return self._hook("before", (hook, with_kwargs), prepend)

    def register_forward_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False) -> Removable:
        """Call `hook(module, args, output)` after each forward; what it returns, unless None, is taken as the output.

        with_kwargs: call `hook(module, args, kwargs, output)`. In a captured step as `register_forward_pre_hook`.
        """
        return self._hook("after", (hook, with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Callable[[Module, Any, Any], Any], prepend: bool = False) -> Removable:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known; what it returns takes grad_input's place.

        Both are tuples, with None for what has no gradient; grad_input is of the positional inputs. The output has to be a Tensor or a
        tuple of Tensors. If no input requires a gradient, the hook is called as soon as the output's gradient is known.
        """
        return self._hook("backward", hook, prepend)

    # ---- what it holds
    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module as "" and all below it by path, each once."""
        return tree.named_modules(self, prefix)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in tree.named_modules(self, ""))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules right below this one, by name, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules right below this one, each once."""
        return (module for _, module in self.named_children())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """All parameters by path, each once, in order of definition; those of this module alone with recurse=False."""
        return tree.named_members(self, "_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once, in order of definition; those of this module alone with recurse=False."""
        if not recurse:
            return (parameter for _, parameter in self.named_parameters(recurse=False))
        found = self.__dict__.get("_found")
        if found is None or found[0] != live.counter.value:  # each assignment to a module moves the counter
            found = self.__dict__["_found"] = (live.counter.value, [parameter for _, parameter in self.named_parameters()])
        return iter(found[1])

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """All buffers by path, each once, in order of definition; those of this module alone with recurse=False."""
        return tree.named_members(self, "_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once, in order of definition; those of this module alone with recurse=False."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as "body.3"; itself at "". Raises AttributeError."""
        module = self
        for name in target.split(".") if target else ():
            inner = module._modules.get(name)
            if inner is None:
                raise AttributeError(f"{type(module).__name__} has no submodule {name!r} (looking for {target!r}); "
                                     f"it has {', '.join(module._modules) or 'none'}")
            module = inner
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as "body.3.weight". Raises AttributeError."""
        return tree.member(self, "_parameters", target)  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path such as "body.4.running_mean". Raises AttributeError."""
        return tree.member(self, "_buffers", target)  # type: ignore[no-any-return]

    # ---- doing something to all of it
    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` with every module below, then with this one, each once; returns itself."""
        for module in tree.inner_first(self):
            fn(module)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set every parameter's gradient to None, or, where there is one, to zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = zeros(parameter.shape, dtype=parameter.dtype)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let backward compute the gradients of all parameters, or freeze them; returns itself."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def train(self, mode: bool = True) -> Self:
        """Put this module and all below it in training mode, or in evaluation mode; returns itself."""
        stack: list[Module] = [self]
        seen: set[int] = set()
        while stack:
            module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            if module is not self and type(module).train is not Module.train:
                module.train(mode)  # a class with a method of its own looks after what is below it
                continue
            if module.training is not mode:
                module.training = mode
            stack += [child for child in module._modules.values() if child is not None]
        return self

    def eval(self) -> Self:
        """Put this module and all below it in evaluation mode; returns itself."""
        return self.train(False)

    # ---- dtype and device
    def to(self, *args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> Self:
        """Parameters and floating-point buffers in another dtype; or the device "cpu", the only one there is; or as a Tensor's. Returns itself.

        Parameters stay the same objects, and their gradients, and what an optimiser keeps for them, are converted too; their memory is new.
        Raises DeviceError or DtypeError, before anything is changed.
        """
        wanted = config.destination(args, device, dtype)
        if wanted is not None:
            self._retype(dtype_of(wanted))
        return self

    def _retype(self, dtype: np.dtype[Any]) -> None:
        if dtype not in (config.float32, config.float64):
            raise DtypeError(f"to: a module's parameters are float32 or float64, not {dtype.name}")
        for x in [*self.parameters(), *self.buffers()]:
            if x.spec.is_float and x.dtype != dtype:
                retype(x, dtype)

    def float(self) -> Self:
        """Parameters and floating-point buffers in float32; returns itself."""
        return self.to(config.float32)

    def double(self) -> Self:
        """Parameters and floating-point buffers in float64; returns itself."""
        return self.to(config.float64)

    def cpu(self) -> Self:
        """Itself: there is no other device."""
        return self

    def cuda(self, device: Any = None) -> Self:
        """Raises DeviceError: minigrad computes on the CPU."""
        raise DeviceError("cuda: minigrad computes on the CPU: leave the call out, or use .to(\"cpu\")")

    # ---- saving
    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """All parameters and persistent buffers by path, a shared one under each of its paths, as PyTorch's.

        The values are Tensors outside the graph on the module's own memory: `copy.deepcopy` the dict to keep what they are now.
        keep_vars: the parameters themselves.
        """
        return {prefix + name: x if keep_vars else x.detach() for name, x in tree.paths(self)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> state.IncompatibleKeys:
        """Copy values (Tensors or arrays) in place, by path; returns the keys that were missing and those that nothing was found for.

        Raises StateError, which lists everything that does not fit, before anything is changed: missing and unexpected keys (unless
        strict=False), other shapes, dtypes that lose what the values are, and values too large for the module's dtype.
        """
        return state.load(type(self).__name__, dict(tree.paths(self)), state_dict, strict)

    # ---- showing
    def summary(self, x: Any, loss: Callable[[Any], Tensor] | None = None) -> Summary:
        """A table of the layers: output shapes, parameters, and how large values and gradients are; see `mg.summary`."""
        return summary(self, x, loss)

    def extra_repr(self) -> str:
        """What stands in the parentheses of a module's repr, before the modules that it holds."""
        return ""

    def __repr__(self) -> str:
        return tree.shown(self, Module.__repr__)

    def _repr_html_(self) -> str:
        """A table of the layers, for a notebook."""
        return layers_html(self)
