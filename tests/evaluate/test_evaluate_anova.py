from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeRegressor

from luthier.evaluate.anova import Anova, TreeMarginals, anova, leaf_boxes
from luthier.evaluate.levels import levels_of
from luthier.evaluate.tables import active_rows, varied_settings


def table(count: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "number": range(count),
            "learning_rate": rng.uniform(0.001, 0.009, count),
            "weight_decay": rng.uniform(0, 1, count),
            "adaptation": rng.choice(["full", "last_k"], count),
            "label_smoothing": rng.choice([0.0, 0.1], count),
            "dropout": rng.choice([0.0, 0.1, np.nan], count),
        }
    )


def found(frame: pd.DataFrame, scores: np.ndarray, seed: int = 0) -> Anova:
    return anova(frame, scores, varied_settings(frame), seed=seed)


def shares(result: Anova) -> dict[tuple[str, ...], float]:
    return {tuple(sorted(one.settings)): one.share for one in result.effects}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 40))
def test_marginals_of_a_tree_are_those_of_all_combinations(seed: int, count: int) -> None:
    frame = table(count, seed)
    scores = np.random.default_rng(seed).normal(size=count)
    grids = [levels_of(frame[name]) for name in ("learning_rate", "adaptation", "dropout")]
    tree = DecisionTreeRegressor(random_state=seed).fit(
        np.column_stack([grid.encoded for grid in grids]), scores
    )
    exact = TreeMarginals(tree.tree_, grids)
    sizes = [len(grid.counts) for grid in grids]
    rows = [np.concatenate(points) for points in itertools.product(*(grid.points for grid in grids))]
    cube = tree.predict(np.array(rows)).reshape(sizes)
    assert exact.mean == pytest.approx(cube.mean(), abs=1e-9)
    assert exact.variance == pytest.approx(cube.var(), abs=1e-9)
    for place in range(3):
        others = tuple(axis for axis in range(3) if axis != place)
        np.testing.assert_allclose(exact.marginal(place), cube.mean(axis=others), atol=1e-9)
    joint = cube.mean(axis=1)
    own = joint.mean(axis=1).var() + joint.mean(axis=0).var()
    assert exact.interaction(0, 2) == pytest.approx(max(0.0, joint.var() - own), abs=1e-9)


def test_boxes_of_a_tree_part_the_space() -> None:
    rng = np.random.default_rng(3)
    points, scores = rng.normal(size=(60, 3)), rng.normal(size=60)
    tree = DecisionTreeRegressor(random_state=0).fit(points, scores)
    low, high, values = leaf_boxes(tree.tree_)
    probes = rng.normal(size=(200, 3)).astype(np.float32).astype(np.float64)
    inside = ((probes[:, None] > low) & (probes[:, None] <= high)).all(axis=2)
    assert (inside.sum(axis=1) == 1).all()
    np.testing.assert_allclose(values[inside.argmax(axis=1)], tree.predict(probes))


def test_shares_come_near_those_of_a_known_function() -> None:
    """x + 2 y + 6 (x - 1/2)(y - 1/2), x and y uniform on [0, 1]: variances 1/12, 4/12 and 36/144."""
    frame = table(600)
    x, y = (frame["learning_rate"] - 0.001) / 0.008, frame["weight_decay"]
    scores = (x + 2 * y + 6 * (x - 0.5) * (y - 0.5)).to_numpy()
    got = shares(found(frame, scores))
    assert got["weight_decay",] == pytest.approx(0.5, abs=0.08)
    assert got["learning_rate",] == pytest.approx(0.125, abs=0.05)
    assert got["learning_rate", "weight_decay"] == pytest.approx(0.375, abs=0.08)
    assert max(got["adaptation",], got["dropout",], got["label_smoothing",]) < 0.01
    assert sum(got.values()) <= 1.001


def test_effects_are_the_largest_first_with_an_interval_around_each() -> None:
    frame = table(80)
    scores = frame["weight_decay"].to_numpy() + (frame["adaptation"] == "full").to_numpy() * 0.3
    result = found(frame, scores)
    single = [one for one in result.effects if len(one.settings) == 1]
    assert result.effects[: len(single)] == single
    assert [one.settings[0] for one in single][:2] == ["weight_decay", "adaptation"]
    assert all(one.low <= one.share <= one.high + 1e-12 for one in single)
    assert [curve.setting for curve in result.curves] == [one.settings[0] for one in single]


def test_a_curve_follows_the_function_and_says_where_no_trial_was() -> None:
    frame = table(80)
    frame = frame[~frame["weight_decay"].between(0.4, 0.7)].reset_index(drop=True)
    result = found(frame, frame["weight_decay"].to_numpy())
    curve = next(one for one in result.curves if one.setting == "weight_decay")
    at = np.array(curve.at, dtype=float)
    assert not curve.log and (np.diff(at) > 0).all()
    seen = np.array(curve.counts) > 0
    assert np.corrcoef(at[seen], np.array(curve.score)[seen])[0, 1] > 0.98
    empty = at[np.array(curve.counts) == 0]
    assert len(empty) and empty.min() > 0.38 and empty.max() < 0.72
    assert sum(curve.counts) == curve.trials == len(frame)


def test_a_setting_without_effect_in_some_trials_is_looked_at_in_the_others() -> None:
    frame = table(90)
    rng = np.random.default_rng(5)
    frame["adaptation"] = rng.choice(["full", "lora"], 90)
    frame["lora_rank"] = np.where(frame["adaptation"] == "lora", rng.choice([4, 8, 16], 90), 8)
    lora = (frame["adaptation"] == "lora").to_numpy()
    scores = np.where(lora, np.log2(frame["lora_rank"]), 10.0)
    rank = next(one for one in found(frame, scores).effects if one.settings == ["lora_rank"])
    assert rank.trials == lora.sum() and rank.share > 0.8
    curve = next(one for one in found(frame, scores).curves if one.setting == "lora_rank")
    assert curve.at == ["4", "8", "16"] and sum(curve.counts) == lora.sum()
    assert curve.score == sorted(curve.score) and max(curve.score) < 5


def test_rows_in_which_a_setting_has_an_effect() -> None:
    frame = pd.DataFrame(
        {
            "adaptation": ["probe", "lora", "full"],
            "optimizer": ["sgd", "adamw", "adafactor"],
            "dropout": [None, None, 0.1],
            "weight_decay": [0.1, np.nan, 0.1],
        }
    ).assign(lora_rank=8, nesterov=True, momentum=0.9)
    rows = {name: active_rows(frame, name).tolist() for name in frame.columns}
    assert rows["lora_rank"] == [False, True, False]
    assert rows["nesterov"] == [True, False, False] and rows["momentum"] == [True, True, False]
    assert rows["dropout"] == [False, True, True], "left open is a value, where there is something to drop"
    assert rows["weight_decay"] == [True, False, True]


def test_levels_of_a_wide_range_are_spaced_by_ratios_and_what_was_not_set_has_its_own() -> None:
    values = pd.Series([*(10 ** np.linspace(-5, -2, 39)), np.nan])
    levels = levels_of(values)
    assert levels.log and len(levels.counts) == len(levels.at) + 1 and levels.counts[-1] == 1
    ratios = np.divide(levels.at[1:], levels.at[:-1])
    np.testing.assert_allclose(ratios, ratios[0])
    few = levels_of(pd.Series([0.1, np.nan, 0.0, 0.1]))
    assert few.at == ["not set", "0", "0.1"] and few.counts.tolist() == [1, 1, 2]
    named = levels_of(pd.Series(["b", "a", "b", None], dtype=object))
    assert named.at[0] == "b" and sorted(named.at) == ["a", "b", "not set"]


def test_too_few_trials_and_equal_scores_say_nothing() -> None:
    frame = table(7)
    assert found(frame, np.arange(7.0)) == Anova()
    assert found(table(20), np.ones(20)) == Anova()


def test_it_repeats_with_its_seed_and_survives_json() -> None:
    frame = table(24)
    scores = np.random.default_rng(1).normal(size=24)
    result = found(frame, scores, seed=3)
    assert result == found(frame, scores, seed=3) != found(frame, scores, seed=4)
    assert Anova.from_json(json.loads(json.dumps(result.to_json()))) == result
