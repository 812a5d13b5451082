"""The last round of a study: who is repeated, how often, which recipe wins, and which of its trials ships."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from finalists_rounds import carry_out, last_round, repeated, rows
from study_engine import Copying, Engine, Halving, Seeded, make

from luthier.engine.cost import Cost
from luthier.recipe import Recipe
from luthier.run import finalists as module
from luthier.study.study import Finished, Study

TRIALS = 6


# -- who is repeated, and how often ------------------------------------------------------------------------


def test_finalists_are_trained_together_on_further_seeds_and_do_not_count(tmp_path: Path) -> None:
    engine = Seeded([0.0])
    study = make(tmp_path, engine, trials=TRIALS, hold=module.MOST)
    _, chosen = carry_out(study)
    ranked = sorted(rows(study)[:TRIALS], key=lambda row: -row["score"])
    finalists = [row["number"] for row in ranked[: module.MOST]]
    assert repeated(study) == finalists * 2
    assert engine.calls[-1] == list(range(TRIALS, TRIALS + 8))
    seeds = [row["seed"] for row in rows(study)]
    assert len(set(seeds)) == len(seeds)
    assert engine.keeping <= {row["number"] for row in rows(study)} and len(engine.keeping) == 3
    assert chosen.trial in engine.keeping


def test_the_recipe_with_the_best_mean_wins_and_its_best_trial_ships(tmp_path: Path) -> None:
    study = make(tmp_path, Seeded([0.0]), trials=TRIALS, hold=module.MOST)
    rounds, chosen = carry_out(study)
    scores: dict[int, list[tuple[float, int]]] = {}
    for row in rows(study):
        own = row["number"] if np.isnan(float(row["repeats"] or math.nan)) else int(row["repeats"])
        scores.setdefault(own, []).append((row["score"], row["number"]))
    means = {own: np.mean([score for score, _ in each]) for own, each in scores.items() if len(each) == 3}
    winner = max(means, key=lambda own: means[own])
    assert len(means) == module.MOST
    assert chosen.trial == max(scores[winner])[1]
    assert f"trial {winner} has the best mean validation accuracy over its 3 seeds" in rounds.how
    assert f"of its trials {chosen.trial} scores best" in rounds.how


def test_a_lucky_seed_does_not_win(tmp_path: Path) -> None:
    """The best trial of the search owes its place to its seed: on others it is the worst of the finalists."""

    class Lucky(Seeded):
        def luck(self, seed: int) -> float:
            return 5.0 if seed == lucky else 0.0

    plain = make(tmp_path / "plain", Engine([0.0]), trials=TRIALS)
    plain.run(lambda best: 0.0)
    worst = min(rows(plain), key=lambda row: row["score"])
    lucky = worst["seed"]
    study = make(tmp_path / "lucky", Lucky([0.0]), trials=TRIALS, hold=module.MOST)
    _, chosen = carry_out(study, 5)
    means = {row["number"]: row["score"] for row in rows(plain)}
    means[worst["number"]] += 1.0
    assert study.best is not None and study.best.trial == worst["number"]
    expected = max(means, key=lambda one: means[one])
    assert expected != worst["number"]
    assert expected in (chosen.trial, chosen.repeats)


def test_one_repeat_is_no_repeat(tmp_path: Path) -> None:
    study = make(tmp_path, Seeded([0.0]), trials=TRIALS)
    rounds, chosen = carry_out(study, 1)
    assert len(rows(study)) == TRIALS and study.best == chosen and rounds.how == ""


@pytest.mark.parametrize(
    ("repeats", "share", "expected"),
    [
        (None, 100, (4, 5)),  # as many as there are, then seeds
        (None, 24, (4, 3)),
        (None, 11, (3, 2)),
        (None, 6, (2, 2)),
        (None, 5, None),
        (3, 100, (4, 3)),
        (3, 23, (3, 3)),  # rather fewer finalists than seeds
        (3, 11, (3, 2)),
        (3, 5, None),
        (2, 6, (2, 2)),
    ],
)
def test_how_many_fit(
    tmp_path: Path, repeats: int | None, share: float, expected: tuple[int, int] | None
) -> None:
    """A trial of three epochs takes three seconds."""
    study = make(tmp_path, Engine([0.0]), trials=TRIALS, hold=4, budget=share / module.SHARE)
    said: list[str] = []
    carry_out(study, repeats, said=said)
    decided = study.proposals.repeats
    assert (decided and (len(decided.finalists), decided.seeds)) == expected
    assert any("no time" in text for text in said) == (expected is None)


def test_time_for_it_is_held_back_from_the_search_and_no_more_than_its_share(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, budget=100.0, hold=module.MOST)
    carry_out(study, None, rest=10.0)
    assert len(repeated(study)) == 4
    # Four trials of three seconds, of fifteen held back; the search had what is left of 90.
    assert engine.clock[0] == 90.0
    assert sum(row["epochs"] for row in rows(study)[:-4]) == 78.0


def test_where_not_even_the_least_fits_the_time_goes_to_the_search(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, budget=30.0)
    carry_out(study, None)
    assert engine.clock[0] == 30.0 and repeated(study) == []


def test_what_costs_nobody_knows_is_taken_to_cost_what_it_did(tmp_path: Path) -> None:
    class Silent(Engine):
        def predict_costs(self, recipes: Sequence[Recipe]) -> list[Cost | None]:
            return [None for _ in recipes]

    study = make(tmp_path, Silent([0.0]), trials=3, budget=6 / module.SHARE)
    carry_out(study)
    assert len(repeated(study)) == 2


def test_a_recipe_that_fails_on_another_seed_does_not_win(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain", Engine([0.0]), trials=3, hold=4)
    carry_out(plain)
    best = repeated(plain)[0]
    fails = next(row["number"] for row in rows(plain) if row["repeats"] == best)
    study = make(tmp_path / "fails", Engine([0.0], fails=lambda trial: trial == fails), trials=3, hold=4)
    rounds, chosen = carry_out(study)
    assert best not in (chosen.trial, chosen.repeats)
    assert f"trial {best} failed on a seed" in rounds.how


def test_trials_that_were_left_early_are_repeated_as_far_as_they_came(tmp_path: Path) -> None:
    study = make(tmp_path, Seeded([0.0]), room=4, trials=5, hold=4, strategy=Halving)
    carry_out(study, 2)
    trials = rows(study)
    own = {row["number"]: row["epochs"] for row in trials[:5]}
    assert [row["epochs"] for row in trials[5:]] == [own[row["repeats"]] for row in trials[5:]]
    assert len(trials) == 9


def test_a_copy_of_another_trial_is_not_repeated(tmp_path: Path) -> None:
    class Learning(Seeded):
        learns = True

    said: list[str] = []
    study = make(tmp_path, Learning([0.0]), trials=7, room=3, hold=4, strategy=Copying)
    _, chosen = carry_out(study, said=said)
    copies = {row["number"] for row in rows(study) if not np.isnan(float(row["parent"] or math.nan))}
    assert not copies & set(repeated(study))
    assert (chosen.trial in copies) == (not repeated(study))


# -- within reach ------------------------------------------------------------------------------------------


class Answers:
    """Trials whose answers are made: of 400 rows some are right."""

    def __init__(self, right: dict[int, np.ndarray]) -> None:
        self.right = right

    def load(self, trial: int) -> list[np.ndarray] | None:
        return list(self.right[trial]) if trial in self.right else None

    def trim(self, ranked: Sequence[int]) -> None:
        pass


def with_answers(study: Study, right: dict[int, np.ndarray]) -> None:
    rows_of = len(next(iter(right.values())))
    engine: Any = study.engine
    engine.kept = Answers(right)
    engine.inputs = SimpleNamespace(targets=lambda name: [np.zeros(())] * rows_of)
    engine.task = SimpleNamespace(
        metric="accuracy",
        maximize=True,
        score_statistics=lambda outputs, targets: np.array([[1.0, said] for said in outputs]),
        scores=lambda totals: totals[..., 1] / totals[..., 0],
    )
    study.finished = [
        Finished(
            trial, Recipe(model="m", epochs=3, learning_rate=1e-3 / (1 + trial)), 0, said.mean(), 1.0, 1, 3.0
        )
        for trial, said in right.items()
    ]


def shares(count: int, wrong: Sequence[int]) -> np.ndarray:
    right = np.ones(count)
    right[list(wrong)] = 0
    return right


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (range(12), [0, 1]),  # two rows worse
        (range(22), [0]),  # twelve worse, and no row better
        (range(100, 122), [0]),  # twelve worse: 22 rows against ten, the error is 5.7 rows
        (range(100, 120), [0, 1]),  # ten worse: 20 against ten, the error is 5.5 rows
        (range(20), [0]),  # ten worse as well, but in no row better: the error is 3.1 rows
    ],
)
def test_reach_is_paired(tmp_path: Path, wrong: Sequence[int], expected: list[int]) -> None:
    study = make(tmp_path, Engine([0.0]))
    with_answers(study, {0: shares(400, range(10)), 1: shares(400, wrong)})
    rounds = last_round(study)
    assert [rival.trial for rival in rounds._within_reach(rounds._rivals())] == expected


def test_rows_of_one_group_are_one_piece_of_evidence(tmp_path: Path) -> None:
    study = make(tmp_path, Engine([0.0]))
    with_answers(study, {0: shares(400, range(10)), 1: shares(400, range(30))})
    alone = last_round(study)
    assert len(alone._within_reach(alone._rivals())) == 1
    together = last_round(study, groups=np.arange(400) // 20)
    assert len(together._within_reach(together._rivals())) == 2


def test_one_whose_outputs_are_gone_has_the_benefit_of_the_doubt(tmp_path: Path) -> None:
    study = make(tmp_path, Engine([0.0]))
    right = {0: shares(400, range(10)), 1: shares(400, range(80)), 2: shares(400, range(100))}
    with_answers(study, right)
    del right[1]
    rounds = last_round(study)
    assert [rival.trial for rival in rounds._within_reach(rounds._rivals())] == [0, 1]


def test_a_single_finalist_is_not_repeated(tmp_path: Path) -> None:
    study = make(tmp_path, Engine([0.0]), trials=2)
    said: list[str] = []
    rounds = last_round(study, said=said)
    study.run(rounds.hold_back)
    with_answers(study, {0: shares(400, range(10)), 1: shares(400, range(100))})
    study.engine.weights = {0, 1}  # type: ignore[attr-defined]
    rounds.repeat()
    assert repeated(study) == [] and "ahead of all others" in said[0]


def test_equal_recipes_are_one_finalist(tmp_path: Path) -> None:
    study = make(tmp_path, Engine([0.0]))
    with_answers(study, {0: shares(400, range(10)), 1: shares(400, range(11))})
    study.finished = [replace(found, recipe=Recipe(model="m")) for found in study.finished]
    assert [rival.trial for rival in last_round(study)._rivals()] == [0]
