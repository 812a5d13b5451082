"""What the time left allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.engine.cost import Cost
from luthier.recipe import Recipe
from luthier.study import schedule
from luthier.trial import Order

RECIPE = Recipe(model="m", epochs=4)


def fitting(orders, costs, left, reached=None, needed=False):
    said: list[str] = []
    found = schedule.fitting(orders, costs, left, reached or {}, needed=needed, say=said.append)
    return found, said


def test_orders_that_fit_stay_as_they_are_and_the_last_is_cut():
    orders = [Order(trial, RECIPE, 4) for trial in range(3)]
    found, said = fitting(orders, [Cost(1, 1)] * 3, 8.5)
    assert found[0] == orders[0]
    assert (found[1].recipe.epochs, found[1].until) == (2, 2) and len(found) == 2
    assert said == ["Trial 1 gets 2 of 4 epochs: the time left allows no more."]


def test_a_slice_of_a_new_trial_gets_a_schedule_that_ends_in_time():
    ((order,), said) = fitting([Order(0, RECIPE, 1)], [Cost(0, 1)], 2.5)
    assert (order.recipe.epochs, order.until) == (2, 1) and not said
    ((order,), _) = fitting([Order(0, RECIPE, 1)], [Cost(0, 1)], 60)
    assert order.recipe == RECIPE


def test_a_trial_that_goes_on_keeps_its_schedule():
    ((order,), said) = fitting([Order(0, RECIPE, 4)], [Cost(0, 1)], 1.5, {0: 2})
    assert (order.recipe, order.until) == (RECIPE, 3) and said


def test_what_nobody_knows_the_cost_of_is_begun_alone():
    orders = [Order(trial, RECIPE, 4) for trial in range(2)]
    assert fitting(orders, [None, None], 1.0)[0] == orders[:1]
    assert fitting(orders, [Cost(0, 0.1), None], 1.0)[0] == orders[:1]


@pytest.mark.parametrize(("needed", "epochs"), [(True, [1]), (False, [])])
def test_where_nothing_fits_the_first_is_begun_only_where_it_is_needed(needed: bool, epochs: list[int]):
    found, _ = fitting([Order(0, RECIPE, 4)], [Cost(5, 1)], 1.0, needed=needed)
    assert [order.recipe.epochs for order in found] == epochs


def test_trials_go_on_as_they_were_begun_and_end_there():
    short = RECIPE.model_copy(update={"epochs": 2})
    orders = [Order(0, RECIPE, 3), Order(1, RECIPE, 1)]
    found = schedule.as_begun(orders, {0: short})
    assert [order.recipe.epochs for order in found] == [2, 4]
    assert schedule.at_their_end(found, {0: 2}) == found[:1]
    assert schedule.at_their_end(found, {0: 1}) == []


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=5),
    st.lists(st.floats(0.1, 5), min_size=5, max_size=5),
    st.floats(0, 40),
)
def test_what_is_begun_is_predicted_to_end_in_time(trials, costs, left):
    orders, reached = [], {}
    for number, (epochs, until, behind) in enumerate(trials):
        orders.append(Order(number, RECIPE.model_copy(update={"epochs": epochs}), min(until, epochs)))
        if behind < orders[-1].until:
            reached[number] = behind
        else:
            reached[number] = 0
    given_costs = [Cost(0.5, each) for each in costs[: len(orders)]]
    found, _ = fitting(orders, given_costs, left, reached)
    assert [order.trial for order in found] == list(range(len(found)))
    spent = sum(
        cost.total(order.until - reached[order.trial])
        for order, cost in zip(found, given_costs, strict=False)
    )
    assert spent <= left + 1e-6
    assert all(order.until <= order.recipe.epochs for order in found)
