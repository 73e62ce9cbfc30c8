"""Nested tuples, lists and dicts of arrays: taken apart into leaves, and put together again."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.tape.handle import Handle


def flatten(tree: Any, leaves: list[Any]) -> Any:
    """Append the tree's arrays and Tensors to `leaves`; returns the rest as a hashable structure, numbers and strings included."""
    if isinstance(tree, Handle | np.ndarray | np.generic):
        leaves.append(tree)
        return LEAF
    if isinstance(tree, tuple | list):
        return (type(tree).__name__, tuple([flatten(branch, leaves) for branch in tree]))
    if isinstance(tree, dict):
        return ("dict", tuple([(name, flatten(branch, leaves)) for name, branch in tree.items()]))
    return ("value", tree)


LEAF = ("leaf",)


def build(structure: Any, leaf: Callable[[], Any]) -> Any:
    """The tree of this structure, `leaf()` giving its leaves in order."""
    kind = structure[0]
    if kind == "leaf":
        return leaf()
    if kind == "dict":
        return {name: build(branch, leaf) for name, branch in structure[1]}
    if kind == "value":
        return structure[1]
    branches = [build(branch, leaf) for branch in structure[1]]
    return tuple(branches) if kind == "tuple" else branches


def values(structure: Any) -> list[Any]:
    """What stands in the structure beside arrays and Tensors."""
    if structure[0] == "leaf":
        return []
    if structure[0] == "value":
        return [structure[1]]
    branches = structure[1] if structure[0] != "dict" else [branch for _, branch in structure[1]]
    return [value for branch in branches for value in values(branch)]
