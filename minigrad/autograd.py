"""Gradients as values, and the check that they are right: PyTorch's `torch.autograd` names."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.check import gradcheck as gradcheck
from minigrad.check import gradgradcheck as gradgradcheck
from minigrad.errors import GraphError
from minigrad.tape.backward import gradients, send_back
from minigrad.tape.function import Function as Function
from minigrad.tape.tensor import Tensor, seed


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None, retain_graph: bool | None = None,
         create_graph: bool = False, allow_unused: bool = False) -> tuple[Tensor | None, ...]:
    """The gradient of the outputs with respect to each input, results or leaves; no `.grad` is touched.

    grad_outputs: one per output, may be left out for scalars. An input that no output depends on raises, or gives None with allow_unused.
    """
    several = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given = [grad_outputs] if isinstance(grad_outputs, Tensor) or grad_outputs is None else list(grad_outputs)
    seeds = [seed(output, g) for output, g in zip(several, given * len(several) if len(given) == 1 else given, strict=False)]
    found = gradients(several, wanted, seeds, retain_graph=create_graph if retain_graph is None else retain_graph, create_graph=create_graph)
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise GraphError(f"One of the differentiated Tensors (input {i}) appears to not have been used in the graph: "
                             "set allow_unused=True if that is meant")
    return tuple(found)


def backward(tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
    """Add the gradients of several Tensors, together, to the `.grad` of every leaf that they were made from, in one pass.

    grad_tensors: one per Tensor, may be left out for scalars.
    """
    several = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    given = [grad_tensors] if isinstance(grad_tensors, Tensor) or grad_tensors is None else list(grad_tensors)
    seeds = [seed(x, g) for x, g in zip(several, given * len(several) if len(given) == 1 else given, strict=True)]
    keep = create_graph if retain_graph is None else retain_graph
    send_back(several, seeds, retain_graph=keep, create_graph=create_graph)
