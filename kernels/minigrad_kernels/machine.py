"""The machine: one compiled loop that runs any program, and the calls that eager mode makes into the same entries.

A program is int64 words. An instruction is `[entry index, flags, words to the next, operands...]`; operands are as `abi` says. All
workers run the same loop over the same words: an instruction marked PARALLEL is done by each in its part, any other by worker 0
alone, and one marked BARRIER is waited for by all. The loop is compiled once; a new model, depth or batch is new data.

The state block, int64 words in one page, each group on a cache line of its own:
    0 arrivals at the barrier   8 generation of the barrier, and behind it what FAILED was when it moved, the same for all who waited
    16 where an instruction failed, -1 while none has
    24 address of the system's yield call, and behind it how long to spin before calling it   32 + 8 * part: the step a worker is on
"""
from __future__ import annotations

import ctypes
import os
import sys
from typing import Any, Final

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import _cache, _jit
from .abi import I64, table, word

PARALLEL: Final = 1
BARRIER: Final = 2
HEADER_WORDS: Final = 3

MAX_WORKERS: Final = 64
ARRIVALS, GENERATION, FAILED, YIELD, STEP = (8 * i for i in range(5))
STATE_WORDS: Final = STEP + 8 * MAX_WORKERS
#: The word of an array object that points to its data: behind Python's header (numpy/ndarraytypes.h, PyArrayObject_fields).
DATA_WORD: Final = object.__basicsize__ // 8
#: Pauses before a waiting worker yields its core: about 50 us.
SPINS: Final = 1200


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def yield_address() -> int:
    """The system's call that lets another thread run."""
    name, library = ("SwitchToThread", "kernel32") if sys.platform == "win32" else ("sched_yield", None)
    return ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value or 0


# ---- atomics and calls ------------------------------------------------------------------------------------------------------------
def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def fetch_add(typingctx: Any, address: Any, value: Any) -> Any:
    """Add to the word at `address`, sequentially consistent; the value before."""
    return types.intp(types.intp, types.intp), lambda c, b, s, a: b.atomic_rmw("add", _pointer(b, a[0]), a[1], "seq_cst")


@intrinsic  # type: ignore[untyped-decorator]
def load(typingctx: Any, address: Any) -> Any:
    """The word at `address`, sequentially consistent."""
    return types.intp(types.intp), lambda c, b, s, a: b.load_atomic(_pointer(b, a[0]), "seq_cst", 8)


@intrinsic  # type: ignore[untyped-decorator]
def store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the word at `address`, sequentially consistent."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def exchange_if(typingctx: Any, address: Any, expected: Any, value: Any) -> Any:
    """Write `value` if the word at `address` is `expected`; whether it was."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pair = builder.cmpxchg(_pointer(builder, arguments[0]), arguments[1], arguments[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.intp, types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def pause(typingctx: Any) -> Any:
    """Tell the core that it is in a spin loop, where the CPU has an instruction for it."""
    x86 = binding.get_process_triple().startswith(("x86_64", "i686"))

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if x86:
            name, parameters, given = "llvm.x86.sse2.pause", [], []
        else:
            name, parameters, given = "llvm.aarch64.hint", [ir.IntType(32)], [ir.Constant(ir.IntType(32), 1)]
        builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), parameters), name), given)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_entry(typingctx: Any, address: Any, operands: Any, part: Any, parts: Any) -> Any:
    """Call an entry by its address."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(I64, [I64] * 3)
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    return types.intp(*[types.intp] * 4), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_nothing(typingctx: Any, address: Any) -> Any:
    """Call `int f(void)` by its address."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.call(builder.inttoptr(arguments[0], ir.FunctionType(ir.IntType(32), []).as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


# ---- the loop -----------------------------------------------------------------------------------------------------------------------
@_jit.jit
def wait_while(address: int, value: int, state: int) -> None:
    """Return when the word at `address` is no longer `value`: spin, then yield the core between looks."""
    spins = 0
    while load(address) == value:
        if spins < word(state, YIELD + 1):
            spins += 1
            pause()
        else:
            call_nothing(word(state, YIELD))


@_jit.jit
def barrier(state: int, parts: int, generation: int) -> None:
    """Return when all `parts` workers have come here `generation + 1` times."""
    if fetch_add(state + 8 * ARRIVALS, 1) == parts - 1:
        store(state + 8 * ARRIVALS, 0)
        store(state + 8 * (GENERATION + 1), load(state + 8 * FAILED))
        store(state + 8 * GENERATION, generation + 1)
    else:
        wait_while(state + 8 * GENERATION, generation, state)


@_jit.jit
def _alone(program: int, length: int, first: int, steps: int, state: int, entries: int) -> int:
    """`loop` for one worker: no flags, no barriers."""
    for step in range(first, first + steps):
        store(state + 8 * STEP, step)
        pc = 0
        while pc < length:
            at = program + 8 * pc
            if call_entry(word(entries, word(at, 0)), at + 8 * HEADER_WORDS, 0, 1) != 1:
                exchange_if(state + 8 * FAILED, -1, pc)
                return step - first
            pc += word(at, 2)
    return steps


@_jit.jit
def loop(program: int, length: int, first: int, steps: int, part: int, parts: int, state: int, entries: int) -> int:
    """Run steps `first` to `first + steps - 1` of a program of `length` words; the number of steps that were completed.

    An instruction whose status is not 1 ends the run: its word offset is left at FAILED, and what follows it is not run.
    """
    if parts == 1:
        return _alone(program, length, first, steps, state, entries)  # type: ignore[no-any-return]
    generation = load(state + 8 * GENERATION)
    for step in range(first, first + steps):
        store(state + 8 * (STEP + 8 * part), step)
        pc = 0
        failed = False
        while pc < length:
            at = program + 8 * pc
            flags = word(at, 1)
            status = 1
            if failed:
                pass  # up to the barrier at which all learn of it
            elif flags & PARALLEL:
                status = call_entry(word(entries, word(at, 0)), at + 8 * HEADER_WORDS, part, parts)
            elif part == 0:
                status = call_entry(word(entries, word(at, 0)), at + 8 * HEADER_WORDS, 0, 1)
            if status != 1:
                failed = True
                exchange_if(state + 8 * FAILED, -1, pc)
            if flags & BARRIER:
                barrier(state, parts, generation)
                generation += 1
                if load(state + 8 * (GENERATION + 1)) >= 0:
                    return step - first
            pc += word(at, 2)
    return steps


def compiled(function: Any, name: str, count: int) -> Any:
    """`function` of `count` int64 arguments, compiled or loaded once and called from Python without any look-up by type."""
    function._cache = _cache.Store(name, function)
    function.compile(types.intp(*[types.intp] * count))
    function.disable_compile()
    return function


@_jit.jit
def _run(program: int, length: int, first: int, steps: int, part: int, parts: int, state: int, entries: int) -> int:
    return loop(program, length, first, steps, part, parts, state, entries)  # type: ignore[no-any-return]


def _invoke(entry: int, operands: int, at: int, a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int, j: int) -> int:
    """One call from Python: put up to ten addresses behind the static words, then run the entry whole."""
    q = operands + 8 * at
    _put(q, a)
    _put(q + 8, b)
    _put(q + 16, c)
    _put(q + 24, d)
    _put(q + 32, e)
    _put(q + 40, f)
    _put(q + 48, g)
    _put(q + 56, h)
    _put(q + 64, i)
    _put(q + 72, j)
    return call_entry(entry, operands, 0, 1)  # type: ignore[no-any-return]


def _begin(entry: int, operands: int, at: int, inputs: int, out: int, a: int, b: int, c: int, scratch: int) -> int:
    """As `_invoke`, for up to three inputs and one output, given as the array object; where its data is, or 0 if the kernel failed."""
    q = operands + 8 * at
    _put(q, a)
    _put(q + 8, b)
    _put(q + 16, c)
    address = word(out, DATA_WORD)
    _put(q + 8 * inputs, address)
    _put(q + 8 * inputs + 8, scratch)
    return address if call_entry(entry, operands, 0, 1) == 1 else 0


def _pointer_of(array: int) -> int:
    """Where the data of an array object is."""
    return word(array, DATA_WORD)  # type: ignore[no-any-return]


@intrinsic  # type: ignore[untyped-decorator]
def _put(typingctx: Any, address: Any, value: Any) -> Any:
    """A plain store of one word."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], _pointer(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


#: Addresses that one eager call can pass.
INVOKE_ADDRESSES: Final = 10
#: Inputs that `begin` can pass.
BEGIN_INPUTS: Final = 3


class Calls:
    """The functions that Python calls, compiled on first use: `run` without the interpreter's lock, `invoke`, `begin` and `pointer_of` under it."""

    def __init__(self) -> None:
        self.run = compiled(_run, "machine.run", 8)
        # Under the lock: an eager call's operand block is shared by all threads.
        self.invoke = compiled(njit(error_model="numpy")(_invoke), "machine.invoke", 3 + INVOKE_ADDRESSES)
        self.begin = compiled(njit(error_model="numpy")(_begin), "machine.begin", 9)
        self.pointer_of = compiled(njit(error_model="numpy")(_pointer_of), "machine.pointer_of", 1)


_calls: list[Calls] = []


def calls() -> Calls:
    """The compiled calls; the first asks the cache."""
    if not _calls:
        _calls.append(Calls())
    return _calls[0]


def new_state() -> np.ndarray[Any, np.dtype[np.int64]]:
    """A state block for one program: page-aligned by NumPy's allocator or not, its groups never share a line with another's."""
    block = np.zeros(STATE_WORDS + 8, np.int64)
    skip = (-block.ctypes.data // 8) % 8
    state = block[skip:skip + STATE_WORDS]
    state[FAILED] = -1
    state[YIELD] = yield_address()
    state[YIELD + 1] = SPINS if available_cores() > 1 else 0  # whoever is waited for needs the core
    return state


def table_address() -> int:
    """Where the table of entries is: it never moves."""
    return int(table.ctypes.data)
