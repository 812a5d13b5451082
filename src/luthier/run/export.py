"""Exports of runs and models: finds the rows that they are checked on; the work is in `deploy.export`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier.deploy.export import export as exporting
from luthier.deploy.export import manifest as manifests
from luthier.deploy.export.export import CALIBRATION, ROWS, Export, HeldOut
from luthier.deploy.predictor import Predictor
from luthier.errors import LuthierError, RunError, SettingError
from luthier.run.folder import MANIFEST, RunFolder
from luthier.run.inspect import labelled
from luthier.run.prepare import Prepared, data_fingerprint, prepare
from luthier.run.result import Result
from luthier.run.settings import Settings
from luthier.tasks.base import Task

_TRUTH = 2  # column of predictions.csv with the true answers; the model's follow


def export(
    source: str | Path,
    to: str | Path,
    *,
    format: str = "safetensors",
    precision: str = "fp32",
    merge: bool = True,
    data: Any = None,
    sample: bool = True,
) -> Export:
    """Writes a finished model in a format, checked against the model that was evaluated.

    Args:
        source: A run folder, or a model folder such as the ``model/`` in one.
        to: A new or empty folder.
        format: ``safetensors``, ``onnx``, ``torch``, or one that another package brings.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``; not all formats have all.
        merge: False keeps a LoRA adapter apart from its base.
        data: Labelled rows to check on in place of the run's test rows; a model folder has none without.
        sample: Whether up to 64 of these rows, encoded, are kept in the export for `verify`.

    Returns:
        Where it is and what the check found.

    Raises:
        SettingError: Format, precision and the rest do not go together.
        RunError: The run is not finished, its rows cannot be read again, or the folder is not empty.
        ModelError: The model cannot be read, or not be written so.
        Refused: The export does not repeat the model; nothing is left of it.
    """
    place, about = Path(source), {}
    if (place / manifests.MANIFEST).is_file():
        raise SettingError(
            f"'{source}' is an export already.", "Export the run or the model that it is from."
        )
    run = (place / MANIFEST).is_file()
    model = Result(place).paths.model if run else place
    if run:
        about = _about(RunFolder(place))
    held_out = None
    if data is not None:
        held_out = _given(data, Predictor.load(model, "cpu").task, precision)
    elif run:
        held_out = _test_rows(RunFolder(place))
    return exporting.export(
        model, Path(to), target=format, precision=precision, merge=merge, held_out=held_out, keep_rows=sample,
        about=about, reference=RunFolder(place).reference if run else None,
    )  # fmt: skip


def verify(folder: str | Path) -> Export:
    """Repeats the check of an export on this machine, from what the export holds itself.

    Raises:
        ModelError: It is no export, or a file of it is missing, changed or added.
        Refused: It does not say what the evaluated model said.
    """
    return exporting.verify(Path(folder))


def _about(folder: RunFolder) -> dict[str, Any]:
    """What an export's manifest says of its run."""
    manifest = folder.read_manifest()
    evaluation = json.loads(folder.evaluation.read_text(encoding="utf-8"))
    return {
        "run": {"id": manifest["run"], "name": manifest["name"]},
        "data_fingerprint": manifest["data_fingerprint"],
        "evaluation": {key: evaluation[key] for key in ("metric", "metrics", "intervals", "n")},
    }


def _test_rows(folder: RunFolder) -> HeldOut:
    """Test rows of a run, read as the run read them."""
    manifest = folder.read_manifest()
    settings = Settings.parse(manifest["settings"])
    hint = f"Name labelled rows with --data, or export {folder.model}, which is checked on made inputs only."
    try:
        with contextlib.chdir(manifest["directory"] if Path(manifest["directory"]).is_dir() else "."):
            prepared = prepare(settings)
            root = prepared.dataset.root.resolve()
    except LuthierError as error:
        raise RunError(f"The test rows of the run cannot be read again: {error.message}", hint) from error
    if data_fingerprint(prepared) != manifest["data_fingerprint"]:
        raise RunError(f"The data of the run '{folder.path}' changed since: {settings.data!r}.", hint)
    test = prepared.dataset.splits["test"]
    chosen = _some(len(test), ROWS)
    return HeldOut(
        test.iloc[chosen].reset_index(drop=True),
        root,
        f"test rows of the run {manifest['name']}",
        _recorded(folder, test, chosen),
        _calibration(prepared),
    )


def _calibration(prepared: Prepared) -> pd.DataFrame:
    train = prepared.dataset.splits["train"]
    return train.iloc[_some(len(train), CALIBRATION)].reset_index(drop=True)


def _recorded(folder: RunFolder, test: pd.DataFrame, chosen: np.ndarray) -> list[str] | None:
    """The answers in predictions.csv for some of the test rows."""
    if not folder.predictions.is_file():
        return None
    table = pd.read_csv(folder.predictions, dtype=str, keep_default_na=False)
    # By the fingerprint the rows are the same. Their numbers may differ: a table is read again from a file.
    if len(table) != len(test):
        raise RunError(
            f"'{folder.predictions}' is not of the test rows of this run.",
            "Finish it with: luthier resume RUN",
        )
    return list(table.iloc[chosen, _TRUTH + 1])


def _given(data: Any, task: Task, precision: str) -> HeldOut:
    """Rows that the user named; in int8 a quarter of them to measure ranges on."""
    frame, root = labelled(data, task)
    order = _some(len(frame), len(frame))
    measured = min(CALIBRATION, len(frame) // 4) if precision == "int8" else 0
    calibration = frame.iloc[order[:measured]].reset_index(drop=True)
    rows = frame.iloc[order[measured:][:ROWS]].reset_index(drop=True)
    named = Path(data).name if isinstance(data, str | Path) else "a table"
    return HeldOut(rows, root.resolve(), f"rows of {named}", None, calibration if measured else None)


def _some(count: int, most: int) -> np.ndarray:
    """Positions of rows drawn without replacement, the same ones each time."""
    drawn: np.ndarray = np.random.default_rng(0).permutation(count)[:most]
    return drawn
