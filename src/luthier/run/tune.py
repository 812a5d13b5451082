"""`tune` and `resume`: a whole run, from data to a chosen, trained, proven and saved model.

Each stage hands on to the next.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.kept import KeptOutputs
from luthier.engine.precision import choose_device, measured
from luthier.errors import RunError
from luthier.recipe import Recipe
from luthier.report import card, html
from luthier.run import tell
from luthier.run.baselines import Trained, probe, scratch_recipe
from luthier.run.correction import selection
from luthier.run.duration import new_budget
from luthier.run.finalists import MOST, Finalists
from luthier.run.folder import RunFolder, write_text
from luthier.run.goals import Goals, gather, screen
from luthier.run.inspect import set_threads
from luthier.run.interrupt import Interrupt
from luthier.run.prepare import (
    Prepared,
    bytes_needed,
    data_fingerprint,
    prepare,
    read_space,
    save_table,
    search_space,
)
from luthier.run.progress import Progress, Silent
from luthier.run.prove import SCRATCH_SHARE, Prover
from luthier.run.rank import rank
from luthier.run.result import Result
from luthier.run.settings import Settings
from luthier.search import registry as strategies
from luthier.space import Space
from luthier.study.budget import Budget
from luthier.study.store import Store
from luthier.study.study import Finished, Study

# Saving, loading back, intervals, importance and the report, on a slow machine.
CLOSING_SECONDS = 8.0


def tune(
    settings: Settings, *, data: Any = None, progress: Progress | None = None, spent: float = 0.0
) -> Result:
    """Finds, trains and proves the best fine-tuned model within the budget.

    Args:
        settings: Of the run.
        data: A table or datasets object, in place of ``settings.data``.
        progress: Told what happens.
        spent: Seconds of the budget that are gone already, such as those that imports took.

    Raises:
        LuthierError: Something is wrong with settings, data or models, said before any training; or the run
            cannot go on.
    """
    clock = Budget(settings.budget_seconds, spent)
    watch = progress or Silent()
    watch.stage("Looking at data and models")
    # What can be wrong is found before anything is written or trained: strategy, device, data, models, space.
    strategies.resolve(settings.strategy)
    device = choose_device(settings.device)
    set_threads(settings)
    space = None if settings.space is None else read_space(settings.space)
    prepared = prepare(settings, data, say=watch.note)
    strategies.create(settings.strategy, search_space(prepared, space, list(prepared.sources)), settings.seed)
    goals = gather(settings, prepared, device, {})
    screen(goals, prepared, space, watch.note)
    name = settings.name or prepared.dataset.name
    needed = bytes_needed(settings, prepared)
    folder = RunFolder.new(settings.out, name, needed=needed)
    if data is not None:
        save_table(prepared.dataset, folder.data)
        settings = settings.model_copy(update={"data": str(folder.data)})
    fingerprint = data_fingerprint(prepared)
    store = open_store(settings, folder)
    run = store.create_run(
        name=name,
        settings=settings.model_dump(),
        seed=settings.seed,
        budget=clock.total,
        task=prepared.task.name,
        data_fingerprint=fingerprint,
        folder=str(folder.path.resolve()),
        versions=tell.versions(),
    )
    manifest = {
        "run": run,
        "name": name,
        "status": "running",
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "task": prepared.task.name,
        "metric": prepared.task.metric,
        "settings": settings.model_dump(),
        # What relative paths in the settings start at, and the space as it was, whatever becomes of its file.
        "directory": str(Path.cwd()),
        "space": None if space is None else space.to_dict(),
        "data_fingerprint": fingerprint,
        # Measured once: a resumed run must train as it began.
        "precision": measured(device),
        "footprints": goals.footprints.known,
        "budget": clock.total,
    }
    folder.write_manifest(manifest)
    return _Run(prepared, folder, store, run, manifest, clock, watch, space, goals).carry_out()


def resume(folder: str | Path, *, budget: str | None = None, progress: Progress | None = None) -> Result:
    """Continues a run that was stopped or killed.

    Args:
        folder: The run folder.
        budget: New budget of the whole run, or ``+10m`` to add to it.
        progress: Told what happens.

    Raises:
        RunError: There is no run to continue, or its data changed.
    """
    place = RunFolder(Path(folder).resolve())
    manifest = place.read_manifest()
    with contextlib.chdir(manifest["directory"] if Path(manifest["directory"]).is_dir() else "."):
        return _resume(place, manifest, budget, progress or Silent())


def _resume(place: RunFolder, manifest: dict[str, Any], budget: str | None, watch: Progress) -> Result:
    """`resume`, in the directory that the run was started in."""
    folder = place.path
    settings = Settings.parse(manifest["settings"])
    total = float(manifest["budget"]) if budget is None else new_budget(budget, float(manifest["budget"]))
    if manifest["status"] == "finished" and budget is None:
        raise RunError(
            f"The run {str(folder)!r} is finished.",
            f"Give it more time with: luthier resume {folder} --budget +10m",
        )
    store = open_store(settings, place)
    run = manifest["run"]
    clock = Budget(total, store.run(run).spent)
    watch.stage("Looking at data and models")
    prepared = prepare(settings, say=watch.note)
    if data_fingerprint(prepared) != manifest["data_fingerprint"]:
        raise RunError(
            f"The data of the run {str(folder)!r} changed since it began: {settings.data!r}.",
            "Restore it, or start a new run; results on different data cannot be compared.",
        )
    space = None if manifest["space"] is None else Space.from_dict(manifest["space"])
    set_threads(settings)
    known = manifest.setdefault("footprints", {})
    goals = gather(settings, prepared, choose_device(settings.device), known)
    screen(goals, prepared, space, watch.note)
    manifest |= {"status": "running", "budget": total}
    place.write_manifest(manifest)
    store.save_progress(run, status="running")
    return _Run(prepared, place, store, run, manifest, clock, watch, space, goals).carry_out()


@dataclass
class _Run:
    """One run under way: what its stages share."""

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
        with Interrupt(self.watch.note) as interrupt, self._recording_failure():
            with self._stage("Ranking models by probes" if len(self.goals.models) > 1 else "Baselines"):
                names = self._first_look(engine)
            with self._stage("Searching"):
                finalists = self._search(engine, names, interrupt)
            with self._stage("Choosing the winner"):
                finalists.repeat()
                best = finalists.choose() or self._fallback()
            with self._stage("Proving on the test split"):
                self._prove(engine, best, finalists, interrupt)
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
        names = self.goals.models
        if len(names) > 1:
            candidates = rank(engine, settings.seed, names)
            for place, candidate in enumerate(candidates, 1):
                self.watch.note(
                    f"{place}. {candidate.model}: probe {candidate.probe:.3f}, LogME {candidate.logme:.3f}, "
                    f"{candidate.parameters / 1e6:.1f} M parameters"
                )
            names = self.goals.kept(candidates)
            self.probe = candidates[0].trained
        elif "probe" in settings.baselines:
            like = search_space(self.prepared, self.space, names).default()
            self.probe = probe(engine, names[0], settings.seed, like=like, halt=self._time_is_up)
            if self.probe is not None:
                task = engine.task
                value = self.probe.score if task.maximize else -self.probe.score
                self.watch.note(f"A linear head on frozen features: validation {task.metric} {value:.3f}.")
        return names

    def _search(self, engine: Engine, names: list[str], interrupt: Interrupt) -> Finalists:
        settings = self.prepared.settings
        space = search_space(self.prepared, self.space, names)
        self.manifest["searched"] = space.to_dict()
        study = Study(
            self.store,
            self.run,
            self.goals.strategy(
                settings, space, tell.majority_score(engine), self.probe.score if self.probe else None
            ),
            engine,
            self.clock,
            self.watch,
            seed=settings.seed,
            # In a space of the user's own nothing is tried that they did not ask for.
            first=[self.probe.recipe] if self.probe and self.space is None else [],
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
        finalists = Finalists(
            study, engine, repeats=settings.repeats, groups=self.prepared.groups("validation"),
            rest=lambda best: self._closing_seconds(engine) + self._scratch_seconds(engine, best),
            typical=space.default(), seed=settings.seed, say=self.watch.note,
        )  # fmt: skip
        study.run(finalists.hold_back)
        # A strategy that ends a search by itself says why.
        for message in study.strategy.notes():
            if message not in said:
                self.watch.note(message)
        return finalists

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
        """Seconds that saving, judging and telling will take after the search."""
        frames = self.prepared.dataset.splits
        share = len(frames["test"]) / len(frames["train"])
        forward = self.probe and engine.epoch_seconds(self.probe.recipe)
        networks = 3
        return CLOSING_SECONDS + networks * share * (forward or 0.0)

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

    def _prove(self, engine: Engine, best: Finished, finalists: Finalists, interrupt: Interrupt) -> None:
        """Saves, judges and tells. An interrupted run skips the baselines that would have to be trained."""
        task = engine.task
        prover = Prover(self.prepared, engine, self.folder)
        form = prover.save(best)
        stopped = interrupt.reason() is not None

        def scratch_seconds() -> float:
            room = self.clock.total - self.clock.spent - self._closing_seconds(engine)
            return 0.0 if stopped else min(self._scratch_seconds(engine, best), room)

        judged = prover.judge(best)
        prover.compare(
            judged,
            probe=self.probe,
            usual=self._usual(best.recipe.model),
            scratch_seconds=scratch_seconds,
            halt=interrupt.reason,
            on_step=self._step,
            say=self.watch.note,
        )
        evaluation = judged.evaluation
        evaluation.selection = selection(
            engine, finalists.study.ranked, best, groups=self.prepared.groups("validation"),
            seed=self.prepared.settings.seed,
        )  # fmt: skip
        write_text(self.folder.evaluation, json.dumps(evaluation.to_json(), indent=1) + "\n")
        trials, epochs = self.store.trials(self.run), self.store.epochs(self.run)
        trials = self.goals.table(trials, self.store.recipes(self.run), finalists.study.finished)
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
        story = tell.gather(self.prepared, engine, best, form, evaluation, trials, epochs, told)
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
        }
        self.folder.write_manifest(self.manifest)

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


def open_store(settings: Settings, folder: RunFolder) -> Store:
    """The database of the study: the one named, or a file in the run folder."""
    return Store(settings.store or folder.database)
