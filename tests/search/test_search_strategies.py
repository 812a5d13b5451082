"""Grid, random and the registry; the suite any strategy runs, and that it notices those that break it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from search_studies import listing

from luthier import plugins
from luthier.errors import SettingError
from luthier.search import registry
from luthier.search.base import Order
from luthier.search.conformance import CHECKS, CONDITIONAL, SPACES
from luthier.search.grid import Grid
from luthier.search.optuna import OptunaSampler
from luthier.search.random import Random
from luthier.search.workers import Workers, reports
from luthier.space import Space

# Left out: what is the usual form in these spaces; and samplers of Optuna, which differ in one line and are
# slow: test_search_optuna.py restores each of them.
LEFT_OUT = {"bayesian:gp", *(f"optuna:{option}" for option in OptunaSampler.options if option != "cmaes")}
NAMES = [
    full
    for name in registry._BUILT_IN
    for full in (name, *(f"{name}:{option}" for option in registry.get(name).options))
    if full not in LEFT_OUT
]
# Those that fit models do so a few times only, and less thoroughly than usual; their own tests look closer.
QUICK = {
    # Ten trials a check, all from the fourth modelled.
    "bayesian": {
        "conformance.STEPS": 5,
        "bayesian._FIRST": (3, 3),
        "bayesian._POOL": 16,
        "candidates._NEAR": 8,
        "candidates._ROUNDS": 1,
        "surrogate_trees._TREES": 4,
        "surrogate_gp._STEPS": 20,
    },
    "auto": {"conformance.STEPS": 20},
    # Fourteen trials a check, of which a sampler of Optuna models the last four.
    "optuna": {
        "conformance.STEPS": 7,
        "conformance.SPACES": {name: SPACES[name] for name in ("point", "conditional")},
    },
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_conforms(name, check, monkeypatch) -> None:
    for place, value in QUICK.get(name.partition(":")[0], {}).items():
        monkeypatch.setattr(f"luthier.search.{place}", value)
    check(partial(registry.create, name))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "population"])
def test_a_list_of_recipes_is_a_space_like_another(name) -> None:
    space = listing(SPACES["conditional"], 6)
    workers = Workers(
        registry.create(name, space), 2, lambda order, begun: reports(order, begun, lambda o, e: e / 9)
    )
    assert set(workers.run(trials=4).recipes.values()) <= set(space.recipes)


class Repeats(Random):
    def ask(self, room):
        return [Order(self._trials, self.space.default(), 1)] if super().ask(1) else []


class Greedy(Random):
    def ask(self, room):
        return super().ask(room + 1)


class Skips(Random):
    def ask(self, room):
        return [Order(order.trial + 1, order.recipe, order.until) for order in super().ask(room)]


class Overruns(Random):
    def ask(self, room):
        return [Order(order.trial, order.recipe, order.recipe.epochs + 1) for order in super().ask(room)]


class Escapes(Random):
    def ask(self, room):
        orders = super().ask(room)
        return [Order(o.trial, o.recipe.model_copy(update={"l1": 0.9}), o.until) for o in orders]


class Forgets(Random):
    def restore(self, state):
        self._trials = state["trials"]


class Moods(Random):
    def __init__(self, space, seed=0):
        super().__init__(space, int(np.random.default_rng().integers(2**31)))


class Unbelieving(Random):
    def __init__(self, space, seed=0):
        plain = space.to_dict()
        if isinstance(plain.get("learning_rate"), dict):
            plain["learning_rate"].pop("prior", None)
        super().__init__(Space.from_dict(plain), seed)


class Adopts(Random):
    """Starts trials from one that was never trained, of another structure, or that is taken further with
    it."""

    def ask(self, room):
        return [replace(order, parent=self._parent(order)) for order in super().ask(room)]

    def _parent(self, order):
        return order.trial + 1


class AdoptsStrangers(Adopts):
    def _parent(self, order):
        return order.trial - 1 if order.trial else None


class AdoptsTooLate(Random):
    """Takes trial 0 further in the round in which another starts from it."""

    finished = False

    def ask(self, room):
        if self._next_number == 0:
            self._next_number = 1
            return [Order(0, self.space.default(), 1)]
        number, self._next_number = self._next_number, self._next_number + 1
        new = Order(number, self.space.default(), 1, parent=0)
        return [Order(0, self.space.default(), 2), new][:room]

    _next_number = 0


class Tireless(Random):
    finished = False


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Repeats, "no_repeats"),
        (Greedy, "contract"),
        (Skips, "contract"),
        (Overruns, "contract"),
        (Escapes, "space"),
        (Forgets, "restored"),
        (Moods, "deterministic"),
        (Unbelieving, "priors"),
        (Adopts, "contract"),
        (AdoptsStrangers, "contract"),
        (AdoptsTooLate, "contract"),
        (Tireless, "one_point"),
    ],
)
def test_the_suite_notices(broken, check) -> None:
    checks = {one.__name__: one for one in CHECKS}
    with pytest.raises(AssertionError):
        checks[f"check_{check}"](broken)


def test_random_begins_with_the_default_and_differs_by_seed() -> None:
    space = SPACES["wide"]
    first, second = Random(space, 0).ask(5), Random(space, 1).ask(5)
    assert first[0].recipe == second[0].recipe == space.default()
    assert [order.recipe for order in first[1:]] != [order.recipe for order in second[1:]]
    assert [order.trial for order in first] == [0, 1, 2, 3, 4]
    assert all(order.until == order.recipe.epochs for order in first)


def test_random_uses_up_a_small_space_and_stops() -> None:
    space = Space.from_dict(
        {"model": "m", "batch_size": {"values": [8, 16, 32], "weights": [0.9, 0.05, 0.05]}}
    )
    strategy = Random(space, 0)
    assert {order.recipe.batch_size for order in strategy.ask(10)} == {8, 16, 32}
    assert strategy.finished
    assert strategy.ask(1) == []


def test_random_covers_a_range_more_evenly_than_independent_draws() -> None:
    space = Space.from_dict({"model": "m", "head_dropout": {"low": 0.0, "high": 0.96}})
    values = [order.recipe.head_dropout for order in Random(space, 0).ask(33)][1:]
    counts = np.histogram(values, bins=16, range=(0, 0.96))[0]
    assert (counts == 2).all()


def test_grid_goes_on_where_it_was_and_knows_its_end() -> None:
    space = Space.from_dict({"model": "m", "batch_size": [8, 16], "optimizer": ["sgd", "adamw", "lion"]})
    grid = Grid(space)
    assert grid.total() == 6
    first = grid.ask(4)
    again = Grid(space)
    again.restore(grid.state())
    rest = again.ask(4)
    assert [order.trial for order in first + rest] == list(range(6))
    assert [order.recipe for order in first + rest] == list(space.grid())
    assert again.finished and not grid.finished


def test_a_large_grid_warns_with_its_size() -> None:
    small = Grid(Space.from_dict({"model": "m", "last_k": {"low": 1, "high": 200}}))
    large = Grid(
        Space.from_dict({"model": "m", "last_k": {"low": 1, "high": 20}, "epochs": {"low": 1, "high": 20}})
    )
    assert small.notes() == []
    assert "400" in large.notes()[0]


def test_an_open_range_is_an_error_before_anything_runs() -> None:
    with pytest.raises(SettingError, match="learning_rate"):
        Grid(Space.from_dict({"model": "m", "learning_rate": {"low": 1e-5, "high": 1e-3}}))


def test_registry_knows_the_built_in_ones_and_lists_them() -> None:
    assert {"grid", "random"} <= set(registry.names())
    assert isinstance(registry.create("random", CONDITIONAL, 3), Random)
    with pytest.raises(SettingError, match=r"Did you mean 'random'(.|\n)*grid, .*random"):
        registry.create("randm", CONDITIONAL)
    with pytest.raises(SettingError, match=r"'random' has no option 'wild'"):
        registry.create("random:wild", CONDITIONAL)


def test_registry_finds_those_of_other_packages(monkeypatch) -> None:
    points = [
        EntryPoint("mine", "luthier.search.random:Random", registry.GROUP),
        EntryPoint("absent", "no_such_package:Strategy", registry.GROUP),
        EntryPoint("wrong", "pathlib:Path", registry.GROUP),
        EntryPoint("grid", "pathlib:Path", registry.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    assert registry.names() == sorted({*registry._BUILT_IN, "absent", "mine", "wrong"})
    assert registry.get("mine") is Random
    assert registry.get("grid") is Grid
    with pytest.raises(SettingError, match="cannot be imported"):
        registry.get("absent")
    with pytest.raises(SettingError, match="not a Strategy"):
        registry.get("wrong")
