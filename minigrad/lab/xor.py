"""Experiment 004: exclusive or by nets of up to ten sigmoid layers that cannot learn it, and what lets them.

After section 4.4, exploding and vanishing gradients, of interdb.jp's guide to deep learning, and its programs (s-hironobu/guide2dl).
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.lab import xor_figures as pictures
from minigrad.lab.experiment import Experiment, Lab
from minigrad.lab.xor_nets import (
    PLAIN,
    RESIDUAL,
    RESIDUAL_SLOW,
    SOLVED,
    STOP,
    Course,
    Floats,
    Recipe,
    Solver,
    X,
    Y,
    dead_units,
    glorot,
    he,
    loss_of,
    net,
    run_all,
    weight_gradients,
)

SOURCE: Final = "interdb.jp 4.4, recomputed by plain programs with np.random.seed(0..9)"
DEPTHS: Final = (1, 2, 3, 4, 5, 7, 10)
SEEDS: Final = 10
EPOCHS: Final = 100_000
CURE_EPOCHS: Final = 20_000
#: Of ten plain nets solved, by hidden layers, and the median epoch.
PLAIN_SOLVED: Final = {1: (9, 6400), 2: (5, 6000), 3: (7, 7400), 4: (3, 10900), 5: (7, 12600), 7: (2, 49700), 10: (0, None)}
#: The epochs in which the first and the last of the residual nets are solved, with betas of (0.9, 0.999).
RESIDUAL_EPOCHS: Final = (3600, 14100)
#: |dL/dW| of the first layer over the last at the start, plain, by hidden layers; for ten residual layers.
RATIOS: Final = {1: 2.8e-2, 5: 1.9e-5, 7: 3.2e-7, 10: 1.25e-9}
RESIDUAL_RATIO: Final = 1.1e-2
#: First and last loss of the plain net with 10 hidden layers, by seed.
ENDS: Final = {0: (0.752242, 0.500100), 1: (0.590908, 0.500082)}
CLIPPED_TO: Final = 0.25
#: The source prints the loss every so many epochs.
TOLD: Final = 1000

CURES: Final[Mapping[str, Recipe]] = {
    "sigmoid, U(0, 1)": PLAIN,
    "sigmoid, Glorot": Recipe(glorot),
    "sigmoid, He": Recipe(he),
    "ReLU, U(0, 1)": Recipe(activation=nn.ReLU),
    "ReLU, He": Recipe(he, nn.ReLU),
    "batch norm, U(0, 1)": Recipe(batch_norm=True),
    "residual, U(0, 1)": RESIDUAL,
}
#: Of ten nets solved within 20,000 epochs, by plain NumPy: docs/reference/xor_cures.py.
REFERENCE: Final[Mapping[str, Sequence[int]]] = {
    "sigmoid, Glorot": (10, 10, 10, 10, 8, 10, 0),
    "sigmoid, He": (10, 10, 10, 9, 7, 9, 6),
    "ReLU, U(0, 1)": (8, 8, 10, 4, 0, 0, 0),
    "ReLU, He": (7, 5, 5, 7, 6, 6, 1),
    "batch norm, U(0, 1)": (10, 10, 10, 10, 10, 10, 10),
    "residual, U(0, 1)": (9, 10, 10, 10, 10, 9, 8),
}
REFERENCE_SOURCE: Final = "docs/reference/xor_cures.py, plain NumPy"
#: By how many of ten nets two programs may differ whose sums are rounded differently.
CHANCE: Final = 2


def depth_of(lab: Lab) -> int:
    """The hidden layers of the net that is shown: from the command line, asked for at a terminal, or 10; 2 in a rehearsal."""
    if lab.options.layers is not None:
        return int(lab.options.layers)
    while typed := lab.ask("hidden layers, 1 to 10 (empty for 10): "):
        try:
            return checked_depth(typed)
        except ValueError as error:
            print(error)
    return 2 if lab.quick else 10


def checked_depth(text: str) -> int:
    """A whole number from 1 to 10. Raises ValueError."""
    if text.strip() not in map(str, range(1, 11)):
        raise ValueError(f"hidden layers: {text!r}, expected a whole number from 1 to 10")
    return int(text)


def show_run(lab: Lab, name: str, solver: Solver, most: int) -> Floats:
    """Train one net until it has learned or the epochs are over, and say how; its losses."""
    start = time.perf_counter()
    losses = solver.run(most)
    seconds = time.perf_counter() - start
    told = sorted({1, *range(TOLD, len(losses) + 1, TOLD), len(losses)})
    few = [epoch for epoch in told if epoch <= 10 * TOLD or epoch % (10 * TOLD) == 0 or epoch == len(losses)]
    lab.say(course(name, told, losses), shown=course(name, few, losses))
    b1, b2 = solver.recipe.betas
    reached = f"a loss of at most {STOP:.0e} is {'reached' if losses[-1] <= STOP else 'not reached'}"
    lab.say(f"{name}, Adam with betas ({b1}, {b2}): {reached} in {len(losses):,} epochs of 4 steps, which take {seconds:.2f} s.")
    lab.table(["input", "target", "output"], [[f"{a:.0f} {b:.0f}", f"{target:.0f}", f"{output:.4f}"]
                                              for (a, b), target, output in zip(X, Y.ravel(), solver.outputs(), strict=True)])
    if losses[-1] > SOLVED:
        before = losses[-1 - len(losses) // 10]
        lab.say(lab.found(f"{name}: it has not learned exclusive or, and over the last tenth of its epochs its loss went from {loss_text(before)} to "
                          f"{loss_text(losses[-1])}. A net that always answers 0.5 has 0.5."))
    return losses


def course(name: str, epochs: Sequence[int], losses: Floats) -> str:
    """The losses of these epochs, six to a line."""
    cells = [f"{epoch:>7,} {loss_text(losses[epoch - 1])}" for epoch in epochs]
    return f"{name}, epoch and loss:\n" + "\n".join("   ".join(cells[i:i + 6]) for i in range(0, len(cells), 6))


def loss_text(loss: float) -> str:
    """With six decimals, as the source has it; where these would be zeros, with an exponent."""
    return f"{loss:.6f}" if loss >= 1e-3 else f"{loss:.2e}"


def layers(count: int) -> str:
    """So many hidden layers, in words."""
    return f"{count} hidden layer{'s' * (count != 1)}"


def one_net(lab: Lab, depth: int) -> None:
    """The programs of the source: summary, plain net, residual net; truth tables."""
    seed, most = lab.options.seed, 300 if lab.quick else lab.options.epochs
    exact = not lab.quick and most == EPOCHS and depth == 10
    recipes = {"plain": PLAIN, "residual": RESIDUAL, "residual, listed betas": RESIDUAL_SLOW}
    solvers = {name: Solver(recipe, depth, seed) for name, recipe in recipes.items()}
    summary = mg.summary(solvers["plain"].model, X)
    lab.say(f"{summary}")
    lab.check_close("parameters", summary.total, 12 + 20 * depth + 5, source="12, 20 for each hidden layer, 5" + ": 217" * (depth == 10))
    losses = {name: show_run(lab, name, solver, most) for name, solver in solvers.items()}
    if exact:
        outputs = solvers["plain"].outputs()
        lab.check("plain: loss of epoch 1,000", losses["plain"][999], 0.5, 0.501, source="published: 0.500135")
        lab.check("plain: largest distance of an output from 0.5", float(np.abs(outputs - 0.5).max()), high=5e-4,
                  source="published: .5000 for all four")
        for name in ("residual", "residual, listed betas"):
            lab.check_close(f"{name}: loss of epoch 1", losses[name][0], 1.0, atol=5e-4, source="published: 1.000000")
            if seed == 0:  # nine of ten learn it, this one among them
                lab.check(f"{name}: largest distance of an output from its target", float(np.abs(solvers[name].outputs() - Y.ravel()).max()),
                          high=5e-4, source="published: .0001 .9998 .9998 .0004")
    lab.picture("loss", lambda: pictures.loss_figure(losses), f"{layers(depth)}, seed {seed}: loss of an epoch, the sum over the four corners. "
                "A net that always answers 0.5 has a loss of 0.5.")
    lab.say("The residual script prints its end near epoch 13,000, as betas of (0.9, 0.999) give it; its listing has (0.99, 0.9999). Both are run."
            + lab.found(" The listed ones leave the plateau as early and need several times as long for the last digits."))


def distribution(lab: Lab, depths: Sequence[int], seeds: int, most: int) -> tuple[dict[int, list[Course]], dict[str, list[Course]]]:
    """Ten seeds at every depth, plain, and at the greatest depth residual."""
    plain = {depth: run_all([Solver(PLAIN, depth, seed) for seed in range(seeds)], most) for depth in lab.progress(depths, "plain nets")}
    rows = [[depth, f"{len(solved_in(courses))} of {seeds}", epochs_in(solved_in(courses)), loss_text(float(np.median([c.last for c in courses])))]
            for depth, courses in plain.items()]
    lab.table(["hidden layers", "solved", "epoch, median (range)", "last loss, median"], rows,
              f"Plain nets, seeds 0 to {seeds - 1}, up to {most:,} epochs; solved is a loss below 0.01")
    deepest = depths[-1]
    residual = {name: run_all([Solver(recipe, deepest, seed) for seed in range(seeds)], most)
                for name, recipe in {"(0.9, 0.999)": RESIDUAL, "(0.99, 0.9999)": RESIDUAL_SLOW}.items()}
    lab.table(["Adam's betas", "solved", "epoch, median (range)", "end, median (range)"],
              [[name, f"{len(solved_in(c))} of {seeds}", epochs_in(solved_in(c)), epochs_in(stopped_in(c))] for name, c in residual.items()],
              f"Residual nets of {layers(deepest)}, the same seeds")
    return plain, residual


def solved_in(courses: Sequence[Course], within: int = EPOCHS) -> list[int]:
    """The epochs in which nets were solved, of those that were."""
    return [course.solved for course in courses if course.solved is not None and course.solved <= within]


def stopped_in(courses: Sequence[Course]) -> list[int]:
    """The epochs in which nets came to a loss of at most 1e-7, of those that did."""
    return [course.stopped for course in courses if course.stopped is not None]


def median_of(epochs: Sequence[int]) -> float:
    """NaN of none."""
    return float(np.median(epochs)) if epochs else np.nan


def epochs_in(epochs: Sequence[int]) -> str:
    """Median and range, in words."""
    return f"{np.median(epochs):,.0f} ({min(epochs):,} to {max(epochs):,})" if epochs else "-"


def check_distribution(lab: Lab, plain: Mapping[int, Sequence[Course]], residual: Mapping[str, Sequence[Course]]) -> None:
    """Against the numbers of the source."""
    for depth, (wanted, epoch) in PLAIN_SOLVED.items():
        solved = solved_in(plain[depth])
        low, high = (0, 0) if not wanted else (max(wanted - CHANCE, 0), min(wanted + CHANCE, SEEDS))
        lab.check(f"plain, {layers(depth)}: solved of {SEEDS}", len(solved), low, high, source=f"{SOURCE}: {wanted}")
        if epoch is not None:
            lab.check_close(f"plain, {layers(depth)}: median epoch", median_of(solved), epoch, rtol=0.25, source=SOURCE)
    for seed, (first, last) in ENDS.items():
        lab.check_close(f"plain, 10 hidden layers, seed {seed}: first loss", plain[10][seed].first, first, atol=5.1e-7, source=SOURCE)
        lab.check_close(f"plain, 10 hidden layers, seed {seed}: last loss", plain[10][seed].last, last, atol=5.1e-7, source=SOURCE)
    lab.check_close("plain, 10 hidden layers: median last loss", float(np.median([c.last for c in plain[10]])), 0.500097, atol=5e-6, source=SOURCE)
    for (name, courses), median, stop in zip(residual.items(), (6400, 5400), (11600, 51500), strict=True):
        lab.check(f"residual, betas {name}: solved of {SEEDS}", len(solved_in(courses)), 7, SEEDS, source=SOURCE)
        lab.check_close(f"residual, betas {name}: median epoch", median_of(solved_in(courses)), median, rtol=0.25, source=SOURCE)
        lab.check_close(f"residual, betas {name}: median epoch of the end", median_of(stopped_in(courses)), stop, rtol=0.25, source=SOURCE)
    name, courses = next(iter(residual.items()))
    for which, of, wanted in zip(("first", "last"), (min, max), RESIDUAL_EPOCHS, strict=True):
        lab.check_close(f"residual, betas {name}: epoch of the {which} net that is solved", of(solved_in(courses), default=np.nan), wanted, rtol=0.25,
                        source=SOURCE)


def gradients(lab: Lab, depths: Sequence[int], seeds: int) -> None:
    """|dL/dW| by layer before training."""
    def over_seeds(recipe: Recipe, depth: int) -> Floats:
        return np.array([weight_gradients(net(recipe, depth, seed)) for seed in range(seeds)])

    plain, residual = {depth: over_seeds(PLAIN, depth) for depth in depths}, over_seeds(RESIDUAL, depths[-1])
    ratios = {depth: float(np.median(norms[:, 0] / norms[:, -1])) for depth, norms in plain.items()}
    ratio = float(np.median(residual[:, 0] / residual[:, -1]))
    rows: list[list[Any]] = [["plain", depth, f"{np.median(norms[:, 0]):.2e}", f"{np.median(norms[:, -1]):.2e}", f"{ratios[depth]:.2e}"]
                             for depth, norms in plain.items()]
    rows.append(["residual", depths[-1], f"{np.median(residual[:, 0]):.2e}", f"{np.median(residual[:, -1]):.2e}", f"{ratio:.2e}"])
    lab.table(["net", "hidden layers", "|dL/dW| first", "|dL/dW| last", "first / last"], rows,
              f"Before training, for input (0, 1): medians over {seeds} seeds; the ratio is that of each net")
    if not lab.quick:
        for depth, wanted in RATIOS.items():
            lab.check_close(f"plain, {layers(depth)}: first / last", ratios[depth], wanted, rtol=0.03, source=SOURCE)
        lab.check_close("residual, 10 hidden layers: first / last", ratio, RESIDUAL_RATIO, rtol=0.05, source=SOURCE)
    lab.say(lab.found("For this input the residual net's output is 1 up to rounding, which is the target: all of its gradients are small together, "
                      "and the ratio is what counts. The plain net's are small at the front only."))
    shown = {name: np.median(norms / norms[:, -1:], axis=0) for name, norms in (("plain", plain[depths[-1]]), ("residual", residual))}
    lab.picture("gradients", lambda: pictures.gradient_figure(shown),
                f"Before training, {layers(depths[-1])}, each layer over the last, medians over {seeds} seeds."
                + lab.found(" In the plain net every layer loses about as much as the one behind it. In the residual net the branches saturate as "
                            "the signal grows, but nothing is lost on the way down."))


def clipping(lab: Lab) -> None:
    """clip_grad_norm_ beside the source's formula, on gradients below the bound and far above."""
    worst, kept = 0.0, True
    for scale in (0.1, 1.0, 10.0, 1e6):
        model = net(PLAIN, 10, 0)
        (loss_of(model, X, Y) * scale).backward()
        before = [p.grad.numpy().copy() for p in model.parameters()]  # type: ignore[union-attr]
        norm = np.sqrt(sum(np.square(g).sum() for g in before))
        coefficient = CLIPPED_TO / (norm + 1e-6)
        told = nn.utils.clip_grad_norm_(model.parameters(), CLIPPED_TO).item()
        worst = max(worst, abs(told / norm - 1))
        for p, g in zip(model.parameters(), before, strict=True):
            wanted = g * min(coefficient, 1.0)
            worst = max(worst, float(np.max(np.abs(p.grad.numpy() - wanted) / np.abs(wanted))))  # type: ignore[union-attr]
            kept &= coefficient < 1 or np.array_equal(p.grad.numpy(), g)  # type: ignore[union-attr]
    lab.check(f"clip_grad_norm_({CLIPPED_TO}): largest relative distance from max_norm / (norm + 1e-6)", worst, high=1e-12,
              source="the source's formula")
    lab.check_true("gradients within the bound keep their bits", bool(kept))


def cures(lab: Lab, depths: Sequence[int], seeds: int, most: int, plain: Mapping[int, Sequence[Course]]) -> None:
    """The same sweep over depth with other activations, initial values and batch normalisation."""
    counts: dict[str, list[int]] = {"sigmoid, U(0, 1)": [len(solved_in(plain[depth], most)) for depth in depths]}
    dead: list[list[Any]] = []
    for name, recipe in lab.progress([*CURES.items()][1:], "cures"):
        counts[name] = []
        for depth in depths:
            solvers = [Solver(recipe, depth, seed) for seed in range(seeds)]
            start = np.mean([dead_units(solver.model) for solver in solvers])
            courses = run_all(solvers, most)
            counts[name].append(len(solved_in(courses)))
            if name == "ReLU, He":
                shares = [[dead_units(solver.model) for solver, course in zip(solvers, courses, strict=True) if (course.solved is None) == lost]
                          for lost in (False, True)]
                dead.append([depth, f"{start:.0%}", *(f"{np.mean(share):.0%}" if share else "-" for share in shares)])
    lab.table(["nets", *(f"N = {depth}" for depth in depths)], [[name, *row] for name, row in counts.items()],
              f"Cures: solved of {seeds} nets within {most:,} epochs, by hidden layers N. Nets with batch normalisation get all four corners in one "
              "step an epoch.")
    lab.table(["hidden layers", "dead at the start", "in nets that were solved", "in nets that were not"], dead,
              "ReLU with He's weights: the share of hidden units that are dead, 0 on all four corners and so without any gradient; last two "
              "columns: at the end")
    if not lab.quick:
        for name, wanted in REFERENCE.items():
            lab.check(f"{name}: largest difference from plain NumPy's count, over {len(depths)} depths",
                      max(abs(a - b) for a, b in zip(counts[name], wanted, strict=True)), high=CHANCE, source=f"{REFERENCE_SOURCE}: {list(wanted)}")
    lab.picture("solved", lambda: pictures.solved_figure(depths, counts, seeds),
                f"Share of {seeds} nets that learn exclusive or within {most:,} epochs, against depth.")


def run(lab: Lab) -> None:
    """The whole experiment."""
    depths, seeds, most, cured = ((1, 2), 2, 100, 50) if lab.quick else (DEPTHS, SEEDS, EPOCHS, CURE_EPOCHS)
    one_net(lab, depth_of(lab))
    plain, residual = distribution(lab, depths, seeds, most)
    if not lab.quick:
        check_distribution(lab, plain, residual)
    gradients(lab, depths, seeds)
    clipping(lab)
    cures(lab, depths, seeds, cured, plain)


def positive(text: str) -> int:
    """A whole number of epochs. Raises ValueError."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """--layers and --epochs."""
    parser.add_argument("--layers", type=int, choices=range(1, 11), metavar="N",
                        help="hidden layers of the net that is shown, 1 to 10 (asked for at a terminal; else 10)")
    parser.add_argument("--epochs", type=positive, default=EPOCHS, metavar="N", help=f"at most, for the net that is shown (default: {EPOCHS:,})")


EXPERIMENT: Final = Experiment("004", "xor", "exclusive or by deep nets of sigmoids, plain and residual", run, add_options)
