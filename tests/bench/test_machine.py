from __future__ import annotations

import platform
import shutil

import pytest

from minigrad.bench import machine
from minigrad.bench.machine import Peak


def test_versions_name_what_is_installed() -> None:
    found = machine.versions()
    assert found["python"] == platform.python_version() and {"numpy", "numba"} <= set(found)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_c_peak_is_a_cpu_s() -> None:
    peak = machine.c_peak()
    assert peak is not None and 1 < peak < 5000


def test_c_peak_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert machine.c_peak() is None


@pytest.mark.parametrize(
    ("core", "flags", "better"),
    [("Haswell", ["avx512f"], "SkylakeX"), ("Haswell", ["avx2"], None), ("SkylakeX", ["avx512f"], None), (None, [], None)],
)
def test_better_openblas_core(monkeypatch: pytest.MonkeyPatch, core: str | None, flags: list[str], better: str | None) -> None:
    monkeypatch.setattr(machine, "openblas_core", lambda: core)
    monkeypatch.setattr(machine, "features", lambda: flags)
    assert machine.better_openblas_core() == better


def test_peak_prefers_the_kernel_and_shows_both() -> None:
    assert (Peak(200.0, 210.0).gflops, Peak(None, 210.0).gflops, Peak(None, None).gflops) == (200.0, 210.0, None)
    assert str(Peak(205.8, 210.0)) == "FMA peak of one core 205.8 GFLOP/s by kernel, 210.0 by C loop, 2.0% apart"
