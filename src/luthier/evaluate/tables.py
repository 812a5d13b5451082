"""Reading the tables of trials and epochs, in the columns that the store gives them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from luthier.recipe import Recipe


def numbers(frame: pd.DataFrame, column: str) -> np.ndarray:
    """(n,) a column as float64, NaN where a value is missing or the whole column is."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    values = pd.to_numeric(frame[column], errors="coerce")
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def setting_columns(trials: pd.DataFrame) -> dict[str, str]:
    """Column to recipe field, for the settings in a table of trials.

    The store keeps the ``epochs`` of a recipe (the most allowed) as ``recipe_epochs``, since ``epochs`` there
    counts those trained.
    """
    renamed = {"epochs": "recipe_epochs"} if "recipe_epochs" in trials else {}
    columns = {renamed.get(name, name): name for name in Recipe.model_fields}
    return {column: name for column, name in columns.items() if column in trials}


def varied_settings(trials: pd.DataFrame) -> dict[str, str]:
    """Column to recipe field, for the settings that differ between trials."""
    return {
        column: name
        for column, name in setting_columns(trials).items()
        if trials[column].map(str).nunique() > 1
    }
