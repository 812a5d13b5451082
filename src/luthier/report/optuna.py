"""A run as a study in a storage of Optuna, so that optuna-dashboard and Optuna's plots show it: `export`.
Proposing recipes with Optuna's samplers is `luthier.search.optuna`.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy.exc import SQLAlchemyError

from luthier.errors import MissingExtra, RunError
from luthier.recipe import Recipe
from luthier.space import Number, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

_ATTRIBUTES = (
    "status", "reason", "seconds", "peak_memory", "best_epoch", "loss", "trainable_parameters",
    "total_parameters", "seed",
)  # fmt: skip


def export(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    recipes: Mapping[int, Recipe],
    space: Space,
    storage: str,
    *,
    name: str,
    metric: str = "",
) -> str:
    """Writes a finished run as a new study, whose direction is ``maximize``.

    Parameters are the settings that vary in the space or differ between trials, under their names and with
    real values: floats and integers over the widest range that any branch or trial has, all others as
    categoricals. What is inactive in a trial is not among its parameters. Completed trials, and stopped ones
    with a score, are complete; the scores of epochs are intermediate values; cost, reason and the like are
    user attributes.

    Args:
        trials: One row a trial, as `luthier.study.records.trials_frame` has it.
        epochs: One row an epoch, as `luthier.study.records.epochs_frame` has it.
        recipes: The recipe of each trial, by number.
        space: What was searched.
        storage: An SQLAlchemy URL such as ``sqlite:///study.db``, or the path of an SQLite file.
        name: Of the study.
        metric: What scores measure, as an attribute of the study.

    Returns:
        The storage's URL.

    Raises:
        MissingExtra: Optuna is not installed.
        RunError: The storage has a study of this name, or cannot be written.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtra("Writing a run as an Optuna study", "optuna") from None
    url = storage if "://" in storage else f"sqlite:///{storage}"
    distributions = _distributions(space, list(recipes.values()))
    frozen = [
        _trial(
            row, epochs[epochs["trial"] == row["number"]], recipes[int(row["number"])], space, distributions
        )
        for row in trials.to_dict("records")
    ]
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(study_name=name, storage=url, direction="maximize")
        if metric:
            study.set_user_attr("metric", metric)
        study.add_trials(frozen)
    except optuna.exceptions.DuplicatedStudyError:
        raise RunError(
            f"{storage!r} already has a study named {name!r}.", "Name another file, or delete that study."
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, ValueError) as error:
        raise RunError(
            f"The Optuna storage {storage!r} cannot be written: {error}.",
            "Give a URL such as sqlite:///study.db.",
        ) from None
    finally:
        optuna.logging.set_verbosity(before)
    return url


def _distributions(space: Space, recipes: list[Recipe]) -> dict[str, BaseDistribution]:
    """One for each setting that varies, over all its branches and whatever lies outside the space."""
    varied = [
        name
        for name in Recipe.model_fields
        if name in space.dimensions or len({getattr(recipe, name) for recipe in recipes}) > 1
    ]
    return {name: _distribution(space, name, (getattr(one, name) for one in recipes)) for name in varied}


def _distribution(space: Space, name: str, seen: Iterable[Any]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    domains = [alternative.domain for alternative in space.settings.get(name, ())]
    ranges = [domain for domain in domains if isinstance(domain, Number)]
    listed = [value for domain in domains if not isinstance(domain, Number) for value in domain.values]
    values = list(dict.fromkeys([*listed, *seen]))
    if (domains and not ranges) or not all(_is_number(value) for value in values):
        return CategoricalDistribution(tuple(values))
    values += [end for domain in ranges for end in (domain.low, domain.high)]
    log = bool(ranges) and all(domain.log for domain in ranges) and min(values) > 0
    if all(isinstance(value, int) for value in values):
        return IntDistribution(min(values), max(values), log=log)
    return FloatDistribution(min(values), max(values), log=log)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _trial(
    row: Mapping[Any, Any],
    epochs: pd.DataFrame,
    recipe: Recipe,
    space: Space,
    distributions: Mapping[str, BaseDistribution],
) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    inactive = set(space.settings) - set(space.active(recipe))
    parameters = {name: getattr(recipe, name) for name in distributions if name not in inactive}
    score = float(row["score"])
    scored = math.isfinite(score) and row["status"] in {"completed", "stopped"}
    state = TrialState.COMPLETE if scored else TrialState.FAIL
    trial = create_trial(
        state=state,
        value=score if scored else None,
        params=parameters,
        distributions={name: distributions[name] for name in parameters},
        intermediate_values={
            int(epoch): float(value)
            for epoch, value in zip(epochs["epoch"], epochs["score"], strict=True)
            if math.isfinite(value)
        },
        user_attrs={
            name: _plain(row[name]) for name in _ATTRIBUTES if not pd.isna(row[name]) and row[name] != ""
        },
    )
    trial.datetime_start, trial.datetime_complete = _local(row["started"]), _local(row["ended"])
    return trial


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _local(moment: Any) -> dt.datetime | None:
    """Optuna's times are local, and do not say so."""
    if pd.isna(moment):
        return None
    stamp: dt.datetime = pd.Timestamp(moment).to_pydatetime()
    stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)
    return stamp.astimezone().replace(tzinfo=None)
