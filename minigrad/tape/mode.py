"""What eager mode is doing in this thread: whether it records, who listens, and where a result should go."""
from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from functools import partial, wraps
from inspect import isgeneratorfunction
from os.path import basename
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

if TYPE_CHECKING:
    from minigrad.ops.op import Op, Plan
    from minigrad.tape.handle import Handle, Leaf
    from minigrad.tape.record import Record

#: Calls of outermost modules that a thread remembers.
SITES: Final = 256


class Listener:
    """Hears what runs in a thread; the base hears nothing."""

    def ran(self, op: Op, plan: Plan, inputs: tuple[Handle, ...], out: Handle | None) -> None:
        """An op ran on `inputs` and wrote `out`."""

    def cleared(self, leaf: Leaf) -> None:
        """A leaf's gradient was set to None."""

    def looked(self, leaf: Leaf) -> None:
        """Whether the leaf has a gradient decides what runs next."""

    def kept(self, slot: Handle) -> None:
        """What is written to this slot outlives the run."""

    def gave(self, leaf: Leaf) -> None:
        """A leaf's gradient was given out."""

    def parted(self, leaf: Leaf) -> None:
        """A gradient that was given out is about to be replaced, and got memory of its own."""

    def ticked(self, clock: list[int]) -> None:
        """An optimiser moved the version of its parameters."""

    def prepares(self, prepare: Callable[[int], None], at_once: int) -> None:
        """What ran needs `prepare(n)` before it is run n times, at most `at_once`: it reads what follows a schedule, or writes a recording."""

    def drew(self, state: Handle, key: Handle) -> None:
        """A key was taken from the random state, which has moved on; neither was heard as an op."""

    def line_of(self, record: Record) -> str:
        """Where the op of the record was called; "" if that is not known."""
        return ""

    def guarded(self, optimizer: Any) -> None:
        """The norm of an optimiser's gradients is about to be looked at."""

    def refused(self) -> None:
        """It was not finite, and the step goes on without its update."""


class Mode:
    """The switches of one thread, as one object so that an op reads them through a single thread-local look-up."""

    __slots__ = ("grad", "listener", "destination", "path", "room", "journal", "turn", "trail", "sites")

    def __init__(self) -> None:
        self.grad = True
        self.listener: Listener | None = None
        self.destination: Handle | None = None  # a leaf's gradient slot that the next op with its spec writes into
        self.path = ""  # of the module that is running: for error texts, records and programs
        self.journal: dict[int, Any] = {}  # what was written before a step's guard was heard, as it was before
        self.turn: Record | None = None  # whose gradient the sweep sends back, while somebody listens
        self.trail: Any = None  # what the last backward pass went through, until its step is committed
        self.sites: deque[tuple[int, Any, int]] = deque(maxlen=SITES)  # where outermost modules, or traced ops, were called: see sites.py
        self.room: Any = None  # where the programs of this thread, of which one runs at a time, work: bytes for each worker


PACKAGE: Final = str(Path(__file__).parents[1])


def caller() -> str:
    """`file.py:12` of the innermost line outside the package: the user's. Costs about 2 us, so it is for programs and errors."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return sys.intern(f"{basename(frame.f_code.co_filename)}:{frame.f_lineno}") if frame is not None else ""


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.mode = Mode()


local = _PerThread()


def is_grad_enabled() -> bool:
    """Whether ops are being recorded for backward in this thread."""
    return local.mode.grad


F = TypeVar("F", bound=Callable[..., Any])


class GradMode(ContextDecorator):
    """Record ops for backward, or not, in this thread: inside a `with` block or a decorated function."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._before: list[bool] = []

    def __call__(self, func: F) -> F:
        if not isgeneratorfunction(func):
            return super().__call__(func)

        @wraps(func)
        def each(*args: Any, **kwargs: Any) -> Any:
            made = func(*args, **kwargs)
            step = partial(next, made)
            while True:  # the mode holds while the generator runs, not while its caller does
                try:
                    with GradMode(self.enabled):
                        given = step()
                except StopIteration as end:
                    return end.value
                try:
                    step = partial(made.send, (yield given))
                except GeneratorExit:
                    made.close()
                    raise
                except BaseException as error:  # noqa: BLE001  whatever it is, it is the generator's
                    step = partial(made.throw, error)

        return each  # type: ignore[return-value]

    def _recreate_cm(self) -> GradMode:
        return GradMode(self.enabled)

    def __enter__(self) -> None:
        mode = local.mode
        self._before.append(mode.grad)
        mode.grad = self.enabled

    def __exit__(self, *exception: object) -> None:
        local.mode.grad = self._before.pop()


@overload
def no_grad(function: None = None) -> GradMode: ...
@overload
def no_grad(function: F) -> F: ...
def no_grad(function: Any = None) -> Any:
    """Do not record ops for backward, inside a `with` block or a decorated function; decorates with parentheses or without."""
    return GradMode(False) if function is None else GradMode(False)(function)


@overload
def inference_mode(mode: bool = True) -> GradMode: ...
@overload
def inference_mode(mode: F) -> F: ...
def inference_mode(mode: Any = True) -> Any:
    """As `no_grad`, under PyTorch's other name."""
    return no_grad(mode) if callable(mode) else GradMode(not mode)


@overload
def enable_grad(function: None = None) -> GradMode: ...
@overload
def enable_grad(function: F) -> F: ...
def enable_grad(function: Any = None) -> Any:
    """Record ops for backward, even inside `no_grad`."""
    return GradMode(True) if function is None else GradMode(True)(function)


class set_grad_enabled(GradMode):  # noqa: N801  PyTorch's name
    """Record ops for backward, or not, in this thread: from now on, or inside a `with` block or a decorated function."""

    def __init__(self, enabled: bool) -> None:
        super().__init__(enabled)
        super().__enter__()

    def __enter__(self) -> None:
        """Already switched."""

    def __call__(self, func: F) -> F:
        self.__exit__()  # decorating switches nothing
        return GradMode(self.enabled)(func)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear of every op that runs in this thread, in order, backward's included."""
    mode = local.mode
    before, mode.listener = mode.listener, listener
    try:
        yield
    finally:
        mode.listener = before
