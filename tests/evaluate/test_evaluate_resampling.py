"""Folds and hold-outs: what is left out, what stays together, and what is made of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.evaluate.resampling import HELD_OUT, CrossValidation, pooled, resamplings


@given(st.integers(2, 80), st.integers(2, 10), st.integers(0, 99), st.booleans())
def test_each_row_is_left_out_of_one_fold(rows: int, count: int, seed: int, stratified: bool) -> None:
    strata = np.random.default_rng(seed).integers(3, size=rows) if stratified else None
    if stratified and np.bincount(np.unique(strata, return_inverse=True)[1]).max() < min(count, rows):
        return  # Fewer rows in every class than folds.
    parts = resamplings("folds", count, rows, strata=strata, seed=seed)
    assert sorted(np.concatenate([held for _, held in parts]).tolist()) == list(range(rows))
    for train, held in parts:
        assert sorted([*train, *held]) == list(range(rows))


@given(st.integers(0, 99), st.sampled_from(["folds", "holdouts"]))
def test_groups_stay_together(seed: int, way: str) -> None:
    groups = np.random.default_rng(seed).integers(12, size=60)
    strata = groups % 2
    for train, held in resamplings(way, 4, 60, strata=strata, groups=groups, seed=seed):  # type: ignore[arg-type]
        assert not set(groups[train]) & set(groups[held])


def test_classes_keep_their_shares() -> None:
    strata = np.repeat([0, 1], [90, 10])
    for way in ("folds", "holdouts"):
        for _, held in resamplings(way, 5, 100, strata=strata):  # type: ignore[arg-type]
            assert len(held) == HELD_OUT * 100 and (strata[held] == 1).sum() == 2


def test_equal_seeds_give_equal_parts_and_others_do_not() -> None:
    def held(seed: int) -> list[list[int]]:
        return [each.tolist() for _, each in resamplings("holdouts", 3, 40, seed=seed)]

    assert held(1) == held(1) != held(2)


def test_there_are_no_more_folds_than_groups_and_one_group_cannot_be_parted() -> None:
    assert len(resamplings("folds", 5, 9, groups=np.repeat([0, 1, 2], 3))) == 3
    with pytest.raises(ValueError, match="1 rows or groups"):
        resamplings("folds", 5, 9, groups=np.zeros(9))


def test_rows_that_are_left_out_more_often_count_no_more() -> None:
    parts = [(np.array([2, 3]), np.array([0, 1])), (np.array([1, 3]), np.array([0, 2]))]
    tables = [np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])]
    np.testing.assert_array_equal(pooled(tables, parts, 4), [[1, 0.5], [1, 0], [1, 1], [0, 0]])


def test_what_is_told_survives_a_file() -> None:
    told = CrossValidation("folds", 5, 0.8, (0.7, 0.9), [0.8, 0.8], {3: 0.8, 1: 0.7}, 100, 2.5)
    assert CrossValidation.from_json(json.loads(json.dumps(told.to_json()))) == told
