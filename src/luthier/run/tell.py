"""Gathers a run's `Story`, the one thing from which report, model card and trials table are written."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import platform
import shlex
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from luthier.engine.engine import Engine
from luthier.ensemble.saved import EnsembleForm
from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.importance import importance
from luthier.models.forms import SavedForm
from luthier.report.story import BestTrial, DatasetFacts, ModelFacts, Story
from luthier.run.prepare import Prepared
from luthier.run.settings import TABLE
from luthier.study.study import Finished

_VERSIONS = ("luthier", "torch", "transformers", "peft", "scikit-learn", "numpy", "pandas")


@dataclass(frozen=True)
class Told:
    """What only the run itself knows: its name, status, stages and clock, and how the winner was chosen."""

    name: str
    folder: str
    status: str
    stages: list[tuple[str, float]]
    budget: float
    spent: float
    how: str = ""


def gather(
    prepared: Prepared, engine: Engine, best: Finished, form: SavedForm | EnsembleForm,
    evaluation: Evaluation, trials: pd.DataFrame, epochs: pd.DataFrame, told: Told,
) -> Story:  # fmt: skip
    """The story of a run that has a judged model."""
    task, settings, dataset = prepared.task, prepared.settings, prepared.dataset
    network = engine.network(best.recipe, best.seed)
    return Story(
        run=told.name,
        task=task.name,
        metric=task.metric,
        maximize=task.maximize,
        status="interrupted" if told.status == "interrupted" else "finished",
        dataset=DatasetFacts(
            dataset.name,
            dataset.source,
            counts={name: len(frame) for name, frame in dataset.splits.items()},
            classes=[] if task.label_names == ["value"] else task.label_names,
            columns=dict(task.columns.roles),
            findings=[(finding.severity, finding.message) for finding in prepared.findings],
        ),
        model=ModelFacts(
            best.recipe.model,
            sum(parameter.numel() for parameter in network.parameters()),
            sum(parameter.numel() for parameter in network.trainable().values()),
            pipeline_tag=task.pipeline_tag,
        ),
        settings=settings.model_dump(),
        best=BestTrial(
            best.trial,
            best.recipe.model_dump(),
            best.score,
            best.epoch,
            best.seconds,
            best.recipe.describe(),
            told.how,
        ),
        trials=trials,
        epochs=epochs,
        evaluation=evaluation,
        # A recipe that was repeated counts once.
        importance=importance(trials[trials["repeats"].isna()], seed=settings.seed),
        diagnosis=evaluation.verdicts,
        stages=told.stages,
        budget=told.budget,
        spent=told.spent,
        seed=settings.seed,
        versions=versions(),
        device=device_words(engine),
        command=command(prepared),
        snippet=form.snippet(told.folder + "/model") + (f"\n# {task.reading}" if task.reading else ""),
        next_commands=[
            f"luthier predict {shlex.quote(told.folder)} INPUT",
            f"luthier evaluate {shlex.quote(told.folder)} DATA",
            f"luthier resume {shlex.quote(told.folder)} --budget +10m",
        ],
        notes=prepared.notes,
        image_root=str(dataset.root) if task.modality == "image" else "",
        created=datetime.datetime.now().isoformat(timespec="seconds"),
    )


def shipped(evaluation: Evaluation) -> dict[str, Any] | None:
    """The ensemble that is the run's model, in JSON values; None where that is one trial."""
    chosen = next((row for row in evaluation.combined if row.chosen), None)
    if chosen is None:
        return None
    values = chosen.to_json()
    return {
        name: [_plain(part) for part in value] if isinstance(value, list | tuple) else _plain(value)
        for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    """None in place of what is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def majority_score(engine: Engine) -> float:
    """What always giving the most frequent answer scores on validation, higher is better."""
    task, validation = engine.task, engine.inputs.targets("validation")
    return task.score(task.metrics(task.majority(engine.inputs.targets("train"), validation), validation))


def versions() -> dict[str, str]:
    """Versions of what a run stands on."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_words(engine: Engine) -> str:
    """The hardware in words."""
    if engine.device.type == "cuda":
        return torch.cuda.get_device_name(engine.device)
    return f"{engine.device.type}, {torch.get_num_threads()} threads, {platform.machine()}"


def command(prepared: Prepared) -> str:
    """The command line that repeats the run; empty where the data came as Python objects."""
    settings = prepared.settings
    # The rows of a run that is continued are found again by its name.
    origin = [] if settings.from_ else [settings.data]
    if None in origin or TABLE in settings.add:
        return ""
    given: dict[str, Any] = settings.model_dump(
        exclude_defaults=True, exclude={"data", "out", "columns", "baselines"}
    )
    repeated = {"objectives": "objective", "constraints": "constraint", "slices": "slice", "from_": "from"}
    words = ["luthier", "tune", *map(str, origin)]
    for name, value in given.items():
        option = "--" + repeated.get(name, name).replace("_", "-")
        if value is True:
            words.append(option)
        elif isinstance(value, dict):
            return ""  # A space given inline belongs in a settings file, not on a command line.
        else:
            words += [
                part
                for item in (value if isinstance(value, list) else [value])
                for part in (option, str(item))
            ]
    for role, column in settings.columns.items():
        for name in [column] if isinstance(column, str) else column:
            words += ["--column", f"{role}={name}"]
    for baseline in settings.baselines if "baselines" in settings.model_fields_set else []:
        words += ["--baseline", baseline]
    return shlex.join(words)
