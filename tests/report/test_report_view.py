from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from report_stories import bare_story, made_story

from luthier.evaluate.calibration import Calibration
from luthier.evaluate.leaks import Leaked
from luthier.evaluate.sizes import SizeCurve
from luthier.evaluate.slices import Slice
from luthier.evaluate.suspects import Suspects
from luthier.evaluate.verdict import Verdict
from luthier.report import card, html, words
from luthier.report.story import Axis
from luthier.report.view import results, settings, trials, trust
from luthier.report.view.charts import charts

PLACES = ((' class="verdict"', "verdict"), ("", "data-check"))
"""Sections of the page, as they begin."""


def said(gravity: str, at: int = 0) -> Verdict:
    return Verdict("rule", gravity, f"{gravity} {at}", "evidence")  # type: ignore[arg-type]


def test_verdicts_come_gravest_first_and_only_many_are_folded_away() -> None:
    story = made_story()
    story.diagnosis = [said("good"), said("advice", 0), said("fault"), said("advice", 1)]
    shown, folded = results.verdicts(story)
    assert [one.title for one in shown] == ["fault 0", "advice 0", "advice 1", "good 0"] and not folded
    story.diagnosis = [said("good", i) for i in range(8)] + [said("advice")]
    shown, folded = results.verdicts(story)
    assert shown[0].title == "advice 0" and len(shown) == results.SHOWN and len(shown) + len(folded) == 9
    story.diagnosis = [said("fault", i) for i in range(8)] + [said("good", i) for i in range(4)]
    shown, folded = results.verdicts(story)
    assert len(shown) == 8 and {one.gravity for one in folded} == {"good"}
    text = html.render(story)
    assert "4 more verdicts" in text and text.index("fault 7") < text.index("4 more verdicts")


@pytest.mark.parametrize(
    ("gravities", "sentence"),
    [
        ([], ""),
        (["good"], "Nothing was found that speaks against it."),
        (["advice", "good"], "No fault was found; 1 thing could be better."),
        (["fault", "fault"], "Not to be relied on as it is: 2 faults."),
        (
            ["fault", "advice", "advice"],
            "Not to be relied on as it is: 1 fault, and 2 things that could be better.",
        ),
    ],
)
def test_the_bottom_line(gravities: list[str], sentence: str) -> None:
    assert words.bottom_line([said(one) for one in gravities]) == sentence


def test_ensembles_are_drawn_on_one_line_around_no_gain() -> None:
    rows = results.ensembles(made_story())
    greedy, stacking, soup = rows
    assert greedy["test"] and stacking["test"] and soup["test"] is None
    assert float(stacking["test"]["at"]) < greedy["zero"] < float(greedy["test"]["at"])
    assert all(0 <= float(row["test"]["low"]) <= 100 for row in (greedy, stacking))
    assert greedy["parts"] == "trial 7 (0.50), trial 19 (0.25), trial 3 (0.25)"
    assert soup["parts"] == "1 network"


def test_what_was_shipped_is_said_only_as_far_as_the_interval_lets_one() -> None:
    combined = made_story().evaluation.combined
    assert "not clearly different: +0.002 (95% interval −0.006 to +0.010) on test" in words.shipped(combined)
    combined[0].test_gain, combined[0].test_interval = 0.012, (0.002, 0.02)
    assert "it is better by 0.012" in words.shipped(combined) and "2.9× the cost" in words.shipped(combined)
    combined[0].test_gain = math.nan
    assert "it is better by 0.006 (95% interval +0.001 to +0.011) on validation" in words.shipped(combined)
    combined[0].chosen = False
    assert words.shipped(combined).startswith("None of the 3 ensembles tried was shipped")
    assert words.shipped(combined[:1]).startswith("The one ensemble tried was not shipped")


def test_points_hold_every_scored_trial_best_first() -> None:
    story = made_story(30)
    points = charts(story)["trials"]
    assert points["score"] == sorted(points["score"], reverse=True)
    assert points["number"][points["chosen"][0]] == str(story.best.trial) and points["chosen"] == [0]
    names = [axis["name"] for axis in points["axes"]]
    assert names[0] == "adaptation" and "model" not in names
    rate = next(axis for axis in points["axes"] if axis["name"] == "learning rate")
    assert rate["log"] and rate["names"] is None
    adaptation = points["axes"][0]
    assert [adaptation["names"][place] for place in adaptation["values"]] == points["kind"]
    size = next(axis for axis in points["axes"] if axis["name"] == "batch size")
    assert size["names"] == ["16", "32", "64"], "few numbers stand in their order"


def test_axes_keep_values_apart_that_look_alike_and_put_what_is_not_set_first() -> None:
    story = made_story(12)
    long = "a" * 60
    story.trials["model"] = [long + str(i % 2) for i in range(12)]
    story.trials["dropout"] = [None, 0.1, 0.0] * 4
    axes = {axis["name"]: axis for axis in charts(story)["trials"]["axes"]}
    assert len(axes["model"]["names"]) == 2 == len(set(axes["model"]["values"]))
    assert axes["dropout"]["names"] == ["–", "0", "0.1"]
    json.dumps(charts(story), allow_nan=False)


def test_costs_that_do_not_differ_or_are_unknown_are_left_out() -> None:
    story = made_story(12)
    story.trials["seconds"] = np.nan
    story.trials["peak_memory"] = 6.2e8
    costs = charts(story)["trials"]["costs"]
    assert [cost["name"] for cost in costs] == ["trained parameters, M"]
    (cost,) = costs
    assert cost["limit"] is None and max(cost["values"]) == pytest.approx(22.7)
    rows = trials.front_tables(story, charts(story)["trials"])[0]["rows"]
    assert [float(row["score"]) for row in rows] == sorted(float(row["score"]) for row in rows)
    assert {"2.31 k", "22.7 M"} & {row["cost"] for row in rows}


def test_what_was_limited_is_shown_even_where_all_trials_take_the_same() -> None:
    story = made_story(12)
    story.axes = [Axis("size_mb", "size, MB", 100.0)]
    story.trials["size_mb"], story.trials["pareto"] = 90.0, False
    first, *_ = charts(story)["trials"]["costs"]
    assert (first["name"], first["limit"], first["joint"], first["front"]) == ("size, MB", 100.0, True, [])


def test_a_setting_alone_stands_beside_its_share_and_pairs_beneath() -> None:
    story = made_story(60)
    rows = {row["name"]: row for row in settings.shares(story)}
    rank = rows["lora rank"]["alone"]
    assert rank.trials < story.importance.trials == rows["adaptation"]["alone"].trials
    assert f"({rank.trials} trials)" in html.render(story)
    assert all(row["one"].share >= settings.LEAST for row in settings.together(story))


def test_curves_along_settings_show_the_metric_itself() -> None:
    story = made_story(60)
    curve = next(one for one in settings.along(story) if one["name"] == "learning rate")
    assert curve["ranged"] and curve["log"] and curve["all"]
    ordered = zip(curve["low"], curve["value"], curve["high"], strict=True)
    assert all(low <= value <= high for low, value, high in ordered)
    story.maximize = False
    other = next(one for one in settings.along(story) if one["name"] == "learning rate")
    assert other["value"] == [-value for value in curve["value"]]
    assert other["low"] == [-value for value in curve["high"]]


def test_slices_stand_by_kind_the_lowest_first_and_the_worse_are_always_shown() -> None:
    story = made_story()
    story.evaluation.slices = [Slice("class", f"c{i:02}", 40, 0.5 + i / 100, (0.4, 0.9)) for i in range(20)]
    story.evaluation.slices += [Slice("length", "long", 3, math.nan), Slice("length", "short", 90, 0.9)]
    story.evaluation.slices[19].worse = True
    by_class, by_length = trust.slices(story)
    assert (by_class["kind"], by_class["left_out"], by_class["measure"]) == ("class", 8, "recall")
    values = [row["one"].value for row in by_class["rows"]]
    assert values == sorted(values) and by_class["rows"][-1]["one"].worse
    assert [row["one"].name for row in by_length["rows"]] == ["short", "long"]
    assert by_length["rows"][1]["mark"] is None and by_length["measure"] == "accuracy"
    story.maximize = False
    assert [row["one"].name for row in trust.slices(story)[1]["rows"]] == ["short", "long"]


def test_the_odds_of_a_difference_stand_beside_it_where_they_are_known() -> None:
    story = made_story()
    page, text = html.render(story), card.render(story)
    rows = {row["name"]: row["p"] for row in results.baselines(story)}
    assert rows["Probe on frozen features"] == 0.0013 and rows["The same from scratch"] is None
    table = page[page.index('<section id="baselines"') :].split("</section>")[0]
    cells = re.findall(r'<td class="num">([^<]*)</td><td class="num">[^<]*</td><td class="soft">', table)
    assert cells == ["", "0.0013", "&lt; 0.0001", "–", "&lt; 0.0001"]
    assert "(95% interval +0.014 to +0.050), p\u00a0=\u00a00.0013; it cost" in page
    assert "| +0.014 to +0.050 | 0.0013 | 9.1\u00a0s |" in text and "| &lt; 0.0001 | 1.2\u00a0s |" in text
    assert page.count("McNemar's exact test") == text.count("McNemar's exact test") == 1
    for baseline in story.evaluation.baselines:
        baseline.p = None
    page, text = html.render(story), card.render(story)
    assert "McNemar's" not in page + text and '<th scope="col" class="num">p</th>' not in page
    assert "| +0.014 to +0.050 | 9.1\u00a0s |" in text


def test_what_the_metric_is_without_rows_that_training_has_seen_is_said() -> None:
    story = made_story()
    said = (
        "Training has seen 11 test rows or what nearly equals them; without, accuracy is 0.965 "
        "(95% interval 0.947 to 0.980, 489 examples)."
    )
    assert words.unleaked(story.evaluation) == said
    page = html.render(story)
    verdict, data = (page.index(f'<section{kind} id="{name}"') for kind, name in PLACES)
    places = [match.start() for match in re.finditer(re.escape(said), page)]
    assert len(places) == 2 and verdict < places[0] < page.index("</section>", verdict)
    assert data < places[1] < page.index("</section>", data)
    assert said in card.render(story)
    story.evaluation.leaked = Leaked(500, math.nan)
    assert "all of the 500 test rows" in words.unleaked(story.evaluation)
    story.evaluation.leaked = None
    assert words.unleaked(story.evaluation) == ""
    assert "Training has seen" not in html.render(story) + card.render(story)


def test_what_was_not_looked_at_has_no_section() -> None:
    text = html.render(bare_story())
    for name in ("ensembles", "calibration", "sizes", "slices", "suspects", "curves", "confusion"):
        assert f'id="{name}"' not in text and f'href="#{name}"' not in text


def test_suspects_that_were_looked_for_and_not_found_are_said() -> None:
    story = made_story()
    story.evaluation.suspects = Suspects([], {"test": 0}, 0.0)
    assert "None were found." in html.render(story)


def test_calibration_and_sizes_say_what_cannot_be_said() -> None:
    story = made_story()
    story.evaluation.calibration = Calibration(math.nan)
    story.evaluation.sizes = SizeCurve([10, 20], [0.5, 0.6], [0.4, math.nan], [0.6, math.nan])
    text = html.render(story)
    assert "How far its confidence is off is not known." in text and 'data-chart="calibration"' not in text
    assert "What more than 20 training rows would bring cannot be said" in text
    assert "extrapolated" not in text.split("<script")[0]
    found = trust.sizes(story)
    assert found is not None and found["twice"] is None and found["low"] == [0.4, None]
    story.evaluation.calibration = Calibration(0.02, temperature=1.0)
    assert "divided" not in words.sureness(story.evaluation)


def test_every_number_of_the_charts_is_plain() -> None:
    story = made_story(24)
    story.trials.loc[3, "learning_rate"] = np.nan
    story.trials["peak_memory"] = pd.array([None] * 24, dtype="Int64")
    story.evaluation.metrics["accuracy"] = math.nan
    json.dumps(charts(story), allow_nan=False)
    assert "NaN" not in html.json_block(charts(story))
