"""Validation outputs on disk: whole or not there, of the best epoch, and no more than there is room for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.engine import kept
from luthier.engine.engine import Engine
from luthier.engine.kept import KeptOutputs, pack, unpack
from luthier.recipe import Recipe
from luthier.trial import Order, Report

RNG = np.random.default_rng(0)
EXAMPLES = [RNG.normal(size=3).astype(np.float32) for _ in range(5)]
WORDS = [RNG.normal(size=(count, 4)).astype(np.float32) for count in (3, 0, 5, 1)]


@pytest.mark.parametrize(
    "outputs", [EXAMPLES, WORDS, [WORDS[1]], []], ids=["rows", "words", "no word", "none"]
)
def test_outputs_come_back(tmp_path: Path, outputs: list[np.ndarray]) -> None:
    kept_outputs = KeptOutputs(tmp_path / "new")
    kept_outputs.save(7, pack(outputs))
    back = kept_outputs.load(7)
    assert back is not None and len(back) == len(outputs)
    for one, other in zip(back, outputs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["trial-0007.safetensors"]
    assert all(value.dtype != np.float64 for value in pack([np.zeros(2)]).values())
    np.testing.assert_equal(unpack(pack(outputs)), outputs)


def test_what_is_not_there_or_damaged_is_none(tmp_path: Path) -> None:
    outputs = KeptOutputs(tmp_path)
    outputs.path(1).write_bytes(b"not tensors")
    assert outputs.load(0) is None and outputs.load(1) is None


def test_nothing_is_kept_of_fine_tunings_outside_of_the_study(tmp_path: Path) -> None:
    KeptOutputs(tmp_path / "none").save(-1, pack(EXAMPLES))
    assert not (tmp_path / "none").exists()


def test_a_failed_write_leaves_nothing_of_another_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = KeptOutputs(tmp_path)
    outputs.save(0, pack(EXAMPLES))

    def half(tensors: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "save_file", half)
    outputs.save(0, pack(EXAMPLES))
    assert list(tmp_path.iterdir()) == []


def test_the_worst_go_first_and_only_as_many_as_must(tmp_path: Path) -> None:
    outputs = KeptOutputs(tmp_path)
    for trial in range(5):
        outputs.save(trial, pack(EXAMPLES))
    size = outputs.path(0).stat().st_size
    # An earlier process's files count, too.
    again = KeptOutputs(tmp_path, disk_bytes=3 * size)
    again.trim([4, 1, 0, 2])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["trial-0000", "trial-0001", "trial-0004"]
    again.trim([4, 1, 0])
    assert len(list(tmp_path.iterdir())) == 3
    again.save(3, pack(EXAMPLES))
    again.trim([4, 3, 1, 0])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["trial-0001", "trial-0003", "trial-0004"]


RECIPES = {
    "heads": {"adaptation": "probe", "head": "linear", "learning_rate": 3e-2},
    "network": {"adaptation": "full"},
    "last": {"adaptation": "last_k", "last_k": 1},
}


def judged(engine: Engine, trial: int) -> dict[str, float]:
    """Metrics of what was kept."""
    outputs = engine.kept.load(trial) if engine.kept else None
    assert outputs is not None
    return engine.task.metrics(outputs, engine.inputs.targets("validation"))


def closings(engine: Engine, orders: list[Order], **also: Any) -> dict[int, Report]:
    return {r.trial: r for r in engine.run(orders, **also) if r.status != "running"}


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_kept_is_what_was_judged_at_the_best_epoch(
    make_engine: Callable[..., Engine], recipe: Recipe, tmp_path: Path, name: str
) -> None:
    engine = make_engine(kept=KeptOutputs(tmp_path / "outputs"))
    rates = [3e-3, 3e-2, 1e-1] if name == "heads" else [1e-3, 3e-3, 1e-2]
    orders = [
        Order(trial, recipe.model_copy(update=RECIPES[name] | {"learning_rate": rate}), 3, seed=trial)
        for trial, rate in enumerate(rates)
    ]
    for trial, closing in closings(engine, orders).items():
        found = judged(engine, trial)
        assert {key: closing.metrics[key] for key in found} == pytest.approx(found, rel=1e-6)
    assert not list((tmp_path / "outputs").glob("*.partial"))


def test_a_trial_that_goes_on_keeps_those_of_its_best_epoch(
    make_engine: Callable[..., Engine], recipe: Recipe, tmp_path: Path
) -> None:
    engine = make_engine(kept=KeptOutputs(tmp_path / "outputs"))
    for until in (1, 2, 3):
        closing = closings(engine, [Order(0, recipe, until, seed=1)])[0]
        found = judged(engine, 0)
        assert found["loss"] == pytest.approx(closing.metrics["loss"], rel=1e-6)


def test_a_trial_that_is_halted_before_its_first_epoch_ended_keeps_what_it_said(
    make_engine: Callable[..., Engine], recipe: Recipe, tmp_path: Path
) -> None:
    engine = make_engine(kept=KeptOutputs(tmp_path / "outputs"))
    asked = iter(range(100))
    closing = closings(engine, [Order(0, recipe, 3)], halt=lambda: "stop" if next(asked) > 2 else None)[0]
    assert closing.status == "stopped"
    assert judged(engine, 0)["loss"] == pytest.approx(closing.metrics["loss"], rel=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_outputs_too_large_for_memory_are_not_kept(
    make_engine: Callable[..., Engine],
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    outputs = KeptOutputs(tmp_path / "outputs")
    engine = make_engine(kept=outputs)
    order = Order(0, recipe.model_copy(update=RECIPES[name]), 1)
    outputs.save(0, pack(EXAMPLES))
    monkeypatch.setattr(kept, "MEMORY_BYTES", 10)
    assert closings(engine, [order])[0].status == "completed"
    assert outputs.load(0) is None


def test_an_engine_without_a_place_for_them_keeps_none(
    make_engine: Callable[..., Engine], recipe: Recipe
) -> None:
    engine = make_engine()
    assert closings(engine, [Order(0, recipe, 1)])[0].status == "completed"
