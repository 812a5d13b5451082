"""Tournaments, crossover, mutation and differential evolution in the unit cube."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from luthier.search.variation import (
    STEPS,
    children,
    differential,
    mutated,
    reflected,
    tournament,
    uniform_crossover,
)

COORDINATE = st.one_of(st.just(float("nan")), st.floats(0.0, 1.0))


@st.composite
def populations(draw, fewest: int = 1):
    shape = (draw(st.integers(fewest, 6)), draw(st.integers(1, 5)))
    genes = draw(arrays(np.float64, shape, elements=COORDINATE))
    return genes, draw(arrays(bool, shape[1])), np.random.default_rng(draw(st.integers(0, 99)))


@given(populations(), st.floats(0.0, 5.0), st.floats(0.0, 1.0))
def test_children_lie_in_the_cube_and_lack_nothing(population, step, rate) -> None:
    genes, categorical, rng = population
    made = children(genes, categorical, 20, step, rate, rng)
    assert made.shape == (20, genes.shape[1])
    assert ((made >= 0.0) & (made <= 1.0)).all()


@given(populations())
def test_crossover_takes_every_coordinate_from_a_parent_that_has_it(population) -> None:
    genes, _, rng = population
    first, second = genes[[0] * 30], genes[[-1] * 30]
    made = uniform_crossover(first, second, rng)
    for child in made:
        for at, value in enumerate(child):
            both = {genes[0, at], genes[-1, at]}
            assert value in both or (np.isnan(value) and np.isnan(list(both)).all())


def test_crossover_mixes_half_of_the_children() -> None:
    made = uniform_crossover(np.zeros((4000, 6)), np.ones((4000, 6)), np.random.default_rng(0))
    mixed = (made > 0).any(axis=1).mean()
    assert 0.46 < mixed < 0.53
    assert 0.23 < made.mean() < 0.27


def test_a_mutation_moves_one_coordinate_at_least_by_the_step_size() -> None:
    parents = np.full((4000, 4), 0.5)
    made = mutated(parents, np.zeros(4, bool), 0.01, 0.0, np.random.default_rng(0))
    assert ((made != 0.5).sum(axis=1) == 1).all()
    moved = (made - 0.5)[made != 0.5]
    expected = 0.01 * np.sqrt(np.mean(np.square(STEPS)))
    assert 0.9 * expected < moved.std() < 1.1 * expected


def test_a_categorical_coordinate_is_redrawn_from_its_prior_whatever_the_step_size() -> None:
    made = mutated(np.full((4000, 1), 0.9), np.ones(1, bool), 1e-9, 1.0, np.random.default_rng(0))
    assert np.abs(np.histogram(made, bins=5, range=(0, 1))[0] / 4000 - 0.2).max() < 0.03


def test_better_parents_win_tournaments() -> None:
    counts = np.bincount(tournament(5, 10_000, np.random.default_rng(0)), minlength=5) / 10_000
    expected = [1 - (1 - (k + 1) / 5) ** 2 - (1 - (1 - k / 5) ** 2) for k in range(5)]
    assert np.abs(counts - expected).max() < 0.02


def test_what_leaves_the_cube_is_mirrored() -> None:
    assert reflected(np.array([-0.2, 0.3, 1.25, 9.0, -9.0])).tolist() == [0.2, 0.3, 0.75, 0.0, 0.0]


@given(populations(3), st.floats(0.0, 2.0), st.floats(0.0, 1.0))
def test_differential_children_lie_in_the_cube_and_lack_nothing(population, factor, share) -> None:
    genes, categorical, rng = population
    child = differential(genes[0], genes, categorical, rng, factor, share)
    assert ((child >= 0.0) & (child <= 1.0)).all()


def test_differential_evolution_adds_a_difference_to_a_third_member() -> None:
    pool = np.array([[0.5, 0.5], [0.6, 0.6], [0.4, 0.7]])
    possible = {
        round(pool[a, 0] + 0.5 * (pool[b, 0] - pool[c, 0]), 12)
        for a in range(3)
        for b in range(3)
        for c in range(3)
        if len({a, b, c}) == 3
    }
    plain = np.zeros(2, bool)
    made = [differential(np.zeros(2), pool, plain, np.random.default_rng(k), share=1.0) for k in range(50)]
    assert {round(child[0], 12) for child in made} == possible
    kept = [differential(np.zeros(2), pool, plain, np.random.default_rng(k), share=0.0) for k in range(50)]
    assert all((child == 0.0).sum() == 1 for child in kept), "one coordinate always comes from the mutant"


def test_categories_that_do_not_differ_stay_in_a_mutant_and_others_are_redrawn() -> None:
    agreeing = np.array([[0.25], [0.25], [0.25]])
    differing = np.array([[0.25], [0.75], [0.5]])
    one = np.ones(1, bool)
    draws = [np.random.default_rng(k) for k in range(200)]
    assert all(differential(np.zeros(1), agreeing, one, rng)[0] == 0.25 for rng in draws)
    redrawn = [differential(np.zeros(1), differing, one, rng)[0] for rng in draws]
    assert len(set(redrawn)) == 200 and 0.4 < np.mean(redrawn) < 0.6
