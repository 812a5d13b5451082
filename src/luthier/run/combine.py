"""Combining: ensembles of what the search left, each with what it gains and what it costs, and which is
shipped.

How they are made and judged lives in `luthier.ensemble`; here is what a run allows for it: time, disk,
objectives.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.engine.engine import Engine
from luthier.engine.forward import predict
from luthier.engine.group import explain
from luthier.ensemble import registry
from luthier.ensemble.base import Candidate, Part
from luthier.ensemble.choice import Weighed, choose, weigh
from luthier.ensemble.ways import MOST_PARTS, Context
from luthier.recipe import Recipe
from luthier.study.study import Finished, Study

# Shares of the budget: for selecting, saving and judging ensembles, and for training networks for one.
SHARE, TRAINING_SHARE = 0.1, 0.15
# Seconds that selecting and judging want, at most; and what saving one network takes on a slow machine, once
# and for each byte of it.
SELECTING_SECONDS = 20.0
SAVING_SECONDS, BYTE_SECONDS = 0.7, 3e-8
# Rows on which inference is timed, so often, unless that has taken so long.
TIMED_ROWS, TIMES, TIMING_SECONDS = 64, 3, 1.0
# Of the free disk, what the networks of an ensemble may take.
DISK_SHARE = 0.5


@dataclass
class Tried:
    """What came of combining.

    Attributes:
        weighed: The candidates, best on validation first.
        chosen: The one that is shipped, or None.
    """

    weighed: list[Weighed] = field(default_factory=list)
    chosen: Weighed | None = None


class Combiner:
    """The stage between choosing the winner and proving it.

    Args:
        study: Whose trials are combined.
        engine: Has their weights and outputs.
        name: What ``ensemble`` was set to.
        groups: (n,) group keys of the validation rows, or None.
        rest: Seconds that what comes after this will take for the best trial, ensembles not counted.
        rows: Number of test rows.
        place: Where models are saved: its disk limits how many networks there may be.
        seed: Of selection and resampling.
        say: Told what was decided, and why.
    """

    def __init__(
        self, study: Study, engine: Engine, *, name: str, groups: Any | None,
        rest: Callable[[Finished | None], float], rows: int, place: Path, seed: int, say: Callable[[str],
            None],
    ) -> None:  # fmt: skip
        self.study = study
        self.engine = engine
        self.name = name
        self.groups = groups
        self.rest = rest
        self.rows = rows
        self.place = place
        self.seed = seed
        self.say = say
        self.ways = registry.resolve(name)
        self._latency: dict[tuple[Any, ...], float] = {}

    def hold_back(self, best: Finished | None) -> float:
        """Seconds to hold back from the search for combining, and for saving and judging what comes of it."""
        if not self.ways:
            return 0.0
        each = self._seconds_each(best)
        wanted = SELECTING_SECONDS + MOST_PARTS * each
        return min(SHARE * self.study.budget.total, wanted) + self._training_seconds()

    def combine(self, best: Finished) -> Tried:
        """Tries the ways that were asked for, and chooses.

        Args:
            best: The single model that is shipped where no ensemble is.
        """
        if not self.ways or best.trial < 0:
            return Tried()
        self.study.budget.reserve = self.rest(best)
        # The search may have ended before its time.
        ways, parts, selecting, training = self._plan(best, max(0.0, self.study.budget.left))
        if not ways or self.study.interrupted() is not None:
            return Tried()
        usable = [found for found in self.study.usable() if self.study.objectives.feasible(found)]
        # The winner comes first, also where seeds and not scores decided it.
        ranked = [found for found in usable if found.trial == best.trial]
        ranked += [found for found in usable if found.trial != best.trial]
        weighed = []
        for way in ways:
            each = selecting / 2 / len(ways)
            seconds = training if registry.entry(way).trains else each
            if registry.entry(way).single:
                # What makes a network has to judge it, too.
                seconds = max(seconds, selecting / 2)
            context = Context(
                self.engine, ranked, self.seed, seconds, self.study.interrupted, self.say, self.groups, parts
            )
            if (candidate := self._made(way, context)) is not None:
                weighed.append(self._weighed(context, candidate, best, each))
        weighed.sort(key=lambda each: -each.score)
        chosen = choose(weighed) if self.name == registry.AUTO else _asked(weighed)
        self._tell(weighed, chosen, best)
        return Tried(weighed, chosen)

    def _plan(self, best: Finished, allowed: float) -> tuple[list[str], int, float, float]:
        """Which ways to try, of how many networks, and the seconds for selecting and for training.

        Args:
            best: The best trial.
            allowed: Seconds for all of it, saving and judging included.
        """
        ways = self._allowed_ways()
        self._seconds(best.recipe)
        selecting = min(SELECTING_SECONDS, allowed / 4)
        training = min(self._training_seconds(), (allowed - selecting) / 2)
        parts = self._parts(best, allowed - selecting - training)
        if any(not registry.entry(way).single for way in ways) and parts < 2:
            self.say("Time or disk does not suffice for two networks: only single ones can be shipped.")
            ways = [way for way in ways if registry.entry(way).single]
        # What is not needed for saving and judging is there for training.
        rest = allowed - selecting - parts * self._seconds_each(best)
        return ways, parts, selecting, max(training, rest)

    def discard(self, tried: Tried) -> None:
        """Removes the weights that ways left beside the trials' own, but for what is shipped."""
        shipped = () if tried.chosen is None else tried.chosen.candidate.parts
        for weighed in tried.weighed:
            for part in weighed.candidate.parts:
                if part.trial < 0 and part not in shipped:
                    self.engine.checkpoints.remove(part.trial)

    def _made(self, way: str, context: Context) -> Candidate | None:
        """A candidate, unless it is one trial alone or a way fails: then the model is the single one."""
        try:
            candidate = registry.get(way)(context)
        except Exception as error:  # Whatever it was, there is a model without it.
            self.say(f"The ensemble {way!r} came to nothing: {explain(error)}.")
            return None
        if candidate is not None and len(candidate.parts) == 1 and candidate.parts[0].trial >= 0:
            self.say(f"The ensemble {way!r} would be trial {candidate.parts[0].trial} alone.")
            return None
        return candidate

    def _weighed(self, context: Context, candidate: Candidate, best: Finished, seconds: float) -> Weighed:
        task = self.engine.task
        score = task.score(task.metrics(candidate.validation, context.targets))
        found = Weighed(
            candidate, score, weigh(context, candidate, seconds=seconds), self._cost(candidate.parts, best)
        )
        found.refused = self.study.objectives.missed(score)
        return found

    def _allowed_ways(self) -> list[str]:
        """The ways asked for, without those that limits on what a model takes rule out."""
        measured = self.study.objectives.measured
        single = [way for way in self.ways if registry.entry(way).single]
        if not measured or single == self.ways:
            return self.ways
        names = " and ".join(measure.name for measure in measured)
        self.say(
            f"Several networks would each add to {names}, which count here: only single ones are shipped."
        )
        return single

    def _parts(self, best: Finished, seconds: float) -> int:
        """Networks that there is time and disk for, at most.

        Args:
            best: The best trial, by which their size and speed are told.
            seconds: For saving and judging them.
        """
        # Saving and judging the best single model is among what comes after.
        by_time = seconds / self._seconds_each(best)
        free = shutil.disk_usage(self.place).free
        by_disk = DISK_SHARE * free / max(1, self._bytes(best)) - 1
        return max(0, min(MOST_PARTS, int(by_time), int(by_disk)))

    def _seconds_each(self, best: Finished | None) -> float:
        """Seconds that a further network takes to be saved and judged."""
        judging = 0.0
        if best is not None and self._structure(best.recipe) in self._latency:
            judging = self._seconds(best.recipe) * self.rows
        elif best is not None:
            fingerprint, recipe = self.engine.sources[best.recipe.model].fingerprint, best.recipe
            passed = self.engine.cost.predict(fingerprint, recipe, cut=0, rows=self.rows, validation_rows=0)
            judging = 0.0 if passed is None else passed.once
        return SAVING_SECONDS + BYTE_SECONDS * self._bytes(best) + judging

    def _bytes(self, best: Finished | None) -> int:
        sources = self.engine.sources
        wanted = list(sources.values()) if best is None else [sources[best.recipe.model]]
        return max(sum(file.stat().st_size for file in source.weights) for source in wanted)

    def _training_seconds(self) -> float:
        trains = any(registry.entry(way).trains for way in self.ways)
        return TRAINING_SHARE * self.study.budget.total if trains else 0.0

    def _cost(self, parts: Sequence[Part], best: Finished) -> float:
        """Inference time as a multiple of the best trial's, each structure measured on the same rows.

        Heads on one frozen body cost what the body costs.
        """
        bodies = {self._body(part): part.recipe for part in parts}
        return sum(self._seconds(recipe) for recipe in bodies.values()) / self._seconds(best.recipe)

    def _body(self, part: Part) -> tuple[Any, ...]:
        recipe = part.recipe
        inputs = self._structure(recipe)
        frozen = recipe.adaptation == "probe" and recipe.init == "pretrained"
        # The form in which a model is saved depends on these.
        form = (recipe.head, recipe.pooling)
        return (*inputs, form) if frozen else (*inputs, part.trial)

    def _structure(self, recipe: Recipe) -> tuple[Any, ...]:
        return recipe.model, recipe.max_length, recipe.image_size

    def _seconds(self, recipe: Recipe) -> float:
        """Seconds a row takes in the fastest of some passes over some validation rows."""
        key = self._structure(recipe)
        if key not in self._latency:
            engine = self.engine
            network = engine.network(recipe, seed=0)
            rows = engine.inputs.frames["validation"].head(TIMED_ROWS)
            examples = engine.inputs.encode(rows, engine.sources[recipe.model], recipe)
            taken = []
            for _ in range(TIMES):
                started = time.perf_counter()
                # In float32, as finished models run.
                predict(network, engine.task, examples, engine.device)
                taken.append(time.perf_counter() - started)
                if sum(taken) > TIMING_SECONDS:
                    break
            self._latency[key] = max(min(taken), 1e-6) / len(rows)
        return self._latency[key]

    def _tell(self, weighed: Sequence[Weighed], chosen: Weighed | None, best: Finished) -> None:
        metric = self.engine.task.metric.replace("_", " ")
        for each in weighed:
            low, high = each.gain.interval
            count = len(each.candidate.parts)
            networks = f"{count} networks" if count > 1 else "one network"
            self.say(
                f"{each.candidate.name}: {networks}, {metric} better by {each.gain.gain:+.4f} "
                f"({low:+.4f} to {high:+.4f}) on validation rows left out, "
                f"{each.cost:.1f} times the time at inference."
            )
        if chosen is not None:
            several = len(chosen.candidate.parts) > 1
            instead = " One network taught by several, for less time at inference: --ensemble distil."
            self.say(f"The model is the ensemble {chosen.candidate.name!r}.{instead if several else ''}")
        elif refused := [each for each in weighed if each.refused and self.name != registry.AUTO]:
            self.say(f"The ensemble is not shipped: it has {refused[0].refused}.")
        elif weighed:
            self.say(f"No ensemble gains more than chance would: the model is trial {best.trial}.")


def _asked(weighed: Sequence[Weighed]) -> Weighed | None:
    """What was asked for by name is shipped whatever it gains."""
    return next((each for each in weighed if not each.refused), None)
