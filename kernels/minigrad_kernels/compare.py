"""Comparisons, truth and choice, element by element; arrays 1-D, C-contiguous, out last. What is true or false is one byte, NumPy's bool."""
from __future__ import annotations

import math
import operator
from typing import Final

from .loops import Kernel, Zip, element_loop

# Of operands of one dtype, into bool: IEEE, so that a NaN differs from everything and is neither less nor greater
eq: Final = Zip(operator.eq, "eq", element_loop)
ne: Final = Zip(operator.ne, "ne", element_loop)
lt: Final = Zip(operator.lt, "lt", element_loop)
le: Final = Zip(operator.le, "le", element_loop)
gt: Final = Zip(operator.gt, "gt", element_loop)
ge: Final = Zip(operator.ge, "ge", element_loop)

# Of operands of any dtypes, into bool: a number is true unless it is 0
logical_and: Final = Zip(lambda x, y: (x != 0) & (y != 0), "logical_and", element_loop)
logical_or: Final = Zip(lambda x, y: (x != 0) | (y != 0), "logical_or", element_loop)
logical_xor: Final = Zip(lambda x, y: (x != 0) != (y != 0), "logical_xor", element_loop)
logical_not: Final[Kernel] = element_loop(lambda x: x == 0, "logical_not", "v")
truth: Final[Kernel] = element_loop(lambda x: x != 0, "truth", "v")

# Of integers, or of bools
bitwise_and: Final = Zip(operator.and_, "bitwise_and", element_loop)
bitwise_or: Final = Zip(operator.or_, "bitwise_or", element_loop)
bitwise_xor: Final = Zip(operator.xor, "bitwise_xor", element_loop)
bitwise_not: Final[Kernel] = element_loop(operator.invert, "bitwise_not", "v")

# Of floats, into bool
isnan: Final[Kernel] = element_loop(lambda x: x != x, "isnan", "v")
isinf: Final[Kernel] = element_loop(lambda x: (x == math.inf) | (x == -math.inf), "isinf", "v")
isfinite: Final[Kernel] = element_loop(lambda x: (x < math.inf) & (x > -math.inf), "isfinite", "v")

#: x where the condition, a bool, holds, else y; the last two are of one dtype.
where: Final = Zip(lambda condition, x, y: x if condition else y, "where", element_loop)
