"""The wheel, installed in an environment of its own outside the checkout, trains a net."""
from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
TRAIN = """
import numpy as np
from pathlib import Path

import minigrad as mg
import minigrad_kernels
import minigrad.nn.functional as F
from minigrad import nn, optim

for package in (mg, minigrad_kernels):
    home = Path(package.__file__).parent
    assert home.parent.name == "site-packages" and (home / "py.typed").exists(), home

mg.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
opt = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

@mg.capture
def step(x, y):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    return loss

x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
y = np.array([0, 1, 1, 0])
losses = step.repeat(200, x, y).numpy()
assert losses[0] > 0.5 and losses[-1] < 0.05, (losses[0], losses[-1])
print("trained")
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command that must succeed, run without the checkout on its path."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")} | environment
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as a release would be."""
    pytest.importorskip("build")
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", directory, CHECKOUT, cwd=directory)
    (built,) = directory.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"minigrad", "minigrad_kernels"}
    assert {"minigrad/py.typed", "minigrad_kernels/py.typed", "minigrad/bench/fma_peak.c"} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_installed_wheel_trains(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    assert run(python, "train.py", cwd=tmp_path) == "trained\n"
    assert "minigrad" in run(python, "-m", "minigrad", "info", cwd=tmp_path)
