"""`Predicts`: the way from whatever a caller has to decoded answers, for whatever runs the networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier.data.dataset import number_rows
from luthier.errors import DataError
from luthier.tasks.base import Task


class Predicts(ABC):
    """Something that answers inputs of a task.

    Attributes:
        task: Fitted, as it was in training.
    """

    task: Task

    @abstractmethod
    def outputs(self, frame: pd.DataFrame, root: str | Path = ".") -> list[np.ndarray]:
        """Outputs for rows, in their order, in float32.

        Args:
            frame: Has the task's input column; a target column is not needed.
            root: Folder that relative file names in the frame start at.
        """

    def predict(self, inputs: Any, root: str | Path = ".") -> list[dict[str, Any]]:
        """Predictions as plain values, for a table or a list of texts, lists of words or image files."""
        frame = self.frame(inputs)
        return self.task.decode(self.outputs(frame, root), frame)

    def frame(self, inputs: Any) -> pd.DataFrame:
        """A table of inputs from whatever the caller has.

        Raises:
            DataError: It is empty, or a table that lacks the input column.
        """
        column = str(self.task.columns.roles["input"])
        if isinstance(inputs, pd.DataFrame):
            if column not in inputs.columns:
                raise DataError(
                    f"The table has no column {column!r}, from which this model predicts.",
                    f"Its columns: {', '.join(str(name) for name in inputs.columns)}.",
                )
            frame = inputs
        else:
            given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
            frame = pd.DataFrame(
                {column: pd.Series([str(x) if isinstance(x, Path) else x for x in given], dtype=object)}
            )
        if frame.empty:
            raise DataError("There is nothing to predict: no inputs were given.")
        return number_rows(frame)
