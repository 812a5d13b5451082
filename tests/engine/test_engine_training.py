from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.engine.cache import FeatureCache
from luthier.engine.engine import Engine
from luthier.engine.kept import KeptOutputs
from luthier.engine.sizing import Sizing
from luthier.engine.train import Training
from luthier.errors import RunError
from luthier.recipe import Recipe
from luthier.trial import Order, Report

Make = Callable[..., Engine]


def run(
    engine: Engine, recipe: Recipe, trial: int = 0, seed: int = 5, until: int | None = None
) -> list[Report]:
    return list(engine.run([Order(trial, recipe, until or recipe.epochs, seed)]))


def curve(reports: list[Report]) -> list[dict[str, float]]:
    return [report.metrics for report in reports if report.status == "running"]


def assert_same(
    first: list[dict[str, float]], second: list[dict[str, float]], tolerance: float = 0.0
) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("adaptation", ["probe", "last_k", "bias", "lora", "full"])
def test_a_trial_is_a_function_of_recipe_and_seed(make_engine: Make, recipe: Recipe, adaptation: str) -> None:
    recipe = recipe.model_copy(update={"adaptation": adaptation, "last_k": 1, "lora_rank": 2})
    first = run(make_engine(), recipe)
    busy = make_engine()
    run(busy, recipe.model_copy(update={"adaptation": "full", "epochs": 1}), trial=7, seed=9)
    assert_same(curve(first), curve(run(busy, recipe)))
    assert curve(run(make_engine(), recipe, seed=6)) != curve(first)


def test_it_learns(make_engine: Make, recipe: Recipe) -> None:
    closing = run(make_engine(), recipe.model_copy(update={"epochs": 8}))[-1]
    assert closing.status == "completed"
    assert closing.score > 0.9
    assert closing.epoch == 8
    assert 0 < closing.trainable <= closing.parameters


def test_paused_and_continued_equals_straight_through(make_engine: Make, recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"epochs": 4})
    straight = curve(run(make_engine(), recipe))
    engine = make_engine()
    first = run(engine, recipe, until=1)
    run(engine, recipe, trial=3, seed=8, until=2)
    second = run(engine, recipe, until=4)
    assert [report.epoch for report in second if report.status == "running"] == [2, 3, 4]
    assert_same(curve(first) + curve(second), straight)


@pytest.mark.parametrize(("adaptation", "depth"), [("probe", 0), ("last_k", 1)])
def test_cached_equals_recomputed(
    make_engine: Make, recipe: Recipe, tmp_path: Path, adaptation: str, depth: int
) -> None:
    """From memory, from the disk, computed anew: the same numbers, bit by bit."""
    recipe = recipe.model_copy(update={"adaptation": adaptation, "last_k": 1})
    folder = tmp_path / "features"
    first = make_engine(store=FeatureCache(folder), dtype="float32")
    computed = curve(run(first, recipe))
    assert first.sharing.known(first.sources["tiny"], recipe, "train", depth)
    assert curve(run(first, recipe, trial=1)) == computed
    assert curve(run(make_engine(store=FeatureCache(folder), dtype="float32"), recipe)) == computed
    from_disk = make_engine(store=FeatureCache(folder, ram_bytes=0), dtype="float32")
    assert curve(run(from_disk, recipe)) == computed
    assert curve(run(make_engine(dtype="float32"), recipe)) == computed


def test_the_cache_only_saves_time(make_engine: Make, recipe: Recipe) -> None:
    """Where nothing can be kept, every epoch runs the whole body: in other batches, so only nearly the
    same.
    """
    recipe = recipe.model_copy(update={"adaptation": "last_k", "last_k": 1, "learning_rate": 1e-4})
    nothing = FeatureCache(None, ram_bytes=0)
    whole = run(make_engine(store=nothing, dtype="float32"), recipe)
    assert_same(curve(whole), curve(run(make_engine(dtype="float32"), recipe)), tolerance=1e-5)


def test_the_type_of_the_cache_decides_nothing(make_engine: Make, recipe: Recipe) -> None:
    rates = [1e-4, 1e-3, 1e-2]
    chosen = {}
    for dtype in ("float16", "float32"):
        engine = make_engine(dtype=dtype)
        scores = []
        for trial, rate in enumerate(rates):
            tried = recipe.model_copy(update={"adaptation": "last_k", "last_k": 1, "learning_rate": rate})
            closing = run(engine, tried, trial=trial)[-1]
            scores.append((closing.score, -closing.metrics["loss"]))
        chosen[dtype] = max(range(len(rates)), key=scores.__getitem__)
    assert chosen["float16"] == chosen["float32"]


def test_microbatches_change_no_number(make_engine: Make, recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"dropout": 0.0, "head_dropout": 0.0, "epochs": 2})
    whole = curve(run(make_engine(), recipe))
    parts = curve(run(make_engine(), recipe.model_copy(update={"accumulate": 3})))
    assert_same(whole, parts, tolerance=1e-4)


def test_divergence_is_a_result(make_engine: Make, recipe: Recipe) -> None:
    engine = make_engine()
    wild = recipe.model_copy(update={"optimizer": "sgd", "learning_rate": 1e30, "clip_norm": None})
    closing = run(engine, wild)[-1]
    assert (closing.status, math.isnan(closing.score)) == ("failed", True)
    assert "diverged" in closing.reason
    assert not engine.checkpoints.path(0).exists()
    assert run(engine, recipe, trial=1)[-1].status == "completed"


@pytest.mark.parametrize("adaptation", ["probe", "full"])
def test_a_validation_split_of_unknown_answers_is_no_divergence(
    make_engine: Make, recipe: Recipe, adaptation: str
) -> None:
    """Heads alone are trained by other code than networks."""
    engine = make_engine()
    target = engine.task.target
    engine.inputs.frames["validation"] = engine.inputs.frames["validation"].assign(**{target: "unheard-of"})
    closing = run(engine, recipe.model_copy(update={"adaptation": adaptation}))[-1]
    assert closing.status == "failed"
    assert closing.reason.startswith("no validation example has an answer that training knows")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("enough"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_errors_are_results(
    make_engine: Make, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Training, "run_epoch", fail)
    closing = run(make_engine(), recipe)[-1]
    assert closing.status == "failed"
    assert said in closing.reason


def test_a_full_disk_is_no_trials_fault(
    make_engine: Make, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("luthier.engine.checkpoint.save_file", full)
    with pytest.raises(RunError, match="No space left"):
        run(make_engine(), recipe)


def test_halted_before_the_first_epoch_is_of_use(make_engine: Make, recipe: Recipe) -> None:
    engine = make_engine()
    asked = 0

    def halt() -> str | None:
        nonlocal asked
        asked += 1
        return "enough" if asked > 3 else None

    reports = list(engine.run([Order(0, recipe, 3, 5)], halt=halt))
    assert [report.status for report in reports] == ["running", "stopped"]
    assert reports[-1].reason == "enough"
    assert math.isfinite(reports[-1].score)
    engine.network(recipe, 5, trial=0)


def test_halted_later_keeps_the_best_epoch(make_engine: Make, recipe: Recipe) -> None:
    engine, epochs = make_engine(), []

    def halt() -> str | None:
        return "enough" if len(epochs) == 2 else None

    for report in engine.run([Order(0, recipe.model_copy(update={"epochs": 5}), 5, 5)], halt=halt):
        if report.status == "running":
            epochs.append(report)
    assert report.status == "stopped"
    assert report.epoch == 2
    assert report.score == max(epoch.score for epoch in epochs)


def test_the_best_epoch_is_restored(make_engine: Make, recipe: Recipe) -> None:
    engine = make_engine()
    *epochs, closing = run(engine, recipe.model_copy(update={"epochs": 6, "learning_rate": 1e-2}))
    best = max(epochs, key=lambda r: (r.score, -r.metrics["loss"]))
    assert (closing.best_epoch, closing.score) == (best.epoch, best.score)
    split = engine.inputs.split("validation", engine.sources["tiny"], recipe)
    outputs = engine.outputs(engine.network(recipe, 5, trial=0), recipe, split)
    again = engine.task.metrics(outputs, split.targets)
    assert again == pytest.approx({k: v for k, v in best.metrics.items() if k != "train_loss"}, rel=1e-5)


def test_patience_ends_a_trial(make_engine: Make, recipe: Recipe) -> None:
    still = recipe.model_copy(update={"learning_rate": 1e-12, "epochs": 20, "patience": 2})
    closing = run(make_engine(), still)[-1]
    assert closing.status == "completed"
    assert closing.epoch < 20
    assert "2 epochs" in closing.reason


def test_costs_are_learnt(make_engine: Make, recipe: Recipe) -> None:
    engine = make_engine()
    assert engine.predict_cost(recipe) is None
    run(engine, recipe)
    full = engine.predict_cost(recipe)
    probe = engine.predict_cost(recipe.model_copy(update={"adaptation": "probe"}))
    assert full is not None and probe is not None
    assert full.once == 0 < full.each
    # One pass over the frozen part, then next to nothing.
    assert probe.each < full.each
    assert 0 < probe.once < full.each
    run(engine, recipe.model_copy(update={"adaptation": "probe"}), trial=1)
    again = engine.predict_cost(recipe.model_copy(update={"adaptation": "probe"}))
    assert again is not None and again.once == 0


def test_gradient_checkpointing_changes_no_number(make_engine: Make, recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"dropout": 0.0, "head_dropout": 0.0, "epochs": 1})
    plain = curve(run(make_engine(), recipe))
    saved = curve(run(make_engine(), recipe.model_copy(update={"gradient_checkpointing": True})))
    assert_same(plain, saved, tolerance=1e-5)


@pytest.mark.parametrize("adaptation", ["probe", "last_k", "full"])
def test_what_auto_stands_for_is_what_is_told(make_engine: Make, recipe: Recipe, adaptation: str) -> None:
    """An engine trains as another did, whatever it would measure itself."""
    recipe = recipe.model_copy(update={"adaptation": adaptation, "last_k": 1, "learning_rate": 1e-3})
    mixed = curve(run(make_engine(auto="bf16"), recipe))
    assert mixed != curve(run(make_engine(auto="fp32"), recipe))
    assert mixed == curve(run(make_engine(auto="bf16"), recipe))
    if adaptation != "probe":  # A head on vectors at hand is trained in float32, however they were computed.
        named = recipe.model_copy(update={"precision": "bf16"})
        assert mixed == curve(run(make_engine(auto="fp32"), named))


def test_outputs_computed_in_another_precision_are_not_taken(make_engine: Make, recipe: Recipe) -> None:
    engine = make_engine(auto="bf16")
    probe = recipe.model_copy(update={"adaptation": "probe"})
    run(engine, probe)
    source = engine.sources["tiny"]
    assert engine.sharing.known(source, probe, "train", 0)
    assert not engine.sharing.known(source, probe.model_copy(update={"precision": "fp32"}), "train", 0)


def test_a_trial_that_another_process_left_goes_on_as_if_nothing_had_happened(
    make_engine: Make, recipe: Recipe
) -> None:
    recipe = recipe.model_copy(update={"epochs": 4})
    straight = curve(run(make_engine(), recipe))
    first = curve(run(make_engine(), recipe, until=2))
    engine = make_engine()
    engine.recall({0: 2})
    second = run(engine, recipe, until=4)
    assert [report.epoch for report in second if report.status == "running"] == [3, 4]
    assert_same(first + curve(second), straight)


def test_costs_of_trials_together_count_what_they_share_once(make_engine: Make, recipe: Recipe) -> None:
    engine = make_engine()
    probes = [
        recipe.model_copy(update={"adaptation": "probe", "learning_rate": rate}) for rate in (1e-3, 1e-2)
    ]
    last = recipe.model_copy(update={"adaptation": "last_k", "last_k": 1})
    assert engine.predict_costs([last, *probes]) == [None] * 3
    run(engine, recipe)
    costs = engine.predict_costs([last, *probes, recipe])
    assert [cost is not None and cost.once > 0 for cost in costs] == [True, True, False, False]
    assert costs[0] == engine.predict_cost(last)


@pytest.mark.parametrize(("faster", "sizes"), [("alone", [1, 1, 1]), ("together", [3])])
def test_trials_are_stacked_where_that_is_faster(
    make_engine: Make, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, faster: str, sizes: list[int]
) -> None:
    seen: list[int] = []
    epoch = Training.run_epoch

    def run_epoch(training: Training, *options: Any) -> Any:
        seen.append(training.size)
        return epoch(training, *options)

    def pace(training: Training, steps: int) -> float:
        return 1.0 if training.size == 1 else training.size * (0.5 if faster == "together" else 2.0)

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    monkeypatch.setattr(Training, "pace", pace)
    monkeypatch.setattr("luthier.engine.sizing.TRYING", 1.0)
    once = recipe.model_copy(update={"epochs": 1})
    reports = list(make_engine().run([Order(trial, once, 1, trial) for trial in range(3)]))
    assert seen == sizes
    assert {report.status for report in reports} == {"running", "completed"}


def test_timing_steps_changes_nothing(
    make_engine: Make, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    moderate = recipe.model_copy(update={"learning_rate": 1e-4})
    orders = [Order(trial, moderate, 2, trial) for trial in range(2)]
    timed = list(make_engine().run(orders))
    monkeypatch.setattr(Sizing, "_faster", lambda self, setting, orders: len(orders))
    untimed = list(make_engine().run(orders))
    for trial in range(2):
        both = [[report for report in each if report.trial == trial] for each in (timed, untimed)]
        assert_same(curve(both[0]), curve(both[1]), tolerance=1e-4)


def test_a_trial_starts_from_anothers_weights(make_engine: Make, recipe: Recipe) -> None:
    """As they were when the orders were given, also where the other goes on in the same round."""
    engine = make_engine()
    recipe = recipe.model_copy(update={"epochs": 4, "learning_rate": 1e-3})
    run(engine, recipe, until=2)
    still = recipe.model_copy(update={"learning_rate": 1e-12, "dropout": 0.0, "head_dropout": 0.0})
    at_two = engine.checkpoints.peek(0)
    assert at_two is not None and engine.holds(0, 2)
    orders = [Order(0, recipe, 3, 5), Order(1, still, 1, 6, parent=0)]
    reports = list(engine.run(orders))
    assert not [report.reason for report in reports if report.status == "failed"]
    child = engine.checkpoints.peek(1)
    assert child is not None and child.epoch == 1
    for name, value in at_two.weights.items():
        assert child.weights[name] == pytest.approx(value, abs=1e-6)
    assert engine.holds(0, 3)


def test_a_trial_whose_parent_is_gone_fails_alone(make_engine: Make, recipe: Recipe) -> None:
    orders = [Order(0, recipe, 1, 5, parent=7), Order(1, recipe, 1, 6)]
    ends = {report.trial: report for report in make_engine().run(orders) if report.status != "running"}
    assert ends[0].status == "failed" and "trial 7" in ends[0].reason
    assert ends[1].status == "completed"


def test_a_trial_that_is_trained_again_for_others_keeps_its_best_epoch(
    make_engine: Make, recipe: Recipe, tmp_path: Path
) -> None:
    engine = make_engine(kept=KeptOutputs(tmp_path / "outputs"))
    closing = list(engine.run([Order(0, recipe, 3)]))[-1]
    assert closing.best_epoch > 1
    weights, outputs = engine.checkpoints.load(0), engine.kept.load(0)
    assert not engine.holds(0, 1)
    engine.retrace(Order(0, recipe, 1))
    assert engine.holds(0, 1)
    for name, value in engine.checkpoints.load(0).items():
        assert torch.equal(value, weights[name])
    for mine, before in zip(engine.kept.load(0), outputs, strict=True):
        assert (mine == before).all()
