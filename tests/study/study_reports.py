"""Orders and reports as a store is told of them."""

from __future__ import annotations

from luthier.recipe import Recipe
from luthier.trial import Order, Report

EPOCHS = 3


def order(trial: int, until: int = EPOCHS) -> Order:
    return Order(
        trial, Recipe(model="m", epochs=8, learning_rate=1e-4 * (trial + 1)), until, seed=trial + 100
    )


def epoch(trial: int, at: int, score: float | None = None, **more) -> Report:
    score = at / 10 if score is None else score
    return Report(trial, at, "running", score, {"accuracy": score, "loss": 1 / at}, seconds=0.5, **more)


def end(trial: int, at: int = EPOCHS, status: str = "completed", **more) -> Report:
    return Report(trial, at, status, more.pop("score", at / 10), **more)
