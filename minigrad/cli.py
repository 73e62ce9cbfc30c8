"""`python -m minigrad`: the commands, what they have in common, and the two small ones."""
from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from minigrad import __version__, diagnosing, get_num_threads
from minigrad.bench import cli as bench
from minigrad.bench import machine
from minigrad.bench.peers import CONTESTANTS
from minigrad.bench.workloads import select
from minigrad.compiling import announced
from minigrad.lab import command as lab
from minigrad.lab import demo
from minigrad_kernels import _cache, _host

INTERRUPTED = 130  # 128 + SIGINT, as shells say it


class Command(NamedTuple):
    """One word after `python -m minigrad`, and what it does with the arguments behind it."""

    run: Callable[[Sequence[str]], int]
    summary: str


def warmup(argv: Sequence[str]) -> int:
    """Compile, or load, everything that the demo and the bench run."""
    argparse.ArgumentParser(prog="python -m minigrad warmup", description=warmup.__doc__).parse_args(argv)
    start, stats = time.perf_counter(), _cache.stats
    print("nets of the demo")
    demo.rehearse()
    for contestant in CONTESTANTS:
        if contestant.package == "minigrad":
            print(f"workloads of the bench: {contestant.name}")
            for workload in select(["xor-deep", "circles", "deep-1-w32", "mnist-mlp"]):
                contestant.build(workload, get_num_threads()).call()
    seconds = time.perf_counter() - start
    print(f"ready after {seconds:.1f} s: {stats.misses} kernels compiled in {stats.compile_seconds:.1f} s, "
          f"{stats.hits} loaded in {stats.load_seconds:.2f} s")
    return 0


def info(argv: Sequence[str]) -> int:
    """Print versions, CPU, vector width, threads and the compile cache: what belongs into a bug report."""
    argparse.ArgumentParser(prog="python -m minigrad info", description=info.__doc__).parse_args(argv)
    directory = _cache.directory()
    sizes = [path.stat().st_size for path in directory.glob("*.entry")]
    facts = {
        "minigrad": __version__,
        **machine.versions(),
        "CPU": machine.cpuinfo().get("model name", "unknown"),
        "vectors": f"{_host.VECTOR_BYTES} bytes ({_host.VECTOR_BYTES // 4} float32), {', '.join(machine.features()) or 'no known extension'}",
        "threads": f"{get_num_threads()} of {os.cpu_count()} CPUs",
        "cache": f"{directory}: {len(sizes)} entries, {sum(sizes) / 1e6:.1f} MB",
    }
    for name, value in facts.items():
        print(f"{name:<10} {value}")
    return 0


COMMANDS = {
    "demo": Command(demo.main, "train three 20-layer nets and show where the gradient dies"),
    "lab": Command(lab.main, "reproduce the classic experiments on vanishing gradients, with figures and checks"),
    "diagnose": Command(diagnosing.main, "say what keeps a net from learning, and try what helps"),
    "bench": Command(bench.main, "time a training step beside its peers"),
    "warmup": Command(warmup, "compile everything that the demo and the bench run"),
    "info": Command(info, "versions, CPU, threads, compile cache"),
}


def usage() -> argparse.ArgumentParser:
    """The parser of the first word; each command reads its own options."""
    lines = [f"  {name:<8} {command.summary}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m minigrad", usage="%(prog)s COMMAND [OPTIONS]", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="commands:\n" + "\n".join(lines), epilog="python -m minigrad COMMAND --help shows a command's options")
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"minigrad {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of the command that `argv` begins with."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS[usage().parse_args(words[:1]).command]
    try:
        with announced():
            return command.run(words[1:])
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
