"""What a piece of code leaves behind that only the cycle collector frees."""
from __future__ import annotations

import gc
from collections.abc import Callable

#: Runs before looking: what is loaded and planned at first use is not the code's own.
WARM = 3
#: Looks, of which the best counts: a cycle of the code's own is there each time, one of the process around it is not.
LOOKS = 3


def cycles_left_by(run: Callable[[], None]) -> list[str]:
    """The types of the objects in the cycles that each `run` leaves behind, sorted."""
    for _ in range(WARM):
        run()
    found: list[list[str]] = []
    enabled, flags = gc.isenabled(), gc.get_debug()
    gc.disable()
    try:
        for _ in range(LOOKS):
            while gc.collect():  # finalisers of one round leave something for the next
                pass
            run()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            gc.set_debug(flags)
            found.append(sorted(f"{type(x).__module__}.{type(x).__name__}" for x in gc.garbage))
            gc.garbage.clear()
    finally:
        gc.set_debug(flags)
        if enabled:
            gc.enable()
    return min(found, key=len)
