"""The data as each model wants it: splits encoded once for each preprocessing and kept for all trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from luthier.models import processor as processors
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.tasks.base import Examples, Task

NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Split:
    """One split for one preprocessing: the examples, and the true answers that outputs are held against."""

    examples: Examples
    targets: list[np.ndarray]


class Inputs:
    """Encodes splits on demand.

    Args:
        task: Fitted.
        frames: Split name to rows. The test split has no place here: search never sees it.
        root: Folder that file names in the frames are relative to.
        known: How many rows of a split, the first of it, were a whole split of an earlier run: what was
            computed of them then can be met again.
    """

    def __init__(
        self, task: Task, frames: dict[str, pd.DataFrame], root: Path, known: Mapping[str, int] = NONE
    ) -> None:
        self.task = task
        self.frames = frames
        self.root = root
        self.known = known
        self._processors: dict[str, processors.Processor] = {}
        self._splits: dict[tuple[str, str, int | None, int | None], Split] = {}
        self._targets: dict[str, list[np.ndarray]] = {}

    def processor(self, source: Source) -> processors.Processor:
        """The model's tokenizer or image processor, loaded once."""
        if source.fingerprint not in self._processors:
            self._processors[source.fingerprint] = processors.load(source, self.task.modality)
        return self._processors[source.fingerprint]

    def split(self, name: str, source: Source, recipe: Recipe) -> Split:
        """A split encoded for a model and a recipe's preprocessing settings."""
        key = (name, *self.key(source, recipe))
        if key not in self._splits:
            self._splits[key] = Split(self.encode(self.frames[name], source, recipe), self.targets(name))
        return self._splits[key]

    def encoded(self, name: str, source: Source, recipe: Recipe) -> bool:
        """Whether `split` has it at hand."""
        return (name, *self.key(source, recipe)) in self._splits

    def parts(self, name: str, source: Source, recipe: Recipe) -> tuple[Examples, Examples] | None:
        """A split as the rows that are known and those that were added to them, encoded; None where it has
        not both.
        """
        count, frame = self.known.get(name, 0), self.frames[name]
        if not 0 < count < len(frame):
            return None
        old, new = (part.reset_index(drop=True) for part in (frame.iloc[:count], frame.iloc[count:]))
        return self.encode(old, source, recipe), self.encode(new, source, recipe)

    def encode(self, frame: pd.DataFrame, source: Source, recipe: Recipe) -> Examples:
        """Any rows, encoded for a model and a recipe's preprocessing settings; not kept."""
        return self.task.encode(
            frame,
            self.processor(source),
            max_length=recipe.max_length,
            image_size=recipe.image_size,
            root=str(self.root),
        )

    def targets(self, name: str) -> list[np.ndarray]:
        """The true answers of a split."""
        if name not in self._targets:
            self._targets[name] = self.task.targets(self.frames[name])
        return self._targets[name]

    @staticmethod
    def key(source: Source, recipe: Recipe) -> tuple[str, int | None, int | None]:
        """What an encoding depends on beside the rows."""
        return source.fingerprint, recipe.max_length, recipe.image_size
