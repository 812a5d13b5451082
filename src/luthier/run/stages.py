"""`Run`: the stages of a run: first look, search, choice, proof. How one begins lives in `tune`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.kept import KeptOutputs
from luthier.errors import LuthierError, RunError
from luthier.evaluate.resampling import Way
from luthier.recipe import Recipe
from luthier.report import card, html
from luthier.run import tell
from luthier.run.baselines import Trained, probe, scratch_recipe
from luthier.run.combine import Combiner, Tried
from luthier.run.correction import selection, selection_of
from luthier.run.finalists import MOST, Finalists
from luthier.run.folder import RunFolder, write_text
from luthier.run.folds import DEFAULT, FEW, Folds
from luthier.run.forgetting import forgetting
from luthier.run.goals import Goals
from luthier.run.inspect import set_threads
from luthier.run.interrupt import Interrupt
from luthier.run.origin import studies
from luthier.run.prepare import (
    Prepared,
    search_space,
)
from luthier.run.progress import Progress
from luthier.run.prove import SCRATCH_SHARE, Prover
from luthier.run.rank import rank
from luthier.run.result import Result
from luthier.run.ship import Shipped, ship
from luthier.run.suspects import allowed
from luthier.run.verdicts import looking_seconds, verdicts
from luthier.search.past import PastStudy
from luthier.space import Space
from luthier.study.budget import Budget
from luthier.study.store import Store
from luthier.study.study import Finished, Study

# Saving, loading back, intervals, importance and the report, on a slow machine.
CLOSING_SECONDS = 8.0


@dataclass
class Run:
    """One run under way: what its stages share.

    Attributes:
        prepared: Data, task and models.
        folder: Where it leaves things.
        store: Its study.
        run: Its id there.
        manifest: Its ``run.json``.
        clock: Its budget.
        watch: Told what happens.
        space: The user's own, or None.
        goals: Objectives and constraints.
        stages: Names and seconds of those that are over.
        probe: The head on frozen features, where one was trained.
    """

    prepared: Prepared
    folder: RunFolder
    store: Store
    run: str
    manifest: dict[str, Any]
    clock: Budget
    watch: Progress
    space: Space | None
    goals: Goals
    stages: list[tuple[str, float]] = field(default_factory=list)
    probe: Trained | None = None

    def carry_out(self) -> Result:
        """Ranking, search, proof and report; an interruption ends the search, not the run."""
        settings = self.prepared.settings
        set_threads(settings)
        self.stages.append(("Looking at data and models", self.clock.spent))
        self.goals.footprints.on_new = lambda: self.folder.write_manifest(self.manifest)
        engine = Engine(
            self.goals.footprints.inputs, self.prepared.sources, Checkpoints(self.folder.checkpoints),
            settings.device, auto=self.manifest["precision"], stack=settings.stack, note=self.watch.note,
            kept=KeptOutputs(self.folder.outputs),
        )  # fmt: skip
        with Interrupt(self.watch.note) as interrupt:
            with self._recording_failure():
                with self._stage("Ranking models by probes" if len(self.goals.models) > 1 else "Baselines"):
                    names = self._first_look(engine)
                with self._stage("Searching"):
                    finalists, combiner = self._search(engine, names, interrupt)
                with self._stage("Choosing the winner"):
                    finalists.repeat()
                    best = finalists.choose() or self._fallback()
                with self._stage("Combining"):
                    tried = combiner.combine(best)
                with self._stage("Proving on the test split"):
                    self._prove(engine, best, tried, finalists, interrupt)
                    combiner.discard(tried)
            result = Result.load(self.folder.path)
            self.watch.finished(result)
        if missed := self.goals.objectives.missed(best.score):
            raise RunError(
                f"No trial keeps to the constraints: the nearest, trial {best.trial}, has {missed}.",
                f"It is the model of {self.folder.path}, with its report. Ask for less, or go on with: "
                f"luthier resume {self.folder.path} --budget +10m",
            )
        return result

    def _first_look(self, engine: Engine) -> list[str]:
        """Probes of all candidates: which deserve the budget, and what the frozen features alone can do."""
        settings = self.prepared.settings
        names, parent = self.goals.models, self.manifest.get("from")
        if len(names) > 1:
            candidates = rank(engine, settings.seed, names)
            for place, candidate in enumerate(candidates, 1):
                self.watch.note(
                    f"{place}. {candidate.model}: probe {candidate.probe:.3f}, LogME {candidate.logme:.3f}, "
                    f"{candidate.parameters / 1e6:.1f} M parameters"
                )
            names = self.goals.kept(candidates)
            if parent and parent["model"] in self.goals.models and parent["model"] not in names:
                # However its probe did: continuing is what was asked for.
                names = [*names, parent["model"]]
            self.probe = candidates[0].trained
        elif "probe" in settings.baselines:
            like = search_space(self.prepared, self.space, names).default()
            self.probe = probe(engine, names[0], settings.seed, like=like, halt=self._time_is_up)
            if self.probe is not None:
                task = engine.task
                value = self.probe.score if task.maximize else -self.probe.score
                self.watch.note(f"A linear head on frozen features: validation {task.metric} {value:.3f}.")
        return names

    def _search(self, engine: Engine, names: list[str], interrupt: Interrupt) -> tuple[Finalists, Combiner]:
        settings = self.prepared.settings
        space = search_space(self.prepared, self.space, names)
        self.manifest["searched"] = space.to_dict()
        strategy = self.goals.strategy(
            settings, space, tell.majority_score(engine), self.probe.score if self.probe else None
        )
        strategy.recall(self._earlier())
        study = Study(
            self.store,
            self.run,
            strategy,
            engine,
            self.clock,
            self.watch,
            seed=settings.seed,
            first=self._first(),
            trials=settings.trials,
            keep=settings.keep,
            hold=0 if settings.repeats == 1 else MOST,
            room=engine.room,
            interrupted=interrupt.reason,
            objectives=self.goals.objectives,
        )
        said = study.strategy.notes()
        for message in said:
            self.watch.note(message)

        def closing(best: Finished | None) -> float:
            return self._closing_seconds(engine) + self._scratch_seconds(engine, best)

        combiner = Combiner(
            study, engine, name=settings.ensemble, groups=self.prepared.groups("validation"), rest=closing,
            rows=len(self.prepared.dataset.splits["test"]), place=self.folder.path, seed=settings.seed,
            say=self.watch.note,
        )  # fmt: skip
        finalists = Finalists(
            study, engine, repeats=settings.repeats, groups=self.prepared.groups("validation"),
            rest=lambda best: closing(best) + combiner.hold_back(best),
            typical=space.default(), seed=settings.seed, say=self.watch.note, part=self._part(engine),
        )  # fmt: skip
        study.run(finalists.hold_back)
        # A strategy that ends a search by itself says why.
        for message in study.strategy.notes():
            if message not in said:
                self.watch.note(message)
        return finalists, combiner

    def _first(self) -> list[Recipe]:
        """What is trained before the strategy is asked: the recipe of a run that is continued, and the probe.

        In a space of the user's own nothing else is tried that they did not ask for.
        """
        parent = self.manifest.get("from")
        earlier = [Recipe.parse(recipe) for recipe in parent["first"]] if parent else []
        kept = [recipe for recipe in earlier if recipe.model in self.goals.models]
        return kept + ([self.probe.recipe] if self.probe and self.space is None else [])

    def _earlier(self) -> list[PastStudy]:
        """The study of a run that is continued."""
        parent = self.manifest.get("from")
        if not parent:
            return []
        try:
            found = studies(parent)
        except LuthierError as error:
            self.watch.note(
                f"The study that is continued cannot be read, so proposals do without it: {error.message}"
            )
            return []
        trials = sum(len(study.recipes) for study in found)
        self.watch.note(f"The study that is continued had {trials:,} trials that reported an epoch.")
        return found

    def _part(self, engine: Engine) -> Callable[[], Folds] | None:
        """How rows are parted to cross-validate finalists: as asked, or in folds where they are few."""
        settings = self.prepared.settings
        few = len(self.prepared.dataset.splits["validation"]) < FEW
        way: Way = "holdouts" if settings.holdouts else "folds"
        count = settings.holdouts or settings.folds
        if count is None and few and settings.repeats is None:
            count = DEFAULT
        if count is None or (way == "folds" and count < 2):
            return None
        folder = self.folder.checkpoints / "folds"
        return cache(lambda: Folds(engine, way, count, settings.group, settings.seed, folder))

    def _fallback(self) -> Finished:
        """The probe, where no trial came to anything: a run with any time at all ends with a model."""
        if self.probe and (reason := self.goals.objectives.refusal(self.probe.recipe)):
            raise RunError(
                f"The run ended before anything that keeps to the constraints was trained: {reason}.",
                f"Continue it with: luthier resume {self.folder.path} --budget +10m",
            )
        if self.probe is None:
            raise RunError(
                "The run ended before anything was trained.",
                f"Continue it with: luthier resume {self.folder.path} --budget +10m",
            )
        self.watch.note(
            "No trial came to a result in the time given: the model is the linear head on frozen features."
        )
        probe = self.probe
        return Finished(
            probe.trial,
            probe.recipe,
            self.prepared.settings.seed,
            probe.score,
            probe.loss,
            probe.epoch,
            probe.seconds,
        )

    def _closing_seconds(self, engine: Engine) -> float:
        """Seconds that saving, judging, looking and telling will take after the search."""
        frames = self.prepared.dataset.splits
        share = len(frames["test"]) / len(frames["train"])
        forward = self.probe and engine.epoch_seconds(self.probe.recipe)
        networks = 3 + ("neighbours" in self.prepared.settings.baselines) + bool(self.manifest.get("from"))
        looking = looking_seconds(self.clock.total) + allowed(self.prepared.settings)
        return CLOSING_SECONDS + looking + networks * share * (forward or 0.0)

    def _scratch_seconds(self, engine: Engine, best: Finished | None) -> float:
        """Time kept for the from-scratch baseline: what its epochs take, up to its share of the budget."""
        if "scratch" not in self.prepared.settings.baselines:
            return 0.0
        limit = SCRATCH_SHARE * self.clock.total
        if best is None:
            return limit
        recipe = scratch_recipe(best.recipe, self._usual(best.recipe.model))
        predicted = engine.predict_cost(recipe)
        return limit if predicted is None else min(limit, 1.1 * predicted.total(recipe.epochs))

    def _usual(self, model: str) -> Recipe:
        """A recipe known to do well for all of a model: the centre of its default space."""
        return search_space(self.prepared, None, [model]).default()

    def _prove(
        self, engine: Engine, best: Finished, tried: Tried, finalists: Finalists, interrupt: Interrupt
    ) -> None:
        """Saves, judges and tells. An interrupted run skips what would have to be computed for it."""
        task = engine.task
        prover = Prover(self.prepared, engine, self.folder)
        shipped = self._ship(engine, best, tried)
        stopped = interrupt.reason() is not None

        def seconds_left() -> float:
            return 0.0 if stopped else self.clock.total - self.clock.spent - self._closing_seconds(engine)

        def scratch_seconds() -> float:
            return min(self._scratch_seconds(engine, best), seconds_left())

        judged = prover.judge(best, tried)
        judged.evaluation.combined = prover.combined(judged, tried, seconds_left)
        prover.compare(
            judged,
            validation=shipped.validation,
            probe=self.probe,
            usual=self._usual(best.recipe.model),
            scratch_seconds=scratch_seconds,
            spent=self.clock.spent,
            halt=interrupt.reason,
            on_step=self._step,
            say=self.watch.note,
        )
        evaluation = judged.evaluation
        evaluation.selection = selection(
            engine, finalists.study.ranked, best, groups=self.prepared.groups("validation"),
            seed=self.prepared.settings.seed,
        )  # fmt: skip
        if tried.chosen is not None:
            evaluation.selection = selection_of(tried.chosen, evaluation.selection, maximize=task.maximize)
        elif finalists.crossed is not None and best.trial in finalists.crossed.found:
            evaluation.cross_validation = finalists.crossed.told(best.trial)
        if parent := self.manifest.get("from"):
            self.watch.note("Against the model that was continued, on its test rows and on added ones")
            evaluation.continued = forgetting(self.prepared, parent, judged.outputs, str(engine.device))
        trials, epochs = self.store.trials(self.run), self.store.epochs(self.run)
        trials = self.goals.table(trials, self.store.recipes(self.run), finalists.study.finished)
        evaluation.verdicts = verdicts(
            self.prepared, engine, best, evaluation, judged.outputs, trials, epochs, probe=self.probe,
            budget=0.0 if stopped else self.clock.total,
        )  # fmt: skip
        write_text(self.folder.evaluation, json.dumps(evaluation.to_json(), indent=1) + "\n")
        write_text(self.folder.trials, trials.to_csv(index=False))
        status = "interrupted" if stopped else "finished"
        stages = [
            *self.stages,
            ("Proving on the test split", self.clock.spent - sum(s for _, s in self.stages)),
        ]
        told = tell.Told(
            self.manifest["name"], str(self.folder.path), status, stages, self.clock.total, self.clock.spent,
            finalists.how,
        )  # fmt: skip
        story = tell.gather(self.prepared, engine, best, shipped.form, evaluation, trials, epochs, told)
        story.axes = self.goals.axes
        write_text(self.folder.report, html.render(story))
        write_text(self.folder.model / "README.md", card.render(story))
        self.store.finish_run(
            self.run, "stopped" if stopped else "completed", best.trial, spent=self.clock.spent
        )
        self.manifest |= {
            "status": status,
            "score": evaluation.metrics[task.metric],
            "trials": len(trials),
            "spent": self.clock.spent,
            "best": {
                "trial": best.trial,
                "recipe": best.recipe.model_dump(),
                "score": best.score,
                "epoch": best.epoch,
                "seed": best.seed,
                "repeats": best.repeats,
                "how": finalists.how,
            },
            "ensemble": tell.shipped(evaluation),
        }
        self.folder.write_manifest(self.manifest)

    def _ship(self, engine: Engine, best: Finished, tried: Tried) -> Shipped:
        """Saves what was chosen; the winner alone where the ensemble cannot be."""
        try:
            return ship(engine, self.folder, best, tried, self.watch.note)
        except LuthierError as error:
            if tried.chosen is None:
                raise
            self.watch.note(f"The ensemble cannot be saved, so the model is the best single one: {error}")
            tried.chosen = None
            return ship(engine, self.folder, best, tried, self.watch.note)

    def _time_is_up(self) -> str | None:
        return "the budget ended" if self.clock.left <= 0 else None

    def _step(self, done: float) -> None:
        self.watch.step(done)
        self.watch.time(self.clock.spent, self.clock.total)

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Announces a stage and keeps its seconds."""
        self.watch.time(self.clock.spent, self.clock.total)
        self.watch.stage(name)
        started = time.perf_counter()
        yield
        self.stages.append((name, time.perf_counter() - started))
        self.store.save_progress(self.run, spent=self.clock.spent)

    @contextlib.contextmanager
    def _recording_failure(self) -> Iterator[None]:
        """A run that ends by an error says so in its manifest; what it has stays, to be resumed."""
        try:
            yield
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self.manifest |= {"status": status, "spent": self.clock.spent}
            with contextlib.suppress(RunError):
                self.folder.write_manifest(self.manifest)
            raise
