"""Walks over a module and what it holds, without recursion: a model may be nested as deep as it likes."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigrad.nn.module import Module


def joined(path: str, name: str) -> str:
    """`path.name`."""
    return f"{path}.{name}" if path else name


def named_modules(root: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    """The module as `prefix` and all below it by path, each once, outer ones first."""
    seen: set[int] = set()
    stack: list[tuple[str, Module]] = [(prefix, root)]
    while stack:
        path, module = stack.pop()
        if id(module) not in seen:
            seen.add(id(module))
            yield path, module
            stack += [(joined(path, name), child) for name, child in reversed(module._modules.items()) if child is not None]


def named_members(root: Module, kind: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
    """What all modules hold in their dict `kind`, by path, each once."""
    seen: set[int] = set()
    for path, module in named_modules(root, prefix) if recurse else [(prefix, root)]:
        for name, x in getattr(module, kind).items():
            if x is not None and id(x) not in seen:
                seen.add(id(x))
                yield joined(path, name), x


def member(root: Module, kind: str, target: str) -> Any:
    """What stands at a path in the dict `kind` of the module there. Raises AttributeError."""
    path, _, name = target.rpartition(".")
    found = getattr(root.get_submodule(path), kind).get(name)
    if found is None:
        raise AttributeError(f"{type(root).__name__} has no {'parameter' if kind == '_parameters' else 'buffer'} {target!r}")
    return found


def inner_first(root: Module) -> Iterator[Module]:
    """The module and all below it, each once and after what it holds."""
    seen = {id(root)}
    stack = [(root, root.children())]
    while stack:
        module, rest = stack[-1]
        child = next((child for child in rest if id(child) not in seen), None)
        if child is None:
            stack.pop()
            yield module
        else:
            seen.add(id(child))
            stack.append((child, child.children()))


def paths(root: Module) -> Iterator[tuple[str, Any]]:
    """All parameters and persistent buffers by every path that leads to them. Raises ValueError for a module that holds itself."""
    above: list[int] = []
    inside: set[int] = set()
    stack: list[tuple[str, int, Module]] = [("", 0, root)]
    while stack:
        path, depth, module = stack.pop()
        while len(above) > depth:
            inside.discard(above.pop())
        if id(module) in inside:
            raise ValueError(f"a module holds itself, as {path}: its state has no end")
        above.append(id(module))
        inside.add(id(module))
        yield from ((joined(path, name), x) for name, x in module._parameters.items() if x is not None)
        yield from ((joined(path, name), x) for name, x in module._buffers.items() if x is not None and name not in module._transient)
        stack += [(joined(path, name), depth + 1, child) for name, child in reversed(module._modules.items()) if child is not None]


def shown(root: Module, usual: Callable[[Any], str]) -> str:
    """The module as an indented tree, as PyTorch shows it; a class with a `__repr__` other than `usual` shows itself."""
    lines: list[str] = []
    stack: list[tuple[str, str, Module | None]] = [("", "", root)]  # indentation, what stands before, and the module; None for plain text
    while stack:
        margin, label, module = stack.pop()
        if module is None:
            lines.append(margin + label)
            continue
        if module is not root and type(module).__repr__ is not usual:
            lines.append(margin + label + repr(module).replace("\n", "\n" + margin))
            continue
        extra = module.extra_repr().split("\n") if module.extra_repr() else []
        children = [(name, child) for name, child in module._modules.items() if child is not None]
        if not children and len(extra) <= 1:
            lines.append(f"{margin}{label}{type(module).__name__}({''.join(extra)})")
            continue
        lines.append(f"{margin}{label}{type(module).__name__}(")
        lines += [f"{margin}  {line}" for line in extra]
        stack.append((margin, ")", None))
        stack += [(margin + "  ", f"({name}): ", child) for name, child in reversed(children)]
    return "\n".join(lines)
