"""The table: whatever a step reads or does is followed by its replays, or refused with an error that says where and what to do instead."""
from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import pickle
import random
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import CaptureError
from tests.program.nets import Net

Step = Callable[..., Any]
ONES = np.ones(3, np.float32)
module_number = 1.0
settings = types.ModuleType("settings_of_the_user")
settings.rate = 1.0  # type: ignore[attr-defined]


# ---- read inside: refused ----------------------------------------------------------------------------------------------------------------
def branch(t: Any) -> Any:
    return 1.0 if t > 0 else 2.0


def loop(t: Any) -> Any:
    while t < 10:
        t = t * 2
    return 1.0


READS: dict[str, Callable[[Any], Any]] = {
    "if": branch, "while": loop, "bool": bool, "float": float, "int": int, "item": lambda t: t.item(), "tolist": lambda t: t.tolist(),
    "numpy": lambda t: t.numpy(), "np.asarray": np.asarray, "np.array": np.array, "np.float32": np.float32, "print numpy": lambda t: print(t.numpy()),
    "print": print, "repr": repr, "str": str, "f-string": lambda t: f"{t}", "f-string of item": lambda t: f"{t.item():.3f}",
    "and": lambda t: t > 0 and 1.0, "not": lambda t: not t, "max": lambda t: max(t, t * 2), "in a list": lambda t: t in [t * 1.0],
    "mg.tensor": mg.tensor, "pickle": pickle.dumps, "copy": copy.deepcopy, "a mask": lambda t: t.reshape(1)[t.reshape(1) > 0], "round": round,
    "html": lambda t: t._repr_html_(), "index": lambda t: [1.0, 2.0, 3.0, 4.0][t.astype(mg.int64)], "range": lambda t: range(t.astype(mg.int64)),
    "format": lambda t: format(t, ".3f"), "complex": complex,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_value_cannot_be_read_inside(read: Callable[[Any], Any]) -> None:
    step = mg.capture(lambda x: (read(x.sum()), x * 2.0)[1])
    for _ in range(3):
        with pytest.raises((CaptureError, TypeError)):
            step(ONES)
    assert mg.tensor(ONES).sum().item() == 3  # nothing of the recording is left on


def test_the_refusal_says_where_and_what_to_do() -> None:
    text = r"item\(\) at test_nothing_is_frozen.py:\d+ reads a Tensor's value.*return the Tensor.*mg.where.*mg.debug_print"
    with pytest.raises(CaptureError, match=text):
        mg.capture(lambda x: x * x.sum().item())(ONES)


# ---- numbers that change: seen -----------------------------------------------------------------------------------------------------------
@dataclasses.dataclass
class Config:
    factor: float = 1.0
    inner: Any = None


class Slotted:
    __slots__ = ("factor",)

    def __init__(self) -> None:
        self.factor = 1.0


class Derived:
    def __init__(self) -> None:
        self.base = 1.0

    @property
    def factor(self) -> float:
        return self.base

    def get(self) -> float:
        return self.base


class OnTheClass:
    factor = 1.0


def helper(x: Any) -> Any:
    return x * module_number


def number_cases() -> dict[str, tuple[Step, Callable[[float], Any]]]:
    """For each place where a number may be: a step that multiplies by it, and what changes it."""
    cases: dict[str, tuple[Step, Callable[[float], Any]]] = {}
    closed = 1.0

    def close(value: float) -> None:
        nonlocal closed
        closed = value

    cases["closure"] = (lambda x: x * closed, close)
    cases["global"] = (lambda x: x * module_number, lambda v: globals().update(module_number=v))
    cases["global of a helper"] = (lambda x: helper(x), lambda v: globals().update(module_number=v))
    cases["module attribute"] = (lambda x: x * settings.rate, lambda v: setattr(settings, "rate", v))
    plain, namespace, slotted, derived, local_class = Config(), types.SimpleNamespace(factor=1.0), Slotted(), Derived(), OnTheClass()
    cases["dataclass"] = (lambda x: x * plain.factor, lambda v: setattr(plain, "factor", v))
    cases["namespace"] = (lambda x: x * namespace.factor, lambda v: setattr(namespace, "factor", v))
    cases["slots"] = (lambda x: x * slotted.factor, lambda v: setattr(slotted, "factor", v))
    cases["property"] = (lambda x: x * derived.factor, lambda v: setattr(derived, "base", v))
    cases["method"] = (lambda x: x * derived.get(), lambda v: setattr(derived, "base", v))
    cases["class attribute"] = (lambda x: x * local_class.factor, lambda v: setattr(OnTheClass, "factor", v))
    cases["hidden by an instance"] = (lambda x: x * local_class.factor, lambda v: setattr(local_class, "factor", v))
    cases["class itself"] = (lambda x: x * OnTheClass.factor, lambda v: setattr(OnTheClass, "factor", v))
    table, listed, nested = {"factor": 1.0}, [1.0], {"a": [Config(inner={"b": (Config(),)})]}
    cases["dict"] = (lambda x: x * table["factor"], lambda v: table.update(factor=v))
    cases["list"] = (lambda x: x * listed[0], lambda v: listed.__setitem__(0, v))
    cases["deep inside"] = (lambda x: x * nested["a"][0].inner["b"][0].factor, lambda v: setattr(nested["a"][0].inner["b"][0], "factor", v))
    cases["loop over a dict"] = (lambda x: x * sum(table.values()), lambda v: table.update(factor=v))
    cases["getattr"] = (lambda x: x * getattr(plain, "factor"), lambda v: setattr(plain, "factor", v))  # noqa: B009
    held = functools.partial(lambda x, by: x * by["factor"], by=table)
    cases["partial"] = (held, lambda v: table.update(factor=v))

    def defaulted(x: Any, by: Any = listed) -> Any:
        return x * by[0]

    cases["default"] = (defaulted, lambda v: listed.__setitem__(0, v))
    array, zero_d = np.ones(3, np.float32), np.array(1.0, np.float32)
    cases["array"] = (lambda x: x * array, lambda v: array.fill(v))
    cases["0-d array"] = (lambda x: x * zero_d, lambda v: zero_d.fill(v))
    arrays = {"array": array}
    cases["array in a dict"] = (lambda x: x * arrays["array"], lambda v: arrays.update(array=np.full(3, v, np.float32)))
    functions = {"f": lambda x: x * 1.0}
    cases["function in a dict"] = (lambda x: functions["f"](x), lambda v: functions.update(f=lambda x: x * v))
    layer = Scaling()
    cases["module's attribute"] = (lambda x: layer(x), lambda v: setattr(layer, "factor", v))
    cases["module's dict"] = (lambda x: layer.by_dict(x), lambda v: layer.table.update(factor=v))
    cases["inside a Sequential"] = (nn.Sequential(nn.Sequential(layer)), lambda v: setattr(layer, "factor", v))
    number = NumberLike()
    cases["callable object"] = (number, lambda v: setattr(number, "factor", v))
    bound = Derived()
    cases["bound method"] = (types.MethodType(lambda self, x: x * self.base, bound), lambda v: setattr(bound, "base", v))
    cases["NumPy number"] = (lambda x: x * plain.inner, lambda v: setattr(plain, "inner", np.float32(v)))
    plain.inner = np.float32(1)
    return cases


class Scaling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor, self.table, self.config = 1.0, {"factor": 1.0}, Config()

    def forward(self, x: Any) -> Any:
        return x * self.factor

    def by_dict(self, x: Any) -> Any:
        return x * self.table["factor"]


class NumberLike:
    def __init__(self) -> None:
        self.factor = 1.0

    def __call__(self, x: Any) -> Any:
        return x * self.factor


@pytest.mark.parametrize("name", list(number_cases()))
@pytest.mark.parametrize("way", ["call", "repeat", "scan"])
def test_a_number_that_changes_between_calls_is_seen(name: str, way: str) -> None:
    step, change = number_cases()[name]
    captured = mg.capture(step)

    def take() -> Any:
        if way == "call":
            return captured(ONES)
        return captured.repeat(3, ONES)[-1] if way == "repeat" else captured.scan(np.stack([ONES] * 3))[-1]

    change(1.0)
    for factor in (1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, -1.0):
        change(factor)
        assert take().tolist() == [factor] * 3
    change(1.0)
    runs = captured.explain().recordings[0].runs
    assert [take().tolist() for _ in range(6)] == [[1.0] * 3] * 6
    assert captured.explain().recordings[0].runs <= runs + 2  # and then Python does not run


@pytest.mark.parametrize("pair", [(0.0, -0.0), (1, 1.0), (True, 1), ("a", "b"), (None, 0), (2.0, float("nan"))], ids=str)
def test_values_that_compare_equal_are_told_apart(pair: tuple[Any, Any]) -> None:
    config = Config()

    def step(x: Any) -> Any:
        value = config.factor
        return x * (-1.0 if str(value) == str(pair[1]) else 1.0)

    captured = mg.capture(step)
    for value in (pair[0],) * 4 + (pair[1],) * 4 + (pair[0],):
        config.factor = value
        assert captured(ONES).tolist() == [-1.0 if str(value) == str(pair[1]) else 1.0] * 3


@pytest.mark.parametrize("pair", [(0.0, -0.0), (1, 1.0), (True, 1), ("a", "b"), (None, 0), (2.0, float("nan"))], ids=str)
def test_an_argument_that_is_a_plain_value_belongs_to_the_signature(pair: tuple[Any, Any]) -> None:
    captured = mg.capture(lambda x, value: x * (-1.0 if str(value) == str(pair[1]) else 1.0))
    for value in (*pair,) * 5:
        assert captured(ONES, value).tolist() == [-1.0 if str(value) == str(pair[1]) else 1.0] * 3


def test_an_object_among_the_arguments_is_looked_into() -> None:
    config = NumberLike()
    captured = mg.capture(lambda x, c: c(x))
    for factor in (1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0):
        config.factor = factor
        assert captured(ONES, config).tolist() == [factor] * 3


def test_an_argument_without_a_hash_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"holds a Config.*no hash"):
        mg.capture(lambda x, c: x * c.factor)(ONES, Config())


def test_what_a_step_does_not_read_makes_it_record_nothing() -> None:
    config, other = types.SimpleNamespace(factor=2.0, epoch=0, backward=0), {"a": 1}
    captured = mg.capture(lambda x: x * config.factor)
    for epoch in range(8):
        config.epoch, other["a"] = epoch, epoch
        globals()["tolist"] = epoch  # an attribute's name in the step, not a global's
        captured(ONES)
    del globals()["tolist"]
    assert captured.explain().recordings[0].runs == 2


# ---- hyper-parameters: read where they live ----------------------------------------------------------------------------------------------
def tie(net: Net) -> None:
    net.model.append(nn.Linear(2, 2))
    net.model[5].bias = net.model[4].bias


CHANGES: dict[str, Callable[[Net, int], Any]] = {
    "lr": lambda net, i: net.opt.param_groups[0].update(lr=0.1 / (i + 1)),
    "momentum": lambda net, i: net.opt.param_groups[0].update(momentum=(0.0, 0.5, 0.9)[i % 3]),
    "weight_decay": lambda net, i: net.opt.param_groups[0].update(weight_decay=(0.0, 0.01)[i // 3 % 2]),
    "nesterov": lambda net, i: net.opt.param_groups[0].update(momentum=0.9, nesterov=i % 2 == 0),
    "dropout p": lambda net, i: setattr(net.model[3], "p", (0.0, 0.5, 0.9)[i // 3 % 3]),
    "batch norm's momentum": lambda net, i: setattr(net.model[1], "momentum", 0.1 / (i // 3 + 1)),
    "clip bound": lambda net, i: setattr(net, "clip", 1.0 / (i // 3 + 1)),
    "train and eval": lambda net, i: net.model.train(i // 3 % 2 == 0),
    "one layer's mode": lambda net, i: net.model[1].train(i // 3 % 2 == 0),
    "frozen and not": lambda net, i: net.model[0].weight.requires_grad_(i // 3 % 2 == 0),
    "a parameter replaced": lambda net, i: setattr(net.model[4], "bias", nn.Parameter(np.full(2, i, np.float32))) if i % 4 == 3 else None,
    "a module replaced": lambda net, i: net.model.__setitem__(2, (nn.Tanh(), nn.ReLU())[i // 3 % 2]),
    "a module added": lambda net, i: net.model.append(nn.ReLU()) if i == 4 else None,
    "tied": lambda net, i: tie(net) if i == 4 else None,
    "another list entry": lambda net, i: net.layers.__setitem__(0, nn.Sequential(net.model, nn.ReLU())) if i == 4 else None,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_training_reads_is_followed(name: str) -> None:
    eager, captured = (Net(lambda p: optim.SGD(p, lr=0.1, momentum=0.5), p=0.5) for _ in range(2))
    step = mg.capture(captured.step)
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32)) for _ in range(14)]
    outcomes: list[list[Any]] = []
    for net, run in ((eager, eager.step), (captured, step)):
        mg.manual_seed(1)
        outcomes.append([])
        for i, (x, y) in enumerate(batches):
            CHANGES[name](net, i)
            outcomes[-1].append((float(run(mg.tensor(x), mg.tensor(y))), net.left()))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("change", [lambda g, i: g.update(betas=(0.9 - 0.1 * (i % 3), 0.999)), lambda g, i: g.update(eps=10.0 ** -(i % 3 + 4))],
                         ids=["betas", "eps"])
def test_adam_reads_its_numbers(change: Callable[[Any, int], Any]) -> None:
    eager, captured = (Net(lambda p: optim.Adam(p, lr=0.01)) for _ in range(2))
    step = mg.capture(captured.step)
    x, y = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.zeros((5, 2), np.float32)
    for i in range(9):
        for net in (eager, captured):
            change(net.opt.param_groups[0], i)
        assert float(step(x, y)) == float(eager.step(mg.tensor(x), mg.tensor(y)))
        assert captured.left() == eager.left()


def test_a_net_or_an_optimiser_that_gets_another_name_is_another_one() -> None:
    layer = nn.Linear(3, 1)
    captured = mg.capture(lambda x: layer(x))
    for seed in range(3):
        mg.manual_seed(seed)
        layer = nn.Linear(3, 1)
        for _ in range(4):
            assert captured(ONES).tolist() == layer(mg.tensor(ONES)).tolist()


# ---- done inside: refused ----------------------------------------------------------------------------------------------------------------
def counting() -> dict[str, Step]:
    """Steps that do in Python what a replay would not do again."""
    counter, table, grows, calls = types.SimpleNamespace(n=0), {"n": 0}, [0.0], 0
    generator, legacy, own = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)
    layer, made = Counting(), []
    numbers, buffer = itertools.count(), np.ones(3, np.float32)

    def attribute(x: Any) -> Any:
        counter.n += 1
        return x * 2.0

    def entry(x: Any) -> Any:
        table["n"] += 1
        return x * 2.0

    def growing(x: Any) -> Any:
        grows.append(1.0)
        return x * 2.0

    def closure(x: Any) -> Any:
        nonlocal calls
        calls += 1
        return x * 2.0

    def module_level(x: Any) -> Any:
        global module_number
        module_number += 1.0
        return x * 2.0

    def fills(x: Any) -> Any:
        buffer[:] += 1.0
        return x * buffer

    def seeds(x: Any) -> Any:
        mg.manual_seed(0)
        return x

    def keeps(x: Any) -> Any:
        made.append(x * 2.0)
        return x * 2.0

    return {
        "attribute": attribute, "dict entry": entry, "list that grows": growing, "array": fills, "closure": closure, "global": module_level,
        "module": lambda x: layer(x), "Tensor kept": keeps, "number used": lambda x: x * float(next(numbers)), "time": lambda x: x * time.time(),
        "np.random": lambda x: x * float(np.random.rand()), "np.random array": lambda x: x + np.random.randn(3).astype(np.float32),  # noqa: NPY002
        "np.random, unused": lambda x: (np.random.rand(), x * 2.0)[1], "random": lambda x: x * random.random(),  # noqa: NPY002
        "random, unused": lambda x: (random.random(), x)[1], "Generator": lambda x: x * float(generator.random()),
        "Generator, a branch": lambda x: x * (1.0 if generator.random() > 2 else 3.0), "RandomState": lambda x: x * float(legacy.rand()),
        "Random": lambda x: x * own.random(), "permutation": lambda x: x[np.random.permutation(3)], "randn": lambda x: x + mg.randn(3),  # noqa: NPY002
        "seed": seeds, "np.zeros": lambda x: x + np.zeros(3, np.float32), "mg.tensor": lambda x: x + mg.tensor(ONES),
        "Parameter": lambda x: x + nn.Parameter(ONES), "strided array": lambda x, big=np.ones(6, np.float32): x + big[::2],  # noqa: B008
    }


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x * 2.0


@pytest.mark.parametrize("name", list(counting()))
def test_what_a_replay_would_not_do_again_is_refused(name: str) -> None:
    captured = mg.capture(counting()[name])

    def three() -> None:
        for _ in range(3):
            captured(ONES)

    with pytest.raises(CaptureError, match=r"test_nothing_is_frozen.py:\d+"):
        three()
    globals()["module_number"] = 1.0


@pytest.mark.parametrize("name", ["np.random", "random", "Generator"])
def test_random_numbers_of_others_are_named_with_the_way_out(name: str) -> None:
    with pytest.raises(CaptureError, match=r"draws from .*mg.random_normal"):
        mg.capture(counting()[name])(ONES)


def test_numbers_drawn_by_minigrad_are_drawn_anew() -> None:
    step = mg.capture(lambda x: x + mg.random_normal(3))
    mg.manual_seed(0)
    drawn = [step(ONES).tolist() for _ in range(6)]
    mg.manual_seed(0)
    assert [(mg.tensor(ONES) + mg.random_normal(3)).tolist() for _ in range(6)] == drawn
    assert len({str(d) for d in drawn}) == 6


def test_what_is_made_lazily_at_the_first_call_is_allowed() -> None:
    lazy: dict[str, Any] = {}

    def step(x: Any) -> Any:
        if "weight" not in lazy:
            lazy["weight"] = 2.0
        return x * lazy["weight"]

    captured = mg.capture(step)
    assert [captured(ONES).tolist() for _ in range(5)] == [[2.0] * 3] * 5


def test_constants_made_inside_are_filled_anew() -> None:
    def step(x: Any) -> Any:
        total = mg.zeros(3)
        total.add_(x)
        return total + mg.ones(3) * 2.0

    captured = mg.capture(step)
    for i in range(5):
        assert captured(np.full(3, i, np.float32)).tolist() == [i + 2.0] * 3


def test_more_constants_than_are_remembered() -> None:
    for i in range(1500):
        mg.tensor(ONES) * (i + 0.123)
    captured = mg.capture(lambda x: x * 0.987 + 0.123)
    expected = (mg.tensor(ONES) * 0.987 + 0.123).tolist()
    assert [captured(ONES).tolist() for _ in range(4)] == [expected] * 4
