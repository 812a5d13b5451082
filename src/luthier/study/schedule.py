"""Which orders the time left allows, and how many epochs of each. Arithmetic: nothing is trained here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from luthier.engine.cost import Cost
from luthier.recipe import Recipe
from luthier.trial import Order


def as_begun(orders: Sequence[Order], begun: Mapping[int, Recipe]) -> list[Order]:
    """Orders with the recipes that their trials were begun with, whose schedules may have been shortened."""
    return [replace(order, recipe=begun.get(order.trial, order.recipe)) for order in orders]


def at_their_end(orders: Sequence[Order], reached: Mapping[int, int]) -> list[Order]:
    """Orders to take trials further that have no epochs left: whoever gave them knew a longer schedule."""
    return [order for order in orders if reached.get(order.trial, 0) >= order.recipe.epochs]


def fitting(
    orders: Sequence[Order],
    costs: Sequence[Cost | None],
    left: float,
    reached: Mapping[int, int],
    *,
    needed: bool,
    say: Callable[[str], None],
) -> list[Order]:
    """The orders that the time left allows one after the other, the last cut to the epochs that fit.

    They end at the first that does not fit whole, since trials keep their order. A schedule that ends in time
    beats one that is cut off, so a new trial whose schedule would end too late gets a shorter one.

    Args:
        orders: In the order in which they are to begin.
        costs: Of each; None where nothing is known: it may take all the time there is, and will tell what the
            others cost, so it is begun alone.
        left: Seconds.
        reached: Trial to the epochs behind it.
        needed: Whether the first order must begin in any case, since a run should end with a model.
        say: Told of trials that are cut.
    """
    fitted: list[Order] = []
    for given, cost in zip(orders, costs, strict=True):
        if cost is None:
            return fitted or [given]
        behind = reached.get(given.trial, 0)
        order = given if behind else _ending_in_time(given, cost.epochs_within(left, given.recipe.epochs))
        wanted = min(order.until, order.recipe.epochs) - behind
        epochs = cost.epochs_within(left, wanted)
        if epochs < wanted:
            if epochs or (needed and not fitted):
                fitted.append(_cut(order, behind, max(1, epochs), say))
            return fitted
        fitted.append(order)
        left -= cost.total(epochs)
    return fitted


def _ending_in_time(order: Order, epochs: int) -> Order:
    """A new trial with a schedule of so many epochs, where it is not to be trained to its end at once."""
    recipe = order.recipe
    if order.until >= recipe.epochs or epochs >= recipe.epochs:
        return order
    return replace(order, recipe=recipe.model_copy(update={"epochs": max(epochs, order.until)}))


def _cut(order: Order, behind: int, epochs: int, say: Callable[[str], None]) -> Order:
    """An order that ends after so many more epochs; a new trial's schedule with it."""
    wanted = order.recipe.epochs
    say(f"Trial {order.trial} gets {behind + epochs} of {wanted} epochs: the time left allows no more.")
    if behind:
        return replace(order, until=behind + epochs)
    recipe = order.recipe.model_copy(update={"epochs": epochs})
    return replace(order, recipe=recipe, until=min(order.until, epochs))
