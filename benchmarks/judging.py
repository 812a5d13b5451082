"""What is said of a result, held against made data whose truth is known: calibration, slices, labels.

    make bench-judging

No network is trained. Each row is a rate over repeats with seeds of their own; see docs/evaluation.md.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from luthier.evaluate.baselines import mcnemar
from luthier.evaluate.calibration import calibrate, fit_temperature
from luthier.evaluate.slices import find_slices
from luthier.evaluate.suspects import Looked, find_suspects, out_of_fold
from luthier.tasks.base import Columns
from luthier.tasks.text_classification import TextClassification
from table import merge, row, show

REPEATS = 200
CLASSES = 4


def task(frame: pd.DataFrame) -> TextClassification:
    """A task over the columns ``text`` and ``label``."""
    made = TextClassification(Columns({"input": "text", "target": "label"}))
    made.fit(frame)
    return made


def letters() -> TextClassification:
    """A task of `CLASSES` classes."""
    return task(pd.DataFrame({"text": list("abcd"), "label": list("abcd")}))


def answers(rows: int, temperature: float, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Logits that would be calibrated if divided by the temperature, and true classes drawn so."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, CLASSES))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = (shares.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return list(logits * temperature), [np.asarray(one) for one in classes]


def intervals() -> list[dict[str, object]]:
    """How often the 95% interval of the calibration error holds the error of 200,000 rows."""
    found, of = [], letters()
    for temperature in (1.0, 1.5, 2.5):
        large = calibrate(of, *answers(200_000, temperature, 99))
        assert large is not None
        truth = 0.0 if temperature == 1.0 else large.error
        for rows in (200, 1000):
            held = 0
            for seed in range(REPEATS):
                told = calibrate(of, *answers(rows, temperature, 1000 + seed), seed=seed)
                assert told is not None
                held += told.interval[0] <= truth <= told.interval[1]
            rate = held / REPEATS
            found.append(
                row(
                    f"interval of calibration error {truth:.3f}, {rows} rows",
                    100 * rate,
                    "% hold it",
                    bar=">= 90",
                    met=rate >= 0.9,
                )
            )
    return found


def temperatures() -> list[dict[str, object]]:
    """How far the fitted temperature is off, and what it makes of the error on other rows."""
    found, of = [], letters()
    for temperature in (0.4, 1.0, 2.5):
        for rows in (100, 1000):
            off, before, after = [], [], []
            for seed in range(50):
                fitted = fit_temperature(of, *answers(rows, temperature, seed))
                off.append(abs(math.log(fitted / temperature)))
                outputs, targets = answers(2000, temperature, 5000 + seed)
                told = calibrate(of, [one / fitted for one in outputs], targets, temperature=fitted)
                assert told is not None
                before.append(told.before)
                after.append(told.error)
            met = np.mean(after) < np.mean(before) + 0.01
            found.append(
                row(
                    f"temperature {temperature}, {rows} rows: error on others",
                    float(np.mean(after)),
                    "",
                    peer=f"{np.mean(before):.3f} without",
                    spread=f"off by {100 * np.mean(off):.0f}% on average",
                    bar="no worse by 0.01",
                    met=bool(met),
                )
            )
    return found


def slices() -> list[dict[str, object]]:
    """How often an equal slice is called worse, and how often a worse one is."""
    alarms = named = 0
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(
            {
                "text": [" ".join(["word"] * int(size)) for size in rng.integers(1, 41, 600)],
                "label": rng.choice(["ant", "bee", "cow"], 600, p=[0.5, 0.3, 0.2]),
                "source": rng.choice(["app", "mail", "web"], 600),
            }
        )
        of = task(frame)
        true = np.array([int(one) for one in of.targets(frame)])
        for rate, alike in ((0.9, True), (np.where(frame["source"] == "mail", 0.75, 0.9), False)):
            shown = np.where(rng.random(600) < rate, true, (true + 1) % 3)
            told = find_slices(of, list(np.eye(3)[shown]), of.targets(frame), frame, columns=["source"])
            worse = {one.name for one in told if one.worse}
            alarms += alike and bool(worse)
            named += not alike and "mail" in worse
    return [
        row("slices: runs with a false alarm, 10 equal slices", 100 * alarms / REPEATS, "%", bar="<= 8",
            met=alarms <= 0.08 * REPEATS),
        row("slices: 75% against 90% right found, 200 of 600 rows", 100 * named / REPEATS, "%", bar=">= 80",
            met=named >= 0.8 * REPEATS),
    ]  # fmt: skip


def labels() -> list[dict[str, object]]:
    """Precision and recall of doubted labels, by how often labels are wrong and how well classes part."""
    found = []
    for distance in (1.5, 2.0, 3.0):
        for noise in (0.0, 0.05, 0.1, 0.2):
            counts = np.zeros(4)
            right = []
            for seed in range(6):
                rng = np.random.default_rng(seed)
                true = rng.integers(0, 6, 1200)
                features = rng.normal(size=(1200, 20)) + distance * np.eye(6, 20)[true]
                wrong = rng.random(1200) < noise
                given = np.where(wrong, (true + rng.integers(1, 6, 1200)) % 6, true)
                frame = pd.DataFrame(
                    {"text": ["t"] * 1200, "label": [str(one) for one in given], "__row__": np.arange(1200)}
                )
                of = task(frame)
                shares, _ = out_of_fold(features, of.targets(frame), 6, seconds=math.inf, seed=seed)
                right.append(float((shares.argmax(axis=1) == true).mean()))
                told = find_suspects(of, [Looked("train", frame, of.targets(frame), shares)])
                doubted = np.isin(np.arange(1200), [one.row for one in told.rows] if told else [])
                counts += [doubted.sum(), (doubted & wrong).sum(), wrong.sum(), 1200]
            doubted, hit, wrongs, rows = counts
            share = f"{100 * doubted / rows:.1f}% of rows doubted"
            name = f"labels: model right in {100 * np.mean(right):.0f}%, {100 * noise:.0f}% of labels wrong"
            if noise:
                precision = 100 * hit / max(1, doubted)
                recall = f"{share}, recall {100 * hit / wrongs:.0f}%"
                found.append(row(name, precision, "% of doubts true", spread=recall))
            else:
                found.append(row(name, 100 * doubted / rows, "% of rows doubted"))
    return found


def mcnemars() -> list[dict[str, object]]:
    """How often two models of equal accuracy are told apart at 5%."""
    of, told = letters(), 0
    targets = [np.asarray(0)] * 300
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        hard = rng.random(300) < 0.3
        outputs = [
            list(np.eye(CLASSES)[(rng.random(300) < np.where(hard, 0.5, 0.05)).astype(int)]) for _ in range(2)
        ]
        p = mcnemar(of, *outputs, targets)
        told += p is not None and p < 0.05
    return [
        row("McNemar: equal models told apart at 5%", told / 10, "%", bar="<= 6", met=told <= 60),
    ]


def main() -> None:
    """Measures all, and writes the file."""
    rows = [*intervals(), *temperatures(), *slices(), *labels(), *mcnemars()]
    merge("judging", rows)
    show(rows)


if __name__ == "__main__":
    main()
