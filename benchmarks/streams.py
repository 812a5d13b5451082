"""Made streams of requests for monitoring: embeddings, a linear head on them, and labels from the truth.

What is asked of monitoring is in `monitor`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from luthier.monitor.judgement import Reference, Requests

CLASSES = ("account", "card", "loan", "transfer", "other")
TOPICS = 8
WIDTH = 32
TRAINED = 3000


@dataclass(frozen=True)
class Shift:
    """How requests differ from held-out rows.

    Attributes:
        noise: The share of words that are replaced by unknown ones, which say nothing of the class.
        confusing: The same by other known words, which say something of a random class.
        shares: (classes,) of the true classes; None for equal ones.
        topics: (topics,) shares of topics; None for equal ones.
        length: Texts have this many times the words.
    """

    noise: float = 0.0
    confusing: float = 0.0
    shares: tuple[float, ...] | None = None
    topics: tuple[float, ...] | None = None
    length: float = 1.0


@dataclass
class Rows:
    """Rows of a stream.

    Attributes:
        features: (n, `WIDTH`).
        truths: (n,) classes.
        length: (n,) words.
        unknown: (n,) the share of unknown words.
    """

    features: np.ndarray
    truths: np.ndarray
    length: np.ndarray
    unknown: np.ndarray


@dataclass(eq=False)
class World:
    """Texts as the mean of their words' vectors, and a classifier on it, trained on texts without noise.

    A word's vector is normal around what its class and topic say. A class is drawn first and words from it:
    labels follow the true posterior, short texts are harder than long ones, and words lost to noise take
    both confidence and accuracy away.

    Attributes:
        seed: Of the world and its classifier.
    """

    seed: int
    classes: np.ndarray = field(init=False)
    topics: np.ndarray = field(init=False)
    weights: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.classes = rng.normal(0, 0.15, (len(CLASSES), WIDTH))
        self.topics = rng.normal(0, 0.2, (TOPICS, WIDTH))
        self.weights = trained(self.draw(TRAINED, rng))

    def draw(self, count: int, rng: np.random.Generator, shift: Shift | None = None) -> Rows:
        """Rows of a stream."""
        shift = shift or Shift()
        truths = rng.choice(len(CLASSES), count, p=shift.shares)
        topics = rng.choice(TOPICS, count, p=shift.topics)
        words = np.maximum(3, np.round(shift.length * rng.integers(6, 31, count))).astype(np.int64)
        unknown = rng.binomial(words, 0.02 + shift.noise)
        strange = rng.binomial(words - unknown, shift.confusing)
        known = words - unknown - strange
        said = known[:, None] * (self.classes[truths] + self.topics[topics])
        said += strange[:, None] * self.classes[rng.integers(0, len(CLASSES), count)]
        said += np.sqrt(known + strange)[:, None] * rng.normal(0, 1, (count, WIDTH))
        return Rows(said / words[:, None], truths, words.astype(np.float64), unknown / words)

    def outputs(self, rows: Rows) -> np.ndarray:
        """(n, classes) logits."""
        return np.asarray(np.c_[rows.features, np.ones(len(rows.features))] @ self.weights)

    def reference(self, count: int, rng: np.random.Generator, *, features: int = 500) -> Reference:
        """The reference of ``count`` held-out rows."""
        rows = self.draw(count, rng)
        outputs = self.outputs(rows)
        answered = outputs.argmax(axis=1)
        confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
        np.add.at(confusion, (rows.truths, answered), 1)
        return Reference(
            "class",
            CLASSES,
            outputs,
            np.bincount(answered, minlength=len(CLASSES)),
            sure(outputs),
            answered == rows.truths,
            np.arange(count),
            confusion,
            features=rows.features[:features],
            statistics={"length": rows.length, "unknown": rows.unknown},
            measured=np.arange(count),
        )

    def requests(self, rows: Rows, *, labels: bool = False) -> Requests:
        """A request of each row, a second apart; with labels if wanted."""
        outputs = self.outputs(rows)
        right = (outputs.argmax(axis=1) == rows.truths).astype(np.float64)
        return Requests(
            [str(i) for i in range(len(right))],
            np.arange(len(right), dtype=np.float64),
            outputs,
            rows.features,
            {"length": rows.length, "unknown": rows.unknown},
            right if labels else None,
            rows.truths if labels else None,
        )

    def right(self, rows: Rows) -> float:
        """The share of right answers."""
        return float((self.outputs(rows).argmax(axis=1) == rows.truths).mean())


def joined(*parts: Rows) -> Rows:
    """One stream after the other."""
    return Rows(
        np.concatenate([one.features for one in parts]),
        np.concatenate([one.truths for one in parts]),
        np.concatenate([one.length for one in parts]),
        np.concatenate([one.unknown for one in parts]),
    )


def sure(outputs: np.ndarray) -> np.ndarray:
    """(n,) the probability of each answer."""
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(1 / powers.sum(axis=1))


def trained(rows: Rows) -> np.ndarray:
    """(width + 1, classes) weights of a logistic regression, the last row its intercepts."""
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(C=10.0, max_iter=500).fit(rows.features, rows.truths)
    return np.concatenate([head.coef_.T, head.intercept_[None]])
