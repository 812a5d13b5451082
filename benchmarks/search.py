"""Strategies against other people's on real learning curves: one worker, recorded seconds as the clock.

Each search has the runs of one QuickTune dataset to choose from (`pool`); what is learnt beforehand is learnt
from the other datasets. Regret is the best accuracy of the pool less the best found, as a share of the best
less the worst run's, read at multiples of the mean cost of a whole run. The mean is over datasets and seeds,
its standard error over datasets, each with its mean over seeds.

ROW picks methods, or one dataset of a method (random, smac/AWA); all if it is not given. A method that cannot
be installed says so in its row. The runs lie in ../shared beside the checkout, or where SHARED says. SEEDS
makes a row smaller, to see that it works; nothing is recorded then.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import optuna

import table
from luthier.errors import SettingError
from luthier.search import registry
from luthier.search.auto import Auto
from luthier.search.base import Strategy
from luthier.search.prior import Prior
from outside.environment import Unavailable
from outsiders import Elsewhere, OptunaPool, Process
from pool import MULTIPLES, Pool, pools, regret, simulate

Make = Callable[[Pool, int], Strategy]

LIMITS = {name: int(os.environ[name]) for name in ("SEEDS",) if os.environ.get(name)}
SEEDS = LIMITS.get("SEEDS", 5)
AT = MULTIPLES.index(4.0)
# On all 26 datasets of which 18 are here, at one, two and four times a mean run: are clock and regret right?
# ASHA as published promotes (Li et al. 2020, algorithm 2). Ray's stops: with one worker, its first
# trials have nothing to be stopped by.
PUBLISHED = {"random": (0.505, 0.404, 0.264), "hyperband:asha": (0.261, 0.170, 0.095)}
# Exact, so that the figures can be had again. Ray and SMAC want packages that ours must not be bound to.
RAY = ["ray[tune]==2.60.0"]
SMAC = ["smac==2.4.1", "ConfigSpace==1.2.2"]
# A grid has no order worth measuring, a population makes recipes that nobody recorded, and Optuna's samplers
# run by themselves, below.
NOT_MEASURED = {"grid", "optuna", "population"}


@cache
def every_pool() -> list[Pool]:
    """All datasets."""
    return pools()


def of_registry(name: str) -> Make:
    """A strategy of ours, by its name."""
    return lambda pool, seed: registry.create(name, pool.space(seed), seed)


def of_auto(option: str) -> Make:
    """`Auto`, taught by all datasets but the one it searches, which what ships with it has seen."""

    @cache
    def prior(name: str) -> Prior:
        return Prior.from_studies([pool.study for pool in every_pool() if pool.name != name])

    return lambda pool, seed: Auto(pool.space(seed), seed, option, prior=prior(pool.name))


def of_optuna(kind: str) -> Make:
    """A sampler of Optuna, by its class."""
    sampler: Callable[..., optuna.samplers.BaseSampler] = getattr(optuna.samplers, kind)
    return lambda pool, seed: OptunaPool(pool.space(seed), seed, lambda s: sampler(seed=s))


def of_process(script: str, requirements: list[str], **start: Any) -> Make:
    """A search in an environment of its own, which is made when it is first needed."""

    @cache
    def process() -> Process:
        return Process(script, requirements)

    return lambda pool, seed: Elsewhere(pool.space(seed), seed, process(), start)


def methods() -> dict[str, Make]:
    """Everything that is measured, by name."""
    found: dict[str, Make] = {}
    for name in registry.names():
        if name not in NOT_MEASURED:
            for option in ("", *registry.get(name).options):
                full = f"{name}:{option}" if option else name
                found[full] = of_auto(option) if name == "auto" else of_registry(full)
    return found | {
        "optuna-tpe": of_optuna("TPESampler"),
        "optuna-gp": of_optuna("GPSampler"),
        "smac": of_process("smac_facade.py", SMAC, facade="hpo"),
        "smac-hyperband": of_process("smac_facade.py", SMAC, facade="multi"),
        "ray-asha": of_process("ray_asha.py", RAY),
    }


def measure(name: str, make: Make, wanted: list[Pool]) -> Iterator[dict[str, Any]]:
    """A method's row after each dataset; the regrets of datasets that were measured before are in it too."""
    before = [] if LIMITS else [each for each in table.load("search") if each["name"] == name]
    regrets: dict[str, list[list[float]]] = dict(before[0].get("regrets", {})) if before else {}
    for pool in wanted:
        started = time.perf_counter()
        try:
            traces = [simulate(make(pool, seed), pool, MULTIPLES[-1] * pool.cost) for seed in range(SEEDS)]
        except Unavailable as error:
            yield table.row(name, math.nan, "regret at 4x", peer=str(error))
            return
        regrets[pool.name] = [regret(trace, pool).tolist() for trace in traces]
        means = ", ".join(f"{mean:.3f}" for mean in np.mean(regrets[pool.name], axis=0))
        print(f"{name}/{pool.name}: {means} ({time.perf_counter() - started:.0f} s)", file=sys.stderr)
        yield row(name, regrets)


def row(name: str, regrets: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Means and standard errors as a row; the regrets of each dataset, seed and multiple stay with it."""
    means, errors = summary(regrets)
    cells = [f"{m:.3f}±{e:.3f} at {at:g}x" for m, e, at in zip(means, errors, MULTIPLES, strict=True)]
    known = PUBLISHED.get(name)
    return table.row(
        name, float(means[AT]), "regret at 4x",
        peer=", ".join(cell for at, cell in enumerate(cells) if at != AT),
        spread=f"±{errors[AT]:.3f} over {len(regrets)} datasets",
        bar="" if known is None else "on 26 datasets {:.3f} at 1x, {:.3f} at 2x, {:.3f} at 4x".format(*known),
    ) | {"regrets": regrets}  # fmt: skip


def summary(regrets: dict[str, list[list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean regret and its standard error at each multiple.

    Args:
        regrets: By dataset, (seeds, multiples).
    """
    of_datasets = np.array([np.mean(seeds, axis=0) for seeds in regrets.values()])
    if len(of_datasets) < 2:
        return of_datasets.mean(axis=0), np.full(of_datasets.shape[1], math.nan)
    return of_datasets.mean(axis=0), of_datasets.std(axis=0, ddof=1) / math.sqrt(len(of_datasets))


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        every, all_pools = methods(), every_pool()
    except SettingError as error:
        sys.exit(str(error))
    wanted = os.environ.get("ROW", "").split() or list(every)
    known = {*every, *(f"{name}/{pool.name}" for name in every for pool in all_pools)}
    if unknown := [each for each in wanted if each not in known]:
        there = f"{', '.join(every)}, each also with one of /{', /'.join(pool.name for pool in all_pools)}"
        sys.exit(f"No such row: {', '.join(unknown)}. There are {there}.")
    found: dict[str, dict[str, Any]] = {}
    for name, make in every.items():
        chosen = [pool for pool in all_pools if name in wanted or f"{name}/{pool.name}" in wanted]
        for fresh in measure(name, make, chosen):
            found[name] = fresh
            if not LIMITS:
                table.merge("search", [fresh])
    table.show(list(found.values()) if LIMITS else table.load("search"))
    if LIMITS:
        print(f"Not recorded: made smaller by {', '.join(LIMITS)}.", file=sys.stderr)


if __name__ == "__main__":
    main()
