from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from minigrad import __version__, cli
from minigrad.compiling import announced
from minigrad_kernels import _cache


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: python -m minigrad {command}" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "status", "shown"), [
    (["--help"], 0, "warmup   compile everything"),
    (["--version"], 0, f"minigrad {__version__}"),
    ([], 2, "usage: python -m minigrad COMMAND"),
    (["dmeo"], 2, "invalid choice: 'dmeo'"),
])
def test_the_first_word(arguments: list[str], status: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == status and shown in captured.out + captured.err


def test_info_names_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("minigrad", "numba", "CPU", "vectors", "threads", str(_cache.directory())))


def test_warmup_leaves_nothing_to_compile(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["warmup"]) == 0
    misses = _cache.stats.misses
    assert cli.main(["warmup"]) == 0
    assert _cache.stats.misses == misses and "ready after" in capsys.readouterr().out


def test_ctrl_c_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(argv: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "info", cli.Command(interrupted, ""))
    assert cli.main(["info"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_it_runs_as_a_module() -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-m", "minigrad", "--version"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"minigrad {__version__}\n"


def test_compilation_is_announced_once_and_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = _cache.Stats()
    monkeypatch.setattr(_cache, "stats", stats)
    stream = io.StringIO()
    with announced(stream):
        for name in ("matmul", "relu"):
            assert stats.on_compile is not None
            stats.on_compile(name)
            stats.misses, stats.compile_seconds = stats.misses + 1, stats.compile_seconds + 1.5
    first, last = stream.getvalue().splitlines()
    assert first.startswith("compiling kernels for this CPU, once") and last == "compiled 2 kernels in 3.0 s"
    assert stats.on_compile is None


def test_a_warm_start_is_silent() -> None:
    stream = io.StringIO()
    with announced(stream):
        pass
    assert stream.getvalue() == ""
