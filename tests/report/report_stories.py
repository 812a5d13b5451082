"""Made stories for the report's tests: a usual run, a hostile one, a bare one, and a large one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import report_evidence

from luthier.evaluate.baselines import Baseline
from luthier.evaluate.evaluation import Evaluation, WorstError
from luthier.evaluate.importance import Importance, importance
from luthier.evaluate.leaks import Leaked
from luthier.recipe import Recipe
from luthier.report.story import Axis, BestTrial, DatasetFacts, ModelFacts, Story

CLASSES = ["abbreviation", "description", "entity", "human", "location", "number"]
QUESTIONS = [
    "What does the abbreviation AIDS stand for ?",
    "Who was the first man to walk on the surface of the moon , and in which year did he do so ?",
    "How far is it from Denver to Aspen ?",
    "What county is Modesto , California in ?",
    "What is an atom ?",
]


def made_trials(count: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    trials, epochs = [], []
    for trial in range(count):
        adaptation = ["probe", "last_k", "lora", "full"][trial % 4]
        rate = 10 ** rng.uniform(-5, -3)
        length = int(rng.integers(2, 6))
        top = 0.8 + 0.04 * (trial % 4) - 0.02 * abs(np.log10(rate) + 4) + rng.normal(0, 0.01)
        failed = trial % 11 == 10
        for epoch in range(1, length + 1):
            row = {
                "trial": trial,
                "epoch": epoch,
                "score": top - 0.2 * np.exp(-epoch),
                "seconds": 2.0 + trial % 4,
            }
            epochs.append(
                row
                | {
                    "loss": 1.1 - top + np.exp(-epoch) + 0.03 * max(0, epoch - 3),
                    "train_loss": (1.6 - top) * np.exp(-0.6 * epoch),
                }
            )
        recipe = Recipe(
            model="minilm",
            adaptation=adaptation,
            lora_rank=int(rng.choice([4, 8, 16])) if adaptation == "lora" else 8,
            learning_rate=rate,
            epochs=length,
            weight_decay=rng.choice([0.0, 0.01, 0.1]),
            batch_size=int(rng.choice([16, 32, 64])),
            label_smoothing=float(rng.choice([0.0, 0.1])),
        )
        trials.append(
            {
                "number": trial,
                "status": "failed" if failed else "completed",
                "score": np.nan if failed else top,
            }
            | {
                "seconds": (2.0 + trial % 4) * length,
                "epochs": length,
                "peak_memory": 6.2e8 + 1e8 * (trial % 4),
            }
            | {"trainable_parameters": [2_310, 3_600_000, 299_000, 22_700_000][trial % 4]}
            | {"reason": "loss became nan in epoch 1" if failed else ""}
            | {"recipe_epochs" if name == "epochs" else name: value for name, value in recipe}
        )
    return pd.DataFrame(trials), pd.DataFrame(epochs)


@lru_cache
def mattered(count: int) -> Importance:
    return importance(made_trials(count)[0])


def made_story(count: int = 24, classes: list[str] | None = None) -> Story:
    classes = classes or CLASSES
    rng = np.random.default_rng(1)
    trials, epochs = made_trials(count)
    best = int(trials.loc[trials["score"].idxmax(), "number"])
    size = len(classes)
    counts = np.diag(rng.integers(60, 100, size)) + rng.poisson(6 / size, (size, size))
    baselines = [
        Baseline(
            "Always the most frequent answer",
            {"accuracy": 0.276},
            (0.238, 0.316),
            0.004,
            "",
            0.69,
            (0.646, 0.734),
            "majority",
            3e-97,
        ),
        Baseline(
            "TF-IDF + logistic regression",
            {"accuracy": 0.89},
            (0.862, 0.916),
            1.2,
            "",
            0.076,
            (0.052, 0.102),
            "classical",
            2.4e-08,
        ),
        Baseline(
            "Probe on frozen features",
            {"accuracy": 0.934},
            (0.912, 0.955),
            9.1,
            "",
            0.032,
            (0.014, 0.05),
            "probe",
            0.0013,
        ),
        Baseline(
            "The same from scratch",
            {"accuracy": 0.808},
            (0.772, 0.842),
            88.0,
            "3 of 5 epochs in the time given",
            0.158,
            (0.126, 0.192),
        ),
    ]
    worst = [
        WorstError(
            17 + 31 * i,
            QUESTIONS[i % 5],
            classes[i % size],
            classes[(i + 1) % size],
            0.99 - 0.02 * i,
            5.2 - 0.3 * i,
        )
        for i in range(12)
    ]
    evaluation = Evaluation(
        metric="accuracy",
        maximize=True,
        metrics={"accuracy": 0.966, "macro_f1": 0.959, "loss": 0.131},
        intervals={"accuracy": (0.95, 0.98), "macro_f1": (0.934, 0.976), "loss": (0.09, 0.18)},
        n=500,
        confusion=(classes, counts),
        worst=worst,
        baselines=baselines,
        leaked=Leaked(11, 0.9652, (0.947, 0.98), 489),
        seconds=0.4,
    )
    report_evidence.fill(evaluation, QUESTIONS, classes)
    recipe = Recipe.parse(
        {name: trials.set_index("number").loc[best, name] for name in ("model", "adaptation")}
    )
    return Story(
        run="trec6-20260301-101500",
        task="text-classification",
        metric="accuracy",
        maximize=True,
        status="finished",
        dataset=DatasetFacts(
            "trec6",
            "data/trec6",
            "someone/trec6",
            {"train": 4634, "validation": 818, "test": 500},
            classes,
            {"input": "text", "target": "label"},
            [
                (
                    "warning",
                    "11 test texts also occur in train (rows 14, 51, 88, …). Drop them with --drop-leaks.",
                ),
                ("info", "The rarest class, abbreviation, has 86 of 5,452 training rows."),
            ],
        ),
        model=ModelFacts(
            "minilm",
            22_713_216,
            22_713_216,
            "sentence-transformers/all-MiniLM-L6-v2",
            "apache-2.0",
            pipeline_tag="text-classification",
        ),
        settings={"data": "data/trec6", "budget": "10m", "strategy": "random"},
        best=BestTrial(best, recipe.model_dump(), float(trials["score"].max()), 4, 61.0, recipe.describe()),
        trials=trials,
        epochs=epochs,
        evaluation=evaluation,
        importance=mattered(count),
        diagnosis=evaluation.verdicts,
        stages=[
            ("read and check", 3.2),
            ("rank models", 14.0),
            ("search", 508.0),
            ("baselines", 62.0),
            ("evaluate", 4.0),
        ],
        budget=600.0,
        spent=591.2,
        seed=7,
        versions={"luthier": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.9"},
        device="2 CPU cores, 8 GB",
        command="luthier tune data/trec6 --budget 10m --seed 7",
        snippet="from transformers import pipeline\n\n"
        'classify = pipeline("text-classification", "runs/trec6/model")\nclassify("Who wrote Faust ?")',
        notes=["Task: text-classification (column 'label').", "Rows: 4,634 train, 818 validation, 500 test."],
        next_commands=["luthier predict runs/trec6 questions.csv", "luthier tune data/trec6 --budget 1h"],
        created="2026-03-01",
    )


HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"quoted\" 'single' & <b>bold</b> {{ 7*7 }} {% raw %}",
    "مرحبا بالعالم \u202e backwards",
    "\U0001f3bb violin \u2028 separator \x00 nul",
    "AVeryLongLabelWithoutAnySpaces" * 12,
]


def hostile_story() -> Story:
    story = made_story(12, classes=HOSTILE)
    story.run = story.dataset.name = story.model.name = HOSTILE[0]
    report_evidence.spoil(story.evaluation, HOSTILE)
    story.dataset.findings = [("error", text) for text in HOSTILE]
    story.notes, story.next_commands, story.snippet, story.command = (
        HOSTILE,
        HOSTILE,
        HOSTILE[0] + "\n```",
        HOSTILE[5],
    )
    story.trials["model"] = [HOSTILE[i % 6] for i in range(len(story.trials))]
    story.trials["adaptation"] = [HOSTILE[i % 6] for i in range(len(story.trials))]
    story.importance = importance(story.trials)
    story.versions, story.device = {HOSTILE[0]: HOSTILE[1]}, HOSTILE[1]
    story.stages = [(text, 3.0) for text in HOSTILE]
    for row, text in zip(story.evaluation.worst, HOSTILE * 2, strict=True):
        row.input, row.truth, row.prediction = text + " \ud800", text, text
    for baseline, text in zip(story.evaluation.baselines, HOSTILE, strict=False):
        baseline.name = baseline.note = text
    return story


def weighed_story() -> Story:
    """Scores against latency, which was limited, and size: three structures, some trials refused."""
    story = made_story(24)
    story.axes = [Axis("latency_ms", "latency, ms", 20.0), Axis("size_mb", "size, MB")]
    kind = story.trials["number"] % 3
    story.trials["model"] = kind.map({0: "small", 1: "middle", 2: "large"})
    story.trials["latency_ms"] = kind.map({0: 3.25, 1: 9.5, 2: 31.0})
    story.trials["size_mb"] = kind.map({0: 22.0, 1: 90.86, 2: 438.0})
    story.trials["score"] += 0.01 * kind
    refused = kind == 2
    story.trials.loc[refused, ["status", "score", "seconds"]] = ["failed", np.nan, 0.0]
    story.trials.loc[refused, "reason"] = "latency 31 ms, more than the 20 ms allowed"
    scores = story.trials["score"]
    story.trials["pareto"] = scores.groupby(kind).transform("max").eq(scores) & ~refused
    best = story.trials.loc[scores.idxmax()]
    story.best.trial, story.best.score = int(best["number"]), float(best["score"])
    return story


def bare_story() -> Story:
    """One trial, nothing optional, a metric of which less is better, and nothing known about intervals."""
    nan = float("nan")
    story = made_story(1)
    story.trials = pd.DataFrame({"number": [0], "score": [-0.71]})
    story.epochs = pd.DataFrame(columns=["trial", "epoch", "score", "loss", "train_loss"])
    return Story(
        run="bare",
        task="text-regression",
        metric="rmse",
        maximize=False,
        status="interrupted",
        dataset=DatasetFacts("esol"),
        model=ModelFacts("minilm"),
        settings={},
        best=BestTrial(0, {}, -0.71, 1, nan),
        trials=story.trials,
        epochs=story.epochs,
        importance=importance(story.trials),
        evaluation=Evaluation("rmse", False, {"rmse": 0.74, "r2": nan}, {"rmse": (nan, nan)}, 1),
    )
