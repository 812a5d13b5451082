"""`Story`: all that a report or model card tells of a run, as plain values and tables. Nothing here is
computed or read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.importance import Importance
from luthier.evaluate.verdict import Verdict

Severity = Literal["error", "warning", "info"]


@dataclass
class DatasetFacts:
    """The data.

    Attributes:
        name: Its name, e.g. a file's stem or a hub id.
        source: Where it came from: a path or hub id.
        hub_id: Its id on a hub where it is one, for the card's ``datasets``.
        counts: Rows by split, in the order train, validation, test.
        classes: Label names; empty where there are none.
        columns: Role to column name(s), for the card.
        findings: What the data check found, as (severity, message): errors and warnings want something done,
            infos are notes.
    """

    name: str
    source: str = ""
    hub_id: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    findings: list[tuple[Severity, str]] = field(default_factory=list)


@dataclass
class ModelFacts:
    """The pre-trained model that was chosen.

    Attributes:
        name: As the user named it.
        parameters: All parameters of the network.
        trainable: Those that the chosen recipe trained, or None.
        hub_id: Its id on a hub where it is one, for ``base_model`` in the card.
        license: Its license where known.
        library: ``transformers`` or ``peft``: what loads the finished model.
        pipeline_tag: The hub's name for the task, e.g. ``text-classification``; empty where there is none.
        languages: Language codes where known.
    """

    name: str
    parameters: int = 0
    trainable: int | None = None
    hub_id: str = ""
    license: str = ""
    library: str = "transformers"
    pipeline_tag: str = ""
    languages: list[str] = field(default_factory=list)


@dataclass
class BestTrial:
    """The chosen trial.

    Attributes:
        trial: Its number.
        recipe: All its settings, by name.
        score: Its best validation score, higher is better.
        epoch: The epoch that was restored, 1-based.
        seconds: What it took.
        describe: One short line, as `Recipe.describe` gives it.
        how: How it was chosen, where finalists were repeated; a sentence.
    """

    trial: int
    recipe: dict[str, Any]
    score: float
    epoch: int
    seconds: float
    describe: str = ""
    how: str = ""


@dataclass(frozen=True)
class Axis:
    """Something that scores are held against, of which less is better.

    Attributes:
        column: Of the trials table.
        name: For people, with the unit.
        limit: The most that was allowed, in that unit; None: any.
    """

    column: str
    name: str
    limit: float | None = None


@dataclass
class Story:
    """A whole run.

    Attributes:
        run: The run's name.
        task: The task's name, e.g. ``text-classification``.
        metric: Name of the optimised metric.
        maximize: Whether more of it is better. Scores below are always higher-is-better (a minimised metric
            negated).
        status: ``finished``, or ``interrupted`` where the user or the clock ended it early.
        dataset: The data.
        model: The chosen pre-trained model.
        settings: The run's settings, by name.
        best: The chosen trial.
        trials: One row a trial, in the store's columns: ``number``, ``status``, ``score``, ``seconds``,
            ``epochs`` (trained), ``peak_memory`` (bytes), ``trainable_parameters``, ``reason``, and the
            recipe's settings; all but ``number`` and ``score`` may be missing. Where there are ``axes``, also
            their columns, and ``pareto``: whether no other trial beats it in score and on all of them.
        epochs: One row an epoch of a trial, in the store's columns: ``trial``, ``epoch`` (1-based),
            ``score``, ``loss`` (validation) and ``train_loss``; others are ignored.
        evaluation: The chosen model on the test split, with the baselines.
        importance: How each setting mattered.
        diagnosis: What is to be made of training and results, the gravest first.
        stages: (name, seconds) in order, which add up to ``spent``.
        budget: Seconds asked for, or None where trials were counted instead.
        spent: Seconds used.
        seed: The run's seed.
        versions: Versions by name, e.g. ``luthier``, ``torch``.
        device: Hardware the run had, in words.
        command: The command line that repeats the run; empty where it was started from Python.
        snippet: Python that loads the finished model without Luthier.
        next_commands: What to try next, one command each.
        notes: What was inferred and assumed about the data: task, columns, rows by split; nothing to act on.
        created: When the run ended, as an ISO date.
        image_root: Folder that the file names of image inputs resolve against, to show the worst errors as
            pictures; empty where inputs are no images.
        axes: What scores were to be weighed against, or limited by; empty where only scores counted.
    """

    run: str
    task: str
    metric: str
    maximize: bool
    status: Literal["finished", "interrupted"]
    dataset: DatasetFacts
    model: ModelFacts
    settings: dict[str, Any]
    best: BestTrial
    trials: pd.DataFrame
    epochs: pd.DataFrame
    evaluation: Evaluation
    importance: Importance
    diagnosis: list[Verdict] = field(default_factory=list)
    stages: list[tuple[str, float]] = field(default_factory=list)
    budget: float | None = None
    spent: float = 0.0
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    command: str = ""
    snippet: str = ""
    next_commands: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    created: str = ""
    image_root: str = ""
    axes: list[Axis] = field(default_factory=list)
