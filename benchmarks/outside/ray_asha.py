"""Ray Tune's ASHA behind JSON lines: run by an interpreter that has ``ray[tune]``, and by nothing else.

Its scheduler decides for each trial, after each epoch, whether it goes on; new trials are random, without
repeats, as Ray's basic variant generator draws them. No cluster is started: the caller is the one worker.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler


class _Trial:
    """What the scheduler wants to know of a trial."""

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)
        self.evaluated_params: dict[str, Any] = {}


class Asha:
    """One search: Ray's defaults, but for the longest time, which is the pool's."""

    def __init__(self, start: dict[str, Any]) -> None:
        np.random.seed(start["seed"])
        self.left = random.Random(start["seed"]).sample(range(start["size"]), start["size"])
        self.scheduler = AsyncHyperBandScheduler(
            time_attr="training_iteration", metric="score", mode="max", max_t=start["epochs"]
        )
        self.trials: dict[int, _Trial] = {}
        self.going: int | None = None
        self.reached = 0

    def ask(self) -> dict[str, Any]:
        """One epoch more of the trial that goes on, or the first of a new one."""
        if self.going is not None:
            return {"trial": self.going, "until": self.reached + 1}
        if not self.left:
            return {"finished": True}
        self.going, self.reached = len(self.trials), 0
        self.trials[self.going] = _Trial(self.going)
        self.scheduler.on_trial_add(None, self.trials[self.going])
        return {"trial": self.going, "until": 1, "index": self.left.pop()}

    def tell(self, told: dict[str, Any]) -> None:
        """An epoch's score, or that the trial's curve has ended."""
        trial = self.trials[told["trial"]]
        if told["status"] == "running":
            self.reached = told["epoch"]
            result = {"training_iteration": told["epoch"], "score": told["score"]}
            if self.scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                self.going = None
        elif told["status"] == "stopped" and self.going is not None:
            # Its last score was told already: it is removed as one that failed or ran out is.
            self.going = None
            self.scheduler.on_trial_remove(None, trial)


def main() -> None:
    search: Asha | None = None
    for line in sys.stdin:
        said = json.loads(line)
        if "start" in said:
            search = Asha(said["start"])
        elif "tell" in said and search is not None:
            search.tell(said["tell"])
        elif search is not None:
            print(json.dumps(search.ask()), flush=True)


if __name__ == "__main__":
    main()
