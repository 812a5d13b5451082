"""What a model directory consists of: its networks, and how their outputs become one.

All that exports know of ensembles is here: whoever reads and writes these goes by `networks` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.ensemble.base import Average, Combination
from luthier.errors import ModelError
from luthier.models.saved import MANIFEST

_ENSEMBLE = "ensemble.json"
_KINDS: dict[str, type[Combination]] = {Average.kind: Average}


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
    if (directory / _ENSEMBLE).is_file():
        raise ModelError(
            f"'{directory}' is an ensemble, and this version exports single networks.",
            "Export one of its parts: each is a model directory of its own.",
        )
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
