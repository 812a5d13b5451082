"""Proof: what is shipped is loaded back and judged once on the test split, beside what it must beat."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from luthier.data.leaks import seen_before
from luthier.deploy.predictor import Predictor
from luthier.engine.engine import Engine
from luthier.engine.inputs import Split
from luthier.ensemble.base import Outputs, Part
from luthier.ensemble.saved import SavedEnsemble
from luthier.evaluate import baselines as simple
from luthier.evaluate.baselines import Baseline
from luthier.evaluate.combined import Combined
from luthier.evaluate.evaluation import Evaluation, evaluate
from luthier.evaluate.intervals import paired_difference
from luthier.evaluate.leaks import without
from luthier.evaluate.worth import worth
from luthier.monitor.features import sampled
from luthier.monitor.reference import FEATURES
from luthier.recipe import Recipe
from luthier.run.baselines import Trained, nearest, probe_recipe, scratch, scratch_recipe
from luthier.run.combine import Tried
from luthier.run.folder import RunFolder, write_text
from luthier.run.prepare import Prepared
from luthier.run.reference import keep
from luthier.run.suspects import SHOWN, suspects
from luthier.study.study import Finished

# The share of the budget that the from-scratch baseline may take; it gets as many epochs as fit.
SCRATCH_SHARE = 0.1
# Rows for which an ensemble, read back, must say what its networks say.
REPEATED = 16


@dataclass(frozen=True)
class Judged:
    """A model that was evaluated on the test split.

    Attributes:
        best: The trial it is from.
        evaluation: Without baselines until they were compared.
        outputs: Its answers on the test split.
        targets: The true ones.
        parts: What single networks say there, by the trial they are from: the best one, and those of an
            ensemble that is shipped.
    """

    best: Finished
    evaluation: Evaluation
    outputs: list[np.ndarray]
    targets: list[np.ndarray]
    parts: dict[int, Outputs]


class _Against(TypedDict):
    """What every baseline is compared with, and how."""

    chosen: list[np.ndarray]
    groups: np.ndarray | None
    seed: int


class Prover:
    """Judges what a run ships.

    Args:
        prepared: The data and task.
        engine: Trains and runs networks.
        folder: Where the model is.
    """

    def __init__(self, prepared: Prepared, engine: Engine, folder: RunFolder) -> None:
        self.prepared = prepared
        self.engine = engine
        self.folder = folder
        self.task = prepared.task
        self.frame = prepared.dataset.splits["test"]
        self.groups = prepared.groups("test")

    def judge(self, best: Finished, tried: Tried | None = None) -> Judged:
        """One evaluation on the test split, of the model as it was saved; its answers are kept."""
        started = time.perf_counter()
        chosen = None if tried is None else tried.chosen
        predictor = Predictor.load(self.folder.model, str(self.engine.device))
        root = self.prepared.dataset.root
        parts: dict[int, Outputs] = {}
        with sampled(predictor.saved, len(self.frame), FEATURES) as features:
            if isinstance(predictor.saved, SavedEnsemble):
                ensemble = predictor.saved
                said = ensemble.part_outputs(self.task, self.frame, predictor.device, root)
                parts |= dict(zip(ensemble.trials, said, strict=True))
                outputs = ensemble.combined(self.task, said)
            else:
                outputs = predictor.outputs(self.frame, root)
        if not isinstance(predictor.saved, SavedEnsemble):
            trial = best.trial if chosen is None else chosen.candidate.parts[0].trial
            parts[trial] = _plain(outputs, predictor)
        if best.trial not in parts:
            single = Predictor.load(self.folder.single, str(self.engine.device))
            parts[best.trial] = _plain(single.outputs(self.frame, root), single)
        targets = self.task.targets(self.frame)
        seed = self.prepared.settings.seed
        evaluation = evaluate(
            self.task, outputs, targets, self.frame, groups=self.groups, seed=seed,
            temperature=predictor.temperature, slices=self.prepared.settings.slices,
            root=str(self.prepared.dataset.root),
        )  # fmt: skip
        evaluation.leaked = without(self.task, outputs, targets, self._seen(), groups=self.groups, seed=seed)
        evaluation.seconds = time.perf_counter() - started
        self._keep_predictions(outputs)
        keep(self.folder.reference, predictor, self.frame, root, outputs, evaluation, targets, features)
        return Judged(best, evaluation, outputs, targets, parts)

    def combined(self, judged: Judged, tried: Tried, left: Callable[[], float]) -> list[Combined]:
        """Every ensemble that was tried beside the single model, also on the test split.

        What each network says there is computed once for all ensembles.

        Args:
            judged: The evaluated model, with what its networks say.
            tried: The candidates.
            left: Asked before each further network for the seconds that are left; without any, the ensembles
                that want it are told of without a test value.
        """
        rows = []
        for weighed in tried.weighed:
            candidate, gain = weighed.candidate, weighed.gain
            weights = getattr(candidate.combination, "weights", ())
            shares = weights if len(weights) == len(candidate.parts) else [1.0] * len(candidate.parts)
            row = Combined(
                candidate.name,
                [(part.trial, float(share)) for part, share in zip(candidate.parts, shares, strict=True)],
                validation=weighed.score if self.task.maximize else -weighed.score,
                gain=gain.gain,
                interval=gain.interval,
                cost=weighed.cost,
                chosen=weighed is tried.chosen,
                seconds=candidate.seconds,
                note=candidate.note,
            )
            if (said := self._said(judged, candidate.parts, left)) is not None:
                outputs = judged.outputs if row.chosen else candidate.combination.outputs(self.task, said)
                self._test(row, outputs, judged)
            rows.append(row)
        return rows

    def _said(self, judged: Judged, parts: list[Part], left: Callable[[], float]) -> list[Outputs] | None:
        """What each of some networks says of the test rows; None where time does not suffice."""
        for part in parts:
            if part.trial not in judged.parts:
                if left() <= 0:
                    return None
                source = self.engine.sources[part.recipe.model]
                split = Split(self.engine.inputs.encode(self.frame, source, part.recipe), judged.targets)
                network = self.engine.network(part.recipe, part.seed, trial=part.trial)
                judged.parts[part.trial] = self.engine.outputs(network, part.recipe, split)
        return [judged.parts[part.trial] for part in parts]

    def _test(self, row: Combined, outputs: Outputs, judged: Judged) -> None:
        """Gives a row what the test split says of it."""
        single = self.task.score_statistics(judged.parts[judged.best.trial], judged.targets)
        own = self.task.score_statistics(outputs, judged.targets)
        score = float(self.task.scores(own.sum(axis=0)[None])[0])
        row.test = score if self.task.maximize else -score
        row.test_gain, row.test_interval = paired_difference(
            own, single, lambda totals: float(self.task.scores(totals[None])[0]), groups=self.groups,
            seed=self.prepared.settings.seed,
        )  # fmt: skip

    def compare(
        self,
        judged: Judged,
        *,
        validation: list[np.ndarray],
        probe: Trained | None,
        usual: Recipe,
        scratch_seconds: Callable[[], float],
        spent: float,
        halt: Callable[[], str | None],
        on_step: Callable[[float], None],
        say: Callable[[str], None],
    ) -> None:
        """Puts beside the evaluation what the model must beat, on the same test examples, and what labels of
        these and other rows are doubtful.

        Args:
            judged: The evaluated model; its evaluation is given the baselines.
            validation: What it says of the validation rows.
            probe: The trained probe baseline, if wanted.
            usual: A recipe for the whole network, for training from scratch where only a head was chosen.
            scratch_seconds: Asked, when all else is done, for the time that training from scratch may take.
            spent: Seconds that finding and training the model took.
            halt: Asked before each of its steps.
            on_step: Told its share done.
            say: Told what is being done.
        """
        settings, dataset = self.prepared.settings, self.prepared.dataset
        about: _Against = {"chosen": judged.outputs, "groups": self.groups, "seed": settings.seed}
        found: list[Baseline | None] = []
        if "majority" in settings.baselines:
            known = self.engine.inputs.targets("train")
            found.append(simple.majority(self.task, known, judged.targets, **about))
        if "classical" in settings.baselines:
            say("Baseline: a classical learner without a pre-trained model")
            train, root = dataset.splits["train"], str(dataset.root)
            found.append(simple.classical(self.task, train, self.frame, root=root, **about))
        if probe is not None:
            name = "Probe: a linear head on frozen features"
            found.append(self._trained(name, "probe", probe, judged, about))
        if "neighbours" in settings.baselines and halt() is None:
            found.append(self._nearest(judged, probe, about, say))
        if halt() is None:
            say("Looking for labels that are likely mistakes")
            self._doubt_labels(judged, validation, probe)
        if (seconds := scratch_seconds()) > 0:
            say("Baseline: the same recipe from random weights")
            recipe, seed = scratch_recipe(judged.best.recipe, usual), judged.best.seed
            trained = scratch(self.engine, recipe, seed, seconds=seconds, halt=halt, on_step=on_step)
            if trained is not None:
                found.append(self._trained("The same recipe from scratch", "scratch", trained, judged, about))
        judged.evaluation.baselines = [baseline for baseline in found if baseline is not None]
        judged.evaluation.spent = spent
        judged.evaluation.worth = worth(judged.evaluation)

    def _nearest(
        self, judged: Judged, probe: Trained | None, about: _Against, say: Callable[[str], None]
    ) -> Baseline | None:
        """The nearest neighbours on the features that the probe has, or on those of the chosen model."""
        engine, started = self.engine, time.perf_counter()
        chosen = judged.best.recipe
        recipe = probe.recipe if probe else probe_recipe(engine, chosen.model, chosen)
        say("Baseline: nearest neighbours on frozen features")
        split = Split(engine.inputs.encode(self.frame, engine.sources[recipe.model], recipe), judged.targets)
        found = nearest(engine, recipe, split, self.prepared.settings.seed)
        if found is None:
            return None
        outputs, note = found
        return simple.from_outputs(
            "Nearest neighbours on frozen features", self.task, outputs, judged.targets,
            time.perf_counter() - started, note, kind="neighbours", **about,
        )  # fmt: skip

    def _doubt_labels(self, judged: Judged, validation: list[np.ndarray], probe: Trained | None) -> None:
        """Looks for labels that are likely wrong, and writes all of them down."""
        outputs = {"test": judged.outputs, "validation": validation}
        recipe = None if probe is None else probe.recipe
        found = suspects(self.prepared, self.engine, outputs, judged.targets, recipe)
        if found is not None:
            write_text(self.folder.suspects, found.table().to_csv(index=False))
            found.rows = found.rows[:SHOWN]
        judged.evaluation.suspects = found

    def _seen(self) -> np.ndarray:
        """(n,) whether training or choosing has seen a test row's input, or nearly."""
        dataset, task = self.prepared.dataset, self.task
        leaks = [one for one in self.prepared.findings if (one.code, one.split) == ("leak", "test")]
        checked = self.frame["__row__"].isin([row for one in leaks for row in one.rows]).to_numpy()
        inputs, kind = task.columns.roles["input"], task.input_kind
        seen = seen_before(dataset.splits["train"], self.frame, inputs, kind, dataset.root)
        return np.asarray(checked | seen)

    def _trained(self, name: str, kind: str, trained: Trained, judged: Judged, about: _Against) -> Baseline:
        source = self.engine.sources[trained.recipe.model]
        split = Split(self.engine.inputs.encode(self.frame, source, trained.recipe), judged.targets)
        outputs = trained.outputs(self.engine, split)
        return simple.from_outputs(
            name, self.task, outputs, judged.targets, trained.seconds, trained.note, kind=kind, **about
        )

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
        write_text(self.folder.predictions, table.to_csv(index=False))


def _plain(outputs: Outputs, predictor: Predictor) -> list[np.ndarray]:
    """What a saved network says without its temperature, as ensembles weigh it."""
    return [row * predictor.temperature for row in outputs]
