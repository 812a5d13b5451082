from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from luthier.data.dataset import Dataset
from luthier.data.findings import Finding
from luthier.run import sizes, verdicts
from luthier.run.prepare import Prepared
from luthier.run.settings import Settings


def prepared(**settings: object) -> Prepared:
    frame = pd.DataFrame({"text": ["a"] * 40})
    data = Dataset("d", {"train": frame, "test": frame})
    leak = Finding("warning", "leak", "2 test texts stand in train too.", [3, 9], "test")
    near = Finding("warning", "near-leak", "1 test text nearly stands in train too.", [5], "test")
    return Prepared(Settings.parse({"data": "d.csv", **settings}), data, None, {}, [leak, near])  # type: ignore[arg-type]


def test_leaks_are_shares_of_their_split_and_dropped_ones_do_not_count() -> None:
    assert [(one.kind, one.split, one.share) for one in verdicts._findings(prepared())] == [
        ("leak", "test", 0.05), ("near-leak", "test", 0.025)
    ]  # fmt: skip
    assert [one.kind for one in verdicts._findings(prepared(drop_leaks=True))] == ["near-leak"]


def test_the_ranking_is_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 30).round(1), rng.normal(0, 1, 200).round(1)
    area, (low, high) = verdicts.ranking(inside, outside)
    truth = np.concatenate([np.ones(30), np.zeros(200)])
    assert area == pytest.approx(roc_auc_score(truth, np.concatenate([inside, outside])))
    assert 0 <= low < area < high <= 1
    assert verdicts.ranking(np.ones(3), np.zeros(5)) == (1.0, (1.0, 1.0))


def test_what_a_file_tells_without_its_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (12, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    assert verdicts._traits(tmp_path / "a.png") == "12x8 RGB PNG"
    assert verdicts._traits(tmp_path / "b.png") == ""


def test_answers_as_a_linear_head_is_fitted_to_them() -> None:
    wanted, rows = sizes._wanted([np.asarray(at) for at in (1, -1, 0)], "class", 2)
    assert rows.tolist() == [0, 2] and wanted[0].tolist() == [-0.5, 0.5]
    # A label that training never saw makes a row longer.
    labels = [np.array([1, 0], np.float32), np.array([0, 1, -1], np.float32), np.array([-100, 0], np.float32)]
    wanted, rows = sizes._wanted(labels, "multi", 2)
    assert rows.tolist() == [0, 1] and wanted[1].tolist() == [-0.5, 0.5]
    wanted, rows = sizes._wanted([np.asarray(1.5, np.float32), np.asarray(np.nan)], "number", 1)
    assert rows.tolist() == [0] and wanted[0].tolist() == [1.5]


def test_looking_takes_a_small_share_and_never_long() -> None:
    assert verdicts.looking_seconds(100) == pytest.approx(4)
    assert verdicts.looking_seconds(1e6) == sizes.SECONDS + verdicts.FIT_SECONDS
