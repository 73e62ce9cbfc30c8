"""Nested tuples, lists and dicts of arrays: taken apart into leaves, and put together again."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.tape.handle import Handle


def flatten(tree: Any, leaves: list[Any]) -> Any:
    """Append the tree's arrays and Tensors to `leaves`; returns the rest as a hashable structure, numbers and strings included."""
    if isinstance(tree, Handle):
        leaves.append(tree)
        return TENSOR
    if isinstance(tree, np.ndarray | np.generic):
        leaves.append(tree)
        return ARRAY
    if isinstance(tree, tuple | list):
        return ("sequence", type(tree), tuple([flatten(branch, leaves) for branch in tree]))
    if isinstance(tree, dict):
        return ("dict", type(tree), tuple([(name, flatten(branch, leaves)) for name, branch in tree.items()]))
    return ("value", str(tree) if isinstance(tree, float) and tree == 0 else type(tree), tree)  # 0.0 and -0.0 are equal


TENSOR = ("tensor",)
ARRAY = ("array",)


def build(structure: Any, leaf: Callable[[], Any]) -> Any:
    """The tree of this structure, `leaf()` giving its leaves in order."""
    if structure in (TENSOR, ARRAY):
        return leaf()
    kind, made_of, inner = structure
    if kind == "value":
        return inner
    if kind == "dict":
        return made_of((name, build(branch, leaf)) for name, branch in inner)
    branches = [build(branch, leaf) for branch in inner]
    return made_of(*branches) if hasattr(made_of, "_fields") else made_of(branches)


def kinds(structure: Any) -> list[Any]:
    """For each leaf in order, TENSOR or ARRAY."""
    if structure in (TENSOR, ARRAY):
        return [structure]
    kind, _, inner = structure
    if kind == "value":
        return []
    return [k for branch in inner for k in kinds(branch[1] if kind == "dict" else branch)]


def values(structure: Any) -> list[Any]:
    """What stands in the structure beside arrays and Tensors."""
    if structure in (TENSOR, ARRAY):
        return []
    kind, _, inner = structure
    if kind == "value":
        return [inner]
    return [value for branch in inner for value in values(branch[1] if kind == "dict" else branch)]
