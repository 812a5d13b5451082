"""`Auto`: the contract, the ladder, freeze and thaw, and its end."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from search_studies import made_study

from luthier.recipe import Recipe
from luthier.search import registry
from luthier.search.auto import SETTLED, Auto
from luthier.search.base import Order, Report
from luthier.search.conformance import CONDITIONAL
from luthier.search.past import PastStudy
from luthier.search.prior import Prior
from luthier.space import Listed, Space

RATES = [1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1]
LIST = Listed([Recipe(model=model, learning_rate=rate, epochs=16) for model in "mn" for rate in RATES])


def final(recipe: Recipe, best: float = -3.0) -> float:
    return 0.85 * math.exp(-abs(math.log10(recipe.learning_rate) - best) / 1.5)


def slower(study: PastStudy) -> PastStudy:
    """The same, as if rates a thousand times lower had brought it about."""
    recipes = [r.model_copy(update={"learning_rate": r.learning_rate / 1e3}) for r in study.recipes]
    return PastStudy(study.name, recipes, study.scores, study.seconds)


def run(strategy: Auto, steps: int, score=None, seconds: float = 1.0) -> list[Order]:
    """Carries out orders one at a time; ``score(recipe, epoch)`` is what each epoch brings."""
    score = score or (lambda recipe, epoch: final(recipe) * (1 - 0.6**epoch))
    done: dict[int, int] = {}
    orders: list[Order] = []
    while len(orders) < steps and not strategy.finished:
        found = strategy.ask(1)
        if not found:
            break
        (order,) = found
        orders.append(order)
        for epoch in range(done.get(order.trial, 0) + 1, order.until + 1):
            strategy.tell(Report(order.trial, epoch, "running", score(order.recipe, epoch), {}, seconds))
        done[order.trial] = order.until
        strategy.tell(Report(order.trial, order.until, "completed", 0.0))
    return orders


def test_the_first_trials_come_from_the_prior() -> None:
    first = run(Auto(LIST), 1)[0].recipe
    assert 1e-4 <= first.learning_rate <= 1e-2
    elsewhere = [slower(made_study(f"s{seed}", seed=seed)) for seed in range(3)]
    first = run(Auto(LIST, prior=Prior.from_studies(elsewhere)), 1)[0].recipe
    assert first.learning_rate <= 1e-5


def test_it_finds_the_best_for_less_than_training_all() -> None:
    strategy = Auto(LIST)
    orders = run(strategy, 200)
    epochs = sum({order.trial: order.until for order in orders}.values())
    assert strategy.finished and epochs < 0.5 * 16 * len(LIST.recipes)
    deepest = max(orders, key=lambda order: order.until)
    assert deepest.recipe.learning_rate == 1e-3


def test_it_learns_from_this_study_where_the_past_misleads() -> None:
    orders = run(Auto(LIST), 120, lambda recipe, epoch: final(recipe, -5.0) * (1 - 0.6**epoch))
    assert max(orders, key=lambda order: order.until).recipe.learning_rate <= 1e-4


def test_trials_are_paused_and_continued() -> None:
    orders = run(Auto(LIST), 40)
    numbers = [order.trial for order in orders]
    assert any(a != b and a in numbers[at + 2 :] for at, (a, b) in enumerate(pairwise(numbers)))
    for number in set(numbers):
        untils = [order.until for order in orders if order.trial == number]
        # One epoch, then half of those behind it.
        assert untils == [1, 2, 3, 4, 6, 9, 13, 16][: len(untils)]


def test_it_ends_with_a_reason_and_the_patient_one_does_not() -> None:
    strategy = Auto(LIST)
    run(strategy, 500)
    assert f"{SETTLED:g}" in strategy.ended and strategy.notes()[-1] == f"The search ended: {strategy.ended}."
    assert strategy.ask(3) == []
    patient = registry.create("auto:patient", LIST)
    assert len(run(patient, 500)) == 8 * len(LIST.recipes)
    assert patient.ended == "every candidate was trained to its end"


def test_probes_of_every_model_come_first_and_whole() -> None:
    space = Space.from_dict(CONDITIONAL.to_dict())
    orders = run(Auto(space), 4)
    assert [(order.recipe.model, order.recipe.adaptation) for order in orders[:2]] == [
        ("m", "probe"),
        ("n", "probe"),
    ]
    # Then the default, whole, and from there on a slice at a time.
    assert orders[2].recipe == space.default()
    assert all(order.until == order.recipe.epochs for order in orders[:3])
    assert orders[3].until == 1
    without = Space.from_dict({"model": ["m", "n"], "adaptation": ["full", "lora"], "epochs": 4})
    orders = run(Auto(without), 2)
    assert [order.until for order in orders] == [4, 1]


def test_a_trial_that_ended_early_is_not_taken_up_again() -> None:
    strategy = Auto(LIST, option="patient")
    for status in ("failed", "stopped", "completed", "patience"):
        (order,) = strategy.ask(1)
        if status == "completed":
            # Without the epoch that was ordered.
            strategy.tell(Report(order.trial, 0, "completed", math.nan))
        elif status == "patience":
            # By its own, at the very epoch that was ordered, however good.
            strategy.tell(Report(order.trial, 1, "running", 0.99, {}, 1.0))
            strategy.tell(Report(order.trial, 1, "completed", 0.99, reason="no better for 1 epoch"))
        else:
            strategy.tell(Report(order.trial, 0, status, reason="as told"))
        later = run(strategy, 5)
        assert order.trial not in [each.trial for each in later]


def test_it_is_asked_while_orders_are_out() -> None:
    strategy = Auto(LIST)
    first = strategy.ask(3)
    second = strategy.ask(20)
    recipes = [order.recipe for order in first + second]
    assert len(recipes) == len(set(recipes)) == 16
    assert strategy.ask(1) == [] and not strategy.finished
    for order in first + second:
        strategy.tell(Report(order.trial, 1, "running", 0.5, {}, 1.0))
        strategy.tell(Report(order.trial, 1, "completed", 0.5))
    assert strategy.ask(1)


@pytest.mark.parametrize("score", [-12.0, 0.0, 1.0, 250.0, math.nan, -math.inf])
def test_any_scores_will_do(score) -> None:
    strategy = Auto(LIST, option="patient")
    orders = run(strategy, 30, lambda recipe, epoch: score)
    assert len(orders) == 30
    errors = Auto(LIST)
    orders = run(errors, 200, lambda recipe, epoch: -10 + 5 * final(recipe) * (1 - 0.6**epoch))
    assert max(orders, key=lambda order: order.until).recipe.learning_rate == 1e-3


def test_a_prior_that_changed_is_said() -> None:
    strategy = Auto(LIST)
    run(strategy, 5)
    state = json.loads(json.dumps(strategy.state()))
    other = Auto(LIST, prior=Prior.from_studies([made_study("other", seed=9)]))
    other.restore(state)
    assert any("prior changed" in note for note in other.notes())
    same = Auto(LIST)
    same.restore(state)
    assert not any("prior changed" in note for note in same.notes())
    assert run(same, 3) == run(strategy, 3)


def test_a_study_that_it_is_told_of_moves_the_first_trials() -> None:
    strategy = Auto(LIST, prior=Prior.from_studies([made_study("s", seed=1)]))
    strategy.recall([slower(made_study(f"told{seed}", seed=seed)) for seed in range(5)])
    assert len(strategy.prior.studies) == 6
    assert any("6 past studies" in note for note in strategy.notes())
    told = run(strategy, 1)[0].recipe.learning_rate
    untold = run(Auto(LIST, prior=Prior.from_studies([made_study("s", seed=1)])), 1)[0].recipe.learning_rate
    assert told < untold
    few = Auto(LIST, prior=Prior.from_studies([made_study("s", seed=1)]))
    few.recall([made_study("few", trials=3)])
    assert few.prior.studies == ("s",)


def test_features_of_a_list_are_used() -> None:
    # Equal to all a recipe says; only the list's own feature tells good from bad.
    recipes = [Recipe(model=f"m#{at}", epochs=4) for at in range(12)]
    quality = np.linspace(0, 1, 12)
    study = PastStudy(
        "s", recipes, [[0.3 + 0.5 * q] * 4 for q in quality], [[1.0] * 4] * 12, quality[:, None], ["own"]
    )
    space = Listed(recipes, quality[::-1, None], ["own"])
    first = run(Auto(space, prior=Prior.from_studies([study])), 1)[0].recipe
    assert space.index(first) <= 1


def test_what_could_not_end_in_time_is_left_for_what_could() -> None:
    """Two models, of which one may take ten times as long."""
    space = Space.from_dict({"model": ["m", "n"], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}})

    def begun(seconds: float, dear: float) -> set[str]:
        def cost(recipe: Recipe) -> tuple[float, float]:
            return 0.0, dear if recipe.model == "m" else 1.0

        strategy = Auto(space, option="patient")
        found = set()
        for step in range(12):
            strategy.foresee(seconds, cost)
            (order,) = strategy.ask(1)
            if step:
                found.add(order.recipe.model)
            score = 0.6 if order.recipe.model == "m" else 0.5
            strategy.tell(Report(order.trial, order.until, "running", score, {}, cost(order.recipe)[1]))
            strategy.tell(Report(order.trial, order.until, "failed"))
        return found

    assert begun(5.0, 10.0) == {"n"} and begun(1e6, 1.0) == {"m", "n"}
    # Where nothing at all would end, something is begun all the same: the study sees what fits.
    assert begun(0.5, 10.0)
