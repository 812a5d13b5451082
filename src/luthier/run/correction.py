"""What is to be expected of the winner, given that it was the best of many on the validation split: from the
outputs that trials left in the run folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from luthier.engine.engine import Engine
from luthier.ensemble.choice import Weighed
from luthier.evaluate.selection import Selection, corrected, stacked
from luthier.study.study import Finished

# Numbers of all trials together: 256 MB of float64.
CELLS = 2**25
# Reading outputs ends after so long, with the worst trials, which are hardly ever chosen on resampled rows.
SECONDS = 5.0


def selection(
    engine: Engine, ranked: Sequence[Finished], chosen: Finished, *, groups: Any | None, seed: int
) -> Selection:
    """The chosen trial's validation value, and what choosing did to it.

    Args:
        engine: Has task, validation targets and kept outputs.
        ranked: Trials that could have been chosen, the best first.
        chosen: The one that was.
        groups: (n,) group keys of the validation rows, or None.
        seed: Of the bootstrap.
    """
    task, targets = engine.task, engine.inputs.targets("validation")
    tables: list[np.ndarray] = []
    started = time.perf_counter()
    for found in ranked:
        full = tables and (len(tables) + 1) * tables[0].size > CELLS
        if engine.kept is None or full or time.perf_counter() - started > SECONDS:
            break
        outputs = engine.kept.load(found.trial)
        if outputs is not None and len(outputs) == len(targets):
            tables.append(task.score_statistics(outputs, targets))
    sign = 1 if task.maximize else -1
    told = Selection(sign * chosen.score, trials=len(tables), left_out=len(ranked) - len(tables))
    if tables:
        expected, ends = corrected(stacked(tables, groups), task.scores, seed=seed)
        told.expected, low, high = sign * expected, sign * ends[0], sign * ends[1]
        told.interval = (low, high) if task.maximize else (high, low)
        told.groups = None if groups is None else len(set(np.asarray(groups).astype(str)))
    return told


def selection_of(chosen: Weighed, single: Selection, *, maximize: bool) -> Selection:
    """The same of an ensemble, which was fitted to these rows, too.

    Args:
        chosen: The ensemble, with what it says of rows that it was not fitted to.
        single: That of the best trial.
        maximize: Whether more of the metric is better.
    """
    sign, (low, high) = 1 if maximize else -1, chosen.gain.expected_interval
    ends = (low, high) if maximize else (-high, -low)
    return replace(
        single, validation=sign * chosen.score, expected=sign * chosen.gain.expected, interval=ends
    )
