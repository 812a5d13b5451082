"""`export` and `verify`: a finished model in another format, whole and checked, or refused.

Where held-out rows come from is the caller's affair; formats, samples and the check have files of their own.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from luthier.deploy.export import manifest as manifests
from luthier.deploy.export import networks as parts
from luthier.deploy.export import registry
from luthier.deploy.export import sample as samples
from luthier.deploy.export.base import ExportTarget, Job, Logits, Written
from luthier.deploy.export.check import Check, check
from luthier.deploy.export.sample import Sample
from luthier.deploy.runtime import Exported
from luthier.ensemble.base import Combination
from luthier.errors import ModelError, Refused, RunError, SettingError
from luthier.models import families, weights
from luthier.models.saved import MANIFEST, SavedModel, load, write_processor
from luthier.monitor.reference import FOLDER as REFERENCE
from luthier.tasks import registry as tasks
from luthier.tasks.base import Task

ROWS = 512
"""Held-out rows that are compared at most."""
CALIBRATION = 128
"""Rows that ranges are measured on at most."""
_VERSIONS = ("luthier", "torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime", "safetensors")


@dataclass(frozen=True)
class HeldOut:
    """Rows that the model was not trained on.

    Attributes:
        frame: Labelled rows.
        root: Folder that file names in them start at.
        source: Where they are from, in words.
        recorded: What the evaluated model is on record to have answered, a row each; None where nothing is.
        calibration: Other rows, whose answers do not count; None where there are none.
    """

    frame: pd.DataFrame
    root: Path
    source: str
    recorded: list[str] | None = None
    calibration: pd.DataFrame | None = None


@dataclass(frozen=True)
class Export:
    """An export that passed.

    Attributes:
        folder: Where it is.
        target: Its format.
        precision: Of its numbers.
        bytes: Size of all its files.
        check: What was found.
        stored: Held-out rows that it keeps, encoded.
        axes: Of each network's inputs; a number where a size is fixed.
    """

    folder: Path
    target: str
    precision: str
    bytes: int
    check: Check
    stored: int
    axes: list[dict[str, list[Any]]] = field(default_factory=list)


def export(
    directory: Path,
    to: Path,
    *,
    target: str = "safetensors",
    precision: str = "fp32",
    merge: bool = True,
    held_out: HeldOut | None = None,
    keep_rows: bool = True,
    about: dict[str, Any] | None = None,
    reference: Path | None = None,
) -> Export:
    """Writes a finished model in a format, and compares it with the model before it counts.

    Args:
        directory: A finished model.
        to: A new or empty folder; it is complete or absent.
        target: See `registry.names`.
        precision: One of the format's.
        merge: False keeps a LoRA adapter apart, where the format can.
        held_out: Rows to compare on; without them only made inputs are.
        keep_rows: Whether some of these, encoded, are kept for `verify`.
        about: Further JSON values for the manifest, such as the metrics of the run.
        reference: What monitoring compares with, which goes along where it is there.

    Raises:
        SettingError: Format, precision and the rest do not go together.
        ModelError: The model cannot be read, or not be written so.
        RunError: The folder is not empty, or cannot be written.
        Refused: The export does not repeat the model.
    """
    chosen = registry.resolve(target, precision, merge)
    to = Path(to)
    _require_empty(to)
    found = parts.networks(directory)
    models = [load(folder) for folder in found.folders]
    task = tasks.get(models[0].task_state["task"]).from_state(models[0].task_state)
    _require_rows(chosen, precision, models, held_out)
    with _building(to) as partial:
        names = ["."] if len(models) == 1 else [f"parts/{index}" for index in range(len(models))]
        jobs = []
        for name, folder, model in zip(names, found.folders, models, strict=True):
            (partial / name).mkdir(parents=True, exist_ok=True)
            calibration = _calibration(task, model, held_out) if precision == "int8" else []
            jobs.append(Job(model, folder, partial / name, precision, merge, calibration))
        kept = [_write(chosen, job, task, held_out, keep_rows=keep_rows) for job in jobs]
        _repeats_record(task, found.combination, kept, held_out)
        values = {
            "target": chosen.name,
            "precision": precision,
            "merge": merge,
            "task_state": models[0].task_state,
            "labels": models[0].labels,
            "combination": parts.state(found.combination),
            "networks": [_facts(chosen, name, job) for name, job in zip(names, jobs, strict=True)],
            "versions": _versions(),
            **(about or {}),
        }
        if reference is not None and reference.is_dir():
            shutil.copytree(reference, partial / REFERENCE)
        manifests.write(partial, values)
        result = _compare(Exported.load(partial), kept, held_out.source if held_out else "")
        result.demand(f"'{to}' was not exported")
        manifests.write(partial, {**values, "check": result.to_json()})
    return _described(to, result)


def verify(directory: Path) -> Export:
    """Repeats the check of an export from what it holds itself, here and now.

    Raises:
        ModelError: It is no export, or a file is missing, changed or added.
        Refused: It does not say what the evaluated model said.
    """
    directory = Path(directory)
    opened = Exported.load(directory)
    stored = [samples.load(network.folder / samples.FILE) for network in opened.networks]
    if any(not sample.logits for sample in stored):
        raise ModelError(f"'{directory}' has a sample without anything in it.", "Export the model again.")
    result = _compare(opened, stored, dict(opened.manifest.get("check", {})).get("source", ""))
    result.demand(f"'{directory}' is not what was exported")
    return _described(directory, result)


def _compare(opened: Exported, kept: Sequence[Sample], source: str) -> Check:
    said = [
        samples.answers(sample, network.logits, network.processor)
        for sample, network in zip(kept, opened.networks, strict=True)
    ]
    precision = opened.networks[0].written.precision
    return check(opened.task, opened.combination, kept, said, precision=precision, source=source)


def _write(
    target: ExportTarget, job: Job, task: Task, held_out: HeldOut | None, *, keep_rows: bool
) -> Sample:
    """Writes one network with all that is needed to use it; gives what it has to be compared on."""
    model, place = job.model, job.directory
    target.write(job)
    if not (place / "config.json").is_file():
        shutil.copyfile(job.source / "config.json", place / "config.json")
    write_processor(model.processor, model.recipe, place, model.form)
    sample = Sample([])
    if held_out is not None:
        examples = _encode(task, model, held_out.frame, held_out.root)
        sample = samples.held_out(examples, task.targets(held_out.frame))
    axes = target.axes(place, _written(model, job.precision, job.merge))
    sample.inputs += samples.made(model, axes)
    with torch.inference_mode():
        sample.expect(lambda inputs: model(**inputs).float(), model.processor)
    if job.precision == "int8":
        _take_own_word(sample, target.open(place, _written(model, job.precision, job.merge)), model)
    samples.save(sample.stored(held_out=keep_rows), place / samples.FILE)
    return sample


def _facts(target: ExportTarget, name: str, job: Job) -> dict[str, Any]:
    """What the manifest says of a network, of which `Exported` needs folder, form and recipe."""
    model = job.model
    return {
        "folder": name,
        "form": asdict(model.form),
        "recipe": model.recipe.model_dump(mode="json"),
        "base": model.base,
        "model": weights.digest(job.source / MANIFEST),
        "axes": target.axes(job.directory, _written(model, job.precision, job.merge)),
    }


def _written(model: SavedModel, precision: str, merge: bool) -> Written:
    return Written.of(model.form, model.recipe, model.processor, precision, merge)


def _take_own_word(sample: Sample, logits: Logits, model: SavedModel) -> None:
    """Made inputs lie outside the ranges that int8 keeps: they only have to run, and to give the same
    again."""
    first = len(sample.marks)
    said = [logits(samples.ready(inputs, model.processor)) for inputs in sample.inputs[first:]]
    for expected, own in zip(sample.logits[first:], said, strict=True):
        if own.shape != expected.shape:
            raise Refused(
                f"The export gives logits of the shape {tuple(own.shape)}, not {tuple(expected.shape)}."
            )
    sample.logits[first:] = said


def _calibration(task: Task, model: SavedModel, held_out: HeldOut | None) -> list[dict[str, torch.Tensor]]:
    if held_out is None or held_out.calibration is None:
        return []
    return samples.batches(_encode(task, model, held_out.calibration, held_out.root))


def _encode(task: Task, model: SavedModel, frame: pd.DataFrame, root: Path) -> Any:
    recipe = model.recipe
    return task.encode(
        frame, model.processor, max_length=recipe.max_length, image_size=recipe.image_size, root=str(root)
    )


def _require_rows(
    target: ExportTarget, precision: str, models: Sequence[SavedModel], held_out: HeldOut | None
) -> None:
    if precision == "int8" and held_out is None:
        raise SettingError(
            "int8 changes answers, and only labelled rows that the model was not trained on can say how"
            " many.",
            "Name some with --data, or export the run folder, which has its test rows.",
        )
    for model in models:
        family = families.get(model.form.model_type)
        lacks = held_out is None or held_out.calibration is None or held_out.calibration.empty
        if target.needs_calibration(family, precision) and lacks:
            raise SettingError(
                f"A {family.model_type} model in {precision} needs rows to measure ranges on, beside"
                f" those that it"
                " is checked on.",
                "Name more rows with --data.",
            )


def _repeats_record(
    task: Task, combination: Combination, kept: Sequence[Sample], held_out: HeldOut | None
) -> None:
    """Makes sure that the model at hand is the one that was evaluated.

    One row in a hundred may differ: another processor's rounding tips what stands at a tie.

    Raises:
        Refused: It answers otherwise than is on record.
    """
    if held_out is None or held_out.recorded is None:
        return
    said = [sample.outputs(task, sample.logits) for sample in kept]
    decoded = task.decode(combination.outputs(task, said), held_out.frame)
    differ = [
        not same_answer(next(iter(row.values())), said)
        for row, said in zip(decoded, held_out.recorded, strict=True)
    ]
    if sum(differ) > len(differ) / 100:
        row = differ.index(True)
        raise Refused(
            f"The model is not the one that was evaluated: it answers {sum(differ)} of {len(differ)} test"
            f" rows"
            f" otherwise than predictions.csv has it, such as row {held_out.frame['__row__'].iloc[row]}.",
            "Finish or repeat the run: luthier resume RUN",
        )


def same_answer(answer: Any, recorded: str) -> bool:
    """Whether an answer is the one that a table's cell has: numbers to a thousandth, in entities all but the
    confidence."""
    if isinstance(answer, float):
        with contextlib.suppress(ValueError):
            return bool(np.isclose(answer, float(recorded), rtol=1e-3, atol=1e-6))
        return False
    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        # Confidences, further on in each entity, need not be the same to the last digit.
        spans = [
            f"'type': {item['type']!r}, 'start': {item['start']}, 'end': {item['end']}" for item in answer
        ]
        return all(span in recorded for span in spans) and recorded.count("'start': ") == len(spans)
    return str(answer) == recorded


def _require_empty(to: Path) -> None:
    if to.is_symlink() or (to.exists() and (not to.is_dir() or any(to.iterdir()))):
        raise RunError(f"'{to}' exists and is not empty.", "Give a new or empty folder.")


@contextlib.contextmanager
def _building(to: Path) -> Iterator[Path]:
    """A folder beside the wanted one that takes its place in the end, or is gone."""
    to = to.absolute()
    partial = to.parent / f".{to.name}.partial-{os.getpid()}"
    try:
        _sweep(to)
        partial.mkdir(parents=True)
        yield partial
        partial.rename(to)
    except OSError as error:
        raise RunError(f"The export cannot be written to '{to}': {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(to: Path) -> None:
    """Removes what exports to the same place left that were killed."""
    for left in to.parent.glob(f".{glob.escape(to.name)}.partial-*"):
        number = left.name.rpartition("-")[2]
        if number.isdigit() and not _lives(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _lives(process: int) -> bool:
    import psutil

    return process != os.getpid() and psutil.pid_exists(process)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _described(folder: Path, result: Check) -> Export:
    values = json.loads((folder / manifests.MANIFEST).read_text(encoding="utf-8"))
    first = folder / values["networks"][0]["folder"]
    return Export(
        folder,
        values["target"],
        values["precision"],
        sum(file["bytes"] for file in values["files"].values()),
        result,
        samples.load(first / samples.FILE).rows,
        [network["axes"] for network in values["networks"]],
    )
