"""What a model directory consists of: its networks, and how their outputs become one.

All that exports know of ensembles is here: whoever reads and writes these goes by `networks` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from luthier.ensemble import saved as ensembles
from luthier.ensemble.base import Average, Combination, Outputs
from luthier.ensemble.stacking import Stacked
from luthier.errors import ModelError
from luthier.models.saved import MANIFEST
from luthier.tasks.base import Task


@dataclass(frozen=True)
class Tempered(Combination):
    """Another combination, whose outputs are divided by a temperature.

    Attributes:
        of: The other.
        temperature: Above 0.
    """

    of: Combination
    temperature: float
    kind: ClassVar[str] = "tempered"

    def outputs(self, task: Task, parts: Sequence[Outputs]) -> list[np.ndarray]:
        """The other's, divided."""
        return [row / self.temperature for row in self.of.outputs(task, parts)]

    def state(self) -> dict[str, Any]:
        """The other's, and the temperature."""
        return {"temperature": self.temperature, "of": state(self.of)}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Tempered:
        """What `state` wrote."""
        return cls(combination(values["of"]), float(values["temperature"]))


_KINDS: dict[str, type[Combination]] = {each.kind: each for each in (Average, Stacked, Tempered)}


@dataclass(frozen=True)
class Networks:
    """The networks of one finished model.

    Attributes:
        folders: A directory each, as `luthier.models.saved.load` reads it.
        combination: How their outputs become one; of a single network, its own outputs.
    """

    folders: tuple[Path, ...]
    combination: Combination


def networks(directory: Path) -> Networks:
    """The networks of a model directory.

    Raises:
        ModelError: It is none.
    """
    if ensembles.is_ensemble(directory):
        found = ensembles.load(directory)
        folders = tuple(directory / ensembles.PARTS / str(index) for index in range(len(found.parts)))
        return Networks(folders, Tempered(found.combination, found.temperature))
    if not (directory / MANIFEST).is_file():
        raise ModelError(
            f"'{directory}' is neither a run folder nor a finished model: it has no {MANIFEST}.",
            "Give the folder of a finished run, or the model/ folder in it.",
        )
    return Networks((directory,), Average((1.0,)))


def state(combination: Combination) -> dict[str, Any]:
    """A combination as JSON values."""
    return {"kind": combination.kind, **combination.state()}


def combination(values: dict[str, Any]) -> Combination:
    """What `state` wrote.

    Raises:
        ModelError: It is of a kind that this version does not know.
    """
    kind = values.get("kind")
    if kind not in _KINDS:
        raise ModelError(f"An export combines its networks by {kind!r}, which this version does not know.")
    return _KINDS[kind].from_state({name: value for name, value in values.items() if name != "kind"})
