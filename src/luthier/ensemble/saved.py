"""Ensembles on disk: a directory of finished models, and ``ensemble.json``, which says how they become one.

Each part is a directory as `luthier.models.saved` writes it, which loads without Luthier. One network, such
as an average of weights, is no ensemble here: it is saved as any other model.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError

from luthier.engine.engine import Engine
from luthier.engine.forward import predict
from luthier.ensemble.base import Candidate, Combination, Outputs, Part
from luthier.ensemble.shared import SharedBody, alike, outputs_of
from luthier.errors import ModelError, RunError
from luthier.models import saved, weights
from luthier.models.forms import SavedForm
from luthier.models.saved import LIMIT, SavedModel
from luthier.tasks.base import Task

MANIFEST = "ensemble.json"
PARTS = "parts"
FORMAT = 1
# Combinations that may be named in a file.
KINDS = {
    "average": "luthier.ensemble.base:Average",
    "stacked": "luthier.ensemble.stacking:Stacked",
}


@dataclass(frozen=True)
class EnsembleForm:
    """How an ensemble's directory is to be read.

    Attributes:
        parts: The form of each of its networks.
    """

    parts: tuple[SavedForm, ...]

    def snippet(self, directory: str | Path = ".") -> str:
        """Python that predicts with the directory."""
        return "\n".join(
            [
                "from pathlib import Path",
                "",
                "from luthier.deploy.predictor import Predictor",
                "",
                f"ensemble = Predictor.load(Path({str(directory)!r}))",
                "answers = ensemble.predict(inputs)  # a list of inputs, or a table",
                "# Each of its networks is a plain directory that loads without Luthier: parts/0 and so on.",
            ]
        )


class SavedEnsemble:
    """An ensemble as it was loaded.

    Attributes:
        name: The way it was made.
        parts: Its networks, in the order of `combination`. Those that share a frozen body have it from the
            first of them.
        trials: The trial that each is from.
        combination: How their outputs become one.
        temperature: What these are divided by.
        task_state: What the task is restored from.
        labels: Names of the outputs.
    """

    def __init__(self, manifest: dict[str, Any], parts: list[SavedModel]) -> None:
        self.name: str = manifest["name"]
        self.parts = parts
        self.trials = [int(part["trial"]) for part in manifest["parts"]]
        self.combination = _combination(manifest["combination"])
        self.temperature = float(manifest["temperature"])
        self.task_state: dict[str, Any] = manifest["task_state"]
        self.labels: list[str] = manifest["labels"]
        self._groups = alike(parts)
        self._bodies = [SharedBody([parts[at] for at in group]) for group in self._groups]

    @property
    def bodies(self) -> int:
        """Networks that are run for each input: parts that differ in their heads alone count once."""
        return len(self._groups)

    @property
    def passes(self) -> list[tuple[SharedBody, list[int]]]:
        """The networks that are run, each with the places of the parts whose logits it gives."""
        return list(zip(self._bodies, self._groups, strict=True))

    def part_outputs(
        self, task: Task, frame: pd.DataFrame, device: torch.device, root: str | Path = "."
    ) -> list[list[np.ndarray]]:
        """Each part's outputs for rows, in their order, in float32.

        Args:
            task: Fitted.
            frame: Has the task's input column.
            device: Where to run.
            root: Folder that relative file names in the frame start at.
        """
        found: list[list[np.ndarray]] = [[] for _ in self.parts]
        encoded: dict[tuple[Any, ...], Any] = {}
        for body, group in zip(self._bodies, self._groups, strict=True):
            first = self.parts[group[0]]
            recipe = first.recipe
            key = first.base["fingerprint"], recipe.max_length, recipe.image_size
            if key not in encoded:
                encoded[key] = task.encode(
                    frame, first.processor, max_length=recipe.max_length, image_size=recipe.image_size,
                    root=str(root),
                )  # fmt: skip
            for at, outputs in zip(group, outputs_of(body, task, encoded[key], device), strict=True):
                found[at] = outputs
        return found

    def outputs(
        self, task: Task, frame: pd.DataFrame, device: torch.device, root: str | Path = "."
    ) -> list[np.ndarray]:
        """The ensemble's outputs for rows; arguments as for `part_outputs`."""
        return self.combined(task, self.part_outputs(task, frame, device, root))

    def combined(self, task: Task, parts: Sequence[Outputs]) -> list[np.ndarray]:
        """The ensemble's outputs from those of its parts."""
        return [row / self.temperature for row in self.combination.outputs(task, parts)]


def write(engine: Engine, part: Part, directory: Path, *, temperature: float = 1.0) -> SavedForm:
    """Writes one trained network as a directory that loads without Luthier; see `luthier.models.saved.save`.

    Raises:
        RunError: It cannot be written, or does not repeat what the network says.
    """
    source, task = engine.sources[part.recipe.model], engine.task
    return saved.save(
        engine.network(part.recipe, part.seed, trial=part.trial), source, engine.inputs.processor(source),
        part.recipe, directory, task_state={"task": task.name, **task.state()}, auto_class=task.auto_class,
        problem_type=task.problem_type, labels=task.label_names, peft_type=task.peft_type,
        temperature=temperature,
    )  # fmt: skip


def save(
    engine: Engine, candidate: Candidate, directory: Path, rows: pd.DataFrame, *, temperature: float = 1.0
) -> EnsembleForm:
    """Writes an ensemble, and reads it back before it counts.

    The directory is complete or absent: all is written beside it and renamed. One that is there already is
    replaced.

    Args:
        engine: Has the parts' weights.
        candidate: What is written.
        directory: Where to.
        rows: Some inputs, for which the directory must say what the networks say.
        temperature: What the ensemble's outputs are divided by; its networks' are left as they are.

    Raises:
        RunError: It cannot be written, or does not repeat the networks' outputs.
    """
    directory, task = Path(directory), engine.task
    partial = directory.parent / f".{directory.name}.partial-{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / PARTS).mkdir(parents=True)
        forms = [
            write(engine, part, partial / PARTS / str(index)) for index, part in enumerate(candidate.parts)
        ]
        manifest = {
            "format": FORMAT,
            "name": candidate.name,
            "combination": {"kind": candidate.combination.kind, **candidate.combination.state()},
            "parts": [
                {
                    "directory": f"{PARTS}/{index}",
                    "trial": part.trial,
                    "seed": part.seed,
                    # It holds the sums of all other files.
                    "sha256": weights.digest(partial / PARTS / str(index) / saved.MANIFEST),
                }
                for index, part in enumerate(candidate.parts)
            ],
            "labels": task.label_names,
            "task_state": {"task": task.name, **task.state()},
            "temperature": temperature,
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
        _verify(engine, candidate, partial, rows, temperature)
        saved.put(partial, directory)
    except (OSError, SafetensorError) as error:
        raise RunError(f"The ensemble cannot be saved to '{directory}': {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return EnsembleForm(tuple(forms))


def is_ensemble(directory: str | Path) -> bool:
    """Whether a model directory holds several networks."""
    return (Path(directory) / MANIFEST).is_file()


def load(directory: str | Path) -> SavedEnsemble:
    """An ensemble, from its directory alone.

    Raises:
        ModelError: It is not such a directory; a file is missing, changed or added; or its parts are not of
            one task with the same labels.
    """
    directory = Path(directory)
    manifest = _manifest(directory)
    parts = []
    for part in manifest["parts"]:
        place = directory / part["directory"]
        if not (place / saved.MANIFEST).is_file():
            raise ModelError(f"'{place}' is missing from the ensemble.", "Copy or save the model again.")
        if weights.digest(place / saved.MANIFEST) != part["sha256"]:
            raise ModelError(f"'{place}' is not the network that was saved there: its sha256 differs.")
        parts.append(saved.load(place))
        if parts[-1].task_state != manifest["task_state"] or parts[-1].labels != manifest["labels"]:
            raise ModelError(
                f"'{place}' is of another task than the ensemble, or has other labels: "
                f"{_described(parts[-1].task_state, parts[-1].labels)} instead of "
                f"{_described(manifest['task_state'], manifest['labels'])}.",
                "Only networks of one task with the same labels in the same order can be combined.",
            )
    return SavedEnsemble(manifest, parts)


def _described(state: dict[str, Any], labels: Sequence[str]) -> str:
    return f"{state.get('task')} with {', '.join(map(str, labels[:8]))}{', ...' if len(labels) > 8 else ''}"


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = dict(json.loads(path.read_text(encoding="utf-8")))
        version, parts = manifest["format"], manifest["parts"]
        names = [
            str(part["directory"]) for part in parts if part["sha256"] and int(part["trial"]) is not None
        ]
        temperature = float(manifest["temperature"])
        known = manifest["combination"]["kind"] in KINDS and manifest["task_state"] and manifest["labels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{path}' is damaged: {error!r}.") from None
    if version != FORMAT or not 0 < temperature < np.inf or not known:
        raise ModelError(
            f"'{path}' is of a form that this version does not read (it reads format {FORMAT}).",
            "Upgrade Luthier.",
        )
    if names != [f"{PARTS}/{index}" for index in range(len(names))] or not names:
        raise ModelError(f"'{path}' names parts that are not its own: {', '.join(names) or 'none'}.")
    return manifest


def _combination(state: dict[str, Any]) -> Combination:
    values = dict(state)
    module, _, name = KINDS[values.pop("kind")].partition(":")
    found: Combination = getattr(import_module(module), name).from_state(values)
    return found


def _verify(
    engine: Engine, candidate: Candidate, directory: Path, rows: pd.DataFrame, temperature: float
) -> None:
    """Compares what the directory says with what the networks say.

    Raises:
        RunError: They differ.
    """
    said = []
    for part in candidate.parts:
        network = engine.network(part.recipe, part.seed, trial=part.trial)
        examples = engine.inputs.encode(rows, engine.sources[part.recipe.model], part.recipe)
        said.append(predict(network, engine.task, examples, engine.device)[0])
    expected = [row / temperature for row in candidate.combination.outputs(engine.task, said)]
    actual = load(directory).outputs(engine.task, rows, engine.device, engine.inputs.root)
    for one, other in zip(expected, actual, strict=True):
        scale = max(1.0, float(np.abs(one).max(initial=0.0)))
        difference = float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else np.inf
        # Written so that a NaN is refused, too.
        if not difference <= LIMIT * scale:
            raise RunError(
                f"The ensemble was not saved: its directory gives outputs that differ by {difference:.2g} "
                f"from its networks' (at most {LIMIT * scale:.0e} is allowed)."
            )
