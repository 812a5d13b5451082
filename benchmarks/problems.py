"""Black-box problems of known optimum: test functions, and tables of scikit-learn's learners on its own data.
How they are searched lives in `blackbox`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import Any

import numpy as np

# Recipe settings that take any share, and one with choices: what a problem's dimensions are to a strategy,
# which speaks recipes only. The names mean nothing here.
SHARES = (
    "head_dropout", "lora_dropout", "label_smoothing", "momentum", "warmup", "weight_decay", "l1", "l2_start",
    "dropout", "layer_decay",
)  # fmt: skip
CHOICE = ("schedule", ("constant", "linear", "cosine"))
LOW, HIGH = 0.01, 0.99
POINTS = 4096


@dataclass(frozen=True)
class Problem:
    """Something to minimise over the unit cube and, where ``choices`` is not empty, one choice.

    Attributes:
        name: With the number of dimensions.
        size: Dimensions of the cube.
        value: Of a point, (size,) in [0, 1], and a choice's number (0 where there are none).
        optimum: Gives the lowest value there is; of a table it is known when all of it has been evaluated.
        choices: How many the choice has, 0 for none.
    """

    name: str
    size: int
    value: Callable[[np.ndarray, int], float]
    optimum: Callable[[], float]
    choices: int = 0

    @cached_property
    def typical(self) -> float:
        """The median value of random points, which has regret 1."""
        rng = np.random.default_rng(0)
        points = rng.random((POINTS, self.size))
        picked = rng.integers(max(self.choices, 1), size=POINTS)
        return float(np.median([self.value(*each) for each in zip(points, picked.tolist(), strict=True)]))

    def regret(self, found: float) -> float:
        """How far a value lies above the optimum, as a share of how far a typical one does."""
        lowest = self.optimum()
        return (found - lowest) / (self.typical - lowest)

    def space(self) -> dict[str, Any]:
        """The plain form of a space with a dimension for each of the problem's."""
        settings: dict[str, Any] = {"model": "m", "epochs": 1}
        settings |= {name: {"low": LOW, "high": HIGH} for name in SHARES[: self.size]}
        return settings | ({CHOICE[0]: list(CHOICE[1][: self.choices])} if self.choices else {})

    def of_recipe(self, recipe: Any) -> float:
        """The value of what a recipe stands for."""
        point = np.array([(getattr(recipe, name) - LOW) / (HIGH - LOW) for name in SHARES[: self.size]])
        return self.value(point, CHOICE[1].index(getattr(recipe, CHOICE[0])) if self.choices else 0)


# -- functions (Surjanovic & Bingham, Virtual Library of Simulation Experiments) -----------------------------


def branin(x: np.ndarray) -> float:
    a, b = x
    return float(
        (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2
        + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a)
        + 10
    )


_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(x: np.ndarray) -> float:
    return float(-(_ALPHA * np.exp(-(_A * (x - _P) ** 2).sum(axis=1))).sum())


def rosenbrock(x: np.ndarray) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (x[:-1] - 1) ** 2).sum())


def ackley(x: np.ndarray) -> float:
    near = -20 * math.exp(-0.2 * math.sqrt((x**2).mean()))
    return float(near - math.exp(np.cos(2 * math.pi * x).mean()) + 20 + math.e)


def rastrigin(x: np.ndarray) -> float:
    return float(10 * len(x) + (x**2 - 10 * np.cos(2 * math.pi * x)).sum())


def levy(x: np.ndarray) -> float:
    w = 1 + (x - 1) / 4
    middle = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)).sum()
    last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return float(math.sin(math.pi * w[0]) ** 2 + middle + last)


def function(
    name: str, of: Callable[[np.ndarray], float], bounds: Sequence[tuple[float, float]], optimum: float = 0.0,
    shifted: bool = True,
) -> Problem:  # fmt: skip
    """A function over a box.

    Args:
        name: Without the number of dimensions.
        of: The function.
        bounds: (low, high) of each dimension.
        optimum: The lowest value.
        shifted: Move the optimum by up to a fifth of the box from where it is: the centre, where it often
            lies, is what many optimizers try first.
    """
    low, high = np.array(bounds, dtype=float).T
    rng = np.random.default_rng(len(bounds))
    shift = (high - low) * rng.uniform(0.05, 0.2, len(bounds)) * rng.choice([-1.0, 1.0], len(bounds))
    shift = shift if shifted else np.zeros_like(low)

    def value(point: np.ndarray, _: int) -> float:
        return of(low + point * (high - low) - shift)

    return Problem(f"{name}-{len(bounds)}", len(bounds), value, lambda: optimum)


# -- tables --------------------------------------------------------------------------------------------------


def table(
    name: str, steps: Sequence[int], evaluate: Callable[[np.ndarray, int], float], choices: int = 0
) -> Problem:
    """All points of a grid, evaluated once.

    Args:
        name: Without the number of dimensions.
        steps: Values of each dimension.
        evaluate: What a grid point, as shares of each range, and a choice give: lower is better.
        choices: How many the choice has, 0 for none.
    """

    @cache
    def values() -> np.ndarray:
        picked = range(max(choices, 1))
        cells = product(picked, *(range(count) for count in steps))
        found = [
            evaluate(np.array([at / (count - 1) for at, count in zip(cell, steps, strict=True)]), choice)
            for choice, *cell in cells
        ]
        return np.array(found).reshape(len(picked), *steps)

    def value(point: np.ndarray, choice: int) -> float:
        cell = np.minimum((point * steps).astype(int), np.array(steps) - 1)
        return float(values()[(choice, *cell)])

    size = len(steps)
    return Problem(f"{name}-{size + bool(choices)}", size, value, lambda: float(values().min()), choices)


def _scaled(share: float, low: float, high: float) -> float:
    return float(low * (high / low) ** share)


@cache
def _halves(name: str) -> tuple[np.ndarray, ...]:
    """Standardised training and validation halves, at most 600 rows each, of a data set of scikit-learn's."""
    from sklearn import datasets
    from sklearn.preprocessing import StandardScaler

    inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(inputs))
    half = min(len(inputs) // 2, 600)
    train, valid = order[:half], order[half : 2 * half]
    scaler = StandardScaler().fit(inputs[train])
    return scaler.transform(inputs[train]), targets[train], scaler.transform(inputs[valid]), targets[valid]


def _digits(point: np.ndarray, choice: int) -> float:
    """Error of a support vector machine on digits: kernel, C, gamma."""
    from sklearn.svm import SVC

    train, targets, valid, truth = _halves("digits")
    kernel = ("rbf", "poly", "sigmoid")[choice]
    model = SVC(kernel=kernel, C=_scaled(point[0], 1e-2, 1e3), gamma=_scaled(point[1], 1e-5, 1.0))
    return float(1 - model.fit(train, targets).score(valid, truth))


def _diabetes(point: np.ndarray, choice: int) -> float:
    """Mean squared error of support vector regression on diabetes: kernel, C, gamma, epsilon."""
    from sklearn.svm import SVR

    train, targets, valid, truth = _halves("diabetes")
    model = SVR(
        kernel=("rbf", "sigmoid")[choice],
        C=_scaled(point[0], 1e-2, 1e3),
        gamma=_scaled(point[1], 1e-5, 1.0),
        epsilon=_scaled(point[2], 1e-2, 1e2),
    )
    return float(((model.fit(train, targets).predict(valid) - truth) ** 2).mean())


def _cancer(point: np.ndarray, _: int) -> float:
    """Cross-entropy of a random forest on breast cancer: features a split, leaf size, depth, rows a tree."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import log_loss

    train, targets, valid, truth = _halves("breast_cancer")
    model = RandomForestClassifier(
        n_estimators=30,
        max_features=_scaled(point[0], 0.05, 1.0),
        min_samples_leaf=round(_scaled(point[1], 1, 40)),
        max_depth=round(_scaled(point[2], 1, 12)),
        max_samples=_scaled(point[3], 0.1, 1.0),
        random_state=0,
    )
    return float(log_loss(truth, model.fit(train, targets).predict_proba(valid)))


PROBLEMS = {
    problem.name: problem
    for problem in (
        function("branin", branin, [(-5, 10), (0, 15)], 0.39788735772973816, shifted=False),
        function("hartmann", hartmann, [(0, 1)] * 6, -3.322368011415515, shifted=False),
        function("rosenbrock", rosenbrock, [(-2, 2)] * 4),
        function("rastrigin", rastrigin, [(-5.12, 5.12)] * 5),
        function("levy", levy, [(-10, 10)] * 8),
        function("ackley", ackley, [(-32.768, 32.768)] * 10),
        table("digits", [16, 16], _digits, choices=3),
        table("diabetes", [10, 10, 10], _diabetes, choices=2),
        table("cancer", [6, 6, 6, 5], _cancer),
    )
}
