"""Module: parameters and submodules by attribute, their names, and the path that errors quote."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minigrad.errors import DtypeError, ShapeError
from minigrad.nn.parameter import Parameter
from minigrad.tape import live
from minigrad.tape.mode import local


class Module:
    """Base of all layers: assign Parameters and Modules as attributes, write `forward`, call the object."""

    training: bool
    _parameters: dict[str, Parameter]
    _modules: dict[str, Module]
    _name: str  # the path in the model, for error texts

    def __init__(self) -> None:
        self.__dict__.update(_parameters={}, _modules={}, training=True, _name="")

    # ---- attributes
    def __setattr__(self, name: str, value: Any) -> None:
        self._parameters.pop(name, None)
        self._modules.pop(name, None)
        if isinstance(value, Parameter):
            self._parameters[name] = value
        elif isinstance(value, Module):
            self._modules[name] = value
            value._rename(f"{self._name}.{name}" if self._name else name)
        # The plain attribute is what a forward pass reads: a look-up through __getattr__ would cost it 0.5 us.
        self.__dict__[name] = value
        live.changed()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._parameters.pop(name, None)
        self._modules.pop(name, None)
        live.changed()

    def _rename(self, path: str) -> None:
        """Remember where this module is in the model; a module used in two places keeps the last."""
        self.__dict__["_name"] = path
        for name, module in self._modules.items():
            module._rename(f"{path}.{name}")

    # ---- running
    def forward(self, *inputs: Any) -> Any:
        """What the module computes; write this one."""
        raise TypeError(f"{type(self).__name__} needs a forward method")

    def __call__(self, *inputs: Any) -> Any:
        mode = local.mode
        before, mode.path = mode.path, self._name or before_or_own(mode.path, self)
        try:
            return self.forward(*inputs)
        finally:
            mode.path = before

    # ---- what it holds
    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module as "" and all below it by path, each once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module
                stack += [(f"{path}.{name}" if path else name, child) for name, child in reversed(module._modules.items())]

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The modules right below this one."""
        return iter(self._modules.values())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters by path, each once, in order of definition."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, parameter in module._parameters.items():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{path}.{name}" if path else name), parameter

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once, in order of definition."""
        found = self.__dict__.get("_found")
        if found is None or found[0] != live.counter.value:  # each assignment to a module moves the counter
            found = self.__dict__["_found"] = (live.counter.value, [parameter for _, parameter in self.named_parameters()])
        return iter(found[1])

    def zero_grad(self) -> None:
        """Set every parameter's gradient to None."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Module:
        """Put this module and all below it in training mode, or in evaluation mode; returns itself."""
        for module in self.modules():
            if module.training is not mode:
                module.training = mode
        return self

    def eval(self) -> Module:
        """Put this module and all below it in evaluation mode; returns itself."""
        return self.train(False)

    # ---- saving
    def _paths(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters by every path that leads to them: a shared one has several."""
        yield from ((prefix + name, parameter) for name, parameter in self._parameters.items())
        for name, module in self._modules.items():
            yield from module._paths(f"{prefix}{name}.")

    def state_dict(self) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
        """Copies of all parameters by path, a shared one under each of its paths, as PyTorch's."""
        return {name: parameter.array.copy() for name, parameter in self._paths()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy values in place, by path. Raises KeyError, ShapeError or DtypeError before anything is changed."""
        own = dict(self._paths())
        missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or extra:
            raise KeyError(f"state_dict does not fit: missing {missing or 'nothing'}, unexpected {extra or 'nothing'}")
        values = {name: np.asarray(getattr(value, "array", value)) for name, value in state.items()}
        for name, value in values.items():
            if value.shape != own[name].shape:
                raise ShapeError(f"{name}: the state has shape {value.shape}, the module {own[name].shape}")
            if not np.can_cast(value.dtype, own[name].dtype, "same_kind"):
                raise DtypeError(f"{name}: the state is {value.dtype.name}, the module {own[name].dtype.name}")
        for name, value in values.items():
            own[name].copy_(value)

    # ---- showing
    def extra_repr(self) -> str:
        """What stands in the parentheses of a leaf module's repr."""
        return ""

    def __repr__(self) -> str:
        if not self._modules:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._modules.items()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def before_or_own(path: str, module: Module) -> str:
    """The path of a module that is part of no other: that of its caller, else its class."""
    return path or type(module).__name__
