from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.lab import xor as experiment
from minigrad.lab import xor_nets as nets
from minigrad.lab.experiment import Lab, Picture, Text
from tests.lab.pictures import assert_readable


@pytest.fixture(scope="module")
def solvers() -> Callable[..., list[nets.Solver]]:
    """A function that makes solvers of one recipe."""
    def made(recipe: nets.Recipe = nets.PLAIN, hidden: int = 10, seeds: int = 2) -> list[nets.Solver]:
        return [nets.Solver(recipe, hidden, seed) for seed in range(seeds)]

    return made


def by_numpy(recipe: nets.Recipe, hidden: int, seed: int, epochs: int) -> list[float]:
    """The summed loss of each epoch, by the source's algorithm in column vectors."""
    rng = np.random.RandomState(seed)
    widths = [2, *[4] * (hidden + 1), 1]
    values = [rng.uniform(0, 1, shape) for i, o in pairwise(widths) for shape in ((o, i), (o, 1))]
    m, v, found, t = [0 * x for x in values], [0 * x for x in values], [], 0
    for _ in range(epochs):
        total = 0.0
        for x, y in zip(nets.X, nets.Y, strict=True):
            h, kept = x[:, None], []
            for i in range(hidden + 2):
                a = 1 / (1 + np.exp(-(values[2 * i] @ h + values[2 * i + 1])))
                kept.append((h, a))
                h = h + a if recipe.residual and 0 < i <= hidden else a
            g = h - y[:, None]
            total += 0.5 * (g**2).item()
            grads = [np.zeros(0)] * len(values)
            for i in reversed(range(hidden + 2)):
                h, a = kept[i]
                d = g * a * (1 - a)
                grads[2 * i], grads[2 * i + 1] = d @ h.T, d
                g = values[2 * i].T @ d + (g if recipe.residual and 0 < i <= hidden else 0)
            t += 1
            b1, b2 = recipe.betas
            for k, grad in enumerate(grads):
                m[k], v[k] = b1 * m[k] + (1 - b1) * grad, b2 * v[k] + (1 - b2) * grad**2
                values[k] -= 1e-3 * np.sqrt(1 - b2**t) / (1 - b1**t) * m[k] / (np.sqrt(v[k]) + 1e-7)
        found.append(total)
    return found


@pytest.mark.parametrize("recipe", [nets.PLAIN, nets.RESIDUAL, nets.RESIDUAL_SLOW])
@pytest.mark.parametrize("hidden", [1, 3])
def test_native_epochs_are_the_sources_algorithm(recipe: nets.Recipe, hidden: int) -> None:
    np.testing.assert_allclose(nets.Solver(recipe, hidden, 5).epochs(50), by_numpy(recipe, hidden, 5, 50), rtol=1e-9)


@pytest.mark.parametrize("hidden", range(1, 11))
def test_parameters(hidden: int) -> None:
    model = nets.net(nets.PLAIN, hidden, 0)
    assert mg.summary(model, nets.X).total == 12 + 20 * hidden + 5
    names = [name for name, _ in nets.net(nets.RESIDUAL, hidden, 0).named_children()]
    assert names == ["dense_in", *(f"residual_{i}" for i in range(1, hidden + 1)), "dense_out"]
    assert hidden != 10 or mg.summary(model, nets.X).total == 217


def test_first_losses_of_two_seeds(solvers: Callable[..., list[nets.Solver]]) -> None:
    assert [f"{solver.epochs(1)[0]:.6f}" for solver in solvers()] == ["0.752242", "0.590908"]
    assert [f"{solver.epochs(1)[0]:.3f}" for solver in solvers(nets.RESIDUAL)] == ["1.000", "1.000"]


def test_a_run_ends_with_the_epoch_that_reaches_the_bound(solvers: Callable[..., list[nets.Solver]]) -> None:
    one, same = nets.Solver(nets.PLAIN, 1, 1), nets.Solver(nets.PLAIN, 1, 1)
    losses = one.run(20_000)
    assert losses[-1] <= nets.STOP < losses[:-1].min() and len(losses) % 1000
    assert np.array_equal(same.epochs(len(losses)), losses) and np.array_equal(one.outputs(), same.outputs())
    assert np.round(one.outputs()).tolist() == nets.Y.ravel().tolist()


def test_side_by_side_is_one_after_the_other(solvers: Callable[..., list[nets.Solver]]) -> None:
    courses = nets.run_all(solvers(hidden=1, seeds=3), 8000, 2000)
    for course, solver in zip(courses, solvers(hidden=1, seeds=3), strict=True):
        losses = solver.epochs(8000)
        solved, stopped = nets.reached(losses, nets.SOLVED, 0), nets.reached(losses, nets.STOP, 0)
        assert course == nets.Course(losses[0], losses[-1 if stopped is None else -(-stopped // 2000) * 2000 - 1], solved, stopped)


def test_reached_counts_from_one() -> None:
    assert nets.reached(np.array([3.0, 1.0, 0.5]), 1.0, 10) == 12 and nets.reached(np.array([3.0]), 1.0, 10) is None


def test_gradients_at_the_start_fall_by_nine_decades_unless_there_are_shortcuts() -> None:
    norms = {recipe: np.array([nets.weight_gradients(nets.net(recipe, 10, seed)) for seed in range(10)]) for recipe in (nets.PLAIN, nets.RESIDUAL)}
    plain, residual = (np.median(rows[:, 0] / rows[:, -1]) for rows in norms.values())
    assert plain == pytest.approx(1.25e-9, rel=0.03) and residual == pytest.approx(1.1e-2, rel=0.05)
    assert nets.weight_gradients(nets.net(nets.PLAIN, 2, 0), row=0)[0] == 0, "an input of zeros gives the first weights nothing"


def test_initial_values_are_drawn_layer_by_layer() -> None:
    rng = np.random.RandomState(3)
    for layer in nets.net(nets.PLAIN, 2, 3):
        linear = layer[0]
        assert np.array_equal(linear.weight.detach().numpy(), rng.uniform(0, 1, linear.weight.shape))
        assert np.array_equal(linear.bias.detach().numpy(), rng.uniform(0, 1, linear.bias.shape))
    bounds = {nets.glorot: np.sqrt(6 / 8), nets.he: np.sqrt(6 / 4)}
    for draw, bound in bounds.items():
        weight, bias = draw(np.random.RandomState(0), 4, 4)
        assert 0.8 * bound < np.abs(weight).max() <= bound and not bias.any()


def test_dead_units_are_zero_on_all_corners() -> None:
    model = nets.net(nets.Recipe(nets.he, nn.ReLU), 1, 0)
    first = model[0][0]  # type: ignore[index]
    with mg.no_grad():
        first.bias.copy_(mg.tensor([-100.0, -100.0, 100.0, 100.0], dtype=mg.float64))
        model[1][0].bias.copy_(mg.tensor([-1000.0, 1000.0, 1000.0, 1000.0], dtype=mg.float64))  # type: ignore[index]
    assert nets.dead_units(model) == (0.5 + 0.25) / 2


def test_clipping_is_the_sources_formula(make: Callable[..., Lab]) -> None:
    lab = make()
    experiment.clipping(lab)
    assert len(lab.checks) == 2 and all(check.passed for check in lab.checks)


def test_the_depth_is_given_typed_or_ten(make: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiment.depth_of(make(layers=3)) == 3 and experiment.depth_of(make(layers=None)) == 10
    typed = iter(["12", "7", ""])
    monkeypatch.setattr("builtins.input", lambda question: next(typed))
    assert experiment.depth_of(make(asks=True, layers=None)) == 7 and "'12', expected a whole number" in capsys.readouterr().out
    assert experiment.depth_of(make(asks=True, layers=None)) == 10
    for text in ("0", "11", "two", "1.5"):
        with pytest.raises(ValueError, match="a whole number from 1 to 10"):
            experiment.checked_depth(text)


def test_the_course_is_thinned_and_small_losses_have_an_exponent(make: Callable[..., Lab], capsys: pytest.CaptureFixture[str]) -> None:
    class Known:
        """A net whose losses are known."""

        recipe = nets.PLAIN

        def run(self, most: int) -> nets.Floats:
            return np.geomspace(0.6, 5e-8, most)

        def outputs(self) -> nets.Floats:
            return nets.Y.ravel()

    lab = make()
    experiment.show_run(lab, "plain", Known(), 50_500)  # type: ignore[arg-type]
    told, kept = capsys.readouterr().out, lab.items[0].words  # type: ignore[union-attr]
    assert "50,000 " in told and "50,500 5.00e-08" in told and " 1,000 " in told and "11,000 " not in told and "0.000000" not in kept
    assert "11,000 " in kept and len(told.splitlines()) < 15


@pytest.mark.parametrize(("last", "quick", "told"), [(0.5, False, True), (0.5, True, False), (1e-3, False, False)])
def test_a_net_that_is_stuck_is_called_so(last: float, quick: bool, told: bool, make: Callable[..., Lab],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets.Solver, "run", lambda self, most: np.full(most, last))
    lab = make(quick=quick)
    experiment.show_run(lab, "plain", nets.Solver(nets.PLAIN, 3, 0), 20)
    assert any("has not learned" in item.words for item in lab.items if isinstance(item, Text)) is told
    assert experiment.layers(1) == "1 hidden layer" and experiment.layers(3) == "3 hidden layers"


def test_every_cure_has_a_reference() -> None:
    assert set(experiment.REFERENCE) == {*experiment.CURES} - {"sigmoid, U(0, 1)"}
    assert all(len(row) == len(experiment.DEPTHS) for row in experiment.REFERENCE.values())


def test_a_rehearsal_shows_everything(make: Callable[..., Lab]) -> None:
    lab = make(quick=True, layers=None, epochs=100_000)
    experiment.run(lab)
    assert [check.what for check in lab.checks if not check.passed] == []
    pictures = {item.name: item.figure for item in lab.items if isinstance(item, Picture)}
    assert not lab.draws or set(pictures) == {"loss", "gradients", "solved"}
    for figure in pictures.values():
        assert_readable(figure)


@pytest.mark.exhaustive
def test_every_number_of_the_source(make: Callable[..., Lab]) -> None:
    lab = make(layers=None, epochs=experiment.EPOCHS)
    experiment.run(lab)
    assert len(lab.checks) == 40 and [check for check in lab.checks if not check.passed] == []
