"""The bits of a whole training run: the same in two processes, with one worker and with two, eager and captured."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

TRAIN = """
import hashlib, math, sys
import numpy as np
import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim

mg.set_num_threads(int(sys.argv[1]))
mg.manual_seed(5)

@mg.op(vjp=lambda g, y, x: g * (1 / (1 + math.exp(-x)) + x * math.exp(-x) / (1 + math.exp(-x)) ** 2))
def swish(x):
    return x / (1 + math.exp(-x))

class Swish(nn.Module):
    def forward(self, x):
        return swish(x)

model = nn.Sequential(nn.Linear(64, 256), nn.BatchNorm1d(256), Swish(), nn.Dropout(0.3), nn.Linear(256, 256), nn.LayerNorm(256), nn.Tanh(),
                      nn.Linear(256, 5))
opt = optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
schedule = optim.lr_scheduler.StepLR(opt, 50, 0.5)
rng = np.random.default_rng(0)
x, y = rng.normal(size=(256, 64)).astype(np.float32), rng.integers(0, 5, 256)

def step(x, y):
    opt.zero_grad()
    total = None
    for half in (slice(0, 128), slice(128, 256)):  # accumulation over two micro-batches
        loss = F.cross_entropy(model(x[half]), y[half]) * 0.5
        loss.backward()
        total = loss if total is None else total + loss
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    schedule.step()
    return total

run = mg.capture(step) if sys.argv[2] == "captured" else step
tx, ty = mg.tensor(x), mg.tensor(y)
losses = [float(run(tx, ty)) for _ in range(200)]
print(np.array(losses).tobytes().hex()[-64:], losses[-1] < losses[0])
for name, value in model.state_dict().items():
    print(name, hashlib.sha256(value.detach().numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_two_hundred_steps_have_the_same_bits_in_any_process_with_any_number_of_workers() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "kernels")])}
    shown = []
    for threads, mode in (("1", "eager"), ("1", "captured"), ("2", "captured")):
        done = subprocess.run([sys.executable, "-c", TRAIN, threads, mode], env={**environment, "PYTHONHASHSEED": threads}, capture_output=True,
                              text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout)
    assert shown[0] == shown[1] == shown[2] and " True\n" in shown[0]
