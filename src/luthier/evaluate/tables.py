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


_WHEN: dict[str, tuple[str, frozenset[str]]] = {
    "last_k": ("adaptation", frozenset({"last_k"})),
    **{
        name: ("adaptation", frozenset({"lora"}))
        for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
    },
    **{
        name: ("adaptation", frozenset({"last_k", "bias", "lora", "full"}))
        for name in ("dropout", "layer_decay")
    },
    "nesterov": ("optimizer", frozenset({"sgd"})),
    "momentum": ("optimizer", frozenset({"adamw", "adam", "sgd", "rmsprop", "lion"})),
}
"""Settings that have an effect only under some values of another."""


def active_rows(trials: pd.DataFrame, column: str) -> np.ndarray:
    """(n,) whether a setting had any effect in each trial: the rank of LoRA has none where all is trained.

    A setting that is not set counts as a value only where a recipe may leave it open.

    Args:
        trials: n trials, in the store's columns.
        column: One of `setting_columns`.
    """
    name = setting_columns(trials)[column]
    rows = np.ones(len(trials), dtype=bool)
    if Recipe.model_fields[name].default is not None:
        rows &= trials[column].notna().to_numpy()
    parent, values = _WHEN.get(name, ("", frozenset()))
    if parent in trials:
        rows &= trials[parent].isin(values).to_numpy()
    return rows


def is_numeric(values: pd.Series) -> bool:
    """Whether all values that are set are numbers."""
    is_bool = pd.api.types.is_bool_dtype(values)
    return not is_bool and bool(pd.to_numeric(values, errors="coerce").notna().equals(values.notna()))
