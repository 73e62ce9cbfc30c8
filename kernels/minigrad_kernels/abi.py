"""The uniform entry: every kernel, whatever its arguments, is run as `int64 entry(int64* operands, int64 part, int64 parts)`, 1 = ok.

A `Layout` says how the operand words become the kernel's arguments, and along which dimension several workers share the call. It is
written in the notation of einsum: `"x[n] out[n]"`, share `n`, is a flat kernel; `"a(m,k) b(k,n)^ out(m,n) scratch"`, share `n`, is a
product with a transposed right operand, of which each worker computes its own columns.

    name[m,n]    a C-contiguous array of that shape           name(m,n)    the same memory, passed as a strided array
    name(m,n)^   memory of shape (n,m), passed transposed     name:f       an immediate float64       name:i   an immediate int64
    scratch      SCRATCH_BYTES of the worker's own            part parts   which worker it is, and of how many

The operand words are: the dimensions in order of first mention, the immediates, then one address an array. The factory slices, so a
kernel knows nothing of threads; eager mode is part 0 of 1 of the same entry.
"""
from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import from_dtype

from . import _cache, _jit

I64: Final = ir.IntType(64)
ENTRY: Final = types.int64(types.intp, types.intp, types.intp)
#: Workers cut a shared dimension at multiples of this, so that each starts on a whole vector.
GRAIN: Final = 16
SCRATCH_BYTES: Final = 1 << 19
CAPACITY: Final = 8192


# ---- from words to arguments -----------------------------------------------------------------------------------------------------
@intrinsic  # type: ignore[untyped-decorator]
def word(typingctx: Any, address: Any, index: Any) -> Any:
    """The int64 at `address[index]`."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(arguments[0], I64.as_pointer()), [arguments[1]]))

    return types.intp(types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def as_float(typingctx: Any, bits: Any) -> Any:
    """The float64 with these bits."""
    return types.float64(types.intp), lambda context, builder, signature, a: builder.bitcast(a[0], ir.DoubleType())


def array_of(dtype: np.dtype[Any], ndim: int, layout: str) -> Any:
    """An intrinsic `(address, shape..., strides...) -> array` for one dtype, rank and Numba layout; strides in bytes."""
    element = from_dtype(dtype)
    kind = types.Array(element, ndim, layout)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = make_array(kind)(context, builder)
        pointer = builder.inttoptr(arguments[0], context.get_data_type(element).as_pointer())
        populate_array(array, data=pointer, shape=arguments[1:1 + ndim], strides=arguments[1 + ndim:1 + 2 * ndim],
                       itemsize=context.get_constant(types.intp, dtype.itemsize), meminfo=None)
        return array._getvalue()

    @intrinsic  # type: ignore[untyped-decorator]
    def one(typingctx: Any, address: Any, n: Any, s: Any) -> Any:
        return kind(*[types.intp] * 3), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def two(typingctx: Any, address: Any, m: Any, n: Any, s: Any, t: Any) -> Any:
        return kind(*[types.intp] * 5), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def three(typingctx: Any, address: Any, m: Any, n: Any, o: Any, s: Any, t: Any, u: Any) -> Any:
        return kind(*[types.intp] * 7), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def four(typingctx: Any, address: Any, m: Any, n: Any, o: Any, p: Any, s: Any, t: Any, u: Any, v: Any) -> Any:
        return kind(*[types.intp] * 9), codegen

    return (one, two, three, four)[ndim - 1]


# ---- layouts -------------------------------------------------------------------------------------------------------------------
class Argument(NamedTuple):
    """One argument of a kernel: an array (its dimensions as the kernel sees them), an immediate, scratch, or a worker's number."""

    name: str
    kind: str  # "array", "f", "i", "scratch", "part"
    dims: tuple[str, ...] = ()
    strided: bool = False
    transposed: bool = False


_ARGUMENT = re.compile(r"(\w+)(?:\[([\w,]*)\]|\(([\w,]*)\)(\^?)|:([fi]))?")


class Layout:
    """How words become arguments; see the module's docstring for the notation. `share` names the dimension that workers divide."""

    def __init__(self, text: str, share: str | None = None, status: bool = False) -> None:
        self.text, self.share, self.status = text, share, status
        self.arguments = tuple(self._parse(part) for part in text.split())
        self.arrays = tuple(a for a in self.arguments if a.kind == "array")
        self.dims = tuple(dict.fromkeys(d for a in self.arrays for d in a.dims if not d.isdigit()))
        self.immediates = tuple(a for a in self.arguments if a.kind in ("f", "i"))
        for array in self.arrays:
            if share in array.dims[1:] and not array.strided:
                raise ValueError(f"layout {text!r}: a part of {array.name} along {share} is not contiguous, write {array.name}(...)")

    @staticmethod
    def _parse(part: str) -> Argument:
        match = _ARGUMENT.fullmatch(part)
        if match is None:
            raise ValueError(f"layout: cannot read {part!r}")
        name, contiguous, strided, transposed, immediate = match.groups()
        if immediate:
            return Argument(name, immediate)
        if contiguous is None and strided is None:
            return Argument(name, "part" if name in ("part", "parts") else "scratch")
        return Argument(name, "array", tuple((contiguous if strided is None else strided).split(",")), strided is not None, bool(transposed))

    def __repr__(self) -> str:
        return f"Layout({self.text!r}, share={self.share!r}, status={self.status})"

    def words(self, dims: dict[str, int], immediates: Mapping[str, float] | None = None) -> tuple[int, ...]:
        """The static words of a call: dimensions, then immediates (a float64 as its bits)."""
        given = immediates or {}
        return tuple(int(dims[d]) for d in self.dims) + tuple(
            struct.unpack("<q", struct.pack("<d", given[a.name]))[0] if a.kind == "f" else int(given[a.name]) for a in self.immediates)

    def source(self, dtypes: tuple[np.dtype[Any], ...]) -> str:
        """The entry's body as Python text: Numba has no variadic closures, and our cache needs no source file."""
        lines = ["def uniform(operands, part, parts):"]
        size = {d: d for d in self.dims}
        for i, d in enumerate(self.dims):
            lines.append(f"    {d} = word(operands, {i})")
        if self.share:
            s = self.share
            # Alone there is nothing to divide: two divisions take as long as adding sixteen numbers.
            lines += ["    lo, hi = 0, " + s,
                      "    if parts > 1:",
                      f"        grains = ({s} + {GRAIN - 1}) // {GRAIN}",
                      f"        lo = min({s}, grains * part // parts * {GRAIN})",
                      f"        hi = min({s}, grains * (part + 1) // parts * {GRAIN})",
                      f"        if hi <= lo and {s} > 0:", "            return 1"]
            size[s] = "(hi - lo)"
        first_address = len(self.dims) + len(self.immediates)
        values, arrays, immediates = [], 0, 0
        for a in self.arguments:
            if a.kind == "part":
                values.append(a.name)
            elif a.kind == "scratch":
                values.append(f"scratch(word(operands, {first_address + len(self.arrays)}) + part * {SCRATCH_BYTES}, {SCRATCH_BYTES}, 1)")
            elif a.kind == "array":
                memory = a.dims[::-1] if a.transposed else a.dims
                item = dtypes[arrays].itemsize
                strides = {i: " * ".join([str(item), *memory[i + 1:]]) for i in range(len(memory))}
                address = f"word(operands, {first_address + arrays})"
                if self.share in memory:
                    address += f" + lo * {strides[memory.index(self.share)]}"
                order = range(len(memory))[::-1] if a.transposed else range(len(memory))
                shape = [size.get(d, d) for d in a.dims]
                values.append(f"array{arrays}({address}, {', '.join(shape + [strides[i] for i in order])})")
                arrays += 1
            else:
                value = f"word(operands, {len(self.dims) + immediates})"
                values.append(f"as_float({value})" if a.kind == "f" else value)
                immediates += 1
        call = f"kernel({', '.join(values)})"
        lines += [f"    return {call}"] if self.status else [f"    {call}", "    return 1"]
        return "\n".join(lines)


# ---- entries -------------------------------------------------------------------------------------------------------------------
#: Addresses by index; process-local, so a program stores indices and is bound again wherever it is loaded.
table: Final = np.zeros(CAPACITY, np.int64)


class Entry:
    """A kernel behind the uniform signature, compiled (or loaded from the cache) when its index is first asked for."""

    _used = 0

    def __init__(self, kernel: Any, layout: Layout, dtypes: tuple[np.dtype[Any], ...], stored: bool = True) -> None:
        self.kernel, self.layout, self.dtypes, self.stored = kernel, layout, dtypes, stored
        self.name = f"{kernel.py_func.__module__}.{kernel.__name__}[{','.join(d.name for d in dtypes)}]"
        self.index = -1
        self.address = 0

    def load(self) -> Entry:
        """Compile, or load from the cache; does nothing the second time. Returns itself."""
        if self.index < 0:
            if Entry._used == CAPACITY:
                raise RuntimeError(f"more than {CAPACITY} kernels in one process")
            self._compiled = self._compile()
            self.address = int(self._compiled.address)
            table[Entry._used] = self.address
            self.index, Entry._used = Entry._used, Entry._used + 1
        return self

    def _compile(self) -> CFunc:
        scope: dict[str, Any] = {"__name__": __name__, "word": word, "as_float": as_float, "kernel": self.kernel, "min": min,
                                 "scratch": array_of(np.dtype(np.uint8), 1, "C")}
        for i, (array, dtype) in enumerate(zip(self.layout.arrays, self.dtypes, strict=True)):
            scope[f"array{i}"] = array_of(dtype, len(array.dims), "A" if array.strided else "C")
        exec(self.layout.source(self.dtypes), scope)
        body = _jit.named(re.sub(r"\W+", "_", f"entry_{self.name}_{self.layout.text}"))(scope["uniform"])
        compiled = CFunc(body, (ENTRY.args, ENTRY.return_type), {}, dict(_jit.POLICY))
        if self.stored:
            compiled._cache = _cache.Store(f"{self.name}|{self.layout!r}", self.kernel)
        compiled.compile()
        return compiled


_entries: dict[tuple[Any, Layout, tuple[np.dtype[Any], ...]], Entry] = {}


def entry(kernel: Callable[..., Any], layout: Layout, dtypes: tuple[np.dtype[Any], ...], stored: bool = True) -> Entry:
    """The entry of `kernel` under `layout` for these array dtypes: the only factory. One object per combination."""
    key = (kernel, layout, dtypes)
    found = _entries.get(key)
    if found is None:
        found = _entries[key] = Entry(kernel, layout, dtypes, stored)
    return found


def loaded() -> list[Entry]:
    """The entries that this process has compiled or loaded, in table order."""
    return sorted((e for e in _entries.values() if e.index >= 0), key=lambda e: e.index)
