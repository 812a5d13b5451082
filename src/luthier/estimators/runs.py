"""The run behind an estimator, carried out in a folder; its model travels with a pickle as its files."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data import Dataset
from luthier.deploy.predictor import Predictor
from luthier.errors import RunError, SettingError
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.run.result import Result
from luthier.run.settings import Settings
from luthier.run.tune import tune
from luthier.tasks.classification import as_table

SCRATCH = "luthier-"
"""How the names of temporary folders begin."""


class Lines(Silent):
    """Shows stages, and what is said of them, a line each."""

    def stage(self, name: str) -> None:
        """The stage."""
        print(f"[luthier] {name}")

    def note(self, message: str) -> None:
        """The message."""
        print(f"[luthier]   {message}")


class RunModel:
    """A model that a run has fine-tuned.

    Its pickle holds the files of the model's folder, safetensors and JSON as they are, and nothing else of
    the run.

    Attributes:
        result: The run; None after unpickling.
        device: Where the model predicts.
    """

    def __init__(self, result: Result, scratch: Path | None) -> None:
        self.result: Result | None = result
        self.device: str = result.settings.device
        self._folder = result.paths.model
        self._predictor: Predictor | None = None
        if scratch is not None:
            weakref.finalize(self, _remove, scratch, os.getpid())

    @classmethod
    def trained(
        cls, settings: dict[str, Any], data: Dataset, folder: str | Path | None, verbose: bool
    ) -> RunModel:
        """Carries out a run.

        Args:
            settings: As in `Settings`, but ``out``.
            data: What to learn from.
            folder: Where the run gets a folder of its own; None: a temporary one, in which only what tells of
                the run stays, and its model.
            verbose: Whether to print what it does.

        Raises:
            LuthierError: As `luthier.tune`.
        """
        told, progress = Settings.parse(settings), Lines() if verbose else None
        if folder is not None:
            out = _new_folder(Path(folder))
            try:
                return cls(
                    tune(told.model_copy(update={"out": str(out)}), data=data, progress=progress), None
                )
            except BaseException:
                # Of a run that began, what there is stays.
                with contextlib.suppress(OSError):
                    out.rmdir()
                raise
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH))
        try:
            told = told.model_copy(update={"out": str(scratch / "run")})
            model = cls(tune(told, data=data, progress=progress), scratch)
        except BaseException as error:
            _remove(scratch, os.getpid())
            if isinstance(error, RunError):
                # Its own advice is to go on with the run, which is gone.
                raise RunError(error.message, "Give a larger budget, or a folder to keep runs in.") from None
            raise
        _drop_what_resuming_needs(RunFolder(scratch / "run"))
        return model

    @property
    def predictor(self) -> Predictor:
        """The model with its task, loaded when first used."""
        if self._predictor is None:
            self._predictor = Predictor.load(self._folder, self.device)
        return self._predictor

    def outputs(self, cells: list[Any]) -> np.ndarray:
        """(n, outputs) float64 logits of the network."""
        predictor = self.predictor
        return as_table(predictor.outputs(predictor.frame(cells))).astype(np.float64)

    def values(self, cells: list[Any]) -> np.ndarray:
        """(n,) predicted numbers, of a regression."""
        return np.array([answer["value"] for answer in self.predictor.predict(cells)], dtype=np.float64)

    @property
    def labels(self) -> list[str]:
        """Names of the outputs, in order."""
        return self.predictor.task.label_names

    def __getstate__(self) -> dict[str, Any]:
        """The device, and the model's files by their names."""
        if not self._folder.is_dir():
            raise RunError(f"The model's folder is gone: '{self._folder}'.", "Fit the estimator again.")
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        packed = {path.relative_to(self._folder).as_posix(): path.read_bytes() for path in files}
        return {"device": self.device, "files": packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lays the files down in a temporary folder."""
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH))
        weakref.finalize(self, _remove, scratch, os.getpid())
        self._folder = scratch / "model"
        for name, content in state["files"].items():
            file = self._folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        self.result, self.device, self._predictor = None, state["device"], None


def _new_folder(parent: Path) -> Path:
    """A folder of a run's own: estimators are cloned and fitted many times, also side by side."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="fit-", dir=parent))
    except OSError as error:
        raise SettingError(
            f"The folder {str(parent)!r} cannot be used: {error.strerror}.", "Give a folder you may write to."
        ) from None


def _remove(folder: Path, owner: int) -> None:
    """Removes a folder, unless this process is a fork of the one it belongs to."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _drop_what_resuming_needs(paths: RunFolder) -> None:
    """Ensembles keep many fitted estimators, and checkpoints take several times the space of a model."""
    for folder in (paths.checkpoints, paths.outputs, paths.data):
        shutil.rmtree(folder, ignore_errors=True)
