"""minigrad: deep dense nets on a CPU, in PyTorch's words, on a tape that replays at native speed."""
from __future__ import annotations

from minigrad import autograd as autograd
from minigrad import errors as errors
from minigrad import nn as nn
from minigrad import optim as optim
from minigrad.config import float32 as float32
from minigrad.config import float64 as float64
from minigrad.config import get_default_dtype as get_default_dtype
from minigrad.config import get_num_threads as get_num_threads
from minigrad.config import int64 as int64
from minigrad.config import manual_seed as manual_seed
from minigrad.config import set_default_dtype as set_default_dtype
from minigrad.config import set_num_threads as set_num_threads
from minigrad.custom import op as op
from minigrad.ops.activations import relu as relu
from minigrad.ops.activations import sigmoid as sigmoid
from minigrad.ops.activations import tanh as tanh
from minigrad.ops.elementwise import exp as exp
from minigrad.ops.elementwise import log as log
from minigrad.ops.matmul import matmul_nn as matmul  # noqa: F401  the name that NumPy and PyTorch give it
from minigrad.ops.reduce import mean as mean
from minigrad.ops.reduce import sum as sum
from minigrad.program.step import capture as capture
from minigrad.tape.mode import enable_grad as enable_grad
from minigrad.tape.mode import is_grad_enabled as is_grad_enabled
from minigrad.tape.mode import no_grad as no_grad
from minigrad.tape.mode import set_grad_enabled as set_grad_enabled
from minigrad.tape.tensor import Tensor as Tensor
from minigrad.tape.tensor import ones as ones
from minigrad.tape.tensor import rand as rand
from minigrad.tape.tensor import randn as randn
from minigrad.tape.tensor import tensor as tensor
from minigrad.tape.tensor import zeros as zeros

__version__ = "0.1.0"
