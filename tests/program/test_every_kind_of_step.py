"""Captured steps of every kind: which functions, methods and arguments, what an exception, a fork or another thread does, and what is freed."""
from __future__ import annotations

import asyncio
import copy
import functools
import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import CaptureError, MinigradError
from tests.program.nets import Net

ONES = np.ones(3, np.float32)


# ---- what goes in and comes out ----------------------------------------------------------------------------------------------------------
INPUTS: dict[str, Callable[[Any], Any]] = {
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2], "reversed": lambda a: a[::-1], "Fortran": np.asfortranarray,
    "float64": lambda a: a.astype(np.float64), "int32": lambda a: (a * 4).astype(np.int32), "uint8": lambda a: np.abs(a * 4).astype(np.uint8),
    "bool": lambda a: a > 0, "float16": lambda a: a.astype(np.float16), "big-endian": lambda a: a.astype(">f4"), "empty": lambda a: a[:0],
    "Tensor": mg.tensor, "list": lambda a: a.tolist(), "zero-stride": lambda a: np.broadcast_to(a[:1], a.shape), "one row": lambda a: a[:1],
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.float32, offset=1).reshape(a.shape),
    "a subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
}


def read_only(a: Any) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


INPUTS["read-only"] = read_only


@pytest.mark.parametrize("name", INPUTS)
def test_arrays_of_any_kind_go_in_or_are_refused_as_in_eager_mode(name: str, rng: np.random.Generator) -> None:
    weight = mg.tensor(rng.normal(size=(3,)).astype(np.float32))

    def step(x: Any) -> Any:
        return [weight * x * 2.0, mg.tanh(weight * x).sum()]

    captured = mg.capture(step)
    for _ in range(5):
        x = INPUTS[name](rng.normal(size=(4, 3)).astype(np.float32))
        try:
            expected = [t.tolist() for t in step(np.asarray(x) if isinstance(x, np.ndarray) else x)]
        except MinigradError as error:
            with pytest.raises(type(error)):
                captured(x)
            continue
        assert [t.tolist() for t in captured(x)] == expected


def test_an_array_that_the_caller_writes_to_is_read_at_each_call() -> None:
    captured, x = mg.capture(lambda x: x * 2.0), np.zeros(3, np.float32)
    results = []
    for i in range(6):
        x[:] = i
        results.append(captured(x))
    assert [r.tolist() for r in results] == [[2.0 * i] * 3 for i in range(6)]  # fresh each time
    assert len({r.array.ctypes.data for r in results}) == 6


def test_a_result_may_be_written_by_the_caller() -> None:
    captured = mg.capture(lambda x: (x, x * 2.0, x.reshape(3, 1)))
    for _ in range(5):
        for result in captured(ONES):
            result.add_(1.0)
    assert [r.tolist() for r in captured(ONES)] == [[1.0] * 3, [2.0] * 3, [[1.0]] * 3]
    assert ONES.tolist() == [1.0] * 3


def test_a_parameter_of_two_captures_is_one_parameter() -> None:
    weight = nn.Parameter(np.zeros(2, np.float32))
    opts = [optim.SGD([weight], lr=1.0), optim.SGD([weight], lr=10.0, momentum=0.5)]

    def make(opt: Any) -> Any:
        def step(x: Any) -> Any:
            opt.zero_grad()
            loss = (weight * x).sum()
            loss.backward()
            opt.step()
            return loss

        return step

    x = np.ones(2, np.float32)
    captured = [mg.capture(make(opt)) for opt in opts]
    found = [float(captured[i % 2](x)) for i in range(10)]
    weight = nn.Parameter(np.zeros(2, np.float32))
    opts = [optim.SGD([weight], lr=1.0), optim.SGD([weight], lr=10.0, momentum=0.5)]
    plain = [make(opt) for opt in opts]
    assert [float(plain[i % 2](mg.tensor(x))) for i in range(10)] == found


# ---- exceptions --------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fails_at", [0, 1])
@pytest.mark.parametrize("where", ["before backward", "after backward", "in a module", "in backward", "after the update"])
def test_an_exception_while_recording_leaves_a_step_that_works(where: str, fails_at: int) -> None:
    eager, captured = (Net(lambda p: optim.SGD(p, lr=0.1, momentum=0.5), p=0.5) for _ in range(2))
    x, y = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.zeros((5, 2), np.float32)

    def failing(net: Net) -> tuple[Any, dict[str, bool]]:
        now = {"fail": False}

        def check(here: str) -> None:
            if now["fail"] and here == where:
                raise KeyError(where)

        def step(x: Any, y: Any) -> Any:
            net.opt.zero_grad()
            h = net.model[0](x)
            h.register_hook(lambda g: check("in backward"))
            h = net.model[2](net.model[1](h))
            check("in a module")
            loss = F.mse_loss(net.model[4](net.model[3](h)), y)
            check("before backward")
            loss.backward()
            check("after backward")
            net.opt.step()
            check("after the update")
            return loss

        return step, now

    outcomes: list[list[Any]] = []
    for net, wrap in ((eager, lambda f: lambda x, y: f(mg.tensor(x), mg.tensor(y))), (captured, mg.capture)):
        step, now = failing(net)
        run = wrap(step)
        mg.manual_seed(1)
        outcomes.append([])
        for i in range(7):
            now["fail"] = i == fails_at
            try:
                outcomes[-1] += [float(run(x, y)), net.left()]
            except KeyError:
                outcomes[-1].append(net.left() if where != "after the update" else None)
    assert outcomes[0] == outcomes[1]


def test_a_listener_and_a_path_are_taken_down_after_ctrl_c_inside() -> None:
    def step(x: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mg.capture(step)(ONES)
    assert float(mg.tensor(ONES).sum()) == 3


# ---- captured in and beside captured -----------------------------------------------------------------------------------------------------
def test_a_captured_step_in_a_captured_step_is_refused() -> None:
    inner = mg.capture(lambda x: x * 2.0)
    for outer in (mg.capture(lambda x: inner(x)), mg.capture(inner), mg.capture(lambda x: inner.repeat(2, x)), mg.capture(lambda x: inner.scan(x))):
        with pytest.raises(CaptureError, match="inside another captured step"):
            outer(ONES)
    assert inner(ONES).tolist() == [2.0] * 3


def test_two_threads_run_two_steps() -> None:
    steps = [mg.capture(lambda x, by=by: x * by) for by in (2.0, 3.0)]
    found: list[list[float]] = [[], []]

    def run(i: int) -> None:
        for k in range(200):
            found[i].append(steps[i](np.full(3, k, np.float32)).tolist()[0])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[k * by for k in range(200)] for by in (2.0, 3.0)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_by_itself() -> None:
    net = Net(lambda p: optim.SGD(p, lr=0.1, momentum=0.5))
    x, y = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.zeros((5, 2), np.float32)
    step = mg.capture(net.step)
    for _ in range(3):
        step(x, y)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writes, repr([float(step(x, y)), *step.repeat(3, x, y).tolist()]).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert told == repr([float(step(x, y)), *step.repeat(3, x, y).tolist()])


# ---- functions of every kind -------------------------------------------------------------------------------------------------------------
class Trainer:
    """Its captured method belongs to each object."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @mg.capture
    def step(self, x: Any, more: float = 0.0, *, scale: float = 1.0) -> Any:
        return x * self.factor * scale + more

    @staticmethod
    @mg.capture
    def still(x: Any) -> Any:
        return x * 5.0

    other_order = mg.capture(staticmethod(lambda x: x * 6.0))


def test_a_captured_method_is_bound_to_its_object() -> None:
    one, two = Trainer(2.0), Trainer(3.0)
    for _ in range(5):
        assert (one.step(ONES).tolist(), two.step(ONES).tolist()) == ([2.0] * 3, [3.0] * 3)
        assert one.step(ONES, 1.0, scale=2.0).tolist() == [5.0] * 3
    assert one.step is one.step and one.step is not two.step
    assert one.step.repeat(3, ONES).shape == (3, 3) and "step" in repr(one.step.explain())
    one.factor = 7.0
    assert (one.step(ONES).tolist(), two.step(ONES).tolist()) == ([7.0] * 3, [3.0] * 3)
    assert Trainer.step.__name__ == "step" and Trainer.still(ONES).tolist() == one.still(ONES).tolist() == [5.0] * 3
    assert one.other_order(ONES).tolist() == [6.0] * 3


def test_a_captured_method_dies_with_its_object() -> None:
    one = Trainer(2.0)
    for _ in range(4):
        one.step(ONES)
    watched = [weakref.ref(one), weakref.ref(one.step)]
    del one
    gc.collect()
    assert [ref() for ref in watched] == [None, None]


def test_copies_and_pickles_of_an_object_have_steps_of_their_own() -> None:
    one = Trainer(2.0)
    for _ in range(4):
        one.step(ONES)
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        other.factor = 9.0
        assert other.step(ONES).tolist() == [9.0] * 3
        assert other.step is not one.step and one.step(ONES).tolist() == [2.0] * 3
    assert pickle.loads(pickle.dumps(module_step)) is module_step
    assert copy.deepcopy(module_step)(ONES).tolist() == copy.copy(module_step)(ONES).tolist() == [4.0] * 3
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(mg.capture(lambda x: x))


@mg.capture
def module_step(x: Any) -> Any:
    return x * 4.0


def test_a_slotted_object_cannot_keep_a_captured_method() -> None:
    class Slotted:
        __slots__ = ()
        step = mg.capture(lambda self, x: x)

    with pytest.raises(TypeError, match="capture the bound method"):
        Slotted().step(ONES)


class Doubling:
    def __call__(self, x: Any) -> Any:
        return x * 2.0


def defaults(x: Any, by: float = 2.0, *rest: Any, plus: float = 1.0, **others: Any) -> Any:
    return x * by + plus + sum(rest) + sum(others.values())


CALLABLES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "defaults": (defaults, lambda f: f(ONES)),
    "positional": (defaults, lambda f: f(ONES, 3.0, 4.0)),
    "keywords": (defaults, lambda f: f(ONES, plus=2.0, z=1.0)),
    "all by name": (defaults, lambda f: f(by=3.0, x=ONES)),
    "arrays by name": (defaults, lambda f: f(x=ONES, other=ONES)),
    "partial": (functools.partial(defaults, plus=5.0), lambda f: f(ONES)),
    "partial of partial": (functools.partial(functools.partial(defaults, plus=5.0), by=2.0), lambda f: f(ONES)),
    "lambda": (lambda x: x * 2.0, lambda f: f(ONES)),
    "an object": (Doubling(), lambda f: f(ONES)),
    "a module": (nn.Identity(), lambda f: f(ONES)),
    "an op": (mg.tanh, lambda f: f(ONES)),
    "wrapped": (functools.wraps(defaults)(lambda *a, **k: defaults(*a, **k)), lambda f: f(ONES)),
    "no_grad": (mg.no_grad()(defaults), lambda f: f(ONES)),
    "bound": (Doubling().__call__, lambda f: f(ONES)),
    "no arguments": (lambda: mg.ones(2) * 2.0, lambda f: f()),
}


@pytest.mark.parametrize("name", CALLABLES)
def test_functions_of_every_kind_are_captured(name: str) -> None:
    function, call = CALLABLES[name]
    captured = mg.capture(function)

    def plain(*args: Any, **kwargs: Any) -> Any:
        return function(*[mg.tensor(x) if x is ONES else x for x in args], **{n: mg.tensor(x) if x is ONES else x for n, x in kwargs.items()})

    expected = call(plain).tolist()
    assert [call(captured).tolist() for _ in range(5)] == [expected] * 5
    assert captured.__name__ and name and repr(captured)
    assert call(lambda *a, **k: captured.repeat(3, *a, **k)).tolist() == [expected] * 3


async def coroutine(x: Any) -> Any:
    return x


def generator(x: Any) -> Any:
    yield x


async def both(x: Any) -> Any:
    yield x


class Awaited:
    async def __call__(self, x: Any) -> Any:
        return x


NOT_STEPS: list[Any] = [coroutine, generator, both, functools.partial(generator), Awaited(), 3, classmethod(lambda cls: cls), "f"]


@pytest.mark.parametrize("function", NOT_STEPS, ids=["coroutine", "generator", "both", "partial", "object", "number", "classmethod", "text"])
def test_what_does_not_run_in_one_call_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="capture"):
        mg.capture(function)


def test_a_step_is_not_awaited_by_mistake() -> None:
    assert asyncio.iscoroutinefunction(mg.capture(lambda x: x)) is False


def test_steps_without_arguments_cannot_be_scanned() -> None:
    captured = mg.capture(lambda: mg.ones(2))
    assert captured.repeat(4).shape == (4, 2)
    for scan in (captured.scan, lambda: captured.scan(index=np.zeros((2, 2), int))):
        with pytest.raises(mg.errors.ShapeError):
            scan()


def test_scan_by_index_wants_arguments_of_one_length() -> None:
    captured = mg.capture(lambda x, y: x + y)
    for x, y in ((np.ones((4, 2)), np.ones((5, 2))), (np.ones((4, 2)), np.float32(1))):
        for _ in range(3):
            with pytest.raises(mg.errors.ShapeError, match="one number of rows"):
                captured.scan(x, y, index=np.zeros((3, 2), int))


# ---- freed -------------------------------------------------------------------------------------------------------------------------------
def test_a_step_and_its_model_are_freed_when_nobody_holds_them() -> None:
    def made() -> list[Any]:
        net = Net(lambda p: optim.SGD(p, lr=0.1, momentum=0.5))
        step = mg.capture(net.step, audit=0.5)
        x, y = np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
        for _ in range(6):
            step(x, y)
        return [weakref.ref(net), weakref.ref(step), weakref.ref(net.model[0]), weakref.ref(net.model[0].weight), weakref.ref(net.opt)]

    watched = made()
    other = Net(lambda p: optim.SGD(p, lr=0.1))
    other.step(np.ones((5, 3), np.float32), np.ones((5, 2), np.float32))  # the group of the last clipping is kept
    gc.collect()
    assert [ref() for ref in watched] == [None] * 5
