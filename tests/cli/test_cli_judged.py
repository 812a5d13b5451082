from __future__ import annotations

import math

from luthier.cli.judged import lines
from luthier.evaluate.calibration import Calibration
from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.leaks import Leaked
from luthier.evaluate.slices import Slice
from luthier.evaluate.suspects import Suspects

UNKNOWN = (math.nan, math.nan)


def told(**parts: object) -> list[str]:
    return lines(Evaluation("f1", True, {"f1": 0.5}, {"f1": UNKNOWN}, 9, **parts))  # type: ignore[arg-type]


def test_each_part_has_a_line_and_none_is_said_of_what_is_not_there() -> None:
    assert told() == []
    assert told(worth="It was.") == ["It was."]
    assert told(unseen=1) == ["answers: 1 row has one that training never saw, counted as wrong"]


def test_calibration_before_and_after() -> None:
    assert told(calibration=Calibration(0.0213, (0.0, 0.04), 0.0871, 1.436)) == [
        "calibration: expected error 0.021 (95% interval 0.000 to 0.040), 0.087 before its temperature of "
        "1.44"
    ]
    assert told(calibration=Calibration(0.1)) == ["calibration: expected error 0.100"]


def test_the_worst_slices_by_name() -> None:
    parts = [
        Slice("class", f"c{i}", 100 + i, 0.5 + i / 100, (0.4, 0.6), worse=i < 5, p=(9 - i) / 1000)
        for i in range(8)
    ]
    assert told(slices=parts) == [
        "clearly worse, of 8 slices: class c4: 0.540 in 104 rows (0.400 to 0.600); class c3: 0.530 in 103 "
        "rows (0.400 to 0.600); class c2: 0.520 in 102 rows (0.400 to 0.600); and 2 more"
    ]
    assert told(slices=parts[5:]) == ["slices: none of 3 is clearly worse than the rest"]
    assert told(slices=[Slice("class", "c", 3, 0.5)]) == []


def test_rows_that_training_saw_and_labels_that_are_doubtful() -> None:
    assert told(leaked=Leaked(1, 0.4, (0.3, 0.5), 8)) == [
        "seen in training: 1 test row stands there too; without, f1 0.400 (0.300 to 0.500)"
    ]
    assert told(leaked=Leaked(9, math.nan))[0].endswith("which is all of them")
    assert told(suspects=Suspects([], {"test": 2, "validation": 0, "train": 1200}, 0.0513)) == [
        "labels: 1,202 may be mistakes (2 test, 1,200 train; 5.1% of the rows looked at)"
    ]
    assert told(suspects=Suspects([], {}, 0.0, "It is too weak.")) == ["labels: It is too weak."]
    assert told(suspects=Suspects([], {"test": 0}, 0.0)) == ["labels: none looks like a mistake"]
