"""`python -m minigrad lab`: classic experiments on deep nets, each run, drawn and checked against the numbers of its source."""
from __future__ import annotations

import argparse
import platform
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import minigrad as mg
from minigrad.data import load_mnist
from minigrad.lab import demo, page
from minigrad.lab.experiment import Experiment, Lab
from minigrad.lab.registry import EXPERIMENTS
from minigrad.train.interrupt import Interrupt
from minigrad_kernels import _cache

ALL: Final = "all"
PROG: Final = "python -m minigrad lab"


def parser(experiment: Experiment | None = None) -> argparse.ArgumentParser:
    """The options that all experiments share, and those of one; an experiment's own default for a shared one counts."""
    made = argparse.ArgumentParser(
        prog=PROG, formatter_class=argparse.RawDescriptionHelpFormatter, conflict_handler="resolve",
        usage=f"{PROG} [NAME ...|{ALL}] [OPTIONS]",
        description=f"{experiment.number} {experiment.name}: {experiment.title}" if experiment else
        f"experiments, by number or name; without one this list is printed:\n{listing()}",
        epilog=f"python -m minigrad lab NAME --help shows an experiment's own options; {ALL} runs everything in this order")
    made.add_argument("names", nargs="*", metavar="NAME", help=argparse.SUPPRESS)
    made.add_argument("--out", type=Path, default=Path("lab"), metavar="DIR", help="where page, pictures and lab.json go (default: lab)")
    made.add_argument("--data", type=Path, metavar="DIR", help="MNIST's IDX files (default: the 8x8 digits that scikit-learn ships)")
    made.add_argument("--quick", action="store_true", help="a rehearsal on a small scale; no check counts")
    made.add_argument("--seed", type=seed, default=0, metavar="N", help="of experiments that draw numbers (default: 0)")
    if experiment is not None and experiment.add_options is not None:
        experiment.add_options(made)
    return made


def seed(text: str) -> int:
    """A whole number that NumPy's older generator takes, with room for more seeds behind it. Raises ValueError."""
    if not 0 <= int(text) < 2**31:
        raise ValueError
    return int(text)


def listing() -> str:
    """A line for each experiment."""
    return "\n".join(f"  {one.number:<6} {one.name:<15} {one.title}" for one in EXPERIMENTS)


def chosen(argv: Sequence[str]) -> list[tuple[Experiment, argparse.Namespace]]:
    """The experiments that the words name, each with its options, in the registry's order. Exits with status 2 for what makes no sense."""
    general = parser()
    words = list(argv)
    split = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    names, rest = words[:split], words[split:]
    if not names:  # options first
        names, rest = general.parse_known_args(words)[0].names, words
    known = {name: one for one in EXPERIMENTS for name in (one.name, one.number)}
    known |= {word: known[word.zfill(3)] for word in names if word.zfill(3) in known}  # 4 and 04 are 004
    wrong = [name for name in names if name not in known and name != ALL]
    if wrong:
        general.error(f"there is no experiment {wrong[0]!r}, there are: {ALL}, {', '.join(f'{one.number} ({one.name})' for one in EXPERIMENTS)}")
    if not names:
        general.parse_args(rest)
        return []
    several = [one for one in EXPERIMENTS if ALL in names or one in [known[name] for name in names]]
    if len(several) == 1:
        parsed = [(several[0], parser(several[0]).parse_args(rest), list[str]())]
    else:
        if any(word in rest for word in ("-h", "--help")):
            general.parse_args(["--help"])
        parsed = [(one, *parser(one).parse_known_args(rest)) for one in several]
    strange = [word for word in parsed[0][2] if all(word in unknown for _, _, unknown in parsed)]
    if strange:
        general.error(f"no experiment among these takes {' '.join(strange)}")
    late = [word for word in parsed[0][1].names if word not in names and all(word in options.names for _, options, _ in parsed)]
    if late:
        general.error(f"{' '.join(late)}: names of experiments come before the options")
    return [(one, options) for one, options, _ in parsed]


class Outcome(NamedTuple):
    """Where an experiment ran, and how that ended."""

    lab: Lab
    status: str
    seconds: float
    stopped: BaseException | None


def run(experiment: Experiment, options: argparse.Namespace, alone: bool) -> Outcome:
    """Run one experiment; whatever stops it is told, not raised."""
    print(f"\n{experiment.number} {experiment.name}: {experiment.title}", flush=True)
    lab = Lab(options, options.quick, asks=alone and not options.quick and sys.stdin.isatty() and sys.stdout.isatty())
    threads, dtype = mg.get_num_threads(), mg.get_default_dtype()
    stopped: BaseException | None = None
    mg.manual_seed(options.seed)
    try:
        experiment.run(lab)
        status = page.REHEARSED if lab.quick else page.PASSED if all(check.passed for check in lab.checks) else page.FAILED
    except KeyboardInterrupt as error:
        stopped, status = error, page.INTERRUPTED
    except Exception as error:  # noqa: BLE001  the others run all the same
        stopped, status = error, page.RAISED
        traceback.print_exc()
    finally:
        mg.set_num_threads(threads)
        mg.set_default_dtype(dtype)
    return Outcome(lab, status, time.perf_counter() - lab.began, stopped)


def told(error: BaseException | None) -> str:
    """The traceback of an error, for the page; empty if there is none."""
    return "".join(traceback.format_exception(error)) if isinstance(error, Exception) else ""


def main(argv: Sequence[str]) -> int:
    """The exit status: 0 if all passed, 1 if a check failed or an experiment raised, 2 for options that make no sense.

    The page is written after each experiment, so that one that is interrupted leaves what was done.
    """
    selected = chosen(argv)
    if not selected:
        print(f"{listing()}\n{PROG} NAME runs one, {PROG} {ALL} everything")
        return 0
    options = selected[0][1]
    try:
        if options.data is not None:
            load_mnist(options.data)
        options.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2
    start, compiled = time.perf_counter(), _cache.stats.compile_seconds
    report: dict[str, Any] = {
        "schema": 1, "command": shlex.join(["python", "-m", "minigrad", "lab", *argv]), "quick": options.quick, "platform": platform.platform(),
        "versions": demo.versions(), "threads": mg.get_num_threads(), "experiments": []}
    if options.quick:
        print(page.REHEARSAL)
    if not Lab(options).draws:
        print("no pictures: they need matplotlib, pip install 'minigrad-numba[plot]'")
    for experiment, own in selected:
        outcome = run(experiment, own, alone=len(selected) == 1)
        with Interrupt():  # Ctrl-C waits until all is written
            report["experiments"].append(page.entry(experiment, *outcome[:3], error=told(outcome.stopped), out=options.out))
            report["seconds"] = {"total": time.perf_counter() - start, "compiling": _cache.stats.compile_seconds - compiled}
            written = page.write(options.out, report)
            print(f"{experiment.name}: {outcome.status}, {page.counts(report['experiments'][-1])}, {outcome.seconds:.1f} s", flush=True)
        if isinstance(outcome.stopped, KeyboardInterrupt):
            print(f"wrote {', '.join(map(str, written))}")
            raise outcome.stopped
    failed = [one["name"] for one in report["experiments"] if one["status"] in (page.FAILED, page.RAISED)]
    seconds = report["seconds"]
    print(f"\n{len(selected)} experiment{'s' * (len(selected) > 1)} in {seconds['total']:.1f} s, {seconds['compiling']:.1f} s of them compiling; "
          f"{'failed: ' + ', '.join(failed) if failed else 'nothing failed'}; wrote {', '.join(map(str, written))}")
    return 1 if failed else 0
