"""The clock of a run: wall-clock seconds asked for, spent in all its processes, and held back for the end."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """Wall-clock seconds.

    Args:
        total: Seconds asked for, from the first moment of the run to the last.
        spent: Seconds that earlier processes of the same run used.
        clock: Seconds from any fixed point, never going back.
    """

    def __init__(self, total: float, spent: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._before = spent
        self._clock = clock
        self._started = clock()
        self.reserve = 0.0

    @property
    def spent(self) -> float:
        """Seconds used so far, over all processes of the run."""
        return self._before + self._clock() - self._started

    @property
    def left(self) -> float:
        """Seconds left to search in: what is not spent and not held back. Below zero when it is over."""
        return self.total - self.spent - self.reserve
