"""How each setting mattered: permutation importance of a random forest fitted to the trials, or why that
cannot be said."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from luthier.recipe import Recipe

FEWEST = 8
"""Trials with a score below which nothing is said."""
_DRAWS = 24  # bootstrap draws of the trials, each with a forest of its own
_TREES = 40
_SHUFFLES = 8


@dataclass
class Mattered:
    """One setting's part.

    Attributes:
        setting: Its name.
        share: Share of the scores' variance lost on unseen trials when this setting is shuffled; below 0 it
            is noise.
        low: 5th percentile over resampled trials.
        high: 95th percentile.
        hint: What went with better scores, e.g. "best: lora" or "higher is better"; empty if there is no
            clear direction.
    """

    setting: str
    share: float
    low: float
    high: float
    hint: str = ""


@dataclass
class Importance:
    """How each setting mattered over finished trials.

    Attributes:
        settings: Largest share first; empty where nothing can be said.
        trials: Trials with a score that were looked at.
        explained: Share of the variance of scores on unseen trials that the settings explain (R squared);
            None if unknown.
        reason: Why nothing, or little, can be said; empty otherwise.
    """

    settings: list[Mattered] = field(default_factory=list)
    trials: int = 0
    explained: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Importance:
        """What `to_json` wrote."""
        return cls(**{**values, "settings": [Mattered(**row) for row in values["settings"]]})


def importance(trials: pd.DataFrame, *, settings: list[str] | None = None, seed: int = 0) -> Importance:
    """Permutation importance (Breiman 2001) of each varied setting for the score, judged on trials left out
    of the fit.

    The trials are resampled with replacement 24 times. Each time a random forest learns the score from the
    settings, and the trials not drawn tell how much worse it predicts when one setting is shuffled among
    them: the rise of its squared error divided by the variance of the scores. All columns of one setting are
        shuffled together.

    Args:
        trials: One row a trial: settings in columns named as `Recipe`'s fields, and ``score`` (higher is
            better).
        settings: Columns to look at; by default all fields of `Recipe` that are there.
        seed: Seed of all draws.

    Returns:
        The importance, or the reason why it cannot be said.
    """
    frame = (
        trials[np.isfinite(pd.to_numeric(trials["score"], errors="coerce"))]
        if "score" in trials
        else trials[:0]
    )
    scores = frame["score"].to_numpy(dtype=np.float64) if len(frame) else np.empty(0)
    names = [name for name in (settings or list(Recipe.model_fields)) if name in frame.columns]
    varied = [name for name in names if frame[name].map(str).nunique() > 1]
    if len(frame) < FEWEST:
        return Importance(
            trials=len(frame),
            reason=f"With {len(frame)} finished trials it cannot be said yet how each setting mattered: "
            f"at least {FEWEST} are needed to tell a setting's effect from chance.",
        )
    if not varied:
        return Importance(
            trials=len(frame), reason="All trials had the same settings, so no setting can be compared."
        )
    if np.ptp(scores) == 0:
        return Importance(
            trials=len(frame), reason="All trials scored the same, so no setting made a difference."
        )
    return _measure(frame, scores, varied, np.random.default_rng(seed))


def _measure(
    frame: pd.DataFrame, scores: np.ndarray, varied: list[str], rng: np.random.Generator
) -> Importance:
    """The importance of the ``varied`` settings where it can be measured."""
    features, owners = encode(frame, varied)
    variance = float(scores.var())
    rises = np.full((_DRAWS, len(varied)), np.nan)
    predicted = np.zeros(len(scores))
    times = np.zeros(len(scores))
    for draw in range(_DRAWS):
        drawn = rng.integers(0, len(scores), len(scores))
        left = np.setdiff1d(np.arange(len(scores)), drawn)
        if len(left) < 2:
            continue
        forest = RandomForestRegressor(_TREES, max_features=0.5, random_state=int(rng.integers(2**31)))
        forest.fit(features[drawn], scores[drawn])
        guess = forest.predict(features[left])
        predicted[left] += guess
        times[left] += 1
        error = np.mean((guess - scores[left]) ** 2)
        rises[draw] = (_shuffled_errors(forest, features[left], scores[left], owners, rng) - error) / variance
    seen = times > 0
    explained = 1 - float(np.mean((predicted[seen] / times[seen] - scores[seen]) ** 2)) / float(
        scores[seen].var()
    )
    low, high = np.nanquantile(rises, [0.05, 0.95], axis=0)
    shares = np.nanmean(rises, axis=0)
    result = [
        Mattered(name, float(shares[i]), float(low[i]), float(high[i]), direction(frame[name], scores))
        for i, name in enumerate(varied)
    ]
    result.sort(key=lambda one: -one.share)
    reason = (
        ""
        if explained > 0
        else (
            f"Over these {len(frame)} trials the settings do not predict the score of a trial left out, so "
            "the order below may be chance."
        )
    )
    return Importance(result, len(frame), explained, reason)


def _shuffled_errors(
    forest: RandomForestRegressor,
    features: np.ndarray,
    scores: np.ndarray,
    owners: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """(settings,) mean squared error when each setting in turn is shuffled; one call of the forest for
    all."""
    settings = int(owners.max()) + 1
    stacked = np.tile(features, (settings * _SHUFFLES, 1, 1))
    for block in range(settings * _SHUFFLES):
        columns = np.flatnonzero(owners == block // _SHUFFLES)
        stacked[block][:, columns] = features[rng.permutation(len(features))][:, columns]
    guess = forest.predict(stacked.reshape(-1, features.shape[1])).reshape(settings, -1, len(features))
    errors: np.ndarray = ((guess - scores) ** 2).mean(axis=(1, 2))
    return errors


def encode(frame: pd.DataFrame, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Settings as numbers.

    Args:
        frame: n trials.
        names: Settings to encode. Numbers stay (their order is all that a tree sees), with -1e9 where a
            setting was not set; anything else gets one 0/1 column a value.

    Returns:
        (n, columns) float64, and (columns,) the index in ``names`` that each column belongs to.
    """
    columns: list[np.ndarray] = []
    owners: list[int] = []
    for index, name in enumerate(names):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if pd.api.types.is_bool_dtype(frame[name]) or not numbers.notna().equals(frame[name].notna()):
            dummies = pd.get_dummies(frame[name].map(str)).to_numpy(dtype=np.float64)
            columns.extend(dummies.T)
            owners.extend([index] * dummies.shape[1])
        else:
            columns.append(numbers.fillna(-1e9).to_numpy(dtype=np.float64))
            owners.append(index)
    return np.column_stack(columns), np.array(owners)


def direction(values: pd.Series, scores: np.ndarray) -> str:
    """What went with better scores: a rank correlation beyond chance, or the value with the best median.

    Args:
        values: (n,) one setting's values.
        scores: (n,) higher is better.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    known = numbers.notna().to_numpy()
    if (
        numbers.notna().equals(values.notna())
        and numbers.nunique() > 2
        and not pd.api.types.is_bool_dtype(values)
    ):
        ranks = numbers[known].rank().to_numpy()
        correlation = float(np.corrcoef(ranks, pd.Series(scores[known]).rank().to_numpy())[0, 1])
        if not abs(correlation) * np.sqrt(max(known.sum() - 1, 1)) > 1.96:
            return ""
        return "higher went with better scores" if correlation > 0 else "lower went with better scores"
    medians = pd.Series(scores).groupby(values.map(str).to_numpy()).agg(["median", "size"])
    medians = medians[medians["size"] >= 3].sort_values("median")
    return f"best: {medians.index[-1]}" if len(medians) > 1 else ""
