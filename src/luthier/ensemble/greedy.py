"""Ensemble selection: networks are added one by one, with replacement, while their mean gets better.

Nothing is trained, and nothing but validation outputs is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.pool import Pool
from luthier.ensemble.ways import Context

# Networks that are looked at, the best ones: the rest of a large library only invites to fit the rows
# ("model library pruning", section 3.2 of the paper of 2006).
LIBRARY = 32
# The climb starts from the mean of the best few, as many as do best together.
INITIAL = 5
# Networks that are added at most after that, and those added in vain after which a climb is over.
STEPS, PATIENCE = 20, 5
# Climbs, each over half of the networks, whose weights are averaged.
BAGS, SHARE = 10, 0.5
# Scores that differ by less are equal, and losses decide.
EQUAL = 1e-9

Value = tuple[float, float]


def greedy(context: Context) -> Candidate | None:
    """Ensemble selection from a library of models.

    Caruana, Niculescu-Mizil, Crew & Ksikes 2004, figure 1, with replacement and sorted initialisation (their
    sections 2.1 and 2.2), and bagged over random halves of the library (section 2.3). Where scores are equal,
    as they often are on few rows, the lower loss decides. The result is never below the best single trial on
    the rows themselves; what it gains on others is told by its ``refit``, which climbs once.

    Args:
        context: Its trials are the library.

    Returns:
        A weighted mean of `Context.parts` trials at most; None without trials whose outputs are kept.
    """
    started = time.perf_counter()
    library = sorted(context.pool, key=lambda each: (-each[0].score, each[0].loss, each[0].trial))[:LIBRARY]
    if not library:
        context.say("No trial has left both weights and validation outputs: there is nothing to combine.")
        return None
    pool = Pool(context.task, [outputs for _, outputs in library], context.targets)
    weights = select(pool, context)
    chosen = np.flatnonzero(weights)
    parts = [library[at] for at in chosen]
    combination = Average(tuple(float(weight) for weight in weights[chosen]))
    said = combination.outputs(context.task, [outputs for _, outputs in parts])
    single = max(library, key=lambda each: _score(context, each[1]))
    if _score(context, said) < _score(context, single[1]):
        # The pool counts in fewer digits, and words that a network did not read otherwise than the task.
        parts, combination, said = [single], Average((1.0,)), list(single[1])
    everything = [outputs for _, outputs in library]

    def refit(counts: np.ndarray) -> list[np.ndarray]:
        found = _trimmed(_climb(pool, range(len(pool)), counts, context), context.parts)
        kept = np.flatnonzero(found)
        own = Average(tuple(float(weight) for weight in found[kept]))
        return own.outputs(context.task, [everything[at] for at in kept])

    return Candidate(
        "greedy",
        [context.part(trial) for trial, _ in parts],
        combination,
        said,
        seconds=time.perf_counter() - started,
        note=f"Ensemble selection with replacement from {len(library)} trials.",
        refit=refit,
    )


def _score(context: Context, outputs: Sequence[np.ndarray]) -> float:
    """The objective on the validation rows; what cannot be formed is the worst."""
    found = context.task.score(context.task.metrics(outputs, context.targets))
    return found if np.isfinite(found) else -np.inf


def select(pool: Pool, context: Context) -> np.ndarray:
    """Weights of a pool's networks, (networks,), together 1; ties go to the earlier ones.

    Args:
        pool: The networks, best first.
        context: Has seed, time, and the number of networks that may have a weight.
    """
    plain = _trimmed(_climb(pool, range(len(pool)), None, context), context.parts)
    bagged = np.zeros(len(pool))
    rng = np.random.default_rng(context.seed)
    size = int(np.ceil(SHARE * len(pool)))
    for _ in range(BAGS if len(pool) > 3 else 0):
        drawn = np.sort(rng.permutation(len(pool))[:size])
        if context.over():
            break
        found = _climb(pool, drawn, None, context)
        bagged += found / found.sum()
    singles = [_value(pool, np.eye(len(pool))[at]) for at in range(len(pool))]
    best = max(range(len(pool)), key=lambda at: singles[at])
    # The mean of the climbs is the least fitted to these rows, and so comes first if it holds what it
    # promises.
    for weights in (_trimmed(bagged, context.parts), plain) if bagged.any() else (plain,):
        if _value(pool, weights) >= singles[best]:
            return weights
    return np.asarray(np.eye(len(pool))[best])


def _climb(
    pool: Pool, members: Sequence[int] | range | np.ndarray, counts: np.ndarray | None, context: Context
) -> np.ndarray:
    """How often each network is in the ensemble that one climb ends with, (networks,)."""
    members = [int(member) for member in members]
    order = sorted(members, key=lambda at: _value(pool, np.eye(len(pool))[at], counts), reverse=True)
    times = np.zeros(len(pool))
    best_value: Value = (-np.inf, -np.inf)
    best = times.copy()
    for member in order[:INITIAL]:
        times[member] += 1
        value = _value(pool, times, counts)
        if value > best_value:
            best_value, best = value, times.copy()
    times = best.copy()
    in_vain = 0
    for _ in range(STEPS):
        if context.over():
            break
        times[_addition(pool, order, times, counts)] += 1
        value = _value(pool, times, counts)
        in_vain += 1
        if value > best_value:
            best_value, best, in_vain = value, times.copy(), 0
        if in_vain >= PATIENCE:
            break
    return best


def _addition(pool: Pool, members: Sequence[int], times: np.ndarray, counts: np.ndarray | None) -> int:
    """The network that is best to add."""
    values, read = _sum(pool, times)
    scores = np.array([pool.score(values + pool.values[at], read + pool.read[at], counts) for at in members])
    near = [member for member, score in zip(members, scores, strict=True) if score >= scores.max() - EQUAL]
    if len(near) == 1:
        return near[0]
    return min(near, key=lambda at: pool.loss(values + pool.values[at], read + pool.read[at], counts))


def _value(pool: Pool, times: np.ndarray, counts: np.ndarray | None = None) -> Value:
    """Score, and the loss negated, of a weighted mean: what is larger is better."""
    values, read = _sum(pool, times)
    score = pool.score(values, read, counts)
    return (round(score / EQUAL) * EQUAL if np.isfinite(score) else score), -pool.loss(values, read, counts)


def _sum(pool: Pool, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weighted sum of values, and of who has any."""
    used = np.flatnonzero(times)
    shares = times[used].astype(np.float32)
    return np.tensordot(shares, pool.values[used], axes=1), shares @ pool.read[used]


def _trimmed(weights: np.ndarray, parts: int) -> np.ndarray:
    """The largest weights, as many as there may be networks, together 1."""
    kept = np.argsort(-weights, kind="stable")[:parts]
    found = np.zeros_like(weights)
    found[kept] = weights[kept]
    return np.asarray(found / found.sum())
