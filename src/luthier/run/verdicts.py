"""Gathers the `Case` of a run: what the rules of `luthier.evaluate.verdicts` are told. Nothing is judged
here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier.data.duplicates import input_texts
from luthier.engine.engine import Engine
from luthier.engine.inputs import Split
from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.giveaway import Giveaway, giveaway
from luthier.evaluate.noise import Noise, contradicted, joined
from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts import Case, Fit, Found, Ignored, judge
from luthier.run.baselines import Trained, probe_recipe
from luthier.run.prepare import Prepared, search_space
from luthier.run.sizes import BUDGET_SHARE, SECONDS, Frozen, frozen
from luthier.space.domain import Number
from luthier.study.study import Finished

# Training rows that the winner is looked at on, the share of the budget that this may take, and the most.
FIT_ROWS, FIT_SHARE, FIT_SECONDS = 1000, 0.02, 10.0
# Image files that are opened for their traits.
FILES = 1000


def verdicts(
    prepared: Prepared, engine: Engine, best: Finished, evaluation: Evaluation, outputs: Sequence[np.ndarray],
    trials: pd.DataFrame, epochs: pd.DataFrame, *, probe: Trained | None = None, budget: float = math.inf,
) -> list[Verdict]:  # fmt: skip
    """Looks at what the rules need beside the tables, fills the evaluation's curve over sizes, and judges.

    Args:
        prepared: Data, task and findings.
        engine: Has the model's features and trained weights.
        best: The winner.
        evaluation: Of it on the test split, with baselines.
        outputs: Its answers there.
        trials: The study's trials.
        epochs: Their epochs.
        probe: The head on frozen features, where one was trained.
        budget: Seconds of the run, of which looking takes a small share.
    """
    told = _frozen(prepared, engine, best, probe, budget)
    if told is not None:
        evaluation.sizes = told.sizes
    task, targets = engine.task, engine.inputs.targets("validation")
    known = task.metrics(task.majority(engine.inputs.targets("train"), targets), targets)
    answers = task.targets(prepared.dataset.splits["test"])
    case = Case(
        trials,
        epochs,
        best.trial,
        metric=task.metric,
        maximize=task.maximize,
        majority=task.score(known),
        blank_loss=_blank_loss(engine),
        evaluation=evaluation,
        training=_fit(engine, best, budget),
        findings=_findings(prepared),
        giveaway=_giveaway(prepared, engine),
        noise=_noise(engine, best, outputs, answers, told),
        ignored=_ignored(engine, best, outputs, answers, told) if task.target_kind == "class" else [],
        usual_rates=_usual_rates(prepared, best),
    )
    return judge(case)


def _blank_loss(engine: Engine) -> float:
    """The loss on training rows of the most frequent answer or of zero logits, whichever is the larger."""
    task, targets = engine.task, engine.inputs.targets("train")
    most = task.majority(targets, targets)
    nothing = [np.zeros_like(one) for one in most]
    return max(task.metrics(outputs, targets)["loss"] for outputs in (most, nothing))


def looking_seconds(budget: float) -> float:
    """What looking may take of a budget."""
    return min(BUDGET_SHARE * budget, SECONDS) + min(FIT_SHARE * budget, FIT_SECONDS)


def _frozen(
    prepared: Prepared, engine: Engine, best: Finished, probe: Trained | None, budget: float
) -> Frozen | None:
    model = best.recipe.model
    recipe = (
        probe.recipe if probe and probe.recipe.model == model else probe_recipe(engine, model, best.recipe)
    )
    groups = prepared.groups("validation")
    return frozen(engine, recipe, budget=budget, groups=groups, seed=prepared.settings.seed)


def _fit(engine: Engine, best: Finished, budget: float) -> Fit | None:
    """The winner on a sample of training rows; None where there is no time for a hundred."""
    frame, source = engine.inputs.frames["train"], engine.sources[best.recipe.model]
    count, cost = min(len(frame), FIT_ROWS), engine.epoch_seconds(best.recipe)
    if cost:
        # An epoch passes forward and back; this, forward only, takes no longer.
        count = min(count, int(min(FIT_SHARE * budget, FIT_SECONDS) / cost * len(frame)))
    if count < min(len(frame), 100):
        return None
    rows = np.sort(np.random.default_rng(0).choice(len(frame), count, replace=False))
    targets = [engine.inputs.targets("train")[row] for row in rows]
    split = Split(engine.inputs.encode(frame.iloc[rows], source, best.recipe), targets)
    network = engine.network(best.recipe, best.seed, trial=best.trial)
    metrics = engine.task.metrics(engine.outputs(network, best.recipe, split), targets)
    return Fit(engine.task.score(metrics), metrics["loss"], count)


def _findings(prepared: Prepared) -> list[Found]:
    """What the check found, but for leaks that were dropped."""
    found = []
    for one in prepared.findings:
        if one.code == "leak" and prepared.settings.drop_leaks:
            continue
        split = one.split or ""
        rows = len(prepared.dataset.splits.get(split, ()))
        found.append(Found(one.severity, one.message, one.code, split, len(one.rows) / rows if rows else 0.0))
    return found


def _giveaway(prepared: Prepared, engine: Engine) -> Giveaway | None:
    """Of texts their words; of images what a file tells without its pixels."""
    task = engine.task
    if task.target_kind != "class":
        return None
    names, frames = ("train", "validation"), engine.inputs.frames
    classes = [np.asarray(engine.inputs.targets(name), dtype=np.int64) for name in names]
    if task.modality == "image":
        places = [np.arange(len(frames[name]))[: FILES if name == "train" else FILES // 4] for name in names]
        if len(frames["train"]) > FILES:
            places[0] = np.random.default_rng(0).choice(len(frames["train"]), FILES, replace=False)
        files = [list(frames[name][task.input].iloc[at]) for name, at in zip(names, places, strict=True)]
        said = [[_traits(engine.inputs.root / file) for file in some] for some in files]
        classes = [each[at] for each, at in zip(classes, places, strict=True)]
    else:
        said = [input_texts(frames[name], task.columns.roles["input"]) for name in names]
    return giveaway(said[0], classes[0], said[1], classes[1], task.label_names)


def _traits(file: Path) -> str:
    """Size, mode and format of an image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return f"{image.width}x{image.height} {image.mode} {image.format}"
    except OSError:
        return ""


def _noise(
    engine: Engine, best: Finished, outputs: Sequence[np.ndarray], answers: Sequence[np.ndarray],
    told: Frozen | None,
) -> Noise | None:  # fmt: skip
    """From a head on the training rows, and from the winner on rows that it was not trained on."""
    if engine.task.target_kind != "class":
        return None
    scores, given = _held_out(engine, best, outputs, answers)
    winner = contradicted(scores, given, "The model")
    return joined([told.noise if told else None, winner])


def _ignored(
    engine: Engine, best: Finished, outputs: Sequence[np.ndarray], answers: Sequence[np.ndarray],
    told: Frozen | None,
) -> list[Ignored]:  # fmt: skip
    """Classes of the test split that are never answered, and how well they can be ranked: by the model on
    rows that it was not trained on, or by a head on the frozen features; the surer of the two.
    """
    from scipy.special import log_softmax

    true = np.asarray(answers, dtype=np.int64)
    said = set(np.stack(list(outputs)).argmax(axis=1).tolist())
    scores, given = _held_out(engine, best, outputs, answers)
    seen = [("The model", log_softmax(scores, axis=1), given)]
    if told is not None:
        seen.append(("A linear head on the frozen features", told.left_out, told.given))
    found = []
    for at, name in enumerate(engine.task.label_names):
        rows = int((true == at).sum())
        if at in said or not rows:
            continue
        fair = rows * engine.task.num_outputs / int((true >= 0).sum())
        ranked = [
            Ignored(name, rows, fair, *ranking(weights[mine, at], weights[theirs, at]), who)
            for who, weights, known in seen
            if (mine := known == at).any() and (theirs := (known >= 0) & (known != at)).any()
        ]
        if ranked:
            found.append(max(ranked, key=lambda one: one.interval[0]))
    return found


def _held_out(
    engine: Engine, best: Finished, outputs: Sequence[np.ndarray], answers: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The winner's outputs on test and validation rows, (n, classes), and their classes (n,)."""
    kept = engine.kept.load(best.trial) if engine.kept is not None else None
    parts = [(outputs, answers)] + ([(kept, engine.inputs.targets("validation"))] if kept else [])
    scores = np.concatenate([np.stack(list(part)) for part, _ in parts]).astype(np.float64)
    return scores, np.concatenate([np.asarray(labels, dtype=np.int64) for _, labels in parts])


def ranking(inside: np.ndarray, outside: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The area under the ROC curve and its 95% interval (Hanley & McNeil 1982).

    Args:
        inside: Scores of rows of the class.
        outside: Of the others.
    """
    from scipy.stats import rankdata

    m, n = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))
    area = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (m - 1) * (first - area**2) + (n - 1) * (second - area**2)
    half = 1.96 * math.sqrt(max(variance, 0.0) / (m * n))
    return area, (max(0.0, area - half), min(1.0, area + half))


def _usual_rates(prepared: Prepared, best: Finished) -> tuple[float, float] | None:
    """The default space's rates for the winner's adaptation."""
    space = search_space(prepared, None, [best.recipe.model])
    domain: Any = space.active(best.recipe).get("learning_rate")
    return (float(domain.low), float(domain.high)) if isinstance(domain, Number) else None
