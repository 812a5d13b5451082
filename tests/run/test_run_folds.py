"""Finalists on rows left out: honest where validation flatters, and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luthier
import made
from luthier.errors import SettingError
from luthier.run.settings import Settings

Tiny = Callable[[str], Path]
SPACE = {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}, "epochs": 3, "batch_size": 8}


def run(data: Any, model: Path, out: Path, **options: Any) -> luthier.Result:
    given: dict[str, Any] = {
        "budget": "10m", "trials": 3, "strategy": "random", "space": SPACE, "threads": 1,
        "baselines": ["probe"], "ensemble": "none",
    } | options  # fmt: skip
    return luthier.tune(data, model=str(model), out=out, **given)


@pytest.mark.parametrize(("way", "count"), [("folds", 3), ("holdouts", 2)])
def test_finalists_are_compared_on_rows_left_out(
    tiny_model: Tiny, tmp_path: Path, way: str, count: int
) -> None:
    result = run(made.sentences(90), tiny_model("bert"), tmp_path / "run", **{way: count})
    told = result.evaluation.cross_validation
    assert told is not None and told.way == way and told.count == count == len(told.each)
    best = result.manifest["best"]
    assert told.value == max(told.finalists.values()) == told.finalists[best["trial"]]
    low, high = told.interval
    assert low <= told.value <= high
    assert f"{count} {way} left out" in best["how"]
    rows = sum(1 for _ in result.trials.itertuples())
    assert rows == 3 and not list((result.folder / "checkpoints").glob("folds/*"))
    if way == "folds":
        assert told.rows == 90 - round(0.2 * 90)


def test_shuffled_labels_are_chance_even_where_heads_start_as_probes(
    tiny_model: Tiny, tmp_path: Path
) -> None:
    """A head that had seen the rows left out would know some of their answers."""
    frame = made.sentences(160)
    frame["label"] = np.random.default_rng(0).permutation(frame["label"])
    space = {"head_init": "probe", "head": "linear", "pooling": "mean", "epochs": 1, "learning_rate": 1e-6}
    result = run(frame, tiny_model("bert"), tmp_path / "run", trials=1, folds=5, space=space)
    told = result.evaluation.cross_validation
    assert told is not None
    # Three standard errors of a fair coin on 128 rows.
    assert abs(told.value - 0.5) < 0.14


def test_few_rows_are_parted_by_themselves_and_can_be_left_alone(tiny_model: Tiny, tmp_path: Path) -> None:
    frame = made.sentences(60)
    told = run(frame, tiny_model("bert"), tmp_path / "a").evaluation.cross_validation
    assert told is not None and (told.way, told.count) == ("folds", 5)
    assert run(frame, tiny_model("bert"), tmp_path / "b", folds=0).evaluation.cross_validation is None
    assert run(frame, tiny_model("bert"), tmp_path / "c", repeats=1).evaluation.cross_validation is None


def test_one_way_at_a_time() -> None:
    with pytest.raises(SettingError, match="folds is 5 and holdouts is 3"):
        Settings.parse({"folds": 5, "holdouts": 3})
