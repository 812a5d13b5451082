"""Reads the QuickTune runs, real fine-tunings of image models, as past studies: one a dataset. What is learnt
from them lives in `prior`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from luthier.errors import SettingError
from luthier.recipe import OptimizerName, Recipe
from luthier.search.past import PastStudy

PROVENANCE = (
    'Learning curves of Quick-Tune "extended" (Pineda Arango et al. 2024, Quick-Tune: Quickly Learning Which '
    "Pretrained Model to Finetune and How), BSD 3-Clause licence: fine-tunings of 24 image models on "
    "datasets of Meta-Album (Ullah et al. 2022)."
)
EPOCHS = 50
"""What every run was allowed; most were ended before by a limit on time."""
BLOCKS = 10
"""Blocks of the nominal network whose upper ones a share of layers that is not frozen stands for."""

_FILES = ("configurations.csv", "accuracy.json", "seconds.json", "datasets.json")
_MODEL, _OPTIMIZER, _SCHEDULE = "cat:model:", "cat:opt:", "cat:sched:"
_OPTIMIZERS: dict[str, OptimizerName] = {
    "adam": "adam",
    "adamp": "adamw",
    "adamw": "adamw",
    "momentum": "sgd",
    "sgd": "sgd",
}
# Rates that fall in steps have no name in a recipe; until the first step they are constant.
_SCHEDULES: dict[str, Literal["cosine"]] = {"cosine": "cosine"}
# Said by the recipe, or of no use to it: never a feature of their own.
_READ = {"lr", "weight_decay", "batch_size", "smoothing", "drop", "layer_decay", "warmup_epochs", "momentum"}


def read(folder: str | Path) -> list[PastStudy]:
    """Every dataset of the folder as a study, in the order of names.

    Accuracies become shares of one. A configuration's settings become a `Recipe` where it has them; all its
    columns that a recipe cannot say are features by their own names, and ``frozen`` is its share of frozen
    layers.

    Raises:
        SettingError: A file is missing or is not what it should be.
    """
    import pandas as pd

    place = Path(folder)
    for file in _FILES:
        if not (place / file).is_file():
            raise SettingError(
                f"{str(place / file)!r} is missing.",
                f"A folder of QuickTune runs holds {', '.join(_FILES)}.",
            )
    try:
        table = pd.read_csv(place / "configurations.csv", dtype={"configuration": str})
        rows: dict[str, dict[str, Any]] = {
            str(row["configuration"]): {str(name): value for name, value in row.items()}
            for row in table.to_dict("records")
        }
        accuracy, seconds = (
            json.loads((place / file).read_text(encoding="utf-8"))
            for file in ("accuracy.json", "seconds.json")
        )
        return [_study(name, rows, accuracy[name], seconds[name]) for name in sorted(accuracy)]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingError(f"The QuickTune runs in {str(place)!r} cannot be read: {error!r}.") from error


def _study(
    name: str,
    rows: Mapping[str, Mapping[str, Any]],
    accuracy: Mapping[str, list[float]],
    seconds: Mapping[str, list[float]],
) -> PastStudy:
    columns = [column for column in next(iter(rows.values())) if _own(column)]
    seen: dict[Recipe, int] = {}
    recipes, features = [], []
    for configuration in accuracy:
        row = rows[configuration]
        recipe = recipe_of(row)
        twins = seen[recipe] = seen.get(recipe, 0) + 1
        if twins > 1:
            # Equal in all that a recipe says; a list holds no recipe twice.
            recipe = recipe.model_copy(update={"model": f"{recipe.model}#{twins}"})
        recipes.append(recipe)
        features.append([_frozen(row), *(float(row[column]) for column in columns)])
    return PastStudy(
        name=f"quicktune:{name}",
        recipes=recipes,
        scores=[[min(value / 100, 1.0) for value in accuracy[each]] for each in accuracy],
        seconds=[list(seconds[each]) for each in accuracy],
        features=np.array(features),
        feature_names=["frozen", *(f"quicktune:{column}" for column in columns)],
    )


def _own(column: str) -> bool:
    return not column.startswith(_MODEL) and column not in _READ | {"configuration"}


def _frozen(row: Mapping[str, Any]) -> float:
    return 1.0 if row["linear_probing"] else float(row["pct_to_freeze"])


def recipe_of(row: Mapping[str, Any]) -> Recipe:
    """The recipe that comes nearest to a row of ``configurations.csv``."""
    frozen = _frozen(row)
    trained = min(max(round((1.0 - frozen) * BLOCKS), 1), BLOCKS)
    optimizer = _chosen(row, _OPTIMIZER)
    return Recipe(
        model=_chosen(row, _MODEL),
        adaptation="probe" if frozen >= 1.0 else "full" if frozen <= 0.0 else "last_k",
        last_k=trained if 0.0 < frozen < 1.0 else 2,
        head_dropout=float(row["drop"]),
        weight_decay=float(row["weight_decay"]),
        l2_start=float(row["sp_reg"]),
        label_smoothing=float(row["smoothing"]),
        optimizer=_OPTIMIZERS[optimizer],
        learning_rate=float(row["lr"]),
        layer_decay=float(row["layer_decay"]) if row["layer_decay"] > 0 else 1.0,
        momentum=float(row["momentum"]) if optimizer in {"momentum", "sgd"} else 0.9,
        nesterov=optimizer == "sgd",
        schedule=_SCHEDULES.get(_chosen(row, _SCHEDULE), "constant"),
        warmup=float(row["warmup_epochs"]) / EPOCHS,
        batch_size=int(row["batch_size"]),
        epochs=EPOCHS,
        clip_norm=float(row["clip_grad"]) if row["clip_grad"] > 0 else None,
        augmentation="none" if row["cat:data_augmentation:None"] else "flip_shift",
    )


def _chosen(row: Mapping[str, Any], prefix: str) -> str:
    """The category of a one-hot group; ``other`` where none is set."""
    return next(
        (name.removeprefix(prefix) for name, on in row.items() if name.startswith(prefix) and on), "other"
    )
