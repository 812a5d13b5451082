"""Finished models of the built-in tasks, on tiny random networks, with labelled rows for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models_tiny
import pandas as pd
import torch

import made
from luthier import data as reading
from luthier.deploy.export.export import HeldOut
from luthier.models import network, processor, saved, source
from luthier.models.families import FAMILIES
from luthier.recipe import Recipe
from luthier.tasks import registry
from luthier.tasks.base import Task


@dataclass(frozen=True)
class Finished:
    """A model directory, its fitted task, and rows."""

    folder: Path
    task: Task
    frame: pd.DataFrame
    root: Path


Finish = Callable[..., Finished]
"""What the fixture `finished` is."""


def rows(task: str, folder: Path, count: int = 90) -> reading.Dataset:
    """Labelled rows for a task, with animals tagged, numbers rated and so on; see `made`."""
    if task == "image-classification":
        made.pictures(folder / "images", 4 * count)
        return reading.read(folder / "images")
    if task == "token-classification":
        made.conll(folder / "rows.conll", count)
        return reading.read(folder / "rows.conll")
    if task == "text-regression":
        return reading.read(made.ratings(count))
    if task == "multi-label-classification":
        frame = made.topics(count)
        frame["labels"] = [text.split(";") for text in frame["labels"]]
        return reading.read(frame)
    return reading.read(made.sentences(count))


def finish(folder: Path, kind: str, task: str = "", **settings: Any) -> Finished:
    """Saves a network of a kind whose trainable weights have moved, as a run would."""
    modality = FAMILIES[kind].modality
    name = task or ("text-classification" if modality == "text" else "image-classification")
    dataset = rows(name, folder)
    frame = dataset.splits["test" if "test" in dataset.splits else "train"]
    cls, columns = registry.infer(dataset.splits["train"], dataset.modality, {}, name=name)
    fitted = cls(columns)
    fitted.fit(dataset.splits["train"])
    models_tiny.write(kind, folder / "base")
    found = source.find(str(folder / "base"), modality)
    recipe = Recipe(model=str(folder / "base"), **{"adaptation": "full", **settings})
    net = network.build(found, recipe, level=fitted.level, num_outputs=fitted.num_outputs, seed=3)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in net.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    reader = processor.load(found, modality)
    saved.save(
        net, found, reader, recipe, folder / "model", task_state={"task": fitted.name, **fitted.state()},
        auto_class=fitted.auto_class, problem_type=fitted.problem_type, labels=fitted.label_names,
        peft_type=fitted.peft_type,
    )  # fmt: skip
    return Finished(folder / "model", fitted, frame.reset_index(drop=True), dataset.root)


def held_out(made: Finished, rows: int = 70) -> HeldOut:
    """The first rows to check an export on, and the others to calibrate it with."""
    frame = made.frame
    return HeldOut(frame[:rows], made.root, "made rows", calibration=frame[rows:].reset_index(drop=True))
