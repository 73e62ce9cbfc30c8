"""Ranges for the table of `python -m minigrad lab cures`, measured by plain NumPy: forward and backward written out, nothing of minigrad.

python docs/reference/cures_reference.py prints the table that stands in the README beside this file: for each net and depth the lowest and
the highest figure of 8 seeds; what training leaves, only of those that no gradient that is not finite has ended. Points, their order and
initial weights are those of the lab. All seeds are computed at once: arrays have a leading axis for the seed.
"""
from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

SEEDS, WIDTH, POINTS, BATCH, STEPS = 8, 32, 1000, 32, 600
LR, MOMENTUM, EPS = 0.01, 0.9, 1e-5
DEPTHS = (20, 50)


class Net(NamedTuple):
    """Hidden layers of one width: linear, normalisation, activation, and from the second on a shortcut around all three."""

    name: str
    act: str  # "sigmoid" or "relu"
    init: str  # "glorot" or "he", both normal, or "default", uniform in +-1/sqrt(fan-in)
    norm: str = ""  # "batch" or "layer"
    residual: bool = False
    scaled: bool = False  # branches times 1/sqrt(depth)
    clip: float = 0.0  # bound of the gradients' norm
    lr: float = LR


NETS = (
    Net("sigmoid, Glorot", "sigmoid", "glorot"),
    Net("sigmoid, Glorot, clip 0.25", "sigmoid", "glorot", clip=0.25),
    Net("sigmoid, Glorot, batch norm", "sigmoid", "glorot", norm="batch"),
    Net("sigmoid, Glorot, layer norm", "sigmoid", "glorot", norm="layer"),
    Net("sigmoid, Glorot, residual", "sigmoid", "glorot", residual=True),
    Net("ReLU, default init", "relu", "default"),
    Net("ReLU, Glorot", "relu", "glorot"),
    Net("ReLU, He", "relu", "he"),
    Net("ReLU, He, clip 0.25", "relu", "he", clip=0.25),
    Net("ReLU, He, rate x 10", "relu", "he", lr=10 * LR),
    Net("ReLU, default init, batch norm", "relu", "default", norm="batch"),
    Net("ReLU, default init, layer norm", "relu", "default", norm="layer"),
    Net("ReLU, He, residual", "relu", "he", residual=True),
    Net("ReLU, He, residual, clip 0.25", "relu", "he", residual=True, clip=0.25),
    Net("ReLU, He, residual, scaled", "relu", "he", residual=True, scaled=True),
)


def circles() -> tuple[Any, Any]:
    """500 points each around two circles of radius 1 (class 0) and 0.5 (class 1), noise 0.1: scikit-learn's make_circles, random_state 42."""
    rng = np.random.RandomState(42)
    angle = np.linspace(0, 2 * np.pi, POINTS // 2, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    order = np.arange(POINTS)
    rng.shuffle(order)
    x = np.concatenate([ring, 0.5 * ring])[order] + rng.normal(scale=0.1, size=(POINTS, 2))
    return x.astype(np.float32), (order >= POINTS // 2).astype(np.float32)[:, None]


def batches() -> Any:
    """The rows of each step: whole batches of epochs in random order."""
    rng, tables = np.random.default_rng(0), []
    for _ in range(STEPS * BATCH // POINTS + 2):
        order = np.arange(POINTS)
        rng.shuffle(order)
        tables.append(order[:POINTS // BATCH * BATCH].reshape(-1, BATCH))
    return np.concatenate(tables)[:STEPS]


def drawn(rng: Any, init: str, fan_in: int, fan_out: int) -> Any:
    """A weight (fan-in, fan-out)."""
    if init == "default":
        bound = fan_in ** -0.5
        return rng.uniform(-bound, bound, (fan_out, fan_in)).T
    return np.sqrt(2 / (fan_in if init == "he" else fan_in + fan_out)) * rng.standard_normal((fan_out, fan_in)).T


def parameters(net: Net, depth: int) -> list[Any]:
    """Weight and bias of every layer, the output's last, then scale and shift of every normalisation; all with a leading seed axis."""
    widths = [2, *[WIDTH] * depth, 1]
    rngs = [np.random.default_rng(seed) for seed in range(SEEDS)]
    found = []
    for fan_in, fan_out in pairwise(widths):
        found += [np.stack([drawn(rng, net.init, fan_in, fan_out) for rng in rngs]), np.zeros((SEEDS, 1, fan_out))]
    if net.norm:
        found += [np.ones((SEEDS, 1, WIDTH)), np.zeros((SEEDS, 1, WIDTH))] * depth
    return [value.astype(np.float32) for value in found]


def sigmoid(z: Any) -> Any:
    """In the form that never overflows."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def forward(net: Net, p: list[Any], x: Any, running: list[Any] | None = None) -> tuple[list[Any], list[Any], list[Any], Any]:
    """h of each layer from the input on, activations, what normalisation leaves for its backward, logits.

    running: mean and variance of each batch normalisation, used instead of the batch's.
    """
    depth = sum(value.shape[1] == WIDTH for value in p)
    hs, acts, kept = [np.broadcast_to(x, (SEEDS, *x.shape[-2:]))], [], []
    for layer in range(depth):
        z = hs[-1] @ p[2 * layer] + p[2 * layer + 1]
        if net.norm:
            axis = 1 if net.norm == "batch" else 2
            mean, var = (z.mean(axis, keepdims=True), z.var(axis, keepdims=True)) if running is None else running[layer]
            root = np.sqrt(var + np.float32(EPS))
            hat = (z - mean) / root
            kept.append((hat, root, mean, var))
            z = p[2 * (depth + 1) + 2 * layer] * hat + p[2 * (depth + 1) + 2 * layer + 1]
        a = sigmoid(z) if net.act == "sigmoid" else np.maximum(z, 0)
        acts.append(a)
        hs.append(hs[-1] + branch(net, depth) * a if net.residual and layer else a)
    return hs, acts, kept, hs[-1] @ p[2 * depth] + p[2 * depth + 1]


def branch(net: Net, depth: int) -> Any:
    """What the branches of a residual net are multiplied by."""
    return np.float32(depth ** -0.5 if net.scaled else 1.0)


def losses(logits: Any, y: Any) -> Any:
    """Mean binary cross-entropy of each seed."""
    return (np.maximum(logits, 0) - y * logits + np.log1p(np.exp(-np.abs(logits)))).mean((1, 2))


def backward(net: Net, p: list[Any], trace: tuple[list[Any], list[Any], list[Any], Any], y: Any) -> tuple[list[Any], list[Any]]:
    """The gradient of every parameter, and dL/dh of every hidden layer."""
    hs, acts, kept, logits = trace
    depth = len(acts)
    grads: list[Any] = [None] * len(p)
    g = (sigmoid(logits) - y) / np.float32(logits.shape[1])
    grads[2 * depth], grads[2 * depth + 1] = hs[-1].swapaxes(1, 2) @ g, g.sum(1, keepdims=True)
    g = g @ p[2 * depth].swapaxes(1, 2)
    flows = [g]
    for layer in reversed(range(depth)):
        shortcut = net.residual and layer > 0
        a = acts[layer]
        d = g * branch(net, depth) if shortcut else g
        d = d * a * (1 - a) if net.act == "sigmoid" else d * (a > 0)
        if net.norm:
            hat, root, _, _ = kept[layer]
            axis, at = 1 if net.norm == "batch" else 2, 2 * (depth + 1) + 2 * layer
            grads[at], grads[at + 1] = (d * hat).sum(1, keepdims=True), d.sum(1, keepdims=True)
            d = d * p[at]
            d = (d - d.mean(axis, keepdims=True) - hat * (d * hat).mean(axis, keepdims=True)) / root
        grads[2 * layer], grads[2 * layer + 1] = hs[layer].swapaxes(1, 2) @ d, d.sum(1, keepdims=True)
        if layer:
            back = d @ p[2 * layer].swapaxes(1, 2)
            g = g + back if shortcut else back
            flows.append(g)
    return grads, flows[::-1]


def rms(values: Any) -> Any:
    """Of each seed, in float64."""
    return np.sqrt(np.square(values, dtype=np.float64).mean((1, 2)))


def measured(net: Net, depth: int) -> dict[str, Any]:
    """Every figure of each seed."""
    x, y = circles()
    p = parameters(net, depth)
    exact = [value.astype(np.float64) for value in p]  # batch normalisation of many ReLU layers magnifies the rounding of float32
    _, flows = backward(net, exact, forward(net, exact, x.astype(np.float64)), y)
    sizes = np.log10([rms(flow) for flow in flows])
    found = {"slope": np.polyfit(np.arange(1, depth + 1), sizes, 1)[0], "log ratio": sizes[0] - sizes[-1]}
    velocity = [np.zeros_like(value) for value in p]
    running = [(np.zeros((SEEDS, 1, WIDTH), np.float32), np.ones((SEEDS, 1, WIDTH), np.float32)) for _ in range(depth)]
    alive = np.ones(SEEDS, bool)
    for row in batches():
        trace = forward(net, p, x[row])
        grads, _ = backward(net, p, trace, y[row])
        norm = np.sqrt(sum(np.square(g, dtype=np.float64).sum((1, 2)) for g in grads))
        alive &= np.isfinite(norm)  # a net whose gradients are not finite stays as it is
        go = alive[:, None, None]
        factor = np.minimum(1, net.clip / (norm + 1e-6)).astype(np.float32)[:, None, None] if net.clip else np.float32(1)
        for value, v, g in zip(p, velocity, grads, strict=True):
            v[:] = np.where(go, np.float32(MOMENTUM) * v + factor * g, v)
            value -= np.where(go, np.float32(net.lr) * v, 0)
        if net.norm == "batch":
            for (mean, var), (_, _, now, spread) in zip(running, trace[2], strict=True):
                mean += np.float32(0.1) * (now - mean)
                var += np.float32(0.1) * (spread * np.float32(BATCH / (BATCH - 1)) - var)
    _, acts, _, logits = forward(net, p, x, running if net.norm == "batch" else None)
    if net.act == "relu":
        idle = np.mean([(a == 0).all(1).mean(1) for a in acts], 0)
    else:
        idle = np.mean([((a < 0.01) | (a > 0.99)).mean((1, 2)) for a in acts], 0)
    return found | {"loss": losses(logits, y), "accuracy": ((logits > 0) == y).mean((1, 2)), "idle": idle, "refused": ~alive}


def told(values: Any) -> str:
    """The lowest and the highest."""
    return f"{values.min():.4g} to {values.max():.4g}" if len(values) else "none"


def main() -> None:
    """Print the table."""
    print("| net | depth | slope, decades a layer | log10 first/last | loss | accuracy | dead or saturated | refused |\n|" + "---|" * 8)
    for depth in DEPTHS:
        for net in NETS:
            with np.errstate(all="ignore"):
                found = measured(net, depth)
            refused = found["refused"]
            ranges = [told(found[key]) for key in ("slope", "log ratio")] + [told(found[key][~refused]) for key in ("loss", "accuracy", "idle")]
            print(f"| {net.name} | {depth} | {' | '.join(ranges)} | {refused.sum()} |", flush=True)


if __name__ == "__main__":
    main()
