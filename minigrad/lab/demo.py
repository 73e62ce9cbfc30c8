"""`python -m minigrad demo`: three deep nets that differ only in activation and shortcut, and where their gradients go."""
from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.data import Split, load_digits, load_mnist
from minigrad.lab import figures
from minigrad.lab.gradient_flow import FlowLog, gradient_flow, table
from minigrad.lab.nets import trio
from minigrad.lab.sweep import BATCH, DEPTHS, WIDTH, sweep
from minigrad.train import Trainer
from minigrad_kernels import _cache

HELD_OUT: Final = 1000
PROBE_ROWS: Final = 100
MNIST_EPOCHS: Final = 20
DIGITS_EPOCHS: Final = 40


@dataclass(frozen=True)
class Settings:
    """What the three nets have in common."""

    depth: int = 20
    width: int = 128
    lr: float = 0.05
    momentum: float = 0.9
    clip_norm: float = 1.0
    batch_size: int = 100
    epochs: int = MNIST_EPOCHS
    seed: int = 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m minigrad demo", description="Train three 20-layer nets of width 128 that differ only in "
                                   "activation and shortcut; show where the gradient dies, and how fast deep nets train.")
    made.add_argument("--data", type=Path, metavar="DIR", help="MNIST's IDX files (default: the 8x8 digits that scikit-learn ships)")
    made.add_argument("--epochs", type=int, metavar="N",
                      help=f"passes over the data (default: {MNIST_EPOCHS} on MNIST, {DIGITS_EPOCHS} on the 8x8 digits)")
    made.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where demo.json and the pictures go (default: demo)")
    made.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    return made


def train(nets: dict[str, nn.Sequential], data: Split, settings: Settings) -> dict[str, dict[str, Any]]:
    """Train each net, telling how it goes; gives accuracy, history and gradient flow by net."""
    found = {}
    for name, model in nets.items():
        print(f"\n{name}: {settings.depth} layers of width {settings.width}", flush=True)
        mg.manual_seed(settings.seed)
        opt = optim.SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum)
        trainer = Trainer(model, F.cross_entropy, opt, metrics=["accuracy"], clip_norm=settings.clip_norm)
        log = FlowLog(model, data.x_train[:PROBE_ROWS], data.y_train[:PROBE_ROWS], -(-len(data.x_train) // settings.batch_size))
        start = time.perf_counter()
        history = trainer.fit(data.x_train, data.y_train, settings.batch_size, settings.epochs,
                              validation_data=(data.x_test, data.y_test), callbacks=[log])
        found[name] = {
            "accuracy": trainer.evaluate(data.x_test, data.y_test)["accuracy"],
            "ratio_init": log.flows[0].ratio,
            "ratio_end": log.flows[-1].ratio,
            "seconds": time.perf_counter() - start,
            "history": history.history,
            "flow": log.arrays(),
        }
    return found


def show_flow(nets: dict[str, nn.Sequential], data: Split, when: str) -> None:
    """Print what a few layers send up and get back."""
    x, y = data.x_train[:PROBE_ROWS], data.y_train[:PROBE_ROWS]
    flows = {name: gradient_flow(model, x, y) for name, model in nets.items()}
    layers = len(next(iter(nets.values())))
    print(f"\n{when}, on {len(x)} digits\n{table(flows, sorted({1, 2, layers // 4, layers // 2, 3 * layers // 4, layers - 1, layers}))}")
    ratios = ", ".join(f"{name} {'none' if flow.ratio is None else f'{flow.ratio:.1e}'}" for name, flow in flows.items())
    print(f"rms(dL/dh), first hidden layer over last: {ratios}", flush=True)


def show_sweep(depths: Sequence[int]) -> list[dict[str, Any]]:
    """Measure and print throughput against depth; gives the rows for the JSON file."""
    print(f"\ntraining throughput against depth: residual ReLU layers of width {WIDTH}, batch {BATCH}, samples per second", flush=True)
    rows: list[dict[str, Any]] = []
    for speeds in sweep(depths):
        if not rows:
            print(f"{'depth':>5}" + "".join(f"{speed.mode:>14}" for speed in speeds))
        print(f"{speeds[0].depth:>5}" + "".join(f"{speed.samples_per_s:>14,.0f}" for speed in speeds), flush=True)
        rows += [asdict(speed) | {"samples_per_s": speed.samples_per_s} for speed in speeds]
    return rows


def versions() -> dict[str, str]:
    """Of Python and of what computes."""
    required = {name: metadata.version(name) for name in ("numpy", "numba", "llvmlite")}
    return {"python": platform.python_version(), "minigrad": mg.__version__} | required


def write(out: Path, report: dict[str, Any]) -> list[Path]:
    """Write the pictures, where matplotlib is installed, and then demo.json, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    if find_spec("matplotlib") is not None:
        written = [out / "gradient_flow.png", out / "throughput.png"]
        figures.save(figures.flow_figure(report["nets"]), written[0])
        figures.save(figures.speed_figure(report["sweep"], WIDTH, BATCH), written[1])
    else:
        print("no pictures: they need matplotlib, pip install 'minigrad-numba[plot]'")
    partial = out / "demo.json.partial"
    partial.write_text(json.dumps(report | {"figures": [path.name for path in written]}, indent=1, allow_nan=False) + "\n")
    os.replace(partial, out / "demo.json")
    return [*written, out / "demo.json"]


def demo(options: argparse.Namespace, command: str) -> None:
    """Load, train, measure, write."""
    start, compiled = time.perf_counter(), _cache.stats.compile_seconds
    data = load_mnist(options.data) if options.data else load_digits()
    data = data._replace(x_test=data.x_test[:HELD_OUT], y_test=data.y_test[:HELD_OUT])
    settings = Settings(epochs=options.epochs or (MNIST_EPOCHS if options.data else DIGITS_EPOCHS))
    name = "MNIST" if options.data else "8x8 digits"
    print(f"{name}: {len(data.x_train)} digits to train on, {len(data.x_test)} held out; {mg.get_num_threads()} threads\n{settings}", flush=True)
    nets = trio(data.x_train.shape[1], int(data.y_train.max()) + 1, settings.depth, settings.width, settings.seed)
    show_flow(nets, data, "before training")
    first_step = time.perf_counter() - start
    found = train(nets, data, settings)
    show_flow(nets, data, "after training")
    trained = time.perf_counter() - start
    speeds = show_sweep(DEPTHS)
    seconds = {"to_first_step": first_step, "training": trained - first_step, "sweep": time.perf_counter() - start - trained,
               "compiling": _cache.stats.compile_seconds - compiled, "total": time.perf_counter() - start}
    report = {
        "schema": 1, "command": command, "data": {"name": name, "train": len(data.x_train), "held_out": len(data.x_test)},
        "settings": asdict(settings), "threads": mg.get_num_threads(), "platform": platform.platform(), "versions": versions(),
        "nets": found, "sweep": speeds, "seconds": seconds,
    }
    written = write(options.out, report)
    print("\n" + "\n".join(f"{net:<14} {one['accuracy']:6.1%} of {len(data.x_test)} held-out digits right" for net, one in found.items()))
    print(f"{time.perf_counter() - start:.1f} s in all, {seconds['compiling']:.1f} s of them compiling; wrote {', '.join(map(str, written))}")


def rehearse() -> None:
    """Run everything that the demo runs once, on almost nothing, so that all of it is compiled."""
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 4), np.float32), rng.integers(0, 10, 8)
    for model in trio(4, 10, depth=4, width=128, seed=0).values():
        trainer = Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.05, momentum=0.9), clip_norm=1.0)
        trainer.fit(x, y, batch_size=4, epochs=1, verbose=0)
        trainer.evaluate(x, y)
        gradient_flow(model, x, y)
    list(sweep([1, 2]))


def main(argv: Sequence[str]) -> int:
    """The exit status: 2 for data that cannot be read or options that make no sense."""
    options = parser().parse_args(argv)
    threads = mg.get_num_threads()
    try:
        if options.threads is not None:
            mg.set_num_threads(options.threads)
        demo(options, shlex.join(["python", "-m", "minigrad", "demo", *argv]))
    except (FileNotFoundError, ValueError, ImportError) as error:
        print(f"demo: {error}")
        return 2
    finally:
        mg.set_num_threads(threads)
    return 0
