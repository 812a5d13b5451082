"""Made past studies, small enough to learn from in no time, and made lists of recipes."""

from __future__ import annotations

import numpy as np

from luthier.recipe import Recipe
from luthier.search.past import PastStudy
from luthier.space import Listed, Space


def listing(space: Space, size: int) -> Listed:
    """Recipes drawn from a space, as a list: what a strategy meets where only some combinations exist."""
    points = np.random.default_rng(7).random((size, len(space.dimensions)))
    return Listed(list(dict.fromkeys(space.sample(point) for point in points)))


def made_study(name: str, trials: int = 20, seed: int = 0, top: float = 0.9) -> PastStudy:
    """Rates near 1e-3 do best, model "n" is a little better than "m" and twice as slow."""
    rng = np.random.default_rng(seed)
    recipes, scores, seconds = [], [], []
    for _ in range(trials):
        model = str(rng.choice(["m", "n"]))
        rate = float(f"{10 ** rng.uniform(-6, 0):.6g}")
        final = top * np.exp(-abs(np.log10(rate) + 3) / 1.5) * (1.0 if model == "n" else 0.95)
        length = int(rng.choice([8, 16]))
        recipes.append(
            Recipe(model=model, learning_rate=rate, batch_size=int(rng.choice([16, 32])), epochs=16)
        )
        scores.append([float(final * (1 - 0.6 ** (epoch + 1))) for epoch in range(length)])
        seconds.append([2.0 if model == "n" else 1.0] * length)
    return PastStudy(name, recipes, scores, seconds)
