from __future__ import annotations

import json

import numpy as np
import pandas as pd

from luthier.evaluate.importance import Importance, importance


def trials(count: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rate = 10 ** rng.uniform(-5, -2, count)
    adaptation = rng.choice(["probe", "full", "lora"], count)
    score = 0.05 * np.log10(rate) + 0.3 * (adaptation == "full") + rng.normal(0, 0.01, count)
    frame = pd.DataFrame(
        {"number": range(count), "learning_rate": rate, "adaptation": adaptation, "score": score}
    )
    frame["dropout"] = rng.choice([0.0, 0.1, np.nan], count)
    frame["model"], frame["epochs"], frame["recipe_epochs"] = "minilm", rng.integers(1, 9, count), 4
    return frame


def test_it_finds_what_mattered_and_which_way() -> None:
    found = importance(trials(60))
    assert [one.setting for one in found.settings][:2] == ["adaptation", "learning_rate"]
    first, second, third = found.settings
    assert first.hint == "best: full"
    assert second.hint == "higher went with better"
    assert (third.setting, third.hint) == ("dropout", "")
    assert first.low > 0.3 and first.share > 5 * abs(third.share)
    assert first.share < 1.2
    assert found.explained is not None and found.explained > 0.7 and not found.reason
    assert third.low <= 0.02


def test_settings_that_were_not_varied_and_epochs_trained_are_left_out() -> None:
    assert {one.setting for one in importance(trials(20)).settings} == {
        "adaptation",
        "learning_rate",
        "dropout",
    }


def test_it_says_when_there_are_too_few() -> None:
    frame = trials(12)
    frame.loc[7:, "score"] = np.nan
    found = importance(frame)
    assert not found.settings and found.trials == 7
    assert "7 finished trials" in found.reason and "8" in found.reason


def test_it_says_when_settings_explain_nothing() -> None:
    frame = trials(16)
    frame["score"] = np.random.default_rng(9).normal(0, 1, 16)
    found = importance(frame)
    assert "chance" in found.reason and found.explained is not None and found.explained <= 0


def test_equal_scores_and_equal_settings_have_their_reasons() -> None:
    same = trials(10).assign(score=0.5)
    assert "scored the same" in importance(same).reason
    fixed = trials(10).assign(learning_rate=1e-3, adaptation="full", dropout=0.0)
    assert "same settings" in importance(fixed).reason
    assert importance(pd.DataFrame()).trials == 0


def test_it_repeats_with_its_seed_and_survives_json() -> None:
    found = importance(trials(20), seed=3)
    assert found == importance(trials(20), seed=3)
    assert Importance.from_json(json.loads(json.dumps(found.to_json()))) == found
