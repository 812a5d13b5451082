"""Proof: the winner is saved, loaded back, and judged once on the test split, beside what it must beat."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from luthier.deploy.predictor import Predictor
from luthier.engine.engine import Engine
from luthier.engine.inputs import Split
from luthier.evaluate import baselines as simple
from luthier.evaluate.baselines import Baseline
from luthier.evaluate.evaluation import Evaluation, evaluate
from luthier.models.forms import SavedForm
from luthier.models.saved import save
from luthier.recipe import Recipe
from luthier.run.baselines import Trained, scratch
from luthier.run.folder import RunFolder
from luthier.run.prepare import Prepared
from luthier.study.study import Finished

# The share of the budget that the from-scratch baseline may take; it gets as many epochs as fit.
SCRATCH_SHARE = 0.2


@dataclass(frozen=True)
class Proof:
    """The judged model.

    Attributes:
        evaluation: On the test split, with baselines.
        form: How the model was saved and is loaded.
    """

    evaluation: Evaluation
    form: SavedForm


class _Against(TypedDict):
    """What every baseline is compared with, and how."""

    chosen: list[np.ndarray]
    groups: np.ndarray | None
    seed: int


class Prover:
    """Saves and judges the winner of one run.

    Args:
        prepared: The data and task.
        engine: Trains and runs networks.
        folder: Where the model goes.
    """

    def __init__(self, prepared: Prepared, engine: Engine, folder: RunFolder) -> None:
        self.prepared = prepared
        self.engine = engine
        self.folder = folder
        self.task = prepared.task
        self.frame = prepared.dataset.splits["test"]
        self.groups = prepared.groups("test")

    def save(self, best: Finished) -> SavedForm:
        """Writes the winner as a directory that loads without Luthier."""
        source = self.engine.sources[best.recipe.model]
        return save(
            self.engine.network(best.recipe, best.seed, trial=best.trial),
            source,
            self.engine.inputs.processor(source),
            best.recipe,
            self.folder.model,
            task_state={"task": self.task.name, **self.task.state()},
            auto_class=self.task.auto_class,
            problem_type=self.task.problem_type,
            labels=self.task.label_names,
            peft_type=self.task.peft_type,
        )

    def judge(
        self,
        best: Finished,
        *,
        probe: Trained | None,
        scratch_seconds: float,
        halt: Callable[[], str | None],
        on_step: Callable[[float], None],
        say: Callable[[str], None],
    ) -> Evaluation:
        """One evaluation on the test split, of the model as it was saved.

        Args:
            best: The winner.
            probe: The trained probe baseline, if wanted.
            scratch_seconds: Time for the from-scratch baseline; 0 for none.
            halt: Asked before each of its steps.
            on_step: Told its share done.
            say: Told what is being done.
        """
        settings, root = self.prepared.settings, self.prepared.dataset.root
        started = time.perf_counter()
        predictor = Predictor.load(self.folder.model, str(self.engine.device))
        outputs = predictor.outputs(self.frame, root)
        targets = self.task.targets(self.frame)
        evaluation = evaluate(self.task, outputs, targets, self.frame, groups=self.groups, seed=settings.seed)
        evaluation.seconds = time.perf_counter() - started
        self._keep_predictions(outputs)
        train = self.prepared.dataset.splits["train"]
        about: _Against = {"chosen": outputs, "groups": self.groups, "seed": settings.seed}
        found: list[Baseline | None] = []
        if "majority" in settings.baselines:
            known = self.engine.inputs.targets("train")
            found.append(simple.majority(self.task, known, targets, **about))
        if "classical" in settings.baselines:
            say("Baseline: a classical learner without a pre-trained model")
            found.append(simple.classical(self.task, train, self.frame, root=str(root), **about))
        if probe is not None:
            found.append(self._trained("Probe: a linear head on frozen features", probe, targets, about))
        if scratch_seconds > 0:
            say("Baseline: the same recipe from random weights")
            trained = scratch(
                self.engine, best.recipe, best.seed, seconds=scratch_seconds, halt=halt, on_step=on_step
            )
            if trained is not None:
                found.append(self._trained("The same recipe from scratch", trained, targets, about))
        evaluation.baselines = [baseline for baseline in found if baseline is not None]
        return evaluation

    def _trained(self, name: str, trained: Trained, targets: list[np.ndarray], about: _Against) -> Baseline:
        split = self._test_split(trained.recipe, targets)
        outputs = trained.outputs(self.engine, split)
        return simple.from_outputs(name, self.task, outputs, targets, trained.seconds, trained.note, **about)

    def _test_split(self, recipe: Recipe, targets: list[np.ndarray]) -> Split:
        source = self.engine.sources[recipe.model]
        return Split(self.engine.inputs.encode(self.frame, source, recipe), targets)

    def _keep_predictions(self, outputs: list[np.ndarray]) -> None:
        """Every test prediction, so that what was evaluated can be held against what is shipped."""
        shown = pd.DataFrame({"input": self.task.show(self.frame)})
        target = self.task.columns.roles["target"]
        answers = pd.json_normalize(self.task.decode(outputs, self.frame), max_level=0)
        truth: pd.Series[Any]
        if isinstance(target, list):
            marks = self.frame[target]
            truth = marks.apply(lambda row: ";".join(name for name in target if row[name]), axis=1)
        else:
            truth = self.frame[target]
        shown.insert(0, "row", self.frame["__row__"])
        table = pd.concat([shown, truth.rename("truth").reset_index(drop=True), answers], axis=1)
        table.to_csv(self.folder.predictions, index=False)
