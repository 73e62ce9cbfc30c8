"""Modules made of modules, and parameters in lists."""
from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.ops.residual import residual
from minigrad.tape.tensor import Tensor


class _Listed(Module):
    """Children in an order, found by position or by slice."""

    def _checked(self, name: str, value: Any) -> Any:
        if not isinstance(value, Module):
            raise TypeError(f"{type(self).__name__}: {name} is a {type(value).__name__}, expected a Module")
        return value

    def _held(self) -> dict[str, Any]:
        return self._modules

    def _name_at(self, index: int) -> str:
        names, at = list(self._held()), operator.index(index)
        if not -len(names) <= at < len(names):
            raise IndexError(f"index {at} is out of range: {type(self).__name__} has {len(names)} entries")
        return names[at]

    def _refill(self, values: Iterable[Any]) -> None:
        """Hold exactly these, named 0, 1, 2..."""
        kept = [self._checked(str(i), value) for i, value in enumerate(values)]
        for name in list(self._held()):
            delattr(self, name)
        for i, value in enumerate(kept):
            setattr(self, str(i), value)

    def __len__(self) -> int:
        return len(self._held())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held().values())

    def __contains__(self, value: object) -> bool:
        return any(held is value for held in self._held().values())

    def __setitem__(self, index: Any, value: Any) -> None:
        name = self._name_at(index)
        setattr(self, name, self._checked(name, value))

    def __delitem__(self, index: Any) -> None:
        gone = set(list(self._held())[index]) if isinstance(index, slice) else {self._name_at(index)}
        if all(name.isdigit() for name in self._held()):
            self._refill([value for name, value in self._held().items() if name not in gone])
            return
        for name in gone:
            delattr(self, name)

    def append(self, value: Any) -> Self:
        """Add one at the end; returns itself."""
        name = str(len(self))
        setattr(self, name, self._checked(name, value))
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add several at the end; returns itself."""
        added = [self._checked(str(i), value) for i, value in enumerate(values, len(self))]
        for value in added:
            self.append(value)
        return self

    def insert(self, index: int, value: Any) -> Self:
        """Put one before the entry at `index`; those behind it are renamed. Returns itself."""
        values = list(self)
        values.insert(operator.index(index), value)
        self._refill(values)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take one out and give it back; those behind it are renamed."""
        value = self._held()[self._name_at(index)]
        del self[index]
        return value

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)


class Sequential(_Listed):
    """Modules one after the other: given in order, or by name in an OrderedDict. A slice is a Sequential of the same modules."""

    def __init__(self, *modules: Module | OrderedDict[str, Module]) -> None:
        super().__init__()
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], OrderedDict) else {str(i): m for i, m in enumerate(modules)}
        for name, module in named.items():
            self.register_module(name, self._checked(name, module))

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)  # type: ignore[misc]
        return x

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: Any) -> Module:
        if isinstance(index, slice):
            return Sequential(OrderedDict(list(self._modules.items())[index]))  # type: ignore[arg-type]
        return self._modules[self._name_at(index)]  # type: ignore[return-value]


class ModuleList(_Listed):
    """A list of modules that belong to the model; what runs, and in which order, is up to the forward that uses them."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...

    def __getitem__(self, index: Any) -> Module:
        if isinstance(index, slice):
            return ModuleList(list(self._modules.values())[index])  # type: ignore[arg-type]
        return self._modules[self._name_at(index)]  # type: ignore[return-value]


class ModuleDict(Module):
    """Modules by name, in order, that belong to the model."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]  # type: ignore[return-value]

    def __setitem__(self, name: str, module: Module) -> None:
        self.register_module(name, module)

    def __delitem__(self, name: str) -> None:
        if name not in self._modules:
            raise KeyError(name)
        delattr(self, name)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._modules.values()  # type: ignore[return-value]

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and modules."""
        return self._modules.items()  # type: ignore[return-value]

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add these, in their order."""
        for name, module in dict(modules).items():
            self[name] = module

    def pop(self, name: str) -> Module:
        """Take one out and give it back."""
        module = self[name]
        del self[name]
        return module

    def clear(self) -> None:
        """Take all out."""
        for name in list(self._modules):
            del self[name]


class ParameterList(_Listed):
    """A list of parameters that belong to the model; Tensors and arrays become Parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def _checked(self, name: str, value: Any) -> Any:
        return value if isinstance(value, Parameter) else Parameter(value)

    def _held(self) -> dict[str, Any]:
        return self._parameters

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self._parameters.values())[index])
        return self.__dict__[self._name_at(index)]  # what stands in for it in `func.functional_call`, too

    def extra_repr(self) -> str:
        return "\n".join(f"({name}): {p.spec!r}" for name, p in self._parameters.items() if isinstance(p, Tensor))


class Identity(Module):
    """Its input, as it is; arguments of the constructor are not used, so that it can stand in for any layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Residual(Module):
    """x + scale * module(x); 1/sqrt(depth) keeps a deep chain's variance bounded."""

    def __init__(self, module: Module, scale: float = 1.0) -> None:
        super().__init__()
        self.module, self.scale = module, float(scale)

    def forward(self, x: Any) -> Any:
        branch = self.module(x)
        return residual(x, branch) if self.scale == 1.0 else residual(x, branch, scale=self.scale)

    def extra_repr(self) -> str:
        return "" if self.scale == 1.0 else f"scale={self.scale:g}"
