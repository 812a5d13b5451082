"""When a change began and whether it came at once or grew: a step or a ramp fitted to a series of scores.

That there is a change at all is decided elsewhere; here it is only placed in time.
"""

from __future__ import annotations

import numpy as np

from luthier.monitor.judgement import Onset

BLOCKS = 40
"""Blocks of requests that the series is cut into at most: ends of a change are looked for between them."""
BLOCK = 25
"""Requests of a block at least, so that its mean is about normal."""
LENGTH = 3
"""Blocks that a ramp lasts at least: a step within a block looks like a short one."""


def onset(times: np.ndarray, scores: np.ndarray, mean: float, n: int) -> Onset | None:
    """Places a change of the mean in time.

    Two courses are fitted to the means of blocks by least squares (Bai & Perron 1998 for the step): the mean
    jumps, or it goes from one level to another along a straight line. The level before is that of the
    reference and of all requests before. A ramp has one more parameter, its other end, which is chosen among
    as many places as there are blocks; so it must lower the sum of squares, in units of the variance of a
    block's mean, by 2 log(blocks) more than a step does (as in the criterion of Schwarz 1978, once for
    the parameter and once for its place).

    Args:
        times: (n,) seconds, ascending.
        scores: (n,) of single requests; those that are not finite are left out.
        mean: Of the score over the reference.
        n: Rows of the reference.

    Returns:
        None for fewer than two blocks of requests.
    """
    known = np.isfinite(scores)
    times, scores = times[known], scores[known]
    count = min(BLOCKS, len(scores) // BLOCK)
    if count < 2:
        return None
    edges = np.linspace(0, len(scores), count + 1).astype(np.int64)
    sizes = np.diff(edges).astype(np.float64)
    means = np.add.reduceat(scores, edges[:-1]) / sizes
    # The spread within blocks is free of the change between them.
    spread = float(((scores - np.repeat(means, np.diff(edges))) ** 2).sum() / (len(scores) - count))
    values, weights = np.concatenate([[mean], means]), np.concatenate([[float(n)], sizes])
    starts, ends = np.meshgrid(np.arange(count), np.arange(count + 1), indexing="ij")
    errors = _errors(values, weights, starts.ravel(), ends.ravel()).reshape(starts.shape)
    step = int(np.diag(errors[:, :count]).argmin())
    slopes = np.where(ends - starts >= LENGTH, errors, np.inf)
    ramp = int(slopes.argmin())
    gain = float(errors[step, step] - slopes.flat[ramp])
    if spread > 0 and gain / spread > 2 * np.log(count):
        first, last = int(starts.flat[ramp]), int(ends.flat[ramp])
        ended = times[edges[last] - 1] if last else times[0]
        return Onset(float(times[edges[first]]), float(ended), "slow", before=False)
    at = float(times[edges[step]])
    return Onset(at, at, "sudden", before=step == 0)


def _errors(values: np.ndarray, weights: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(k,) weighted sums of squares that each course leaves.

    The first value is the reference, which is before any course. Between ``starts`` and ``ends``, in blocks,
    the course goes from 0 to 1; a block counts by its middle. With equal ends it jumps.
    """
    places = np.arange(len(values) - 1) + 0.5
    length = np.maximum(ends - starts, 1e-9)[:, None]
    course = np.clip((places - starts[:, None]) / length, 0.0, 1.0)
    # Ends before starts are no course.
    course[ends < starts] = 0.0
    course = np.concatenate([np.zeros((len(course), 1)), course], axis=1)
    share = weights / weights.sum()
    off, rest = course - (course @ share)[:, None], values - values @ share
    variance, along = (off**2) @ share, (off * rest) @ share
    gained = np.where(variance > 1e-15, along**2 / np.maximum(variance, 1e-15), 0.0)
    return np.asarray(((rest**2) @ share - gained) * weights.sum())
