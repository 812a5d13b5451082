"""How each setting mattered: permutation importance of a random forest fitted to the trials, or why that
cannot be said. What settings do alone and in pairs is `luthier.evaluate.anova`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import kruskal, spearmanr
from sklearn.ensemble import RandomForestRegressor

from luthier.evaluate.anova import Anova, anova
from luthier.evaluate.plain import Plain
from luthier.evaluate.tables import is_numeric, numbers, varied_settings

FEWEST = 8
"""Trials with a score below which nothing is said."""
CHANCE = 0.05
"""A direction is named where chance alone gives as clear a one less often than this."""
_DRAWS = 24  # bootstrap draws of the trials, each with a forest of its own
_TREES = 40
_SHUFFLES = 8


@dataclass
class Mattered:
    """One setting's part.

    Attributes:
        setting: Its name.
        share: Share of the scores' variance that it accounts for, alone or with others (an estimate of the
            total-effect index of Sobol); about 0, or below, is noise.
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
class Importance(Plain):
    """How each setting mattered over finished trials.

    Attributes:
        settings: Largest share first; empty where nothing can be said.
        trials: Trials with a score that were looked at.
        explained: Share of the variance of scores on unseen trials that the settings explain (R squared);
            None if unknown.
        reason: Why nothing, or little, can be said; empty otherwise.
        anova: What they do alone and in pairs, and the score along each.
    """

    settings: list[Mattered] = field(default_factory=list)
    trials: int = 0
    explained: float | None = None
    reason: str = ""
    anova: Anova = field(default_factory=Anova)


def importance(trials: pd.DataFrame, *, seed: int = 0) -> Importance:
    """Permutation importance (Breiman 2001) of each varied setting for the score, judged on trials left out
    of the fit.

    The trials are resampled with replacement 24 times. Each time a random forest learns the score from the
    settings, and the trials not drawn tell how much worse it predicts when one setting is shuffled among
    them. The rise of its squared error is twice the variance that the setting accounts for (Gregorutti et al.
    2017, section 2.2), so half of it, divided by the variance of the scores, is the share. All columns of one
    setting are shuffled together.

    Args:
        trials: One row a trial, in the store's columns: the recipe's settings and ``score`` (higher is
            better, NaN where there is none).
        seed: Seed of all draws.

    Returns:
        The importance, or the reason why it cannot be said.
    """
    known = numbers(trials, "score")
    frame, scores = trials[np.isfinite(known)], known[np.isfinite(known)]
    varied = varied_settings(frame)
    if len(frame) < FEWEST:
        return Importance(
            trials=len(frame),
            reason=f"With {len(frame)} finished trial{'' if len(frame) == 1 else 's'} it cannot be said yet "
            f"how each setting mattered: at least {FEWEST} are needed to tell an effect from chance.",
        )
    if not varied:
        return Importance(
            trials=len(frame), reason="All trials had the same settings, so no setting can be compared."
        )
    if np.ptp(scores) == 0:
        return Importance(
            trials=len(frame), reason="All trials scored the same, so no setting made a difference."
        )
    found = _measure(frame, scores, varied, np.random.default_rng(seed))
    found.anova = anova(frame, scores, varied, seed=seed)
    return found


def _measure(
    frame: pd.DataFrame, scores: np.ndarray, varied: dict[str, str], rng: np.random.Generator
) -> Importance:
    """The importance of the ``varied`` settings where it can be measured."""
    features, owners = encode(frame, list(varied))
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
        rises[draw] = (_shuffled_errors(forest, features[left], scores[left], owners, rng) - error) / (
            2 * variance
        )
    seen = times > 0
    explained = 1 - float(np.mean((predicted[seen] / times[seen] - scores[seen]) ** 2)) / float(
        scores[seen].var()
    )
    low, high = np.nanquantile(rises, [0.05, 0.95], axis=0)
    shares = np.nanmean(rises, axis=0)
    result = [
        Mattered(name, float(shares[i]), float(low[i]), float(high[i]), direction(frame[column], scores))
        for i, (column, name) in enumerate(varied.items())
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
        if not is_numeric(frame[name]):
            dummies = pd.get_dummies(frame[name].map(str)).to_numpy(dtype=np.float64)
            columns.extend(dummies.T)
            owners.extend([index] * dummies.shape[1])
        else:
            values = numbers(frame, name)
            columns.append(np.where(np.isnan(values), -1e9, values))
            owners.append(index)
    return np.column_stack(columns), np.array(owners)


def direction(values: pd.Series, scores: np.ndarray) -> str:
    """What went with better scores, where a rank test at 5% tells it from chance: Spearman's for numbers with
    more than two values, otherwise Kruskal and Wallis's over values tried at least three times.

    Args:
        values: (n,) one setting's values.
        scores: (n,) higher is better.
    """
    if is_numeric(values) and values.nunique() > 2:
        known = values.notna().to_numpy()
        correlation, chance = spearmanr(pd.to_numeric(values)[known].astype(float), scores[known])
        if not chance < CHANCE:
            return ""
        return "higher went with better" if correlation > 0 else "lower went with better"
    groups = {
        name: part for name, part in pd.Series(scores).groupby(values.map(str).to_numpy()) if len(part) > 2
    }
    if len(groups) < 2 or not kruskal(*groups.values()).pvalue < CHANCE:
        return ""
    return f"best: {max(groups, key=lambda name: groups[name].median())}"
