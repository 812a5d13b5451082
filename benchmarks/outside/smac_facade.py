"""SMAC3 behind JSON lines: run by an interpreter that has ``smac``, and by nothing else.

``facade`` is ``hpo`` (a random forest, whole runs) or ``multi`` (Hyperband brackets of its proposals).
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from typing import Any

from ConfigSpace import (
    CategoricalHyperparameter,
    Configuration,
    ConfigurationSpace,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from smac import HyperparameterOptimizationFacade, MultiFidelityFacade, Scenario
from smac.runhistory.dataclasses import TrialInfo, TrialValue

ENDLESS = 100_000


def space_of(dimensions: list[dict[str, Any]], seed: int) -> ConfigurationSpace:
    """The dimensions as ConfigSpace has them."""
    space = ConfigurationSpace(seed=seed)
    for each in dimensions:
        if "values" in each:
            one = CategoricalHyperparameter(each["name"], each["values"])
        elif each["integer"]:
            one = UniformIntegerHyperparameter(each["name"], each["low"], each["high"], log=each["log"])
        else:
            one = UniformFloatHyperparameter(each["name"], each["low"], each["high"], log=each["log"])
        space.add(one)
    return space


class Smac:
    """One search."""

    def __init__(self, start: dict[str, Any], folder: str) -> None:
        self.multi = start["facade"] == "multi"
        self.epochs = start["epochs"]
        self.space = space_of(start["dimensions"], start["seed"])
        facade = MultiFidelityFacade if self.multi else HyperparameterOptimizationFacade
        budgets = {"min_budget": 1, "max_budget": self.epochs} if self.multi else {}
        scenario = Scenario(
            self.space,
            deterministic=True,
            n_trials=ENDLESS,
            seed=start["seed"],
            output_directory=folder,
            **budgets,
        )
        self.smac = facade(
            scenario,
            lambda config, seed=0, budget=0: 0.0,
            # By itself it begins with ten a hyperparameter, which is more than any search here has time for.
            initial_design=facade.get_initial_design(
                scenario,
                n_configs=0,
                additional_configs=[Configuration(self.space, values=each) for each in start["initial"]],
            ),
            overwrite=True,
            logging_level=logging.ERROR,
        )
        self.trials: dict[Configuration, int] = {}
        self.waiting: TrialInfo | None = None

    def ask(self) -> dict[str, Any]:
        """A configuration, new or taken further."""
        self.waiting = self.smac.ask()
        config = self.waiting.config
        number = self.trials.setdefault(config, len(self.trials))
        until = max(1, round(self.waiting.budget)) if self.multi else self.epochs
        return {"trial": number, "until": until, "values": {name: _plain(config[name]) for name in config}}

    def tell(self, told: dict[str, Any]) -> None:
        """The best score that a trial had when its order ended.

        Of whole runs SMAC learns where they truly lie; Hyperband must recognise what it asked for.
        """
        if told["status"] == "running" or self.waiting is None:
            return
        info = self.waiting
        if not self.multi:
            info = TrialInfo(Configuration(self.space, values=told["values"]), seed=info.seed)
        self.smac.tell(info, TrialValue(cost=1.0 - told["score"], time=told["seconds"]), save=False)
        self.waiting = None


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def main() -> None:
    search: Smac | None = None
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            said = json.loads(line)
            if "start" in said:
                search = Smac(said["start"], folder)
            elif "tell" in said and search is not None:
                search.tell(said["tell"])
            elif search is not None:
                print(json.dumps(search.ask()), flush=True)


if __name__ == "__main__":
    main()
