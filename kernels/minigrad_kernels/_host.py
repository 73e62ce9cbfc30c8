"""What this CPU's vectors hold; read once, from the features that LLVM reports."""
from __future__ import annotations

from typing import Final

from llvmlite import binding

_features = binding.get_host_cpu_features()

#: 64 with AVX-512, 32 with AVX2 and FMA, else 16 (NEON, or SSE without a fused multiply-add in hardware).
VECTOR_BYTES: Final[int] = (
    64 if _features.get("avx512f") and _features.get("avx512vl") and _features.get("avx512dq")
    else 32 if _features.get("avx2") and _features.get("fma")
    else 16
)
CACHE_LINE: Final[int] = 64
