"""Our strategies against Optuna's samplers on black-box problems: 100 trials, ten seeds, one trial at a time.

Ours search a space of recipes whose settings stand for a problem's dimensions; Optuna's samplers search the
same dimensions as floats in [0, 1] and a categorical, with their defaults. Regret is the best value found,
less the lowest there is, as a share of what a typical random point has; 0 is the optimum, 1 no better than
one draw.

ROW picks problems, or one method on one (hartmann-6, hartmann-6/bayesian); all if it is not given. A strategy
that is not registered is skipped. Last comes the mean rank of each method over the problems that all of them
have been measured on. TRIALS and SEEDS make a row smaller, to see that it works; nothing is recorded then.
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
from scipy.stats import rankdata

import table
from luthier.errors import LuthierError
from luthier.search import registry
from luthier.search.base import Report
from luthier.space import Space
from problems import PROBLEMS, Problem

OURS = ("random", "bayesian", "bayesian:trees", "evolution")
PEERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "optuna-tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "optuna-gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "optuna-cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
}
LIMITS = {name: int(os.environ[name]) for name in ("TRIALS", "SEEDS") if os.environ.get(name)}
TRIALS = LIMITS.get("TRIALS", 100)
SEEDS = LIMITS.get("SEEDS", 10)
AT = (25, 50, 100)


def ours(name: str, problem: Problem, seed: int) -> Iterator[float]:
    """The values that a strategy finds, a trial each."""
    strategy = registry.create(name, Space.from_dict(problem.space()), seed)
    while orders := strategy.ask(1):
        (order,) = orders
        value = problem.of_recipe(order.recipe)
        # Lower is better here, and higher in a study.
        strategy.tell(Report(order.trial, 1, "running", -value, {"loss": value}))
        strategy.tell(Report(order.trial, 1, "completed", -value, best_epoch=1))
        yield value


def peers(name: str, problem: Problem, seed: int) -> Iterator[float]:
    """The values that a sampler of Optuna finds, a trial each."""
    study = optuna.create_study(sampler=PEERS[name](seed))
    while True:
        trial = study.ask()
        point = np.array([trial.suggest_float(f"x{at}", 0.0, 1.0) for at in range(problem.size)])
        choice = trial.suggest_categorical("choice", range(problem.choices)) if problem.choices else 0
        value = problem.value(point, choice)
        study.tell(trial, value)
        yield value


@cache
def methods() -> dict[str, Callable[[str, Problem, int], Iterator[float]]]:
    """Every method that can run here, by name."""
    found: dict[str, Callable[[str, Problem, int], Iterator[float]]] = {}
    for name in OURS:
        try:
            registry.resolve(name)
        except LuthierError as error:
            print(f"Skipped: {error}".replace("\n", " "), file=sys.stderr)
        else:
            found[name] = ours
    return found | dict.fromkeys(PEERS, peers)


def measure(problem: Problem, name: str) -> dict[str, Any]:
    """One method on one problem: the row, with the regrets of each seed at each count of trials."""
    search = methods()[name]
    # A table is evaluated for this, before the clock starts.
    _ = problem.typical
    regrets, started = [], time.perf_counter()
    for seed in range(SEEDS):
        values = [value for value, _ in zip(search(name, problem, seed), range(TRIALS), strict=False)]
        best = np.minimum.accumulate(values)
        regrets.append([problem.regret(best[min(at, len(best)) - 1]) for at in AT])
    seconds = (time.perf_counter() - started) / (SEEDS * TRIALS)
    means, last = np.mean(regrets, axis=0), [found[-1] for found in regrets]
    print(f"{problem.name}/{name}: {means.round(4).tolist()}, {seconds:.3f} s a trial", file=sys.stderr)
    return table.row(
        f"{problem.name}/{name}", float(means[-1]), "regret at 100",
        peer=", ".join(f"{mean:.3g} at {at}" for mean, at in zip(means, AT, strict=True) if at != AT[-1]),
        spread=f"{min(last):.3g} to {max(last):.3g}; {seconds:.2g} s a trial",
    ) | {"regrets": regrets}  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each method over the problems that all methods have rows of: mean regrets and mean rank.

    Methods are ranked by the last regret of each problem and seed, equal ones sharing the mean of their
    places; the mean over seeds is a problem's rank, and the standard error is over problems.
    """
    cells = {tuple(each["name"].split("/")): np.array(each["regrets"]) for each in rows if "regrets" in each}
    names = sorted({method for _, method in cells})
    shared = [p for p in PROBLEMS if all((p, name) in cells for name in names)]
    if not shared:
        return []
    # (problems, methods, seeds, counts of trials)
    found = np.array([[cells[p, name] for name in names] for p in shared])
    ranks = rankdata(found[..., -1].round(12), axis=1).mean(axis=2)
    errors = (
        ranks.std(axis=0, ddof=1) / math.sqrt(len(shared)) if len(shared) > 1 else [math.nan] * len(names)
    )
    means = found.mean(axis=(0, 2))
    return [
        table.row(
            f"all/{name}", float(ranks[:, at].mean()), f"mean rank of {len(names)}",
            peer="mean regret " + ", ".join(f"{m:.3f} at {n}" for m, n in zip(means[at], AT, strict=True)),
            spread=f"standard error {errors[at]:.2f} over {len(shared)} problems",
        )
        for at, name in enumerate(names)
    ]  # fmt: skip


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    known = [f"{problem}/{name}" for problem in PROBLEMS for name in methods()]
    wanted = os.environ.get("ROW", "").split() or list(PROBLEMS)
    if unknown := [each for each in wanted if each not in PROBLEMS and each not in known]:
        sys.exit(
            f"No such row: {', '.join(unknown)}. There are {', '.join(PROBLEMS)}, and each with /METHOD."
        )
    found = []
    for name in [each for each in known if each in wanted or each.split("/")[0] in wanted]:
        problem, _, method = name.partition("/")
        fresh = [measure(PROBLEMS[problem], method)]
        found = [*found, *fresh] if LIMITS else table.merge("blackbox", fresh)
    if LIMITS:
        print(f"Not recorded: made smaller by {', '.join(LIMITS)}.", file=sys.stderr)
    else:
        found = table.merge("blackbox", summary(found))
    table.show(found + (summary(found) if LIMITS else []))


if __name__ == "__main__":
    main()
