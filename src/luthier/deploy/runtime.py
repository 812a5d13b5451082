"""Exports, opened: raw inputs to decoded predictions, whatever the format, from the export's folder alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier.deploy.export import manifest as manifests
from luthier.deploy.export import networks, registry
from luthier.deploy.export.base import ExportTarget, Logits, Written
from luthier.deploy.predicts import Predicts
from luthier.engine.batches import evaluation_batches
from luthier.ensemble.base import Combination
from luthier.errors import LuthierError, ModelError
from luthier.models import families
from luthier.models import processor as processors
from luthier.models.forms import AUTO_CLASSES, SavedForm
from luthier.models.processor import Processor
from luthier.recipe import Recipe
from luthier.tasks import registry as tasks
from luthier.tasks.base import Task

BATCH = 32
"""Examples a forward pass."""


@dataclass(frozen=True)
class OpenedNetwork:
    """One network of an export.

    Attributes:
        folder: Its files.
        written: What it was opened by.
        logits: Inputs to logits.
        processor: Tokenizer or image processor.
        recipe: How it was fine-tuned.
    """

    folder: Path
    written: Written
    logits: Logits
    processor: Processor
    recipe: Recipe

    def outputs(self, task: Task, frame: pd.DataFrame, root: str) -> list[np.ndarray]:
        """Outputs for rows, in their order, in float32."""
        recipe = self.recipe
        examples = task.encode(
            frame, self.processor, max_length=recipe.max_length, image_size=recipe.image_size, root=root
        )
        found = [np.empty(0)] * len(examples)
        for indices in evaluation_batches(examples.lengths, BATCH):
            batch = examples.batch(indices)
            for index, output in zip(indices, task.outputs(self.logits(batch.inputs), batch), strict=True):
                found[index] = output
        return found


class Exported(Predicts):
    """Predicts with an export, on the CPU.

    Args:
        folder: The export.
        manifest: Its manifest, as `luthier.deploy.export.manifest.read` gives it.

    Attributes:
        target: The format.
        networks: What it consists of.
        combination: How their outputs become one.

    Raises:
        ModelError: The manifest says what this version does not know, or a network does not open.
        MissingExtra: The format needs a package that is not installed.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        try:
            self.target: ExportTarget = registry.get(manifest["target"])
            self.target.require()
            state = manifest["task_state"]
            self.task: Task = tasks.get(state["task"]).from_state(state)
            self.combination: Combination = networks.combination(manifest["combination"])
            self.networks = [self._open(values) for values in manifest["networks"]]
        except LuthierError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"'{folder / manifests.MANIFEST}' is damaged: {error!r}.") from error

    @classmethod
    def load(cls, folder: str | Path) -> Exported:
        """Opens an export, once its files are known to be those that were written.

        Raises:
            ModelError: It is no export, or a file is missing, changed or added.
        """
        folder = Path(folder)
        return cls(folder, manifests.read(folder))

    def outputs(self, frame: pd.DataFrame, root: str | Path = ".") -> list[np.ndarray]:
        """See `Predicts.outputs`."""
        parts = [network.outputs(self.task, frame, str(root)) for network in self.networks]
        return self.combination.outputs(self.task, parts)

    def _open(self, values: dict[str, Any]) -> OpenedNetwork:
        form = SavedForm(**values["form"])
        if form.auto_class not in {*AUTO_CLASSES, "AutoModel"}:
            raise ModelError(
                f"'{self.folder}' names the class {form.auto_class!r}, which Luthier does not save."
            )
        name = str(values["folder"])
        if name != "." and not any(file.startswith(f"{name}/") for file in self.manifest["files"]):
            raise ModelError(f"'{self.folder}' names a network in {name!r}, where it has no files.")
        folder = self.folder / name
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        reader = processors.open_folder(folder, families.get(form.model_type).modality, config, str(folder))
        recipe = Recipe.parse(values["recipe"])
        precision, merge = str(self.manifest["precision"]), bool(self.manifest["merge"])
        written = Written.of(form, recipe, reader, precision, merge)
        return OpenedNetwork(folder, written, self.target.open(folder, written), reader, recipe)
