"""`Prior`: learning curves of finished studies as one small table, in a file of plain arrays. What is
predicted from it lives in `curve_model`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from luthier.errors import SettingError
from luthier.search import features
from luthier.search.past import PastStudy, scale

GRID = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50)
"""Epochs at which curves are kept."""
FEWEST = 8
"""Trials with a score that a study needs: its scores are compared with its best and its worst."""
SHIPPED = Path(__file__).parent / "prior.npz"
_FORMAT = 1
_ARRAYS = {
    "rows": 2, "names": 1, "models": 1, "model": 1, "studies": 1, "study": 1, "scores": 2, "seconds": 1,
    "provenance": 1, "format": 0,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Prior:
    """Trials of past studies.

    Attributes:
        rows: (trials, features) float32: see `luthier.search.features`; MISSING where unknown.
        names: Names of the features.
        models: Names of the models that occur.
        model: (trials,) index into ``models``.
        studies: Names of the studies.
        study: (trials,) index into ``studies``.
        scores: (trials, len(GRID)) float32: score after each epoch of the grid; NaN after a trial's end.
        seconds: (trials,) float32: mean seconds of an epoch.
        provenance: Where it comes from, a sentence each, with licences.
    """

    rows: np.ndarray
    names: tuple[str, ...]
    models: tuple[str, ...]
    model: np.ndarray
    studies: tuple[str, ...]
    study: np.ndarray
    scores: np.ndarray
    seconds: np.ndarray
    provenance: tuple[str, ...] = ()

    @classmethod
    def from_studies(cls, studies: Sequence[PastStudy], provenance: Sequence[str] = ()) -> Prior:
        """The table of these studies; those with fewer than `FEWEST` scored trials are left out.

        Trials whose first epoch has no finite score teach nothing about curves, and are left out as well.
        Studies of one name are one.
        """
        kept = []
        names: dict[str, None] = dict.fromkeys(features.NAMES)
        for study in studies:
            usable = [at for at, scores in enumerate(study.scores) if scores and np.isfinite(scores[0])]
            if len(usable) >= FEWEST:
                kept.append((study, usable))
                names |= dict.fromkeys(study.feature_names)
        tables, models, titles = [], [], []
        scores, seconds = [], []
        for study, usable in kept:
            rows = features.matrix([study.recipes[at] for at in usable])
            table, own = rows, list(features.NAMES)
            if study.feature_names:
                table, own = features.combine(rows, study.features[usable], study.feature_names)
            tables.append(features.align(table, own, list(names)))
            models += [features.model_of(study.recipes[at]) for at in usable]
            titles += [study.name] * len(usable)
            offset, factor = scale(score for at in usable for score in study.scores[at])
            scores += [_on_grid([(s - offset) * factor for s in study.scores[at]]) for at in usable]
            seconds += [max(float(np.mean(study.seconds[at])), 1e-3) for at in usable]
        known, model = _numbered(models)
        title, study_of = _numbered(titles)
        return cls(
            np.concatenate([np.zeros((0, len(names))), *tables]).astype(np.float32),
            tuple(names), known, model, title, study_of,
            np.array(scores, np.float32).reshape(-1, len(GRID)).round(4),
            np.array(seconds, np.float32), tuple(provenance),
        )  # fmt: skip

    def joined(self, other: Prior) -> Prior:
        """This table and another below it; a study that both have is the other's."""
        mine = np.flatnonzero(~np.isin([self.studies[at] for at in self.study], other.studies))
        names = list(dict.fromkeys([*self.names, *other.names]))
        parts = [(self, mine), (other, np.arange(len(other.study)))]
        known, model = _numbered([p.models[p.model[at]] for p, kept in parts for at in kept])
        title, study = _numbered([p.studies[p.study[at]] for p, kept in parts for at in kept])
        rows = [features.align(p.rows[kept], p.names, names) for p, kept in parts]
        return Prior(
            np.concatenate(rows).astype(np.float32), tuple(names), known, model, title, study,
            np.concatenate([p.scores[kept] for p, kept in parts]),
            np.concatenate([p.seconds[kept] for p, kept in parts]),
            tuple(dict.fromkeys([*self.provenance, *other.provenance])),
        )  # fmt: skip

    @cached_property
    def running_best(self) -> np.ndarray:
        """(trials, len(GRID)): best score up to each epoch of the grid; after a trial's end its last."""
        filled = np.where(np.isnan(self.scores), -np.inf, self.scores)
        return np.maximum.accumulate(filled, axis=1)

    @cached_property
    def digest(self) -> str:
        """Tells one table from another."""
        found = hashlib.sha256()
        for array in (self.rows, self.scores, self.seconds, self.study, self.model):
            found.update(np.ascontiguousarray(array).tobytes())
        found.update("\n".join([*self.names, *self.models]).encode())
        return found.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Writes plain arrays (``.npz``, nothing pickled); the file is whole or not there."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial-{os.getpid()}.npz")
        np.savez_compressed(
            partial, format=np.array(_FORMAT), rows=self.rows, names=np.array(self.names, np.str_),
            models=np.array(self.models, np.str_), model=self.model, studies=np.array(self.studies, np.str_),
            study=self.study, scores=self.scores, seconds=self.seconds,
            provenance=np.array(self.provenance, np.str_),
        )  # fmt: skip
        partial.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> Prior:
        """Reads a file that `save` wrote.

        Raises:
            SettingError: It cannot be read, or is none.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in _ARRAYS}
            if any(found[name].ndim != dimensions for name, dimensions in _ARRAYS.items()):
                raise ValueError("its arrays have other shapes")
            if int(found["format"]) != _FORMAT:
                raise ValueError(f"its format is {int(found['format'])}, not {_FORMAT}")
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise SettingError(
                f"The prior {str(path)!r} cannot be read: {error}.",
                "Write it anew: luthier prior fit STUDIES.",
            ) from None
        del found["format"]
        texts = ("names", "models", "studies", "provenance")
        values: dict[str, Any] = found | {name: tuple(str(text) for text in found[name]) for name in texts}
        return cls(**values)


def own_path() -> Path:
    """Where the user's own prior is: LUTHIER_PRIOR, or ``prior.npz`` in the user's data folder."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(os.environ.get("LUTHIER_PRIOR") or Path(base) / "luthier" / "prior.npz")


def current() -> Prior:
    """The user's own prior where there is one, otherwise the one that ships with Luthier."""
    path = own_path()
    path = path if path.is_file() else SHIPPED
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> Prior:
    return Prior.load(path)


def _on_grid(scores: Sequence[float]) -> list[float]:
    """Best of the epochs since the previous one of the grid; NaN for epochs that a trial did not reach.

    A trial that ends between two epochs of the grid counts as having reached the later one.
    """
    found, before = [], 0
    for epoch in GRID:
        part = [score for score in scores[before:epoch] if np.isfinite(score)]
        found.append(max(part) if part else np.nan)
        before = epoch
    return found


def _numbered(texts: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    known = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    return tuple(known), np.array([known[text] for text in texts], dtype=np.int32)
