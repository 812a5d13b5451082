"""Heads that start as probes: where they start, how often that is found out, and who is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from luthier.engine import warm
from luthier.engine.engine import Engine
from luthier.recipe import Recipe
from luthier.trial import Order, Report

Make = Callable[..., Engine]


def train(engine: Engine, *recipes: Recipe) -> list[Report]:
    orders = [Order(trial, each, each.epochs, seed=trial) for trial, each in enumerate(recipes)]
    return list(engine.run(orders))


def head(engine: Engine, trial: int) -> dict[str, torch.Tensor]:
    return {name: value for name, value in engine.checkpoints.load(trial).items() if name.startswith("head.")}


@pytest.fixture
def started(recipe: Recipe) -> Recipe:
    still = {"learning_rate": 1e-12, "warmup": 0.0, "weight_decay": 0.0, "epochs": 1}
    return recipe.model_copy(update={"head_init": "probe", "head": "linear", "pooling": "mean", **still})


@pytest.mark.parametrize("form", ["linear", "native", "mlp"])
@pytest.mark.parametrize("adaptation", ["full", "last_k", "lora", "bias"])
def test_a_trial_starts_where_the_best_probe_ends(
    make_engine: Make, started: Recipe, form: str, adaptation: str
) -> None:
    engine = make_engine()
    recipe = started.model_copy(update={"adaptation": adaptation, "head": form, "last_k": 1})
    cold = recipe.model_copy(update={"head_init": "random"})
    warmed, random = (r for r in train(engine, recipe, cold) if r.status == "completed")
    (found,) = engine._probed.values()
    for name, value in head(engine, 0).items():
        torch.testing.assert_close(value, found[name], atol=1e-6, rtol=0)
    probes = [warm.probe_recipe(recipe, rate) for rate in warm.RATES]
    best = max(report.score for report in train(make_engine(), *probes) if report.status == "completed")
    assert warmed.score >= best - 0.1 and warmed.metrics["loss"] < random.metrics["loss"]


def test_the_probe_is_trained_once_for_all_that_start_from_it(
    make_engine: Make, started: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    trained = warm.trained
    monkeypatch.setattr(warm, "trained", lambda *args: calls.append(1) or trained(*args))
    engine = make_engine()
    train(engine, started, started.model_copy(update={"adaptation": "lora"}))
    train(engine, started.model_copy(update={"batch_size": 4}))
    assert len(calls) == 1
    train(engine, started.model_copy(update={"head": "native"}))
    assert len(calls) == 2


def test_probes_and_networks_from_random_weights_start_as_ever(make_engine: Make, started: Recipe) -> None:
    engine = make_engine()
    scratch = started.model_copy(update={"init": "scratch", "adaptation": "full"})
    probe = started.model_copy(update={"adaptation": "probe"})
    train(engine, scratch, probe)
    assert not engine._probed
    plain = make_engine()
    train(plain, scratch.model_copy(update={"head_init": "random"}))
    for name, value in head(engine, 0).items():
        torch.testing.assert_close(value, head(plain, 0)[name])


def test_trials_that_are_halted_before_their_probe_is_trained_never_began(
    make_engine: Make, started: Recipe
) -> None:
    (report,) = make_engine().run([Order(0, started, 1)], halt=lambda: "enough")
    assert (report.status, report.reason, report.parameters) == ("stopped", "enough", 0)
