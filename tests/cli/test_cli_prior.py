"""``luthier prior fit``: which stores it reads, what it writes, and what it says where there is nothing."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from luthier.cli.main import app
from luthier.recipe import Recipe
from luthier.search.prior import SHIPPED, Prior
from luthier.study.store import Store
from luthier.trial import Order, Report

runner = CliRunner()


def make_study(path, trials: int, data: str = "abc") -> None:
    with Store(path) as store:
        run = store.create_run(
            name="r",
            settings={},
            seed=0,
            budget=60.0,
            task="t",
            data_fingerprint=data,
            folder="f",
            versions={},
        )
        for number in range(trials):
            recipe = Recipe(model="mine", epochs=2, learning_rate=1e-4 * (number + 1))
            store.start_trial(run, Order(number, recipe, 2))
            for epoch in (1, 2):
                store.report(run, Report(number, epoch, "running", 0.1 * epoch, {}, 1.0), spent=1.0)
            store.finish_trial(run, Report(number, 2, "completed", 0.2), spent=2.0)


@pytest.fixture
def own(tmp_path, monkeypatch):
    path = tmp_path / "own" / "prior.npz"
    monkeypatch.setenv("LUTHIER_PRIOR", str(path))
    return path


def test_it_adds_studies_to_what_ships(tmp_path, own) -> None:
    make_study(tmp_path / "runs" / "one" / "study.sqlite", 9)
    make_study(tmp_path / "runs" / "two" / "study.sqlite", 10, "def")
    make_study(tmp_path / "runs" / "small" / "study.sqlite", 3, "ghi")
    done = runner.invoke(app, ["prior", "fit", str(tmp_path / "runs"), "--json"])
    assert done.exit_code == 0, done.output
    shipped = Prior.load(SHIPPED)
    assert json.loads(done.stdout) == {
        "file": str(own), "trials": len(shipped.study) + 19, "learnt": {"t:abc": 9, "t:def": 10}
    }  # fmt: skip
    written = Prior.load(own)
    assert "mine" in written.models and set(shipped.studies) < set(written.studies)
    assert set(shipped.provenance) < set(written.provenance)


def test_alone_it_holds_nothing_else_and_goes_where_it_is_told(tmp_path, own) -> None:
    make_study(tmp_path / "study.sqlite", 8)
    target = tmp_path / "mine.npz"
    done = runner.invoke(
        app, ["prior", "fit", str(tmp_path / "study.sqlite"), "--alone", "--out", str(target)]
    )
    assert done.exit_code == 0 and "8 trials of 1 studies" in done.stdout
    assert Prior.load(target).studies == ("t:abc",) and not own.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' holds no study"),
        (["--quicktune", "nowhere"], "is missing"),
        (["few"], "a study needs 8 trials, and the largest has 5"),
    ],
)
def test_where_there_is_nothing_to_learn_it_says_so(tmp_path, own, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    make_study(tmp_path / "few" / "study.sqlite", 5)
    done = runner.invoke(app, ["prior", "fit", *arguments])
    assert done.exit_code == 2 and message in done.stderr and not own.exists()
