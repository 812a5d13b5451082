"""How children come about in the unit cube: tournaments, uniform crossover, mutation.

Nothing here knows scores or recipes: parents come sorted, and children are points.
"""

from __future__ import annotations

import numpy as np

CROSSED = 0.5
"""Share of children that have two parents."""
STEPS = (1.0, 0.3, 0.1)
"""A child's mutations have one of these times the step size as their standard deviation, at random."""


def children(
    parents: np.ndarray,
    categorical: np.ndarray,
    count: int,
    step: float,
    rate: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Children of a population.

    Args:
        parents: (n, dimensions), the best first; NaN where a setting is inactive.
        categorical: (dimensions,) which coordinates have no order.
        count: How many.
        step: Standard deviation of a mutation, as a share of a range (of its prior's mass).
        rate: Probability that a coordinate mutates; at least one always does.
        rng: Where the draws come from.

    Returns:
        (count, dimensions) in [0, 1], without NaN: a setting that no parent had is drawn from its prior.
    """
    first = parents[tournament(len(parents), count, rng)]
    second = parents[tournament(len(parents), count, rng)]
    crossed = uniform_crossover(first, second, rng)
    return mutated(crossed, categorical, step, rate, rng)


def tournament(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) winners of tournaments between two of ``size``, of which the first is the best."""
    winners: np.ndarray = rng.integers(size, size=(count, 2)).min(axis=1)
    return winners


def uniform_crossover(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, dimensions): a share `CROSSED` takes each coordinate from either parent, the rest from the first.

    What one parent lacks (NaN) comes from the other.
    """
    taken = (rng.random(first.shape) < 0.5) & (rng.random((len(first), 1)) < CROSSED)
    taken |= np.isnan(first)
    taken &= ~np.isnan(second)
    return np.where(taken, second, first)


def mutated(
    points: np.ndarray, categorical: np.ndarray, step: float, rate: float, rng: np.random.Generator
) -> np.ndarray:
    """(n, dimensions): coordinates moved by a normal step, reflected into [0, 1]; those without an order, and
    those that are NaN, are redrawn.
    """
    count, dimensions = points.shape
    moves = rng.random((count, dimensions)) < rate
    moves[np.arange(count), rng.integers(dimensions, size=count)] = True
    scale = step * rng.choice(STEPS, size=(count, 1))
    shifted = reflected(points + scale * rng.standard_normal((count, dimensions)))
    drawn = rng.random((count, dimensions))
    made = np.where(moves, np.where(categorical, drawn, shifted), points)
    return np.where(np.isnan(made), drawn, made)


def reflected(points: np.ndarray) -> np.ndarray:
    """Points outside the unit cube mirrored back into it; those far outside lie on its border."""
    inner: np.ndarray = np.abs(points)
    return np.where(inner > 1.0, np.maximum(2.0 - inner, 0.0), inner)


def differential(
    target: np.ndarray,
    pool: np.ndarray,
    categorical: np.ndarray,
    rng: np.random.Generator,
    factor: float = 0.5,
    share: float = 0.5,
) -> np.ndarray:
    """A child by differential evolution: rand/1 and binomial crossover (Storn & Price 1997, eq. 2 to 5).

    Args:
        target: (dimensions,) the member that the child may replace; NaN where a setting is inactive.
        pool: (n, dimensions) what the mutant is made of; of fewer than three some are taken twice.
        categorical: (dimensions,) which coordinates have no order: they are redrawn where the difference
            is not zero.
        rng: Where the draws come from.
        factor: F, the weight of the difference.
        share: CR, the probability that a coordinate comes from the mutant; one always does.

    Returns:
        (dimensions,) in [0, 1], without NaN: what falls outside, and what a parent lacks, is redrawn.
    """
    size = len(target)
    base, plus, minus = pool[rng.choice(len(pool), size=3, replace=len(pool) < 3)]
    drawn = rng.random(size)
    mutant = base + factor * (plus - minus)
    mutant = np.where(categorical, np.where(plus == minus, base, drawn), mutant)
    mutant = np.where(np.isnan(mutant), base, mutant)
    mutant = np.where((mutant >= 0.0) & (mutant <= 1.0), mutant, drawn)
    taken = rng.random(size) < share
    taken[rng.integers(size)] = True
    child = np.where(taken, mutant, target)
    return np.where(np.isnan(child), drawn, child)
