from __future__ import annotations

import numpy as np

from luthier.evaluate.giveaway import giveaway

WORDS = ["the", "cat", "sat", "on", "a", "mat", "red", "dog"]
NAMES = ["no", "yes", "maybe"]


def texts(count: int, seed: int, mark: str | None) -> tuple[list[str], np.ndarray]:
    """Random words, with a mark of the class in each text where one is given."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, count)
    made = [" ".join(rng.choice(WORDS, 6)) for _ in range(count)]
    if mark:
        made = [f"{text}, {mark}{at}." for text, at in zip(made, classes, strict=True)]
    return made, classes


def test_a_code_of_each_class_is_found() -> None:
    train, other = texts(90, 0, "x"), texts(40, 1, "x")
    found = giveaway(*train, *other, NAMES)
    assert found is not None and found.share == 1.0 and found.n == 40
    assert set(found.marks) < set(NAMES) and all(mark.startswith("x") for mark in found.marks.values())
    assert found.interval[0] < 1.0


def test_a_code_that_holds_in_training_only_is_none() -> None:
    assert giveaway(*texts(90, 0, "x"), *texts(40, 1, None), NAMES) is None


def test_usual_texts_give_nothing_away() -> None:
    assert giveaway(*texts(90, 0, None), *texts(40, 1, None), NAMES) is None


def test_rows_without_an_answer_and_few_rows_do_not_count() -> None:
    train, (other, classes) = texts(90, 0, "x"), texts(40, 1, "x")
    unknown = np.where(np.arange(40) < 10, -1, classes)
    found = giveaway(*train, other, unknown, NAMES)
    assert found is not None and found.n == 30
    assert giveaway(*train, other[:15], classes[:15], NAMES) is None


def test_one_class_of_two_needs_a_mark() -> None:
    train, classes = texts(60, 0, None)
    binary = (classes > 0).astype(int)
    marked = [text + (" ticket" if at else "") for text, at in zip(train, binary, strict=True)]
    found = giveaway(marked, binary, marked, binary, ["no", "yes"])
    assert found is not None and found.marks == {"yes": "ticket"}
