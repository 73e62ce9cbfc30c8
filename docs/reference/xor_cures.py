"""How many of ten nets learn exclusive or with each cure, by plain NumPy: the numbers that experiment 004 of the lab is checked against.

python docs/reference/xor_cures.py prints the table of docs/lab.md in about four minutes. Ten seeds are trained at once, as one leading axis.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SEEDS = range(10)
DEPTHS = (1, 2, 3, 4, 5, 7, 10)
EPOCHS = 20_000
SOLVED = 0.01
RATE, B1, B2, EPS = 0.001, 0.9, 0.999, 1e-7
X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = np.array([[0.0], [1.0], [1.0], [0.0]])


def bound(rule: str, fan_in: int, fan_out: int) -> float:
    """Of the uniform distribution of weights."""
    return float(np.sqrt(6 / (fan_in + fan_out if rule == "Glorot" else fan_in)))


def drawn(rule: str, hidden: int, seed: int) -> list[tuple[Array, Array]]:
    """W and b of each layer, drawn in this order."""
    rng = np.random.RandomState(seed)
    layers = []
    for fan_in, fan_out in pairwise([2, *[4] * (hidden + 1), 1]):
        if rule == "U(0, 1)":
            layers.append((rng.uniform(0, 1, (fan_out, fan_in)), rng.uniform(0, 1, fan_out)))
        else:
            limit = bound(rule, fan_in, fan_out)
            layers.append((rng.uniform(-limit, limit, (fan_out, fan_in)), np.zeros(fan_out)))
    return layers


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^-z)."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-z)))


def train(rules: list[str], hidden: int, relu: bool, batch_norm: bool, residual: bool, epochs: int) -> NDArray[np.bool_]:
    """Which nets reach a summed loss of 0.01 in an epoch: (rules, seeds)."""
    nets = [drawn(rule, hidden, seed) for rule in rules for seed in SEEDS]
    layers, values = hidden + 2, [np.stack(same) for i in range(hidden + 2) for same in zip(*(one[i] for one in nets), strict=True)]
    if batch_norm:
        for _ in range(layers - 1):
            values += [np.ones((len(nets), 4)), np.zeros((len(nets), 4))]
    sizes = np.cumsum([0, *(v[0].size for v in values)])
    flat = np.concatenate([v.reshape(len(nets), -1) for v in values], axis=1)
    views = [flat[:, a:b].reshape(v.shape) for (a, b), v in zip(pairwise(sizes), values, strict=True)]
    grad, m, v = np.zeros_like(flat), np.zeros_like(flat), np.zeros_like(flat)
    grads = [grad[:, a:b].reshape(value.shape) for (a, b), value in zip(pairwise(sizes), values, strict=True)]
    assert all(np.shares_memory(view, flat) for view in views) and all(np.shares_memory(g, grad) for g in grads)
    rows, solved, t = 4 if batch_norm else 1, np.zeros(len(nets), bool), 0
    for _ in range(epochs):
        total = np.zeros(len(nets))
        for begin in range(0, 4, rows):
            h = np.broadcast_to(X[begin:begin + rows], (len(nets), rows, 2))
            kept: list[Any] = []
            for i in range(layers):
                z = h @ views[2 * i].transpose(0, 2, 1) + views[2 * i + 1][:, None]
                normal = None
                if batch_norm and i < layers - 1:
                    at = 2 * layers + 2 * i
                    centred = z - z.mean(1, keepdims=True)
                    inverse = 1 / np.sqrt((centred * centred).mean(1, keepdims=True) + 1e-5)
                    normal = centred * inverse, inverse, at
                    z = normal[0] * views[at][:, None] + views[at + 1][:, None]
                a = np.maximum(z, 0) if relu and i < layers - 1 else sigmoid(z)
                kept.append((h, a, normal))
                h = h + a if residual and 0 < i < layers - 1 else a
            error = h - Y[begin:begin + rows]
            total += 0.5 * (error * error).sum((1, 2))
            g = error
            for i in reversed(range(layers)):
                h, a, normal = kept[i]
                d = g * (a > 0) if relu and i < layers - 1 else g * a * (1 - a)
                if normal is not None:
                    hat, inverse, at = normal
                    grads[at][...], grads[at + 1][...] = (d * hat).sum(1), d.sum(1)
                    d = d * views[at][:, None]
                    d = inverse * (d - d.mean(1, keepdims=True) - hat * (d * hat).mean(1, keepdims=True))
                grads[2 * i][...], grads[2 * i + 1][...] = d.transpose(0, 2, 1) @ h, d.sum(1)
                back = d @ views[2 * i]
                g = g + back if residual and 0 < i < layers - 1 else back
            t += 1
            m += (1 - B1) * (grad - m)
            v += (1 - B2) * (grad * grad - v)
            flat -= RATE * np.sqrt(1 - B2**t) / (1 - B1**t) * m / (np.sqrt(v) + EPS)
        solved |= total <= SOLVED
    return solved.reshape(len(rules), len(SEEDS))


#: Rows of the table: what they are called, and how they are trained together.
GROUPS: dict[tuple[str, ...], Callable[[int, int], NDArray[np.bool_]]] = {
    ("sigmoid, U(0, 1)", "sigmoid, Glorot", "sigmoid, He"): lambda n, e: train(["U(0, 1)", "Glorot", "He"], n, False, False, False, e),
    ("ReLU, U(0, 1)", "ReLU, He"): lambda n, e: train(["U(0, 1)", "He"], n, True, False, False, e),
    ("batch norm, U(0, 1)",): lambda n, e: train(["U(0, 1)"], n, False, True, False, e),
    ("residual, U(0, 1)",): lambda n, e: train(["U(0, 1)"], n, False, False, True, e),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--depths", type=int, nargs="+", default=list(DEPTHS))
    options = parser.parse_args()
    print("| |" + "|".join(f" N = {n} " for n in options.depths) + "|\n|---|" + "--:|" * len(options.depths))
    for names, trained in GROUPS.items():
        counts = np.array([trained(n, options.epochs).sum(1) for n in options.depths])
        for name, row in zip(names, counts.T, strict=True):
            print(f"| {name} |" + "|".join(f" {count} " for count in row) + "|", flush=True)


if __name__ == "__main__":
    main()
