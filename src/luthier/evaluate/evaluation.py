"""`evaluate`: everything that is said of one model on one held-out split, as plain values that survive a JSON
file."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from luthier.evaluate.baselines import Baseline
from luthier.evaluate.calibration import Calibration, calibrate
from luthier.evaluate.combined import Combined
from luthier.evaluate.continued import Continued
from luthier.evaluate.intervals import UNKNOWN, Interval, metric_intervals
from luthier.evaluate.leaks import Leaked
from luthier.evaluate.plain import Plain, fields_of
from luthier.evaluate.resampling import CrossValidation
from luthier.evaluate.selection import Selection
from luthier.evaluate.sizes import SizeCurve
from luthier.evaluate.slices import Slice, find_slices
from luthier.evaluate.suspects import Suspects
from luthier.evaluate.verdict import Verdict
from luthier.tasks.base import Task
from luthier.tasks.labels import word_lists

TEXT_LIMIT = 600
"""Characters of an input kept among the worst errors."""


@dataclass
class WorstError:
    """One wrong answer.

    Attributes:
        row: Row number in the source file, or the position in the split where the frame has none.
        input: The input as a person sees it, cut to `TEXT_LIMIT` characters.
        truth: The right answer.
        prediction: The model's.
        confidence: The model's confidence in it, where the task gives one.
        loss: Its loss; None for an answer that training never saw.
    """

    row: int
    input: str
    truth: str
    prediction: str
    confidence: float | None
    loss: float | None


@dataclass
class Evaluation(Plain):
    """One model on one split.

    Attributes:
        metric: Name of the metric that was optimised.
        maximize: Whether more of it is better.
        metrics: All metrics by name, ``metric`` first; NaN where one cannot be formed.
        intervals: 95% (low, high) of each metric.
        n: Examples judged: those with a true answer.
        groups: Groups that were resampled, or None where examples were.
        unseen: Examples whose true answer training never saw; they count as wrong.
        confusion: Labels and (true, predicted) counts, or None.
        worst: Wrong answers, largest loss first.
        baselines: What the model must beat, on the same examples.
        seconds: What evaluating took.
        selection: What the rows that the model was chosen on say of it; None where it was not chosen here.
        cross_validation: What finalists scored on rows left out; None where they were not cross-validated.
        calibration: How sure it is and how right; None where answers carry no probability.
        slices: Parts of the rows, by kind; empty where none were looked at.
        suspects: Likely label mistakes; None where they were not looked for.
        sizes: What fewer rows would have given; None where it was not measured.
        worth: Whether fine-tuning was worth it, in a sentence or two.
        combined: Ensembles that were tried, the best on validation first.
        verdicts: What is to be made of it all, the gravest first.
        leaked: What test rows that training has seen do to it; None where there are none, or none were
            looked for.
        continued: Beside the model of the run that was continued; None where none was.
        spent: Seconds that finding and training the model took; 0 where that is not known.
    """

    metric: str
    maximize: bool
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    n: int
    groups: int | None = None
    unseen: int = 0
    confusion: tuple[list[str], np.ndarray] | None = None
    worst: list[WorstError] = field(default_factory=list)
    baselines: list[Baseline] = field(default_factory=list)
    seconds: float = 0.0
    selection: Selection | None = None
    cross_validation: CrossValidation | None = None
    calibration: Calibration | None = None
    slices: list[Slice] = field(default_factory=list)
    suspects: Suspects | None = None
    sizes: SizeCurve | None = None
    worth: str = ""
    combined: list[Combined] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    leaked: Leaked | None = None
    continued: Continued | None = None
    spent: float = 0.0

    @property
    def value(self) -> float:
        """The optimised metric."""
        return self.metrics[self.metric]

    @property
    def interval(self) -> Interval:
        """Its 95% interval."""
        return self.intervals.get(self.metric, UNKNOWN)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes None."""
        values = super().to_json()
        if self.confusion is not None:
            labels, counts = self.confusion
            values["confusion"] = {"labels": list(labels), "counts": np.asarray(counts).tolist()}
        plain: dict[str, Any] = _plain(values)
        return plain

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The evaluation that `to_json` wrote."""
        told = values["confusion"]
        confusion = told and (told["labels"], np.asarray(told["counts"]))
        return cls(**fields_of(cls, values | {"confusion": None}) | {"confusion": confusion})


def evaluate(
    task: Task,
    outputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    frame: pd.DataFrame,
    *,
    groups: Any | None = None,
    seed: int = 0,
    top: int = 20,
    temperature: float = 1.0,
    slices: Sequence[str] = (),
    root: str = ".",
) -> Evaluation:
    """Judges one model's outputs on a held-out split.

    Args:
        task: The fitted task.
        outputs: n arrays, as `Task.outputs` cuts them.
        targets: n arrays, as `Task.targets` encodes them.
        frame: The n rows themselves, to show inputs and true answers from.
        groups: (n,) keys where examples of one group are not independent; whole groups are then resampled.
        seed: Seed of the bootstrap.
        top: How many of the worst errors to keep.
        temperature: What the outputs were divided by.
        slices: Columns of the frame to slice by, beside classes and lengths.
        root: Folder that relative file names in the frame are resolved against.

    Returns:
        The evaluation, without baselines.

    Raises:
        ValueError: The lengths of outputs, targets and frame differ, or there is nothing to judge.
    """
    if not len(outputs) == len(targets) == len(frame) or not len(outputs):
        raise ValueError(
            f"{len(outputs)} outputs, {len(targets)} targets and {len(frame)} rows cannot be judged."
        )
    started = time.perf_counter()
    statistics = task.statistics(outputs, targets)
    counted = statistics.any(axis=1)
    losses = np.asarray(task.example_losses(outputs, targets), dtype=np.float64)
    metrics = {name: float(value) for name, value in task.summarise(statistics.sum(axis=0)).items()}
    evaluation = Evaluation(
        metric=task.metric,
        maximize=task.maximize,
        metrics=metrics,
        intervals=metric_intervals(statistics, task.summarise, groups=groups, seed=seed),
        n=int(counted.sum()),
        groups=None if groups is None else len(set(np.asarray(groups).astype(str))),
        unseen=int((counted & np.isnan(losses)).sum()),
        confusion=task.confusion(outputs, targets),
        worst=worst_errors(task, outputs, statistics, losses, frame, top=top),
        calibration=calibrate(task, outputs, targets, temperature=temperature, groups=groups, seed=seed),
        slices=find_slices(
            task, outputs, targets, frame, columns=slices, groups=groups, root=root, seed=seed
        ),
    )
    evaluation.seconds = time.perf_counter() - started
    return evaluation


def worst_errors(
    task: Task,
    outputs: Sequence[np.ndarray],
    statistics: np.ndarray,
    losses: np.ndarray,
    frame: pd.DataFrame,
    *,
    top: int,
) -> list[WorstError]:
    """The ``top`` wrong answers of largest loss; answers that training never saw come first.

    Args:
        task: The fitted task.
        outputs: n arrays.
        statistics: (n, k).
        losses: (n,), NaN for unseen answers.
        frame: The n rows.
        top: How many at most.
    """
    order = np.argsort(-np.where(np.isnan(losses), np.inf, losses), kind="stable")
    decoded = task.decode(outputs, frame)
    said = [answer_text(next(iter(answer.values()))) for answer in decoded]
    truths = true_answers(task, frame)
    wrong = [int(i) for i in order if truths[i] != said[i] and _counts_as_wrong(task, statistics[i])][:top]
    shown = task.show(frame.iloc[wrong]) if wrong else []
    rows = frame["__row__"].to_numpy() if "__row__" in frame.columns else np.arange(len(frame))
    return [
        WorstError(
            row=int(rows[i]),
            input=text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…",
            truth=truths[i],
            prediction=said[i],
            confidence=_confidence(decoded[i]),
            loss=None if math.isnan(losses[i]) else float(losses[i]),
        )
        for i, text in zip(wrong, shown, strict=True)
    ]


def _counts_as_wrong(task: Task, statistics: np.ndarray) -> bool:
    """Whether the metrics count an example at all, and alone it would not score best.

    An example without a true answer counts as nothing: its statistics are all zero.
    """
    return bool(statistics.any()) and not (task.maximize and task.score(task.summarise(statistics)) >= 1)


def true_answers(task: Task, frame: pd.DataFrame) -> list[str]:
    """The true answer of each row, written as `answer_text` writes predictions."""
    target, source = task.columns.roles["target"], task.columns.roles.get("input")
    if isinstance(target, list) and len(target) > 1:  # a 0/1 column for each label
        marks = frame[target].apply(pd.to_numeric, errors="coerce").to_numpy() == 1
        return [answer_text([name for name, on in zip(target, row, strict=True) if on]) for row in marks]
    column = target[0] if isinstance(target, list) else target
    if task.level == "token" and isinstance(source, str):
        pairs = zip(word_lists(frame, source), word_lists(frame, column), strict=True)
        return [answer_text(spans(row, tags)) for row, tags in pairs]
    return [answer_text(value) for value in frame[column].tolist()]


def spans(words: Sequence[str], tags: Sequence[str]) -> list[dict[str, str]]:
    """Entities of BIO tags, as ``text`` and ``type``; an I- without its B- opens one, as the CoNLL script
    reads it."""
    found: list[dict[str, str]] = []
    previous = "O"
    for word, tag in zip(words, tags, strict=False):
        kind = tag.partition("-")[2] or tag
        if tag != "O":
            if tag.startswith("I-") and previous != "O" and found[-1]["type"] == kind:
                found[-1]["text"] += f" {word}"
            else:
                found.append({"text": str(word), "type": kind})
        previous = tag
    return found


def answer_text(answer: Any) -> str:
    """An answer in one line: a label, a number, labels joined by commas, or entities as ``text [type]``."""
    if isinstance(answer, float):
        return f"{answer:.4g}"
    if isinstance(answer, (list, tuple, np.ndarray)):
        return ", ".join(answer_text(item) for item in answer) or "(none)"
    if isinstance(answer, dict):
        return f"{answer.get('text', '')} [{answer.get('type', '')}]".strip()
    return str(answer)


def _confidence(answer: dict[str, Any]) -> float | None:
    """The confidence that a decoded answer carries, if any."""
    value = answer.get("confidence")
    return float(value) if isinstance(value, (int, float)) else None


def _plain(value: Any) -> Any:
    """JSON values: tuples become lists, numpy scalars numbers, and what is not finite None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
