"""Other searches over a pool of runs, as strategies that `pool.simulate` can drive: Optuna's samplers
here, SMAC3 and Ray Tune in their own processes. How they compare is printed by `search`.

All but ASHA propose values of the settings in which the recipes of a pool differ. The run that is trained is
the nearest that they have not had, and where a sampler can be told of a run that it did not ask for, it is.
What they would draw at random to begin with is drawn from the pool: the nearest to random points are no fair
draw from it.
"""

from __future__ import annotations

import json
import os
import subprocess
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna

from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.space import Choice, Listed, Number
from outside.environment import Unavailable, interpreter

HERE = Path(__file__).parent / "outside"
INITIAL = 10
"""Runs that those with a model begin with, drawn from the pool: what Optuna's samplers draw by themselves."""


class Settings:
    """The settings in which recipes of a list differ.

    A value of a `Choice` goes by the number of its place, as text: some are None, which not everyone takes.
    """

    def __init__(self, space: Listed) -> None:
        self.domains = {name: space.settings[name][0].domain for name in space.dimensions}
        self.recipes = space.recipes
        self.points = np.array([self._point(self.values(recipe)) for recipe in space.recipes])
        self._choice = np.array([isinstance(domain, Choice) for domain in self.domains.values()])
        self.left = np.ones(len(self.recipes), dtype=bool)

    def initial(self, seed: int) -> list[Recipe]:
        """What a search begins with."""
        order = np.random.default_rng([seed, 11]).permutation(len(self.recipes))
        return [self.recipes[at] for at in order[:INITIAL]]

    def values(self, recipe: Recipe) -> dict[str, Any]:
        """What a recipe has of each."""
        return {
            name: str(domain.values.index(getattr(recipe, name)))
            if isinstance(domain, Choice)
            else getattr(recipe, name)
            for name, domain in self.domains.items()
        }

    def plain(self) -> list[dict[str, Any]]:
        """A mapping for each: its name, and its values or its range."""
        return [{"name": name} | _plain(domain) for name, domain in self.domains.items()]

    def take(self, values: dict[str, Any]) -> Recipe | None:
        """The nearest recipe that was not taken before, by Gower's distance; None if all were."""
        if not self.left.any():
            return None
        apart = np.abs(self.points - self._point(values))
        distances = np.where(self._choice, apart > 0, apart).sum(axis=1)
        at = int(np.where(self.left, distances, np.inf).argmin())
        self.left[at] = False
        return self.recipes[at]

    def _point(self, values: dict[str, Any]) -> list[float]:
        return [
            domain.unit(values[name]) if isinstance(domain, Number) else float(values[name])
            for name, domain in self.domains.items()
        ]


def _plain(domain: Choice | Number) -> dict[str, Any]:
    if isinstance(domain, Choice):
        return {"values": [str(at) for at in range(len(domain.values))]}
    return {"low": domain.low, "high": domain.high, "integer": domain.integer, "log": domain.log}


class Outsider(Strategy):
    """A search that is asked for one order at a time, and never restored."""

    space: Listed
    uses_priors: ClassVar[bool] = False

    def __init__(self, space: Listed, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        self.settings = Settings(space)
        self.recipes: dict[int, Recipe] = {}
        self.scores: dict[int, float] = {}
        self._finished = False

    @abstractmethod
    def ask(self, room: int) -> list[Order]:
        """One order, or none if the pool is used up."""

    @property
    def finished(self) -> bool:
        """Whether the pool is used up."""
        return self._finished

    def state(self) -> dict[str, Any]:
        """Not kept."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Not restored."""
        raise NotImplementedError

    def tell(self, report: Report) -> None:
        """Keeps the best score of a trial."""
        best = self.scores.get(report.trial, -np.inf)
        self.scores[report.trial] = max(best, report.score) if np.isfinite(report.score) else best


class OptunaPool(Outsider):
    """A sampler of Optuna with its defaults, over natural distributions; whole runs.

    Args:
        make: A sampler from a seed.
    """

    name: ClassVar[str] = "optuna"

    def __init__(self, space: Listed, seed: int, make: Callable[[int], optuna.samplers.BaseSampler]) -> None:
        super().__init__(space, seed)
        self.study = optuna.create_study(direction="maximize", sampler=make(seed))
        self.distributions = {each["name"]: _distribution(each) for each in self.settings.plain()}
        self.initial = self.settings.initial(seed)
        self.waiting: optuna.Trial | None = None

    def ask(self, room: int) -> list[Order]:
        """The run nearest to what the sampler proposes."""
        number = len(self.recipes)
        if number < len(self.initial):
            recipe = self.settings.take(self.settings.values(self.initial[number]))
        else:
            self.waiting = self.study.ask(self.distributions)
            recipe = self.settings.take(self.waiting.params)
        if recipe is None:
            self._finished = True
            return []
        self.recipes[number] = recipe
        return [Order(number, recipe, recipe.epochs)]

    def tell(self, report: Report) -> None:
        """When the run has ended: what was proposed has no score, and the run has one."""
        super().tell(report)
        if report.status == "running":
            return
        if self.waiting is not None:
            self.study.tell(self.waiting, state=optuna.trial.TrialState.FAIL)
        self.study.add_trial(
            optuna.trial.create_trial(
                params=self.settings.values(self.recipes[report.trial]),
                distributions=self.distributions,
                value=self.scores[report.trial],
            )
        )
        self.waiting = None


def _distribution(plain: dict[str, Any]) -> optuna.distributions.BaseDistribution:
    if "values" in plain:
        return optuna.distributions.CategoricalDistribution(plain["values"])
    kind = (
        optuna.distributions.IntDistribution if plain["integer"] else optuna.distributions.FloatDistribution
    )
    return kind(plain["low"], plain["high"], log=plain["log"])


class Elsewhere(Outsider):
    """A search in a process of its own, over JSON lines.

    It is sent ``{"start": ...}``, then ``{"ask": 1}`` and ``{"tell": ...}``; to ``ask`` it answers with
    ``trial`` and ``until``, and for a new trial ``index`` (in the pool) or ``values``; or ``finished``.

    Args:
        process: Runs the other side; one serves many searches, one after the other.
        start: What else it should know.
    """

    name: ClassVar[str] = "elsewhere"

    def __init__(self, space: Listed, seed: int, process: Process, start: dict[str, Any]) -> None:
        super().__init__(space, seed)
        self.process = process
        self.epochs = space.recipes[0].epochs
        self.seconds = 0.0
        plain = {
            "dimensions": self.settings.plain(),
            "initial": [self.settings.values(recipe) for recipe in self.settings.initial(seed)],
            "size": len(space.recipes),
            "epochs": self.epochs,
        }
        process.say({"start": start | plain | {"seed": seed}})

    def ask(self, room: int) -> list[Order]:
        """What the other side wants."""
        answer = self.process.ask()
        if answer.get("finished"):
            self._finished = True
            return []
        number = answer["trial"]
        if number not in self.recipes:
            new = (
                self.space.recipes[answer["index"]]
                if "index" in answer
                else self.settings.take(answer["values"])
            )
            if new is None:
                self._finished = True
                return []
            self.recipes[number] = new
        self.seconds = 0.0
        return [Order(number, self.recipes[number], min(answer["until"], self.epochs))]

    def tell(self, report: Report) -> None:
        """An epoch; or the end of an order, with the trial's best score so far."""
        super().tell(report)
        self.seconds += report.seconds
        self.process.say(
            {
                "tell": {
                    "trial": report.trial,
                    "epoch": report.epoch,
                    "score": report.score if report.status == "running" else self.scores[report.trial],
                    "status": report.status,
                    "seconds": self.seconds,
                    "values": self.settings.values(self.recipes[report.trial]),
                }
            }
        )


class Process:
    """A script under the interpreter of another environment.

    Args:
        script: Its name in ``outside``.
        requirements: What its environment has.

    Raises:
        Unavailable: The environment cannot be made, or the script ends early.
    """

    def __init__(self, script: str, requirements: list[str]) -> None:
        python = interpreter(requirements)
        # Its own packages only: not those that ours may be told of.
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [str(python), str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean | {"RAY_USAGE_STATS_ENABLED": "0"},
        )

    def say(self, message: dict[str, Any]) -> None:
        """Sends a line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def ask(self) -> dict[str, Any]:
        """Asks, and waits for the answer."""
        self.say({"ask": 1})
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            # What a library prints is no answer.
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise self._ended()

    def _ended(self) -> Unavailable:
        return Unavailable(f"{Path(self._process.args[1]).name} ended with code {self._process.wait()}")
