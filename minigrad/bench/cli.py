"""`python -m minigrad bench`: choose, race, print, write."""
from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad.bench import health, machine, peers, plot, report, timing
from minigrad.bench.peers import Contestant
from minigrad.bench.peers.numpy_step import reference_losses
from minigrad.bench.worker import COMPARED_STEPS, Worker
from minigrad.bench.workloads import Work, Workload, select

QUICK_WORKLOADS = ["xor-deep", "circles", "deep-1-w32", "deep-10-w32", "deep-100-w32", "mnist-mlp"]
ROUNDS, QUICK_ROUNDS = 15, 3
SAMPLE_S, QUICK_SAMPLE_S = 0.02, 0.005


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m minigrad bench", description="One training step of minigrad beside its peers', interleaved.")
    made.add_argument("--workloads", nargs="+", metavar="PATTERN", help="names or shell patterns (default: all)")
    made.add_argument("--peers", nargs="+", metavar="NAME", help=f"contestants (default: all installed): {', '.join(map(repr, names()))}")
    made.add_argument("--rounds", type=int, help=f"samples of each contestant (default: {ROUNDS})")
    made.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} short rounds over {len(QUICK_WORKLOADS)} workloads")
    made.add_argument("--threads", type=int, default=1, help="threads of each contestant, one a core (default: 1)")
    made.add_argument("--core", type=int, help="first core to use (default: the first that this process may use)")
    made.add_argument("--max-depth-jax", type=int, default=200, metavar="L", help="deepest net that JAX compiles (default: 200; 1000 takes minutes)")
    made.add_argument("--matmul", action="store_true", help="the products of mnist-mlp instead of training steps")
    made.add_argument("--health", action="store_true", help="what a recording and the guard cost a step, instead of peers")
    made.add_argument("--json", type=Path, metavar="PATH", help="write all figures, with machine and commit")
    made.add_argument("--plot", type=Path, metavar="PATH", help="write throughput against depth as a picture (needs matplotlib)")
    return made


def names() -> list[str]:
    """All contestants' names."""
    return [contestant.name for contestant in peers.CONTESTANTS]


def choose(wanted: Sequence[str] | None, candidates: Sequence[Contestant]) -> tuple[list[Contestant], dict[str, str]]:
    """Who runs, and why the others that were wanted do not."""
    unknown = set(wanted or ()) - {contestant.name for contestant in candidates}
    if unknown:
        raise ValueError(f"no contestant {sorted(unknown)}; there are: {', '.join(contestant.name for contestant in candidates)}")
    chosen = [contestant for contestant in candidates if wanted is None or contestant.name in wanted]
    skipped = {contestant.name: f"{contestant.package} is not installed" for contestant in chosen if not contestant.installed}
    core = machine.better_openblas_core()
    present = [contestant for contestant in chosen if contestant.name not in skipped]
    # OpenBLAS reads its core type when it starts, so the better one is a contestant of its own
    extra = [replace(c, name=f"numpy {core}", env=(("OPENBLAS_CORETYPE", core),)) for c in present if core and c.package == "numpy"]
    return present + extra, skipped


def cores_for(threads: int, first: int | None) -> list[int]:
    """`threads` neighbouring cores among those this process may use."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    chosen = [core for core in allowed if first is None or core >= first][:threads]
    if threads < 1 or len(chosen) < threads:
        raise ValueError(f"--threads {threads} does not fit on cores {allowed}" + (f" from --core {first}" if first is not None else ""))
    return chosen


def works(options: argparse.Namespace) -> list[Work]:
    """The pieces of work that the options ask for."""
    if options.matmul:
        return list(select(["mnist-mlp"])[0].products)
    return list(select(options.workloads or (QUICK_WORKLOADS if options.quick else ["*"])))


def races(
    options: argparse.Namespace, contestants: Sequence[Contestant], chosen: Sequence[Work], peak: float | None
) -> Iterator[list[report.Row]]:
    """The rows of each piece of work, as soon as it is done."""
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    sample_s = QUICK_SAMPLE_S if options.quick else SAMPLE_S
    with ExitStack() as stack:
        workers = [stack.enter_context(closing(Worker(contestant, options.threads))) for contestant in contestants]
        print("process start to first small step, s: " + ", ".join(f"{worker.name} {worker.start_s:.2f}" for worker in workers))
        for work in chosen:
            depth = work.depth if isinstance(work, Workload) else 0
            racers = [worker for worker in workers if worker.contestant.package != "jax" or depth <= options.max_depth_jax]
            if len(racers) < len(workers):
                print(f"\nskipped jax on {work.name}: deeper than --max-depth-jax {options.max_depth_jax}")
            reference = reference_losses(work, COMPARED_STEPS) if isinstance(work, Workload) else []
            if racers:
                yield report.rows(work, timing.race(racers, work, reference, rounds, sample_s), peers.BASELINE, peak)


def health_bench(options: argparse.Namespace, command: str) -> None:
    """Measure what a recording and the guard cost, print it as it comes, write it at the end."""
    cores = cores_for(1, options.core)
    timing.pin(cores)
    mg.set_num_threads(1)
    about = machine.describe(cores, machine.Peak(machine.kernel_peak(), machine.c_peak()))
    chosen = list(select(options.workloads or [*health.WORKLOADS]))
    found: list[health.Cost] = []
    for rows in health.race(chosen, options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)):
        print(f"\n{health.table(rows)}", flush=True)
        found += rows
    if options.json:
        report.write_json(options.json, health.document(found, command=command, machine=about))


def bench(options: argparse.Namespace, command: str) -> None:
    """Run what the options ask for, print it as it comes, write it at the end."""
    chosen, cores = works(options), cores_for(options.threads, options.core)
    contestants, skipped = choose(options.peers, peers.MULTIPLIERS if options.matmul else peers.CONTESTANTS)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    if not timing.pin(cores):
        print("not pinned: this system cannot tie a process to cores")
    one_core = machine.Peak(machine.kernel_peak(), machine.c_peak())
    peak = one_core.gflops and one_core.gflops * options.threads
    about = machine.describe(cores, one_core)
    print(f"{about['cpu']}, cores {cores}, {one_core}, OpenBLAS core {about['openblas_core']}")
    found: list[report.Row] = []
    for rows in races(options, contestants, chosen, peak):
        print(f"\n{rows[0].work}\n{report.table(rows)}", flush=True)
        found += rows
    settings: dict[str, Any] = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    settings["baseline"] = peers.BASELINE
    if options.json:
        steps, products = ([], found) if options.matmul else (found, [])
        report.write_json(options.json, report.document(steps, products, machine=about, command=command, settings=settings, skipped=skipped))
    if options.plot:
        plot.save_depth_plot(options.plot, found, peak)


def main(argv: Sequence[str]) -> int:
    """The exit status: 2 for options that make no sense."""
    options = parser().parse_args(argv)
    try:
        (health_bench if options.health else bench)(options, shlex.join(["python", "-m", "minigrad", "bench", *argv]))
    except ValueError as error:
        print(f"bench: {error}")
        return 2
    return 0
