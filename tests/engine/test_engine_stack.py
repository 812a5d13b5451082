"""Whoever reads the numbers cannot tell a trial that trained in a stack from one that trained alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from luthier.engine.engine import Engine
from luthier.recipe import Recipe
from luthier.trial import Order, Report

Make = Callable[..., Engine]
# Every example trains: what fails is shown as it was drawn, not shrunk for minutes.
SLOW = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
RATES = st.sampled_from([0.0, 0.1, 0.3])


@st.composite
def recipes(draw: st.DrawFn, adaptation: str, moderate: bool = False) -> Recipe:
    """Any settings that a stack must keep apart; batch sizes and ranks mixed."""
    settings: dict[str, Any] = {
        "model": "tiny",
        "adaptation": adaptation,
        "last_k": 1,
        "lora_rank": draw(st.sampled_from([1, 2, 4])),
        "lora_alpha": draw(st.sampled_from([4.0, 16.0])),
        "lora_dropout": draw(RATES),
        "dropout": draw(st.sampled_from([None, 0.0, 0.2])),
        "head_dropout": draw(RATES),
        "weight_decay": draw(st.sampled_from([0.0, 0.1])),
        "l1": draw(st.sampled_from([0.0, 1e-4])),
        "l2_start": draw(st.sampled_from([0.0, 1e-2])),
        "label_smoothing": draw(RATES),
        "class_weights": draw(st.sampled_from(["none", "balanced"])),
        "optimizer": draw(st.sampled_from(["adamw", "adam", "sgd", "rmsprop", "lion", "adafactor"])),
        "learning_rate": draw(st.sampled_from([1e-4, 1e-3] if moderate else [1e-3, 3e-3])),
        "head_lr_ratio": draw(st.sampled_from([0.5, 2.0])),
        "layer_decay": draw(st.sampled_from([0.7, 1.0])),
        "momentum": draw(st.sampled_from([0.0, 0.9])),
        "nesterov": draw(st.booleans()),
        "schedule": draw(st.sampled_from(["constant", "linear", "cosine"])),
        "warmup": draw(st.sampled_from([0.0, 0.3])),
        "batch_size": draw(st.sampled_from([8, 16])),
        "epochs": draw(st.integers(1, 3)),
        "clip_norm": draw(st.sampled_from([None, 0.1, 1.0])),
    }
    if settings["optimizer"] == "lion":
        # Some gradients are zero but for rounding, such as those of attention's key biases. The sign of
        # such noise moves them by full steps, at random for anyone, which the penalty on distances would
        # then see.
        settings["l2_start"] = 0.0
    if adaptation != "probe":
        settings["head_init"] = draw(st.sampled_from(["random", "probe"]))
    if adaptation == "probe":
        settings |= {"head": draw(st.sampled_from(["linear", "native"])), "pooling": "mean"}
    return Recipe.parse(settings)


def curves(reports: list[Report]) -> dict[int, list[dict[str, float]]]:
    found: dict[int, list[dict[str, float]]] = {}
    for report in reports:
        if report.status == "running":
            found.setdefault(report.trial, []).append(report.metrics)
    return found


def orders(wanted: list[Recipe], until: int | None = None) -> list[Order]:
    return [Order(i, recipe, until or recipe.epochs, 100 + i) for i, recipe in enumerate(wanted)]


def together(engine: Engine, wanted: list[Recipe]) -> list[Report]:
    return list(engine.run(orders(wanted)))


def alone(engine: Engine, wanted: list[Recipe]) -> list[Report]:
    return [report for order in orders(wanted) for report in engine.run([order])]


def assert_same(one: list[Report], other: list[Report], tolerance: float) -> None:
    assert not [report.reason for report in one + other if report.status not in ("running", "completed")]
    first, second = curves(one), curves(other)
    assert first.keys() == second.keys() != set()
    for trial, expected in second.items():
        assert len(first[trial]) == len(expected)
        for a, b in zip(first[trial], expected, strict=True):
            assert a == pytest.approx(b, rel=tolerance, abs=tolerance)
    if tolerance < 1e-6:  # Otherwise two epochs may tie.
        ends = [{r.trial: r.best_epoch for r in part if r.status != "running"} for part in (one, other)]
        assert ends[0] == ends[1]


@pytest.mark.parametrize("adaptation", ["probe", "last_k", "bias", "lora", "full"])
@SLOW
@given(data=st.data())
def test_stacked_equals_alone_in_float64(make_engine: Make, adaptation: str, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(recipes(adaptation), min_size=2, max_size=5))
    exact = {"arithmetic": torch.float64, "dtype": "float32"}
    assert_same(together(make_engine(**exact), wanted), alone(make_engine(**exact), wanted), 1e-9)


@pytest.mark.parametrize("adaptation", ["probe", "last_k", "bias", "lora", "full"])
@settings(SLOW, max_examples=4)
@given(data=st.data())
def test_stacked_equals_alone_in_float32_at_moderate_rates(
    make_engine: Make, adaptation: str, data: st.DataObject
) -> None:
    wanted = data.draw(st.lists(recipes(adaptation, moderate=True), min_size=2, max_size=4))
    assert_same(together(make_engine(), wanted), alone(make_engine(), wanted), 1e-4)
