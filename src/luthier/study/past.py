"""A store's runs as past studies, from which the transfer prior learns: one for each task and its data."""

from __future__ import annotations

from collections.abc import Collection

from luthier.recipe import Recipe
from luthier.search.past import PastStudy
from luthier.study.store import Store


def past_studies(store: Store, only: Collection[str] | None = None) -> list[PastStudy]:
    """Every run's trials that reported an epoch; studies of the newest runs first.

    A trial that is still running counts with the epochs it has; one that started from another trial's weights
    does not, for its curve is not its recipe's alone, nor does one that repeats another's recipe, which would
    count twice. Runs of one task on equal data, by fingerprint, are one
    study: their scores can be compared.

    Args:
        store: Where they are kept.
        only: Ids of the runs that count; None: all.

    Raises:
        RunError: The store cannot be read.
    """
    found: dict[str, tuple[list[Recipe], list[list[float]], list[list[float]]]] = {}
    for run in store.runs():
        if only is not None and run.id not in only:
            continue
        recipes, scores, seconds = found.setdefault(f"{run.task}:{run.data_fingerprint[:16]}", ([], [], []))
        known, trials = store.recipes(run.id), store.trials(run.id)
        copies = set(trials.loc[trials["parent"].notna() | trials["repeats"].notna(), "number"])
        for number, epochs in store.epochs(run.id).groupby("trial"):
            if number in copies:
                continue
            recipes.append(known[int(str(number))])
            scores.append([float(score) for score in epochs["score"]])
            seconds.append([float(each) for each in epochs["seconds"]])
    return [PastStudy(name, *lists) for name, lists in found.items() if lists[0]]
