"""JAX: the whole step under jit with its state donated, called step by step or as one lax.scan over many."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from minigrad.bench import workloads
from minigrad.bench.peers import Job, chunk
from minigrad.bench.workloads import Workload

ACTIVATIONS = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh}


class JaxStep:
    """A call trains `steps` steps and returns their losses. With `flat`, the state is two vectors: a call passes two buffers and not 4 L."""

    def __init__(self, workload: Workload, steps: int, flat: bool = False) -> None:
        layers = workload.layers
        parameters: Any = [(jnp.array(w), jnp.array(b)) for w, b in workload.parameters()]
        parameters, unpack = ravel_pytree(parameters) if flat else (parameters, lambda tree: tree)

        def loss_of(parameters: Any, x: Any, y: Any) -> Any:
            h = x
            for (weight, bias), layer in zip(parameters, layers, strict=True):
                z = h @ weight.T + bias
                if layer.activation is not None:
                    z = ACTIVATIONS[layer.activation](z)
                h = h + z if layer.residual else z
            return jnp.mean((h - y) ** 2)

        def train(state: Any, x: Any, y: Any) -> Any:
            parameters, momentum = state
            # Differentiating through unpack would add up one zero-padded vector for each layer
            loss, gradients = jax.value_and_grad(loss_of)(unpack(parameters), x, y)
            if flat:
                gradients = ravel_pytree(gradients)[0]
            norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients)))
            scale = jnp.minimum(1.0, workloads.MAX_NORM / (norm + workloads.CLIP_EPS))
            momentum = jax.tree.map(lambda v, g: workloads.MOMENTUM * v + scale * g, momentum, gradients)
            parameters = jax.tree.map(lambda p, v: p - workloads.LEARNING_RATE * v, parameters, momentum)
            return (parameters, momentum), loss

        def train_many(state: Any, x: Any, y: Any) -> Any:
            return jax.lax.scan(lambda carry, _: train(carry, x, y), state, None, length=steps)

        self.state: Any = (parameters, jax.tree.map(jnp.zeros_like, parameters))
        self.x, self.y = map(jnp.array, workload.data())
        self.train = jax.jit(train if steps == 1 else train_many, donate_argnums=0)

    def __call__(self) -> float | Sequence[float]:
        """All outputs of one XLA program are ready together, so waiting for the losses waits for the parameters too."""
        self.state, losses = self.train(self.state, self.x, self.y)
        found: float | Sequence[float] = losses.tolist()
        return found


def build(workload: Workload, mode: str, threads: int) -> Job:
    """`mode` is "jit", "flat" or "scan". XLA's threads are set in the environment, before JAX starts."""
    # A step waits for its end in any case: handing it to another thread first only adds to it
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    steps = chunk(workload) if mode == "scan" else 1
    return Job(JaxStep(workload, steps, flat=mode == "flat"), steps)
