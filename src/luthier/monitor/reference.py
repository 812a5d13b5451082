"""The reference of a model: what it said of its held-out rows and how right it was, as it lies beside the
model in ``reference/``. What is made of it lives in `judge`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from luthier.errors import DataError, ModelError, RunError
from luthier.monitor import statistics
from luthier.monitor.judgement import Reference
from luthier.tasks import registry as tasks
from luthier.tasks.base import Task

FOLDER = "reference"
MANIFEST, ARRAYS = "reference.json", "reference.safetensors"
FORMAT = 1
FEATURES, ROWS, DECISIONS = 500, 2000, 20_000
"""Rows of the features, rows of outputs and of statistics, and decisions, at most."""
_OUTPUT_BYTES, _FEATURE_BYTES = 1 << 19, 1 << 19
SEED = 0


@dataclass(frozen=True)
class Kept:
    """A reference as it was read.

    Attributes:
        reference: What requests are compared with.
        task: Of the model.
        about: What else is told: ``n`` rows, their ``metric`` and ``metrics``, ``made`` (seconds since the
            epoch).
    """

    reference: Reference
    task: Task
    about: dict[str, Any] = field(default_factory=dict)


def gather(
    task: Task,
    outputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    frame: pd.DataFrame,
    *,
    processor: Any = None,
    max_length: int | None = None,
    root: str | Path = ".",
    features: Sequence[np.ndarray] = (),
) -> Reference:
    """The reference of a model.

    Args:
        task: Fitted.
        outputs: What the model as shipped said of n held-out rows.
        targets: The true answers, encoded.
        frame: These rows.
        processor: Tokenizer or image processor of the model, or of an ensemble's first network; without one
            there are no statistics of the inputs of texts.
        max_length: Tokens that it reads.
        root: Folder that relative file names in the frame start at.
        features: Of some rows, as `luthier.monitor.features.sampled` gave them.
    """
    draw = np.random.default_rng(SEED)
    order = draw.permutation(len(outputs))
    kind = task.target_kind
    confusion = task.confusion(outputs, targets) if kind == "class" else None
    answered = [int(np.argmax(output)) for output in outputs] if kind == "class" else []
    sure, right, example = _decisions(task, outputs, targets, order)
    kept = order[: _rows_within(outputs, _OUTPUT_BYTES)]
    return Reference(
        kind=kind,
        classes=tuple(task.label_names),
        outputs=_together([np.asarray(outputs[at], dtype=np.float32) for at in kept]),
        counts=np.bincount(answered, minlength=task.num_outputs) if kind == "class" else None,
        confidence=sure,
        right=right,
        example=example,
        confusion=None if confusion is None else np.asarray(confusion[1]),
        errors=_errors(task, outputs, targets, order) if kind == "number" else np.empty(0),
        features=_features(features),
        statistics=_statistics(task, frame, order[:ROWS], processor, max_length, root),
    )


def errors_of(task: Task, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) absolute errors of a task of numbers, in the target's own units; NaN without a target."""
    said = task.decode(list(outputs))
    true = task.decode([np.atleast_1d(target) for target in targets])
    pairs = zip(said, true, strict=True)
    return np.array([abs(one["value"] - other["value"]) for one, other in pairs], dtype=np.float64)


def _errors(
    task: Task, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray], order: np.ndarray
) -> np.ndarray:
    """Errors of rows drawn, of those that have a target."""
    found = errors_of(task, outputs, targets)[order]
    return np.asarray(found[np.isfinite(found)][:DECISIONS])


def _decisions(
    task: Task, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray], order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, whether right, and row of each decision, of whole rows drawn until there are enough."""
    found = task.decisions(outputs, targets)
    if found is None:
        return np.empty(0), np.empty(0, dtype=bool), np.empty(0, dtype=np.int64)
    sizes = np.bincount(found.example, minlength=len(outputs))[order]
    rows = order[: max(1, int(np.searchsorted(np.cumsum(sizes), DECISIONS, side="right")))]
    kept = np.isin(found.example, rows)
    return found.confidence[kept], np.asarray(found.right[kept], dtype=bool), found.example[kept]


def _rows_within(outputs: Sequence[np.ndarray], room: int) -> int:
    """How many rows of outputs have room in so many bytes, in float32."""
    typical = np.mean([np.size(output) for output in outputs]) if len(outputs) else 1.0
    return max(1, min(ROWS, int(room / (4 * max(typical, 1.0)))))


def _features(rows: Sequence[np.ndarray]) -> np.ndarray | None:
    """(r, width), as many as have room; they are at random."""
    if not len(rows):
        return None
    most = max(1, min(FEATURES, _FEATURE_BYTES // (2 * max(1, rows[0].size))))
    return np.stack([np.asarray(row, dtype=np.float32) for row in rows[:: max(1, len(rows) // most)][:most]])


def _statistics(
    task: Task, frame: pd.DataFrame, at: np.ndarray, processor: Any, max_length: int | None, root: str | Path
) -> dict[str, np.ndarray]:
    if processor is None or not len(at):
        return {}
    rows = frame.iloc[np.sort(at)].reset_index(drop=True)
    return statistics.of_rows(task, rows, processor, max_length=max_length, root=str(root))


def _together(rows: list[np.ndarray]) -> Any:
    """One array where all rows have one shape and are no lists of words."""
    plain = bool(rows) and all(row.ndim == 1 and row.shape == rows[0].shape for row in rows)
    return np.stack(rows) if plain else rows


# -- on disk -------------------------------------------------------------------------------------------------


def write(folder: Path, reference: Reference, task: Task, about: Mapping[str, Any]) -> None:
    """Writes a reference; one that is there already is replaced, and the folder is whole or absent.

    Args:
        folder: Such as ``RUN/reference``.
        reference: What is written.
        task: Of the model.
        about: See `Kept`; JSON values.

    Raises:
        RunError: It cannot be written.
    """
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    old = folder.parent / f".{folder.name}.old-{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_arrays(reference), partial / ARRAYS)
        values = {
            "format": FORMAT,
            **about,
            "kind": reference.kind,
            "classes": list(reference.classes),
            "task_state": {"task": task.name, **task.state()},
            "files": {ARRAYS: {"sha256": _digest(partial / ARRAYS)}},
        }
        text = json.dumps(values, indent=1, ensure_ascii=False, default=str)
        (partial / MANIFEST).write_text(text + "\n", encoding="utf-8", errors="replace")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"The reference cannot be written to '{folder}': {error}.",
            "Free some space, then resume the run.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> Kept:
    """A reference from its folder, once its file is known to be the one that was written.

    Raises:
        ModelError: There is none, or it is damaged, changed, or of a newer version.
    """
    path = folder / MANIFEST
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")))
        version, digest = values["format"], str(values["files"][ARRAYS]["sha256"])
    except FileNotFoundError:
        raise ModelError(
            f"'{folder}' is no reference: it has no {MANIFEST}.",
            "A run writes it when it is proven: finish or repeat it with luthier resume RUN --budget +1m.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{path}' is damaged: {error!r}.", "Copy it again.") from None
    if version != FORMAT:
        raise ModelError(
            f"'{path}' is of format {version!r}; this version reads {FORMAT}.", "Upgrade Luthier."
        )
    try:
        if _digest(folder / ARRAYS) != digest:
            raise ModelError(
                f"'{folder / ARRAYS}' was changed after it was written: its sha256 differs.", "Copy it again."
            )
        state = values["task_state"]
        task = tasks.get(state["task"]).from_state(state)
        found = _reference(values, load_file(folder / ARRAYS), task)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, DataError) as error:
        raise ModelError(f"'{folder}' is damaged: {error!r}.", "Copy it again.") from None
    own = {"format", "kind", "classes", "task_state", "files"}
    return Kept(found, task, {name: value for name, value in values.items() if name not in own})


def _arrays(reference: Reference) -> dict[str, np.ndarray]:
    """The arrays by name. Outputs of words lie end to end, a confusion as its places that are not 0."""
    outputs = reference.outputs
    ragged = not isinstance(outputs, np.ndarray)
    width = len(reference.classes)
    found: dict[str, np.ndarray | None] = {
        "outputs": np.concatenate([np.reshape(o, (-1, width)) for o in outputs])
        if ragged and len(outputs)
        else np.asarray(outputs),
        "lengths": np.array([len(o) for o in outputs], dtype=np.int32) if ragged else None,
        "counts": reference.counts,
        "confidence": reference.confidence.astype(np.float32),
        "right": reference.right.astype(np.uint8),
        "example": reference.example.astype(np.int32),
        "errors": reference.errors.astype(np.float32),
        "features": None if reference.features is None else _half(reference.features),
        **{f"statistics.{name}": values for name, values in reference.statistics.items()},
    }
    if reference.confusion is not None:
        true, answered = np.nonzero(reference.confusion)
        counts = reference.confusion[true, answered]
        found["confusion"] = np.stack([true, answered, counts]).astype(np.int32)
    return {
        name: np.ascontiguousarray(values.astype(np.float32) if values.dtype == np.float64 else values)
        for name, values in found.items()
        if values is not None
    }


def _half(values: np.ndarray) -> np.ndarray:
    limit = float(np.finfo(np.float16).max)
    return np.asarray(np.clip(values, -limit, limit), dtype=np.float16)


def _reference(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray], task: Task) -> Reference:
    classes = tuple(str(name) for name in values["classes"])
    if classes != tuple(task.label_names) or values["kind"] != task.target_kind:
        raise ValueError("its classes are not those of its task")
    outputs: Any = arrays["outputs"]
    if "lengths" in arrays:
        outputs = np.split(outputs, np.cumsum(arrays["lengths"])[:-1]) if len(arrays["lengths"]) else []
    confusion = None
    if "confusion" in arrays:
        true, answered, counts = arrays["confusion"]
        confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
        confusion[true, answered] = counts
    return Reference(
        kind=task.target_kind,
        classes=classes,
        outputs=outputs,
        counts=arrays.get("counts"),
        confidence=arrays["confidence"].astype(np.float64),
        right=arrays["right"].astype(bool),
        example=arrays["example"].astype(np.int64),
        confusion=confusion,
        errors=arrays["errors"].astype(np.float64),
        features=arrays["features"].astype(np.float32) if "features" in arrays else None,
        statistics={
            name.removeprefix("statistics."): array
            for name, array in arrays.items()
            if name.startswith("statistics.")
        },
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
