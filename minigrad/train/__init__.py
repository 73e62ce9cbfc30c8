"""The training loop, in Keras's words."""
from __future__ import annotations

from minigrad.train.callbacks import Callback as Callback
from minigrad.train.callbacks import CSVLogger as CSVLogger
from minigrad.train.callbacks import LambdaCallback as LambdaCallback
from minigrad.train.callbacks import LearningRateScheduler as LearningRateScheduler
from minigrad.train.callbacks import TerminateOnNaN as TerminateOnNaN
from minigrad.train.health import ActivationStats as ActivationStats
from minigrad.train.health import GradientStats as GradientStats
from minigrad.train.health import WeightDelta as WeightDelta
from minigrad.train.health import WeightStats as WeightStats
from minigrad.train.history import History as History
from minigrad.train.metrics import accuracy as accuracy
from minigrad.train.metrics import mae as mae
from minigrad.train.metrics import mse as mse
from minigrad.train.metrics import top_k as top_k
from minigrad.train.monitors import EarlyStopping as EarlyStopping
from minigrad.train.monitors import ModelCheckpoint as ModelCheckpoint
from minigrad.train.monitors import ReduceLROnPlateau as ReduceLROnPlateau
from minigrad.train.trainer import Trainer as Trainer
