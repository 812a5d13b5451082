"""A saved model or ensemble with its task: turns inputs into predictions, reading nothing but its own
folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from luthier.deploy.predicts import Predicts
from luthier.engine.allocator import keep_memory
from luthier.engine.forward import predict
from luthier.engine.precision import choose_device
from luthier.ensemble import saved as ensembles
from luthier.ensemble.saved import SavedEnsemble
from luthier.models.saved import SavedModel, load
from luthier.tasks import registry as tasks
from luthier.tasks.base import Task


class Predictor(Predicts):
    """Predicts with a saved model, or with several that are combined.

    Args:
        saved: The model, its processor and its recipe; or an ensemble of such.
        task: Fitted, as it was in training.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, saved: SavedModel | SavedEnsemble, task: Task, device: str = "auto") -> None:
        self.saved = saved
        self.task = task
        self.device = choose_device(device)
        if self.device.type == "cpu":
            keep_memory()

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Predictor:
        """Loads what `models.saved.save` or `ensemble.saved.save` wrote, after checking it against its own
        checksums.

        Raises:
            ModelError: The folder holds no such model, or files were changed.
        """
        saved = ensembles.load(folder) if ensembles.is_ensemble(folder) else load(folder)
        state = saved.task_state
        return cls(saved, tasks.get(state["task"]).from_state(state), device)

    @property
    def temperature(self) -> float:
        """What the model's logits were divided by when it was saved."""
        return self.saved.temperature

    def outputs(self, frame: pd.DataFrame, root: str | Path = ".") -> list[np.ndarray]:
        """Outputs for rows, in their order.

        Args:
            frame: Has the task's input column; a target column is not needed.
            root: Folder that relative file names in the frame start at.
        """
        if isinstance(self.saved, SavedEnsemble):
            return self.saved.outputs(self.task, frame, self.device, root)
        recipe = self.saved.recipe
        examples = self.task.encode(
            frame,
            self.saved.processor,
            max_length=recipe.max_length,
            image_size=recipe.image_size,
            root=str(root),
        )
        return predict(self.saved, self.task, examples, self.device)[0]
