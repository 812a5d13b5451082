"""Regret of `auto` on the QuickTune pools, leave one dataset out: it learns from the others only."""

from __future__ import annotations

import sys
import time

import numpy as np

from luthier.search.auto import Auto
from luthier.search.prior import Prior
from pool import MULTIPLES, pools, regret, simulate

SEEDS = 5


def main(seeds: int = SEEDS) -> None:
    found = pools()
    all_regrets = []
    for pool in found:
        prior = Prior.from_studies([other.study for other in found if other is not pool])
        started = time.perf_counter()
        regrets = [
            regret(simulate(Auto(pool.space(seed), seed, prior=prior), pool, MULTIPLES[-1] * pool.cost), pool)
            for seed in range(seeds)
        ]
        all_regrets.append(regrets)
        shown = " ".join(f"{value:.3f}" for value in np.mean(regrets, axis=0))
        print(f"{pool.name:10s} {shown}   {time.perf_counter() - started:.0f} s", flush=True)
    mean = np.mean(all_regrets, axis=(0, 1))
    print("budget     " + " ".join(f"{multiple:5g}" for multiple in MULTIPLES))
    print("mean       " + " ".join(f"{value:.3f}" for value in mean))
    print("per seed   ", np.mean(all_regrets, axis=0)[:, 1:4].round(3).tolist())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
