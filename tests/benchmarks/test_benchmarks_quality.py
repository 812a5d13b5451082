"""The comparison with other tools: which rows are run, accuracies and paired differences over seeds, and what
is told of ensembles and of all."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

import contenders
import quality
from outside.environment import Unavailable
from rivals import Curve, Given, epochs_that_fit, usual_epochs


def run(answers, truth, seconds=300.0, **more):
    return {"answers": list(answers), "truth": list(truth), "seconds": seconds, "note": "a note", **more}


def test_rows_are_chosen_by_dataset_or_name_in_their_order():
    assert quality.chosen(["sst2/setfit", "cifar10"]) == [
        "sst2/setfit", "cifar10/luthier", "cifar10/sklearn", "cifar10/trainer",
    ]  # fmt: skip
    assert quality.chosen([]) == quality.rows_known()
    # Ours comes first: peers are compared with it.
    assert quality.chosen(["trec6"])[0] == "trec6/luthier"


def test_an_unknown_row_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"No such row: cifar10/setfit\. There are trec6.*cifar10/trainer"):
        quality.chosen(["cifar10/setfit", "trec6"])


def test_the_difference_is_paired():
    truth = [0, 1] * 200
    good = [*truth[:-20], *(1 - each for each in truth[-20:])]
    # Right on the same rows but for ten: a difference far smaller than either interval, yet certain.
    worse = [1 - each for each in good[:10]] + good[10:]
    gain, (low, high) = quality.compared({0: run(good, truth)}, {0: run(worse, truth)})
    assert gain == pytest.approx(10 / 400)
    assert 0 < low < gain < high
    first, second = quality.interval({0: run(good, truth)}), quality.interval({0: run(worse, truth)})
    assert first[0] < second[1], "the intervals themselves overlap"


@for_all(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_a_difference_changes_its_sign_with_its_sides(rows):
    truth = [1] * len(rows)
    ours = {0: run([int(mine) for mine, _ in rows], truth)}
    theirs = {0: run([int(other) for _, other in rows], truth)}
    gain, (low, high) = quality.compared(ours, theirs)
    back, (below, above) = quality.compared(theirs, ours)
    assert gain == pytest.approx(-back)
    assert (low, high) == pytest.approx((-above, -below))
    assert quality.compared(ours, ours) == (0.0, (0.0, 0.0))


def test_only_seeds_that_both_have_are_compared():
    truth = [1] * 4
    ours = {0: run([1, 1, 1, 1], truth), 1: run([0, 0, 0, 0], truth)}
    theirs = {0: run([1, 1, 0, 0], truth), 1: {"unavailable": "it ended"}}
    assert quality.compared(ours, theirs)[0] == pytest.approx(0.5)
    assert quality.compared({2: ours[0]}, theirs) is None


def test_seeds_are_averaged_within_a_test_row():
    truth = [1] * 40
    half = {0: run([1] * 40, truth), 1: run([0] * 40, truth)}
    # Whatever row is drawn, half its answers are right: seeds add no test rows.
    assert quality.interval(half) == (0.5, 0.5)


def test_answers_to_other_rows_are_not_compared():
    with pytest.raises(AssertionError, match="different rows"):
        quality.compared({0: run([1, 1], [1, 1])}, {0: run([1, 1], [1, 0])})


def test_a_peer_row_says_what_ours_gains():
    truth = [1] * 100
    ours, theirs = {0: run([1] * 95 + [0] * 5, truth)}, {0: run([1] * 80 + [0] * 20, truth, 290.0)}
    row = quality.peer_row("trec6", "setfit", theirs, ours)
    assert (row["name"], row["value"]) == ("trec6/setfit", 0.8)
    assert row["gain"] == pytest.approx(0.15) and row["interval"][0] > 0 and row["met"]
    assert row["ratio"] == pytest.approx(0.95 / 0.8)
    assert "SetFit, 290 s; a note; ours 0.9500, +15.0 points" in row["peer"]
    behind = quality.peer_row("trec6", "setfit", ours, theirs)
    assert behind["met"] is False


def test_a_peer_without_an_answer_says_why_and_counts_nowhere():
    row = quality.peer_row("trec6", "setfit", {0: {"unavailable": "x cannot be installed"}}, {})
    assert math.isnan(row["value"]) and row["peer"] == "SetFit: x cannot be installed"
    alone = quality.peer_row("trec6", "setfit", {0: run([1], [1])}, {})
    assert alone["met"] is None and "not run beside it" in alone["peer"]
    assert quality.summary([row, alone]) is None


def test_the_summary_counts_equal_and_ahead():
    def row(name, low, high):
        return {"name": name, "gain": (low + high) / 2, "interval": [low, high]}

    rows = [row("a", 0.01, 0.02), row("b", -0.01, 0.03), row("c", -0.03, -0.01), {"name": "ours"}]
    found = quality.summary(rows)
    assert found["peer"] == "at least equal on 2 of 3, ahead on 1; behind on c"
    assert found["value"] == 2 and found["met"] is False
    assert quality.summary(rows[:2])["met"] is True
    # Exactly equal is at least equal, and not ahead.
    assert quality.summary([row("a", 0.0, 0.0)])["peer"] == "at least equal on 1 of 1, ahead on 0"


def made(name, gain, test_gain, chosen=False):
    return {
        "name": name, "gain": gain, "test": None if test_gain is None else 0.9 + test_gain,
        "test_gain": test_gain, "test_interval": [-0.01, 0.02], "cost": 2.0, "chosen": chosen,
    }  # fmt: skip


def test_the_test_has_no_say_in_which_ensemble_is_told_of():
    rows = [made("greedy", 0.01, -0.02), made("soup", 0.0, 0.05), made("unjudged", 0.3, None)]
    assert quality.combined(rows)["name"] == "greedy"
    assert quality.combined([*rows, made("stacking", -0.1, 0.0, chosen=True)])["name"] == "stacking"
    assert quality.combined([]) is None
    assert quality.ensemble_row("trec6", {0: run([1], [1])}) is None
    row = quality.ensemble_row("trec6", {0: run([1], [1], combined=rows)})
    assert row["value"] == pytest.approx(-2.0) and row["met"] is True
    assert row["peer"] == "best single trial 0.9000; greedy 0.8800 at 2.00 times the cost"
    assert row["spread"] == "-1.0 to +2.0"


def test_our_row_says_whether_the_budget_was_kept():
    late = quality.our_row("trec6", {0: run([1, 0], [1, 1], 1.06 * quality.BUDGET)})
    assert late["value"] == 0.5 and late["met"] is False
    assert quality.our_row("trec6", {0: run([1, 0], [1, 1], 1.04 * quality.BUDGET)})["met"] is True


def test_rows_are_made_of_what_was_left(monkeypatch, tmp_path):
    monkeypatch.setattr(quality, "LEFT", tmp_path)
    for name, answers in (("luthier", [1, 1, 1, 0]), ("sklearn", [1, 1, 0, 0])):
        (tmp_path / f"sst2-{name}-0.json").write_text(json.dumps(run(answers, [1, 1, 1, 1])))
    # A seed that was not asked for is not mixed in.
    (tmp_path / "sst2-sklearn-7.json").write_text(json.dumps(run([0, 0, 0, 0], [1, 1, 1, 1])))
    rows = quality.rows_of("sst2")
    assert [(row["name"], row["value"]) for row in rows] == [("sst2/luthier", 0.75), ("sst2/sklearn", 0.5)]
    assert rows[1]["gain"] == pytest.approx(0.25)


def prepared(root):
    frames = {
        name: pd.DataFrame({"text": texts, "label": labels, "__row__": rows})
        for name, texts, labels, rows in (
            ("train", ["a", "b"], ["no", "yes"], [1, 2]),
            ("validation", ["c"], ["no"], [3]),
            ("test", ["e", "d"], ["yes", "new"], [2, 1]),
        )
    }
    columns = SimpleNamespace(roles={"input": "text", "target": "label"})
    return SimpleNamespace(
        task=SimpleNamespace(columns=columns, label_names=["no", "yes"]),
        dataset=SimpleNamespace(splits=frames, modality="text", root=root),
        sources={"m": SimpleNamespace(path=root / "m")},
    )


def test_a_contender_is_given_test_inputs_in_the_order_of_the_source_and_no_answers(tmp_path):
    given, names, truth = contenders.handed(prepared(tmp_path), seed=3, started=1.0, budget=40.0)
    assert given.splits == {"train": (["a", "b"], [0, 1]), "validation": (["c"], [0])}
    assert given.test == ["d", "e"] and truth == ["new", "yes"] and names == ["no", "yes"]
    assert (given.num_labels, given.seed, given.budget) == (2, 3, 40.0)


GIVEN = Given("text", {"train": (["a"] * 5000, [0] * 5000)}, ["t", "u"], 2, "m", 0, 0.0, 10.0)


def contender(monkeypatch, tmp_path, script):
    (tmp_path / "x.py").write_text(script)
    (tmp_path / "outside").symlink_to(tmp_path)
    monkeypatch.setattr(contenders, "__file__", str(tmp_path / "contenders.py"))
    monkeypatch.setattr(contenders, "interpreter", lambda requirements: contenders.sys.executable)
    monkeypatch.setitem(contenders.ELSEWHERE, "x", ("x.py", []))
    return lambda: contenders.theirs("x", GIVEN)


def test_a_contender_elsewhere_answers_in_json(monkeypatch, tmp_path):
    script = (
        "import json, os, sys, time; asked = json.load(open(sys.argv[1]));"
        "assert 'PYTHONPATH' not in os.environ;"
        "json.dump({'answers': [len(asked['test']), 0], 'seconds': time.time() - asked['started']},"
        " open(sys.argv[2], 'w'))"
    )
    monkeypatch.setenv("PYTHONPATH", "ours")
    found = contender(monkeypatch, tmp_path, script)()
    assert found["answers"] == [2, 0]
    # Its clock starts with its process.
    assert 0 <= found["seconds"] < 60


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.exit(3)", "x ended with code 3"),
        ("pass", "x ended without an answer"),
        ("import sys; open(sys.argv[2], 'w').write('{\"answers\": [1]}')", "x answered 1 of 2 test inputs"),
        ("import time; time.sleep(60)", r"x had not ended after 0 s"),
    ],
)
def test_a_contender_that_fails_says_how(monkeypatch, tmp_path, script, reason):
    if "sleep" in script:
        monkeypatch.setattr(contenders, "PATIENCE", 0.0)
        monkeypatch.setattr(contenders, "GRACE", 0.2)
    with pytest.raises(Unavailable, match=reason):
        contender(monkeypatch, tmp_path, script)()


def test_epochs_fit_half_the_budget():
    assert usual_epochs(GIVEN) == (2, 7)
    assert epochs_that_fit((2, 7), 10.0, 300.0) == (2, 7)
    assert epochs_that_fit((2, 7), 40.0, 300.0) == (2, 3)
    assert epochs_that_fit((2, 7), 100.0, 300.0) == (1, 1)
    assert epochs_that_fit((2, 7), 1000.0, 300.0) == (1, 1)


def test_a_curve_rises():
    curve = Curve(0.0)
    for score in (0.3, 0.2, 0.3, 0.5):
        curve.add(score)
    assert [score for _, score in curve.points] == [0.3, 0.5]
    assert np.all(np.diff([seconds for seconds, _ in curve.points]) >= 0)
