"""What a store gives back, as records and tables."""

from __future__ import annotations

import math

import numpy as np
from study_reports import order

from luthier.trial import Report


def test_numbers_that_are_none_are_kept(store, run) -> None:
    store.start_trial(run, order(0))
    metrics = {"loss": math.nan, "up": math.inf, "down": -math.inf, "numpy": np.float32(0.5)}
    store.report(
        run,
        Report(0, 1, "running", math.nan, metrics),
        strategy_state={"scores": [math.nan, -math.inf, None]},
    )
    store.report(run, Report(0, 2, "running", -math.inf, {}))
    rows = store.epochs(run)
    assert math.isnan(rows["score"][0]) and rows["score"][1] == -math.inf
    assert math.isnan(rows["loss"][0]) and (rows["up"][0], rows["down"][0], rows["numpy"][0]) == (
        math.inf,
        -math.inf,
        0.5,
    )
    scores = store.run(run).strategy_state["scores"]
    assert math.isnan(scores[0]) and scores[1:] == [-math.inf, None]
    assert store.trials(run)["best_epoch"].tolist() == [2]


def test_tables_of_a_run_without_trials_have_their_columns(store, run) -> None:
    assert {"number", "score", "learning_rate"} <= set(store.trials(run).columns)
    assert len(store.epochs(run)) == 0
