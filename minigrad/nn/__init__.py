"""Layers, their initial values, and what is done to their gradients: PyTorch's `torch.nn` names."""
from __future__ import annotations

from minigrad.nn import functional as functional
from minigrad.nn import init as init
from minigrad.nn import utils as utils
from minigrad.nn.activation import ReLU as ReLU
from minigrad.nn.activation import Sigmoid as Sigmoid
from minigrad.nn.activation import Tanh as Tanh
from minigrad.nn.container import Residual as Residual
from minigrad.nn.container import Sequential as Sequential
from minigrad.nn.linear import Linear as Linear
from minigrad.nn.loss import CrossEntropyLoss as CrossEntropyLoss
from minigrad.nn.loss import MSELoss as MSELoss
from minigrad.nn.module import Module as Module
from minigrad.nn.parameter import Parameter as Parameter
