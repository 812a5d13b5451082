"""The transfer prior: what is kept of studies, its file, and the one that ships."""

from __future__ import annotations

import math

import numpy as np
import pytest
from search_studies import made_study

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.search import features, prior
from luthier.search.past import PastStudy, scale
from luthier.search.prior import FEWEST, GRID, SHIPPED, Prior


def test_curves_are_kept_at_the_epochs_of_the_grid() -> None:
    curve = [0.1, 0.3, 0.2, 0.25, 0.5, 0.4, 0.45]
    study = PastStudy(
        "s", [Recipe(model="m", epochs=7, last_k=k + 1) for k in range(8)], [curve] * 8, [[3.0] * 7] * 8
    )
    kept = Prior.from_studies([study])
    # Epochs 5 and 6 count together at 6, and 7, the last, at 8.
    assert kept.scores[0, : GRID.index(12)].tolist() == pytest.approx([0.1, 0.3, 0.2, 0.25, 0.5, 0.45])
    assert np.isnan(kept.scores[0, GRID.index(12) :]).all()
    assert kept.running_best[0].tolist() == pytest.approx([0.1, 0.3, 0.3, 0.3, *[0.5] * 7])
    assert kept.seconds[0] == 3.0


def test_small_studies_and_trials_without_scores_are_left_out() -> None:
    small = made_study("small", FEWEST - 1)
    large = made_study("large", FEWEST + 2)
    large.scores[0][:] = [math.nan]
    large.scores[1].clear()
    found = Prior.from_studies([small, large])
    assert found.studies == ("large",) and len(found.study) == FEWEST


def test_a_file_reads_back(tmp_path) -> None:
    study = made_study("s")
    own = PastStudy("f", study.recipes, study.scores, study.seconds, np.arange(20.0)[:, None], ["own"])
    written = Prior.from_studies([study, own], ["From nowhere, CC0."])
    written.save(tmp_path / "deep" / "prior.npz")
    read = Prior.load(tmp_path / "deep" / "prior.npz")
    assert read.digest == written.digest and read.provenance == ("From nowhere, CC0.",)
    assert read.names == (*features.NAMES, "own") and read.studies == ("s", "f")
    assert (read.rows[:20, -1] == np.float32(features.MISSING)).all()
    assert read.rows[20:, -1].tolist() == list(range(20))


def test_joining_replaces_a_study_of_the_same_name() -> None:
    old = Prior.from_studies([made_study("a"), made_study("b", 12)], ["x"])
    new = Prior.from_studies([made_study("b", 15), made_study("c", 9)], ["y"])
    both = old.joined(new)
    counts = {name: int((both.study == at).sum()) for at, name in enumerate(both.studies)}
    assert counts == {"a": 20, "b": 15, "c": 9} and both.provenance == ("x", "y")
    assert both.names == old.names


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_what_is_no_prior_is_an_error_with_advice(tmp_path, content) -> None:
    path = tmp_path / "prior.npz"
    if content is None:
        np.savez(path, rows=np.zeros((1, 2)))
    else:
        path.write_bytes(content)
    with pytest.raises(SettingError, match="luthier prior fit"):
        Prior.load(path)


def test_nothing_unpickles(tmp_path) -> None:
    path = tmp_path / "prior.npz"
    Prior.from_studies([made_study("s")]).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["names"] = np.array([object()], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(SettingError, match="cannot be read"):
        Prior.load(path)


def test_the_one_that_ships_is_small_and_says_where_it_is_from(monkeypatch) -> None:
    assert SHIPPED.stat().st_size < 400_000
    shipped = Prior.load(SHIPPED)
    assert len(shipped.studies) == 18 and len(shipped.study) > 3000
    assert "BSD 3-Clause" in " ".join(shipped.provenance)
    monkeypatch.setenv("LUTHIER_PRIOR", "/nowhere/prior.npz")
    assert prior.current().digest == shipped.digest


def test_the_users_own_comes_first(made_prior) -> None:
    assert prior.current().provenance == ("Made up.",)


def test_scores_that_are_no_shares_are_brought_to_their_scale() -> None:
    assert scale([0.2, math.nan, 0.9]) == scale([1.0000000036, 0.5]) == (0.0, 1.0)
    assert scale([]) == (0.0, 1.0)
    offset, factor = scale([-3.0, -1.0])
    assert [(score - offset) * factor for score in (-3.0, -1.0)] == pytest.approx([0.05, 0.85])
    offset, factor = scale([7.0])
    assert (7.0 - offset) * factor == pytest.approx(0.05)


def test_features_put_recipes_on_one_scale() -> None:
    rows = dict(
        zip(
            features.NAMES,
            features.matrix(
                [
                    Recipe(model="m#2", adaptation="last_k", last_k=3, learning_rate=1e-3, batch_size=16),
                    Recipe(model="m", adaptation="probe", optimizer="sgd", learning_rate=1e-2, dropout=0.1),
                ],
                depth=12,
            ).T,
            strict=True,
        )
    )
    assert rows["frozen"].tolist() == [0.75, 1.0]
    assert rows["rate"].tolist() == [-3.0, -2.0]
    assert rows["batch"].tolist() == [4.0, 5.0]
    assert rows["dropout"].tolist() == [features.MISSING, 0.1]
    assert rows["rate_for_batch"][0] == pytest.approx(-3 - 0.5 * math.log10(16))
    assert features.model_of(Recipe(model="a/b#2")) == "a/b"
