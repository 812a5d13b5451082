"""The last round of a study: who is repeated, how often, which recipe wins, and which of its trials ships."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from study_engine import SPACE, Copying, Dying, Engine, Halving, Killed, Listening, Seeded, make, table

from luthier.engine.cost import Cost
from luthier.recipe import Recipe
from luthier.run import finalists as module
from luthier.run.finalists import Finalists
from luthier.study.study import Finished, Study
from luthier.trial import Order

TRIALS = 6


def last_round(study: Study, repeats: int | None = 3, rest: float = 0.0, **options: Any) -> Finalists:
    said: list[str] = options.pop("said", [])
    return Finalists(
        study, study.engine, repeats=repeats, groups=options.pop("groups", None), rest=lambda best: rest,
        typical=SPACE.default(), seed=0, say=said.append,
    )  # fmt: skip


def carry_out(study: Study, repeats: int | None = 3, **options: Any) -> tuple[Finalists, Finished]:
    """The search and its last round."""
    rounds = last_round(study, repeats, **options)
    study.run(rounds.hold_back)
    rounds.repeat()
    chosen = rounds.choose()
    assert chosen is not None
    return rounds, chosen


def rows(study: Study) -> list[dict[Any, Any]]:
    return study.store.trials(study.run_id).to_dict("records")


def repeated(study: Study) -> list[int]:
    """Which trial each repeat repeats, by their numbers."""
    return [int(one) for one in study.store.trials(study.run_id)["repeats"].dropna()]


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


def test_an_interrupted_search_is_not_followed_by_repeats(tmp_path: Path) -> None:
    engine = Seeded([0.0])
    study = make(tmp_path, engine, interrupted=lambda: "you did" if engine.clock[0] >= 10 else None)
    carry_out(study)
    assert repeated(study) == []


def test_repeats_that_were_cut_short_decide_nothing(tmp_path: Path) -> None:
    engine = Seeded([0.0], stack=1)
    stop = {"at": math.inf}
    study = make(
        tmp_path,
        engine,
        trials=4,
        hold=4,
        interrupted=lambda: "you" if engine.clock[0] >= stop["at"] else None,
    )
    rounds = last_round(study, 2)
    study.run(rounds.hold_back)
    stop["at"] = engine.clock[0] + 4  # the first repeat, and a third of the second
    rounds.repeat()
    chosen = rounds.choose()
    trials = rows(study)
    assert [row["status"] for row in trials[4:]] == ["completed", "stopped"]
    assert chosen == study.best and rounds.how == ""
    # Those that were not begun left no trace, and are trained when the run goes on.
    later = resumed(study, trials=4, hold=4)
    carry_out(later, 2)
    assert [row["status"] for row in rows(later)[4:]] == ["completed", "stopped", "completed", "completed"]


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


# -- killed, resumed, continued ------------------------------------------------------------------------------


class DyingSeeded(Dying, Seeded):
    """Both."""


def resumed(study: Study, clock: float = 0.0, **options: Any) -> Study:
    """Another process goes on; what was on disk is."""
    engine = Seeded([clock])
    engine.weights = set(study.engine.weights)  # type: ignore[attr-defined]
    return make(Path(study.store.location).parent, engine, run=study.run_id, **options)


def outcome(study: Study, chosen: Finished) -> tuple[Any, ...]:
    return table(study), repeated(study), chosen.trial, study.strategy.state()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Any, ...]]:
    known: dict[int, tuple[Any, ...]] = {}

    def get(room: int) -> tuple[Any, ...]:
        if room not in known:
            study = make(tmp_path_factory.mktemp("calm"), Seeded([0.0]), **options(room))
            known[room] = outcome(study, carry_out(study)[1])
        return known[room]

    return get


def options(room: int) -> dict[str, Any]:
    return {
        "trials": 5, "room": room, "hold": 4, "strategy": Listening, "first": [Recipe(model="m", epochs=3)],
    }  # fmt: skip


# Five trials and eight repeats, each of three epochs and an end: four of the search, the rest of the round.
@pytest.mark.parametrize("room", [1, 4])
@pytest.mark.parametrize("step", [3, 17, *range(19, 53, 3), 52])
def test_after_a_kill_the_trials_are_those_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: Callable[[int], tuple[Any, ...]], room: int, step: int
) -> None:
    first = make(tmp_path, DyingSeeded(step), **options(room))
    with pytest.raises(Killed):
        carry_out(first)
    second = resumed(first, **options(room))
    assert outcome(second, carry_out(second)[1]) == undisturbed(room)


@pytest.mark.parametrize("method", ["start_trials", "finish_trial"])
@pytest.mark.parametrize("written", [False, True])
def test_killed_before_or_after_a_write_of_the_round_nothing_differs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Callable[[int], tuple[Any, ...]],
    method: str,
    written: bool,
) -> None:
    first = make(tmp_path, Seeded([0.0]), **options(4))
    rounds = last_round(first)
    first.run(rounds.hold_back)
    original = getattr(first.store, method)

    def dying(*args: Any, **also: Any) -> None:
        if written:
            original(*args, **also)
        raise Killed

    monkeypatch.setattr(first.store, method, dying)
    with pytest.raises(Killed):
        rounds.repeat()
    second = resumed(first, **options(4))
    assert outcome(second, carry_out(second)[1]) == undisturbed(4)


def test_a_resumed_round_is_not_followed_by_more_search(tmp_path: Path) -> None:
    """The time that a kill gave back does not go to trials that an undisturbed run would not have had."""
    options: dict[str, Any] = {"budget": 100.0, "hold": 4, "strategy": Listening, "room": 4}
    # Twenty-nine trials of four reports and one of two, then the repeats.
    first = make(tmp_path, DyingSeeded(29 * 4 + 2 + 9), **options)
    with pytest.raises(Killed):
        carry_out(first, None)
    before = len(rows(first))
    assert repeated(first)
    second = resumed(first, **options)
    carry_out(second, None)
    assert len(rows(second)) == before


def test_with_more_time_the_search_goes_on_behind_the_repeats(tmp_path: Path) -> None:
    first = make(tmp_path, Seeded([0.0]), budget=100.0, hold=4, strategy=Listening, room=4)
    carry_out(first, 2)
    numbers = [row["number"] for row in rows(first)]
    assert numbers == list(range(len(numbers))) and repeated(first)
    waiting = len(first.proposals.waiting)
    assert waiting
    told = [one[0] for one in first.strategy.heard]  # type: ignore[attr-defined]
    second = resumed(first, clock=100.0, budget=200.0, hold=4, strategy=Listening, room=4)
    carry_out(second, 2)
    trials = rows(second)
    assert [row["number"] for row in trials] == list(range(len(trials)))
    assert len({row["seed"] for row in trials}) == len(trials)
    searched = [row for row in trials if np.isnan(float(row["repeats"] or math.nan))]
    heard = {one[0] for one in second.strategy.heard}  # type: ignore[attr-defined]
    assert set(told) < heard == set(range(len(heard)))
    # The strategy's own numbers have no gaps, and each stands for the recipe that it gave.
    own = [order.recipe.learning_rate for order in _given(second)]
    assert [row["learning_rate"] for row in searched] == own[: len(searched)]


def test_with_more_time_there_is_always_a_trial_with_weights(tmp_path: Path) -> None:
    """Of the first run only the winner's are left, which is not the trial with the best score."""
    for seed in range(3):
        first = make(tmp_path / str(seed), Seeded([0.0]), trials=6, hold=4, keep=1, strategy=Listening)
        _, chosen = carry_out(first, 2)
        assert first.engine.weights == {chosen.trial}  # type: ignore[attr-defined]
        options: dict[str, Any] = {"trials": 8 + seed, "keep": 1, "strategy": Listening, "budget": 2e6}
        second = resumed(first, hold=0, **options)
        _, chosen = carry_out(second, 1)
        assert second.engine.weights == {chosen.trial}  # type: ignore[attr-defined]


def _given(study: Study) -> list[Order]:
    """What the strategy gives, asked anew as it was asked."""
    again = Listening(SPACE, 0)
    orders: list[Order] = []
    heard = study.strategy.heard  # type: ignore[attr-defined]
    while len(orders) < study.strategy.trials:  # type: ignore[attr-defined]
        # Rounds of four, of which it hears when all have ended.
        again.heard = [one for one in heard if one[0] < len(orders) // 4 * 4]
        orders += again.ask(1)
    return orders
