"""A million records run forward and backward without recursion and are freed, consumed or not."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
CHAIN = """
import gc, os
import numpy as np
import minigrad as mg

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def chain(length, consume):
    x = mg.tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(length):
        y = y * 1.0  # keeps y
    if consume:
        y.backward()
        return x.grad.item()
    return y.item()

for consume in (True, False):
    chain(20_000, consume)
gc.collect(); gc.disable()  # what is freed is freed by counting references
before = resident()
print(chain(1_000_000, {consume}), (resident() - before) / 1e6)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not say how much memory a process has")
@pytest.mark.parametrize("consume", [True, False], ids=["consumed by backward", "never consumed"])
def test_a_chain_of_a_million_is_freed(consume: bool) -> None:
    """To within 5 MB of before, with the garbage collector off."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "kernels")])}
    done = subprocess.run([sys.executable, "-c", CHAIN.replace("{consume}", str(consume))], env=environment, capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    value, megabytes = map(float, done.stdout.split())
    assert value == 1
    assert megabytes < 5, f"{megabytes} MB are still held"
