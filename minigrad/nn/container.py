"""Modules made of modules."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from minigrad.nn.module import Module
from minigrad.ops.residual import residual


class Sequential(Module):
    """Modules one after the other: given in order, or by name in an OrderedDict."""

    def __init__(self, *modules: Module | OrderedDict[str, Module]) -> None:
        super().__init__()
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], OrderedDict) else {str(i): m for i, m in enumerate(modules)}
        for name, module in named.items():
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: {name} is a {type(module).__name__}, expected a Module")
            setattr(self, name, module)

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int) -> Module:
        return list(self._modules.values())[index]


class Residual(Module):
    """x + scale * module(x); 1/sqrt(depth) keeps a deep chain's variance bounded."""

    def __init__(self, module: Module, scale: float = 1.0) -> None:
        super().__init__()
        self.module, self.scale = module, float(scale)

    def forward(self, x: Any) -> Any:
        branch = self.module(x)
        return residual(x, branch) if self.scale == 1.0 else residual(x, branch, scale=self.scale)
