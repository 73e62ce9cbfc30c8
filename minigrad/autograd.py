"""Gradients as values, and the check that they are right: PyTorch's `torch.autograd` names."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.check import gradcheck as gradcheck
from minigrad.check import gradgradcheck as gradgradcheck
from minigrad.errors import GraphError, ShapeError
from minigrad.ops import elementwise
from minigrad.tape.backward import gradients, require_graph, send_back
from minigrad.tape.function import Function as Function
from minigrad.tape.function import once_differentiable as once_differentiable
from minigrad.tape.sites import trace_lines as trace_lines
from minigrad.tape.tensor import Tensor, seed, zeros_of


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None, retain_graph: bool | None = None,
         create_graph: bool = False, allow_unused: bool | None = None, materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """The gradient of the outputs with respect to each input, results or leaves; no `.grad` is touched.

    grad_outputs: one per output, may be left out for scalars. An input that no output depends on raises GraphError, or gives None with
    allow_unused, or zeros with materialize_grads.
    """
    several = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: materialize_grads gives zeros for unused inputs, which allow_unused=False forbids: leave one of them out")
    seeds = _seeds("grad", several, grad_outputs)
    for i, x in enumerate(wanted):
        if not x.needs_grad:
            raise GraphError(f"One of the differentiated Tensors (input {i}) does not require grad: set requires_grad before it is used")
    found = gradients(several, wanted, seeds, retain_graph=create_graph if retain_graph is None else retain_graph, create_graph=create_graph)
    for i, g in enumerate(found):
        if g is None and materialize_grads:
            found[i] = elementwise.clone(zeros_of(wanted[i].spec))
        elif g is None and not allow_unused:
            raise GraphError(f"One of the differentiated Tensors (input {i}) appears to not have been used in the graph: "
                             "set allow_unused=True if that is meant")
    return tuple(found)


def backward(tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             inputs: Tensor | Sequence[Tensor] | None = None) -> None:
    """Add the gradients of several Tensors, together, to the `.grad` of every leaf that they were made from, or of `inputs` alone, in one pass.

    grad_tensors: one per Tensor, may be left out for scalars.
    """
    several = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    send_back(several, _seeds("backward", several, grad_tensors), retain_graph=create_graph if retain_graph is None else retain_graph,
              create_graph=create_graph, inputs=[inputs] if isinstance(inputs, Tensor) else inputs)


def _seeds(name: str, outputs: Sequence[Tensor], given: Any) -> list[Any]:
    """What the pass starts with at each output. Raises GraphError or ShapeError."""
    require_graph(outputs)
    if given is None:
        given = [None] * len(outputs)
    elif isinstance(given, Tensor) or (len(outputs) == 1 and not isinstance(given, tuple | list)):
        given = [given]
    if len(given) != len(outputs):
        raise ShapeError(f"{name}: {len(given)} gradients were given for {len(outputs)} outputs: one, or None, for each")
    return [seed(x, g) for x, g in zip(outputs, given, strict=True)]
