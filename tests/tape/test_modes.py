"""`no_grad` and its kin: as blocks and decorators, nested, per thread, left by exceptions; what they record and what not."""
from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DtypeError, GraphError


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values), requires_grad=True)


def records() -> bool:
    """Whether an op is recorded now, which must be what the switch says."""
    found = (leaf(1.0) * 2.0).requires_grad
    assert found is mg.is_grad_enabled()
    return found


MODES = [(mg.no_grad, False), (mg.enable_grad, True), (mg.inference_mode, False), (lambda: mg.inference_mode(False), True),
         (lambda: mg.set_grad_enabled(False), False), (lambda: mg.set_grad_enabled(True), True)]
modes = pytest.mark.parametrize(("mode", "on"), MODES)


@modes
@pytest.mark.parametrize("outer", [True, False])
def test_a_block_switches_and_puts_back(mode: Any, on: bool, outer: bool) -> None:
    with mg.enable_grad() if outer else mg.no_grad():
        with mode():
            assert records() is on
            with mg.no_grad():
                assert not records()
            assert records() is on
        assert records() is outer
        with pytest.raises(ZeroDivisionError), mode():
            raise ZeroDivisionError
        assert records() is outer


@modes
def test_a_decorated_function_runs_in_the_mode_and_decorating_switches_nothing(mode: Any, on: bool) -> None:
    @mode()
    def look(depth: int) -> list[bool]:
        """What it does."""
        return [records(), *(look(depth - 1) if depth else [])]

    assert records()
    assert look(2) == [on] * 3 and look.__name__ == "look" and look.__doc__ == "What it does."
    assert records()


@pytest.mark.parametrize(("mode", "on"), [(mg.no_grad, False), (mg.enable_grad, True), (mg.inference_mode, False)])
def test_the_parentheses_of_a_decorator_may_be_left_out(mode: Any, on: bool) -> None:
    @mode
    def look() -> bool:
        return records()

    with mg.set_grad_enabled(not on):
        assert look() is on


def test_a_generator_runs_in_the_mode_and_its_caller_does_not() -> None:
    closed: list[bool] = []
    sent: list[Any] = []

    @mg.no_grad()
    def numbers(count: int) -> Generator[Any, Any, str]:
        try:
            for _ in range(count):
                try:
                    assert not records()
                    sent.append((yield mg.is_grad_enabled()))
                except KeyError:
                    assert not records()
                    yield "caught"
            return "returned"
        finally:
            closed.append(mg.is_grad_enabled())

    for inside in numbers(2):
        assert inside is False and records()
    made: Any = numbers(3)
    assert next(made) is False and made.send("sent") is False and made.throw(KeyError()) == "caught" and records()
    made.close()
    made = numbers(1)
    next(made)
    with pytest.raises(StopIteration) as end:
        next(made)
    assert end.value.value == "returned" and len(closed) == 3 and "sent" in sent and records()


def test_a_call_of_set_grad_enabled_lasts() -> None:
    mg.set_grad_enabled(False)
    try:
        assert not records()
    finally:
        mg.set_grad_enabled(True)
    assert records()


def test_one_object_can_be_entered_again() -> None:
    mode = mg.no_grad()
    with mode:
        with mode:
            assert not records()
        assert not records()
    assert records()


def test_a_mode_is_its_thread_s() -> None:
    inside, done = threading.Event(), threading.Event()
    found = []

    def other() -> None:
        with mg.no_grad():
            inside.set()
            done.wait(10)
            found.append(records())

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    found.append(records())
    done.set()
    thread.join()
    assert found == [True, False]


def test_a_leaf_made_without_recording_is_still_one() -> None:
    with mg.no_grad():
        x = leaf(1.0)
    (x * 2.0).backward()
    assert x.grad is not None and x.grad.tolist() == [2.0]


def test_a_result_made_without_recording_is_a_leaf_that_needs_no_gradient() -> None:
    with mg.no_grad():
        y = leaf(1.0) * 2.0
    assert y.is_leaf and not y.requires_grad and y.grad_fn is None
    with pytest.raises(GraphError, match="element 0 of tensors does not require grad"):
        y.backward()


def test_backward_may_be_called_without_recording() -> None:
    x = leaf(3.0)
    y = x * x
    with mg.no_grad():
        y.backward()
    assert x.grad is not None and x.grad.tolist() == [6.0] and not x.grad.requires_grad


# ---- detach and requires_grad
def test_detach_shares_memory_and_version_and_stops_the_gradient() -> None:
    x = leaf(2.0)
    y = x * x
    still = y.detach()
    (y * still).backward()
    assert x.grad is not None and x.grad.tolist() == [16.0] and not still.requires_grad and still.is_leaf
    still.add_(1.0)
    assert y.tolist() == [5.0]


def test_requires_grad_can_be_switched_on_leaves_only() -> None:
    x = mg.tensor([1.0])
    assert x.requires_grad_() is x and x.requires_grad
    y = x * 2.0
    for value in (True, False):
        with pytest.raises(GraphError, match=r"on leaves only; use detach\(\)"):
            y.requires_grad_(value)
    assert not x.requires_grad_(False).requires_grad and not (x * 2.0).requires_grad
    with pytest.raises(DtypeError, match="only floating-point Tensors"):
        mg.tensor([1]).requires_grad_()


def test_a_leaf_that_is_frozen_after_the_forward_gets_the_gradient_that_was_recorded() -> None:
    x = leaf(1.0)
    y = x * 2.0
    x.requires_grad = False
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [2.0]
