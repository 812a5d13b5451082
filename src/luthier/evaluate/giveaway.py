"""Whether one word, or one trait of a file, gives the answer away. Whether rows stand in two splits is found
in `luthier.data.leaks`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.evaluate.intervals import Interval, wilson

RIGHT = 0.98
"""A rule of one mark for each class that is right this often gives the answer away."""
_LEAST = 20
_LARGEST = 5000
_WORD = re.compile(r"[^\s,;.!?()\"']+")


@dataclass(frozen=True)
class Giveaway:
    """A rule that needs no model.

    Attributes:
        marks: Class name to the mark that says it.
        share: Of the validation rows that it answers right.
        interval: 95% (low, high) of that.
        n: Validation rows.
    """

    marks: dict[str, str]
    share: float
    interval: Interval
    n: int


def giveaway(
    train: Sequence[str], classes: np.ndarray, other: Sequence[str], answers: np.ndarray,
    names: Sequence[str],
) -> Giveaway | None:  # fmt: skip
    """Looks for a word of each class but one that stands in its rows and nowhere else.

    Args:
        train: n texts.
        classes: (n,) class indices, negative where there is none.
        other: m further texts, to prove the rule on.
        answers: (m,) their classes.
        names: Of the classes.

    Returns:
        None where no such rule is right in `RIGHT` of the further rows.
    """
    counted = np.flatnonzero(answers >= 0)
    if len(counted) < _LEAST or len(names) < 2:
        return None
    marks = _marks([_words(text) for text in train[:_LARGEST]], classes[:_LARGEST], len(names))
    # The class whose mark is the worst needs none: it is what is left.
    rest = min(range(len(names)), key=lambda at: marks[at][1] if at in marks else -1.0)
    ranked = sorted((at for at in marks if at != rest), key=lambda at: -marks[at][1])
    right = 0
    for row in counted.tolist():
        words = _words(other[row])
        said = next((at for at in ranked if marks[at][0] in words), rest)
        right += said == answers[row]
    share = right / len(counted)
    if len(ranked) < len(names) - 1 or share < RIGHT:
        return None
    found = {names[at]: marks[at][0] for at in sorted(ranked)}
    return Giveaway(found, share, wilson(right, len(counted)), len(counted))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _marks(rows: list[set[str]], classes: np.ndarray, count: int) -> dict[int, tuple[str, float]]:
    """For each class its best word, and the F1 of answering the class where that word stands."""
    known = [(words, int(at)) for words, at in zip(rows, classes, strict=False) if at >= 0]
    anywhere = Counter(word for words, _ in known for word in words)
    inside: list[Counter[str]] = [Counter() for _ in range(count)]
    sizes = Counter(at for _, at in known)
    for words, at in known:
        inside[at].update(words)
    found = {}
    for at in range(count):
        scored = {word: 2 * hits / (anywhere[word] + sizes[at]) for word, hits in inside[at].items()}
        if scored:
            word = max(scored, key=lambda one: (scored[one], one))
            found[at] = (word, scored[word])
    return found
