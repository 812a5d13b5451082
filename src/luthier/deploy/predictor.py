"""A saved model with its task: turns inputs into predictions, reading nothing but the model's own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from luthier.deploy.predicts import Predicts
from luthier.engine.forward import predict
from luthier.engine.precision import choose_device
from luthier.models.saved import SavedModel, load
from luthier.tasks import registry as tasks
from luthier.tasks.base import Task


class Predictor(Predicts):
    """Predicts with a saved model.

    Args:
        saved: The model, its processor and its recipe.
        task: Fitted, as it was in training.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, saved: SavedModel, task: Task, device: str = "auto") -> None:
        self.saved = saved
        self.task = task
        self.device = choose_device(device)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Predictor:
        """Loads what `models.saved.save` wrote, after checking it against its own checksums.

        Raises:
            RunError: The folder holds no such model, or files were changed.
        """
        saved = load(folder)
        state = saved.task_state
        return cls(saved, tasks.get(state["task"]).from_state(state), device)

    def outputs(self, frame: pd.DataFrame, root: str | Path = ".") -> list[np.ndarray]:
        """Outputs for rows, in their order, in float32.

        Args:
            frame: Has the task's input column; a target column is not needed.
            root: Folder that relative file names in the frame start at.
        """
        recipe = self.saved.recipe
        examples = self.task.encode(
            frame,
            self.saved.processor,
            max_length=recipe.max_length,
            image_size=recipe.image_size,
            root=str(root),
        )
        return predict(self.saved, self.task, examples, self.device)[0]
