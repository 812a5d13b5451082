from __future__ import annotations

import numpy as np
import pytest

from luthier.evaluate.noise import Noise, contradicted, joined


def answers(
    count: int, share: float, *, hard: float = 0.0, classes: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a good model, and labels of which a share is wrong; a share of the inputs is hard."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, count)
    scores = rng.normal(size=(count, classes))
    scores[np.arange(count), true] += np.where(rng.random(count) < hard, 0.0, 5.0)
    wrong = rng.random(count) < share
    return scores, np.where(wrong, (true + rng.integers(1, classes, count)) % classes, true)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_the_share_of_wrong_labels_is_found_and_the_interval_holds_it(share: float) -> None:
    found = [contradicted(*answers(900, share, seed=seed), "a head") for seed in range(20)]
    told = [one for one in found if one is not None]
    assert len(told) == 20
    assert np.mean([one.share for one in told]) == pytest.approx(share, abs=0.02)
    assert np.mean([one.interval[0] <= share <= one.interval[1] for one in told]) >= 0.85


def test_hard_inputs_are_no_wrong_labels() -> None:
    for seed in range(10):
        found = contradicted(*answers(900, 0.0, hard=0.4, seed=seed), "a head")
        assert found is not None and found.interval[0] < 0.03


def test_few_rows_say_nothing() -> None:
    assert contradicted(*answers(60, 0.2), "a head") is None
    scores, given = answers(900, 0.2)
    assert contradicted(scores, np.full_like(given, -1), "a head") is None


def test_estimates_are_joined_unless_one_is_clearly_worse() -> None:
    first = contradicted(*answers(900, 0.2), "A")
    alike = contradicted(*answers(900, 0.2, seed=1), "B")
    worse = contradicted(*answers(900, 0.6, seed=2), "C")
    assert first is not None and alike is not None
    both = joined([first, None, alike])
    assert both is not None and both.n == first.n + alike.n and " or " in both.source
    assert joined([worse, both]) == both
    assert joined([None]) is None
    assert (
        isinstance(both, Noise)
        and both.interval[1] - both.interval[0] < first.interval[1] - first.interval[0]
    )
