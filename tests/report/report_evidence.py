"""Made evidence for the stories: verdicts, ensembles, calibration, slices, data sizes and label mistakes."""

from __future__ import annotations

from luthier.evaluate.calibration import Bin, Calibration
from luthier.evaluate.combined import Combined
from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.sizes import SizeCurve
from luthier.evaluate.slices import Slice
from luthier.evaluate.suspects import Suspect, Suspects
from luthier.evaluate.verdict import Verdict

WORTH = (
    "Fine-tuning was worth it: on test it is better than the best cheap baseline, “Probe on frozen "
    "features”, by +0.032 (95% interval +0.014 to +0.050, McNemar p = 0.001), and took 61 s where the probe "
    "took 9.1 s."
)


def verdicts() -> list[Verdict]:
    return [
        Verdict(
            "leak",
            "fault",
            "Some test texts are in the training data",
            "11 of 500 test texts (2.2%) also occur in train; without them accuracy is 0.965.",
            "Run again with --drop-leaks.",
        ),
        Verdict(
            "still-improving",
            "advice",
            "It was still getting better",
            "The chosen trial was at its best in its last epoch (4; 0.951 before, 0.962 then).",
            "Allow more epochs: --space with epochs up to 8.",
        ),
        Verdict(
            "overfitting",
            "good",
            "No overfitting",
            "At its best epoch the training loss is 0.21 and the validation loss 0.24.",
        ),
        Verdict(
            "beats-baselines",
            "good",
            "Better than every baseline",
            "By at least 0.014 over each, at the lower end of its 95% interval.",
        ),
    ]


def calibration() -> Calibration:
    made = [(0.46, 0.5, 24), (0.63, 0.58, 31), (0.78, 0.8, 45), (0.91, 0.9, 88), (0.97, 0.98, 134)]
    bins = [
        Bin(sure, right, right - 0.6 / n**0.5, min(1.0, right + 0.4 / n**0.5), n)
        for sure, right, n in [*made, (0.994, 0.996, 178)]
    ]
    return Calibration(0.014, (0.008, 0.029), 0.037, 1.42, bins)


def slices(classes: list[str]) -> list[Slice]:
    of_class = [
        Slice("class", name, 20 + 7 * i, 0.97 - 0.02 * (i % 7), (0.9 - 0.03 * (i % 7), 0.99), worse=i == 4)
        for i, name in enumerate(classes)
    ]
    lengths = ["3 to 7 words", "8 to 10 words", "11 to 13 words", "14 to 37 words"]
    of_length = [
        Slice("length", name, 125, 0.98 - 0.015 * i, (0.95 - 0.02 * i, 1.0)) for i, name in enumerate(lengths)
    ]
    of_column = [
        Slice("asker_region", "north", 6, 0.83),
        Slice("asker_region", "other", 494, 0.97, (0.95, 0.98)),
    ]
    return [*of_class, *of_length, *of_column]


def suspects(questions: list[str], classes: list[str]) -> Suspects:
    rows = [
        Suspect(
            ("train", "validation", "test")[i % 3],
            40 + 13 * i,
            questions[i % len(questions)],
            classes[i % len(classes)],
            classes[(i + 2) % len(classes)],
            0.004 + 0.01 * i,
        )
        for i in range(25)
    ]
    return Suspects(rows, {"train": 61, "validation": 9, "test": 4}, 0.0124)


def sizes() -> SizeCurve:
    rows = [289, 579, 1158, 2317, 4634]
    values = [0.802, 0.852, 0.888, 0.914, 0.934]
    lows = [value - 4 / row**0.9 for value, row in zip(values, rows, strict=True)]
    highs = [value + 4 / row**0.9 for value, row in zip(values, rows, strict=True)]
    return SizeCurve(rows, values, lows, highs, 0.949, (0.941, 0.956))


def combined() -> list[Combined]:
    return [
        Combined(
            "greedy", [(7, 0.5), (19, 0.25), (3, 0.25)], 0.968, 0.006, (0.001, 0.011), 0.968, 0.002,
            (-0.006, 0.01), 2.94, chosen=True, seconds=0.8, note="weights by ensemble selection",
        ),
        Combined(
            "stacking", [(7, 0.6), (19, 0.4)], 0.967, 0.004, (-0.002, 0.01), 0.964, -0.002, (-0.01, 0.006),
            1.96, seconds=2.1,
        ),
        Combined(
            "soup", [(-1, 1.0)], 0.96, 0.0, (-0.004, 0.004), cost=1.0, seconds=14.0, note="not judged on test"
        ),
    ]  # fmt: skip


def fill(evaluation: Evaluation, questions: list[str], classes: list[str]) -> None:
    """Everything that an evaluation may hold beside its metrics."""
    evaluation.worth = WORTH
    evaluation.calibration = calibration()
    evaluation.slices = slices(classes)
    evaluation.suspects = suspects(questions, classes)
    evaluation.sizes = sizes()
    evaluation.combined = combined()
    evaluation.verdicts = verdicts()


def spoil(evaluation: Evaluation, texts: list[str]) -> None:
    """Texts from outside, everywhere that an evaluation may hold one."""
    for at, one in enumerate(evaluation.slices):
        one.kind, one.name = texts[at // 4 % len(texts)], texts[at % len(texts)]
    assert evaluation.suspects is not None
    for at, row in enumerate(evaluation.suspects.rows):
        row.input = row.given = row.suggested = row.split = texts[at % len(texts)]
    evaluation.suspects.found = dict.fromkeys(texts, 3)
    for at, way in enumerate(evaluation.combined):
        way.name = way.note = texts[at % len(texts)]
    for at, verdict in enumerate(evaluation.verdicts):
        verdict.name = verdict.title = verdict.evidence = verdict.step = texts[at % len(texts)]
    evaluation.worth = texts[0]
