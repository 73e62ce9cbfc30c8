"""Every error that minigrad raises on purpose: what came, what was expected, and the fix, before anything has changed."""
from __future__ import annotations


class MinigradError(Exception):
    """Base of all errors below."""


class ShapeError(MinigradError, ValueError):
    """Shapes that an op or layer cannot take."""


class DtypeError(MinigradError, TypeError):
    """Dtypes that an op cannot take, or a mixture that it will not guess about."""


class AxisError(MinigradError, IndexError):
    """An axis that the operand does not have."""


class IndexRangeError(MinigradError, IndexError):
    """An index that names no place of the axis."""


class DeviceError(MinigradError, ValueError):
    """A device other than the CPU."""


class StateError(MinigradError, RuntimeError):
    """A saved state that does not fit what it is loaded into."""


class DamagedFileError(MinigradError, ValueError):
    """A file whose content is not what was saved, or not of a kind that can be read."""


class GraphError(MinigradError, RuntimeError):
    """A backward pass that the recorded graph does not allow."""


class SavedValueError(GraphError):
    """A value that backward needs was changed after it was recorded."""


class NonFiniteError(MinigradError, FloatingPointError):
    """A step whose gradients are not finite; it was refused and nothing was changed. The attributes say where it began, as far as it is known."""

    op: str | None = None  # the first op that makes what is not finite of what is, or the one that reads what was not before
    module: str | None = None  # the path of the module in which it ran
    line: str | None = None  # file.py:12: the op's, or in eager mode that of the outermost model's call around it
    backward: bool | None = None  # whether it was on the way back
    parameter: str | None = None  # whose values were not finite already, by path; or whose gradient is not, where no op is known
    argument: int | None = None  # of the captured step, that was not finite already
    input: str | None = None  # another input of the op that was not finite already
    index: tuple[int, ...] | None = None  # of the first bad value
    value: float | None = None
    step: int | None = None  # of a run of captured steps, counted from 0


class LabelError(MinigradError, IndexError):
    """A class label outside the classes."""


class DataError(MinigradError, ValueError):
    """Data that cannot be read, or cannot be trained on."""


class CaptureError(MinigradError, RuntimeError):
    """Something inside a captured step that a replay could not repeat."""


class MemoryBudgetError(MinigradError, MemoryError):
    """A captured step that does not fit into its memory budget, even when activations are computed again."""


class StepBusyError(MinigradError, RuntimeError):
    """A captured step was called while another thread is running it."""


class OpError(MinigradError, ValueError):
    """An op whose declaration does not hold: a wrong derivative, shape or kernel."""


class GradcheckError(MinigradError, AssertionError):
    """An analytic gradient that differs from the numerical one; the attributes say where and by how much, as far as it is known."""

    op: str | None = None  # the op whose rule is wrong, else the one that made the output
    output: int | None = None
    output_index: tuple[int, ...] | None = None
    input: int | None = None
    index: tuple[int, ...] | None = None
    analytic: float | None = None
    numeric: float | None = None
    kink: bool = False
