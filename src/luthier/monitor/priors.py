"""True shares of classes among requests, from what was answered and how often answers are mistaken.

Black-box shift estimation: right where the inputs of each class look as they did, and only there.
"""

from __future__ import annotations

import numpy as np

from luthier.monitor.judgement import Prior

RESAMPLES = 400
_WIDEST = 2_000_000  # numbers of resampled confusion matrices at once: 16 MB


def weights(joint: np.ndarray, answered: np.ndarray, penalty: float) -> np.ndarray:
    """By how much each class is more frequent than it was.

    Lipton, Wang & Smola 2018, equation 5: C w = mu, with C the joint shares of answer and truth and mu the
    shares of answers now. What w differs from 1 by is given a quadratic penalty, as in Azizzadenesheli et
    al. 2019 (equation 5 there has the norm), so that mistaken answers do not blow up noise where C is all
    but singular.

    Args:
        joint: (..., answered, true) shares.
        answered: (..., classes) shares of answers.
        penalty: Of the squares.

    Returns:
        (..., classes), at least 0.
    """
    gap = answered - joint.sum(axis=-1)
    across = np.swapaxes(joint, -1, -2)
    normal = across @ joint + penalty * np.eye(joint.shape[-1])
    solved = np.linalg.solve(normal, (across @ gap[..., None]))[..., 0]
    return np.asarray(np.maximum(0.0, 1 + solved))


def priors(
    confusion: np.ndarray, answered: np.ndarray, names: tuple[str, ...], *, level: float = 0.95, seed: int = 0
) -> list[Prior]:
    """Estimated shares with bootstrap intervals: both the reference and the requests are drawn again.

    Args:
        confusion: (true, answered) counts of the reference.
        answered: (classes,) counts of answers among requests.
        names: Of the classes.
        level: Of the intervals, by percentiles.
        seed: Of the draws.

    Returns:
        One a class; none without rows of either.
    """
    held, asked = int(confusion.sum()), int(answered.sum())
    if not held or not asked:
        return []
    size = len(names)
    joint, shares = confusion.T / held, answered / asked
    # The squared distance by which chance moves the joint shares, summed over cells, is about 1 / n.
    penalty = 1 / held
    tested = confusion.sum(axis=1) / held
    value = _shares(weights(joint, shares, penalty), tested)
    rng = np.random.default_rng(seed)
    draws = max(20, min(RESAMPLES, _WIDEST // size**2))
    joints = rng.multinomial(held, joint.ravel(), size=draws).reshape(draws, size, size) / held
    drawn = _shares(
        weights(joints, rng.multinomial(asked, shares, size=draws) / asked, penalty), joints.sum(axis=1)
    )
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Prior(names[i], float(value[i]), (float(low[i]), float(high[i])), float(tested[i]))
        for i in range(size)
    ]


def _shares(times: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Shares from weights, which add up to 1; those tested where all weights are 0."""
    raw = times * tested
    total = raw.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, raw / np.where(total > 0, total, 1), tested))
