"""`Result`: a finished run, to predict with, to look at and to take along.

Reads the run folder and nothing else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from luthier.errors import RunError
from luthier.recipe import Recipe
from luthier.run.folder import RunFolder
from luthier.run.settings import Settings
from luthier.space import Space

if TYPE_CHECKING:
    from luthier.deploy.export.export import Export
    from luthier.deploy.predictor import Predictor
    from luthier.evaluate.evaluation import Evaluation


class Result:
    """A run that has a model.

    Args:
        folder: The run folder.

    Raises:
        RunError: It holds no run, or one without a model.
    """

    def __init__(self, folder: str | Path) -> None:
        self.paths = RunFolder(folder)
        self.folder = self.paths.path
        self.manifest = self.paths.read_manifest()
        if not self.paths.model.is_dir() or not self.paths.evaluation.is_file():
            raise RunError(
                f"The run {str(self.folder)!r} has no finished model yet "
                f"(status: {self.manifest.get('status')}).",
                f"Finish it with: luthier resume {self.folder}",
            )

    @classmethod
    def load(cls, folder: str | Path) -> Result:
        """The run in a folder."""
        return cls(folder)

    @cached_property
    def settings(self) -> Settings:
        """What the run was told."""
        return Settings.parse(self.manifest["settings"])

    @cached_property
    def predictor(self) -> Predictor:
        """The model with its task, loaded from the run folder when first used."""
        from luthier.deploy.predictor import Predictor

        return Predictor.load(self.paths.model, self.settings.device)

    @property
    def model(self) -> Any:
        """The transformers model, or the body alone where its head is of no transformers class.

        Of an ensemble, the ensemble: its networks are plain models in ``model/parts/``.
        """
        saved = self.predictor.saved
        return getattr(saved, "model", saved)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial: settings, score, cost, reason."""
        return pd.read_csv(self.paths.trials)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.paths.report

    @cached_property
    def evaluation(self) -> Evaluation:
        """The result on the test split, with intervals and baselines."""
        from luthier.evaluate.evaluation import Evaluation

        return Evaluation.from_json(json.loads(self.paths.evaluation.read_text(encoding="utf-8")))

    def predict(self, inputs: Any, root: str | Path = ".") -> list[dict[str, Any]]:
        """Predictions for texts, lists of words, image files, or the rows of a table, as plain values.

        Relative file names start at ``root``.
        """
        return self.predictor.predict(inputs, root)

    def evaluate(self, data: Any, *, slices: Sequence[str] | None = None) -> Evaluation:
        """Judges the model on further labelled data: a path, a table, or what else `tune` takes.

        Of data in several splits, the test split is used where there is one. Where it has the column that
        the run was grouped by, whole groups are resampled for intervals.

        Args:
            data: With the columns that the model was trained on.
            slices: Columns to tell the result apart by; None: those of the run, as far as they are there.

        Raises:
            DataError: It cannot be read, lacks the columns this model was trained on, or has no answer that
                this model knows.
            SettingError: It lacks a column of ``slices``.
        """
        from luthier.evaluate.evaluation import evaluate
        from luthier.evaluate.slices import check_columns
        from luthier.run.inspect import known_answers, labelled

        task, settings = self.predictor.task, self.settings
        frame, root = labelled(data, task)
        columns = [name for name in settings.slices if name in frame] if slices is None else list(slices)
        check_columns(columns, frame, "the data")
        targets = known_answers(task, frame)
        groups = frame[settings.group].to_numpy() if settings.group in frame else None
        return evaluate(
            task, self.predictor.outputs(frame, root), targets, frame, groups=groups, seed=settings.seed,
            temperature=self.predictor.temperature, slices=columns, root=str(root),
        )  # fmt: skip

    def save(self, directory: str | Path) -> Path:
        """Copies the model directory.

        Raises:
            RunError: The target exists and is not empty.
        """
        target = Path(directory)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise RunError(f"{str(target)!r} exists and is not empty.", "Give a new or empty folder.")
        shutil.copytree(self.paths.model, target, dirs_exist_ok=True)
        return target

    def export(
        self,
        to: str | Path,
        *,
        format: str = "safetensors",
        precision: str = "fp32",
        merge: bool = True,
        data: Any = None,
        sample: bool = True,
    ) -> Export:
        """Writes the model in another format, checked on the test rows; see `luthier.export`."""
        from luthier.run.export import export

        return export(
            self.folder, to, format=format, precision=precision, merge=merge, data=data, sample=sample
        )

    def to_optuna(self, storage: str) -> str:
        """Writes the run as a study that optuna-dashboard opens; see `luthier.report.optuna.export`.

        Args:
            storage: An SQLAlchemy URL such as ``sqlite:///study.db``, or the path of an SQLite file.

        Returns:
            The storage's URL.

        Raises:
            MissingExtra: Optuna is not installed.
            RunError: The storage has this run already, or cannot be written.
        """
        from luthier.report.optuna import export
        from luthier.study.store import Store

        run = self.manifest["run"]
        with Store(self.settings.store or self.paths.database) as store:
            return export(
                store.trials(run),
                store.epochs(run),
                store.recipes(run),
                Space.from_dict(self.manifest.get("searched", {})),
                storage,
                name=f"{self.manifest['name']} {run[:8]}",
                metric=self.manifest["metric"],
            )

    @property
    def parent(self) -> dict[str, Any] | None:
        """The run that this one continues: ``name``, ``folder``, and rows ``added`` by split; None where it
        continues none.
        """
        about = self.manifest.get("from")
        return about and {name: about[name] for name in ("name", "folder", "add", "added", "labels")}

    def summary(self) -> dict[str, Any]:
        """The run in plain values."""
        best = self.manifest["best"]
        trials = self.trials
        return {
            "name": self.manifest["name"],
            "folder": str(self.folder),
            "status": self.manifest["status"],
            "task": self.manifest["task"],
            "model": best["recipe"]["model"],
            "recipe": Recipe.parse(best["recipe"]).describe(),
            "validation": best["score"],
            "evaluation": json.loads(self.paths.evaluation.read_text(encoding="utf-8")),
            "ensemble": self.manifest.get("ensemble"),
            "from": self.parent,
            "trials": len(trials),
            "failed": int((trials["status"] == "failed").sum()),
            "spent": self.manifest["spent"],
            "budget": self.manifest["budget"],
            "report": str(self.report),
            **({"pareto": self.front.to_dict("records")} if "pareto" in trials else {}),
        }

    @property
    def front(self) -> pd.DataFrame:
        """The trials that no other beats in score and in latency, memory and size where those count.

        Columns: ``number``, ``score``, those three, ``model``; the best score first. Empty where only scores
        count. The weights of each trial are kept in ``checkpoints/``.
        """
        trials = self.trials
        columns = ["number", "score", "latency_ms", "memory_mb", "size_mb", "model"]
        if "pareto" not in trials:
            return pd.DataFrame(columns=columns)
        return trials.loc[trials["pareto"], columns].sort_values("score", ascending=False, kind="stable")
