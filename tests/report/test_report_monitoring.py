"""The page of monitoring and its sentences: all that was found stands there, hostile names stay text, and it
opens in a browser without errors and without sideways scrolling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_browser import BROWSER, Browser

from luthier.monitor.account import Account, Example, Share
from luthier.monitor.history import Alarm
from luthier.monitor.judgement import Break, Drift, Estimate, Explanation, Judgement, Onset, Requests
from luthier.monitor.looking import Looked
from luthier.report import monitored, monitoring

START = 1_700_000_000.0
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=1>' + "w" * 300


def estimate(value: float, n: int = 1000, metric: str = "accuracy") -> Estimate:
    interval = (value - 0.02, value + 0.02)
    return Estimate(metric, value, interval, 0.91, (0.89, 0.93), 0.91 - value, 0.0, n, "by confidence")


def judgement(value: float, at: int, **more) -> Judgement:
    drifts = [
        Drift("classes", "", "long", 1000, "chi-squared", 0.05 + 0.01 * at, 0.2, 0.6),
        Drift("statistic", "length", "long", 1000, "Kolmogorov-Smirnov", 0.03 * at, 1e-5, 1e-4, at > 3),
        Drift("features", "", "short", 250, "maximum mean discrepancy", 0.001, 0.4, 1.0),
    ]
    start = START + 3600 * at
    values = {"n": 1000, "start": start, "end": start + 3000, "spent": 0.01, "drifts": drifts}
    return Judgement(**{**values, "estimate": estimate(value), **more})


def harmful(name: str = "cat") -> Account:
    said = judgement(
        0.78, 6, harm=True, harm_by="labels", counted=estimate(0.77, 300),
        onset=Onset(START + 9000, START + 9000, "sudden"), break_=Break(START + 9000, 0.92, 0.7, 120),
        explanation=Explanation(f"share of class {name}", name, (0.2, 0.35), "long inputs", ["r7"]),
        notes=["Class shares cannot be estimated: the confusion is ill-conditioned."],
    )  # fmt: skip
    looked = Looked(
        "zoo", "3", START + 30000, said, 7000, 300, 1000, True, START + 29000, "on",
        Requests(np.array([]), np.array([]), np.empty((0, 3))),
    )  # fmt: skip
    return Account(
        name, looked, {"n": 500, "metric": "accuracy", "metrics": {"accuracy": 0.91}},
        course=[judgement(0.9 - 0.02 * at, at) for at in range(7)],
        alarms=[
            Alarm(2, "3", "harm", START + 29000, None, {}), Alarm(1, "3", "drift", START, START + 60, {}),
        ],
        examples=[Example("r7", f"{name} (0.55)", f"What is {name}?"), Example("r8", "dog (0.51)")],
        shares=[Share(name, 0.2, 0.35), Share("dog", 0.8, 0.65)],
    )  # fmt: skip


def quiet() -> Account:
    account = harmful()
    said = Judgement(notes=["There are fewer than 50 requests."])
    looked = replace(account.looked, judgement=said, harm=False, began=None, turned="", labelled=0)
    return Account("zoo", looked, {}, course=[])


ACCOUNTS = {"harmful": harmful, "hostile": lambda: harmful(HOSTILE), "quiet": quiet}


def test_the_sentences_say_what_was_found() -> None:
    said = "\n".join(monitored.lines(harmful()))
    assert said.startswith("HARM: accuracy 0.770 is below what was tested, by labels")
    for piece in (
        "the newest 1,000, 2023-11-15 04:13 UTC", "7,000 kept, 300 of them with labels, 1,000 since",
        "alarm: on since 2023-11-15 06:16 UTC", "without labels: accuracy 0.780 (95% interval 0.760 to",
        "tested 0.910 (0.890 to 0.930)", "change: the input's length; it began at once at 2023-11-15 00:43",
        "class cat: 0.20 of the test rows, 0.35 now", "where it falls the most: long inputs",
        "from 0.920 to 0.700", "r7: cat (0.55), What is cat?", "note: Class shares cannot",
    ):  # fmt: skip
        assert piece in said, piece


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"harm": False, "harm_by": ""}, "no harm: accuracy 0.770 is not clearly below"),
        ({"estimate": None, "counted": None}, "the requests have changed; whether that hurts cannot be said"),
        ({"n": 0}, "no requests to judge"),
    ],
)
def test_the_headline_follows_the_judgement(changed, said) -> None:
    account = harmful()
    judged = replace(account.looked.judgement, **{"harm": False, **changed})
    looked = replace(account.looked, judgement=judged, harm=False)
    assert monitored.headline(replace(account, looked=looked)).startswith(said)


def test_all_of_it_stands_in_the_page() -> None:
    page = monitoring.render(harmful())
    for piece in ("Luthier monitor", "The alarm is on since", "still on", "maximum mean discrepancy", "r8"):
        assert piece in page, piece
    assert page.count("data-chart=") == 3
    for address in ("http://", "https://"):
        assert address not in page.replace("http://www.w3.org", "").split("<script>")[0]


def test_hostile_names_stay_text() -> None:
    page = monitoring.render(harmful(HOSTILE))
    assert "<img src=x" not in page and '<script>document.title="owned"' not in page


def test_values_that_are_not_finite_do_not_break_the_charts() -> None:
    account = harmful()
    broken = estimate(math.nan)
    course = [replace(one, estimate=replace(broken, interval=(math.nan, math.nan))) for one in account.course]
    data = monitoring.charts(replace(account, course=course))
    assert all(point["y"] is None for point in data["course"]["points"])
    assert monitoring.charts(quiet()) == {"course": None, "change": None, "shares": None}


def test_a_single_window_is_no_course() -> None:
    data = monitoring.charts(replace(harmful(), course=harmful().course[:1]))
    assert data["course"] is None and data["change"] is None and data["shares"] is not None


FACTS = """(() => {
  const charts = [...document.querySelectorAll("[data-chart]")];
  const painted = (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Uint32Array(data.buffer).some((pixel, _, pixels) => pixel !== pixels[0]);
  };
  return {
    scroll: document.documentElement.scrollWidth, title: document.title, charts: charts.length,
    drawn: charts.filter((one) => one.querySelector("canvas") && painted(one.querySelector("canvas"))).length,
    outside: charts.filter((one) => one.getBoundingClientRect().right > innerWidth + 1).length,
  };
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize(("name", "dark"), [("harmful", False), ("hostile", True), ("quiet", False)])
def test_it_opens_without_errors_and_without_sideways_scrolling(
    browser: Browser, tmp_path: Path, name: str, dark: bool, width: int
) -> None:
    page = tmp_path / f"{name}.html"
    page.write_text(monitoring.render(ACCOUNTS[name]()), encoding="utf-8")
    browser.open(page, width, dark=dark)
    facts = browser.run(FACTS)
    assert browser.wrong == []
    assert facts["scroll"] <= width and facts["outside"] == 0
    assert facts["charts"] == facts["drawn"] == (0 if name == "quiet" else 3)
    assert ": " in facts["title"] and facts["title"] != "owned"
