"""`Carried`: how the outputs of a task that was fitted earlier become those of one fitted to more rows. Which
are the same is the task's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEW = -1
"""Stands for an output that the earlier task did not have."""
UNSAID = 30.0
"""How far below all else the logit of an output is put that a model does not know: odds of 1e-13."""


@dataclass(frozen=True)
class Carried:
    """From old outputs to new ones.

    Attributes:
        outputs: (new outputs,) the old output that each is, `NEW` where there was none.
        factor: What old outputs are multiplied by.
        shift: What is then added.
    """

    outputs: tuple[int, ...]
    factor: float = 1.0
    shift: float = 0.0

    @property
    def any(self) -> bool:
        """Whether any output is an old one."""
        return any(old != NEW for old in self.outputs)

    def apply(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What an earlier model says, as the new task reads it; of what it does not know it says no.

        Args:
            outputs: n arrays (..., old outputs).

        Returns:
            n float64 arrays (..., new outputs).
        """
        kept = [at for at, old in enumerate(self.outputs) if old != NEW]
        from_ = [self.outputs[at] for at in kept]
        found = []
        for output in outputs:
            values = np.asarray(output, dtype=np.float64)
            least = min(float(values.min(initial=0.0)), 0.0) - UNSAID
            row = np.full((*values.shape[:-1], len(self.outputs)), least)
            row[..., kept] = values[..., from_] * self.factor + self.shift
            found.append(row)
        return found


def by_name(new: Sequence[str], old: Sequence[str]) -> Carried:
    """Outputs of equal names are the same."""
    places = {name: at for at, name in enumerate(old)}
    return Carried(tuple(places.get(name, NEW) for name in new))
