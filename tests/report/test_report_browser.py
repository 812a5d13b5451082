"""Opens reports in headless Chromium: no errors and no sideways scrolling at three widths and in both colour
schemes, charts that can be brushed with the mouse and without, and paper on which nothing is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_browser import BROWSER, Browser
from report_stories import bare_story, hostile_story, made_story, weighed_story

from luthier.report import html
from luthier.report.story import Story

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

WIDTHS = (360, 800, 1600)
PAPER = 718
"""Pixels between the margins of an A4 sheet."""
CHARTS = {"usual": 14, "large": 14, "hostile": 14, "bare": 1, "weighed": 14}

FACTS = """(() => {
  const charts = [...document.querySelectorAll("[data-chart]")];
  const painted = (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Uint32Array(data.buffer).some((pixel, _, pixels) => pixel !== pixels[0]);
  };
  return {
    scroll: document.documentElement.scrollWidth, width: innerWidth, title: document.title,
    charts: charts.length,
    drawn: charts.filter((one) => one.querySelector("canvas") && painted(one.querySelector("canvas"))).length,
    outside: charts.filter((one) => one.getBoundingClientRect().right > innerWidth + 1).length,
  };
})()"""


def large_story() -> Story:
    return made_story(1000, [f"intent number {i}" for i in range(77)])


STORIES = {
    "usual": lambda: made_story(60),
    "large": large_story,
    "hostile": hostile_story,
    "bare": bare_story,
    "weighed": weighed_story,
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, story in STORIES.items():
        found[name] = folder / f"{name}.html"
        found[name].write_bytes(html.render(story()).encode("utf-8", "replace"))
    broken = found["usual"].read_text(encoding="utf-8")
    found["broken"] = folder / "broken.html"
    wide = '<main><p style="width:1px">x</p><svg width="3000"></svg><img src="https://example.com/x.png">'
    found["broken"].write_text(broken.replace("<main>", wide, 1), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "dark"),
    [
        ("usual", False),
        ("usual", True),
        ("large", False),
        ("hostile", True),
        ("bare", False),
        ("weighed", True),
    ],
)
def test_it_opens_without_errors_and_without_sideways_scrolling(
    browser: Browser, pages: dict[str, Path], name: str, dark: bool, width: int
) -> None:
    browser.open(pages[name], width, dark=dark)
    facts = browser.run(FACTS)
    assert browser.wrong == []
    assert facts["width"] == width and facts["scroll"] <= width and facts["outside"] == 0
    assert facts["charts"] == facts["drawn"] == CHARTS[name]
    assert ": " in facts["title"] and facts["title"] != "owned"


def test_errors_and_overflow_would_be_seen(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["broken"], 360)
    assert any("style-src" in note for note in browser.wrong)
    assert any("img-src" in note for note in browser.wrong)
    assert browser.run(FACTS)["scroll"] > 360


def picture_of(browser: Browser, chart: str) -> str:
    found: str = browser.run(f"document.querySelector('[data-chart={chart}] canvas').toDataURL()")
    return found


@pytest.mark.parametrize("chart", ["baselines", "costs", "along1", "parallel", "calibration", "sizes"])
def test_charts_follow_the_colour_scheme(browser: Browser, pages: dict[str, Path], chart: str) -> None:
    browser.open(pages["usual"], 800)
    light = picture_of(browser, chart)
    browser.media(dark=True)
    browser.settle()
    dark = picture_of(browser, chart)
    browser.media(dark=False)
    browser.settle()
    assert dark != light == picture_of(browser, chart)


def place_of(browser: Browser, axis: int, share: float) -> tuple[float, float]:
    """A point on an axis of the parallel coordinates, which stand evenly between the chart's margins."""
    box = browser.run(
        "(() => { const chart = document.querySelector('[data-chart=parallel]');"
        "chart.scrollIntoView({ block: 'center' });"
        "const { x, y, width, height } = chart.getBoundingClientRect();"
        "return { x, y, width, height, axes: kit.data.trials.axes.length + 1 }; })()"
    )
    if box["width"] < 640:
        step = (box["height"] - 40 - 34) / (box["axes"] - 1)
        return box["x"] + 26 + share * (box["width"] - 52), box["y"] + 40 + axis * step
    step = (box["width"] - 50 - 56) / (box["axes"] - 1)
    return box["x"] + 50 + axis * step, box["y"] + 40 + share * (box["height"] - 40 - 22)


def brushed(browser: Browser) -> tuple[int, int]:
    """How many trials the page says are kept, of how many."""
    found = re.match(r"([\d,]+) of ([\d,]+) trials are kept", browser.run("brushed.textContent"))
    assert found is not None
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def within(browser: Browser, axis: int) -> int:
    """How many trials lie in the range that the fields of an axis show."""
    script = (
        "(() => { const set = document.querySelectorAll('.filters fieldset')[AXIS];"
        "const [from, to] = set.querySelectorAll('select, input');"
        "const values = [...kit.data.trials.axes, { values: kit.data.trials.score }][AXIS].values;"
        "return values.filter((x) => x >= Number(from.value) && x <= Number(to.value)).length; })()"
    )
    found: int = browser.run(script.replace("AXIS", str(axis)))
    return found


@pytest.mark.parametrize("width", [360, 1600])
def test_trials_are_brushed_with_the_mouse(browser: Browser, pages: dict[str, Path], width: int) -> None:
    browser.open(pages["usual"], width)
    kept, every = brushed(browser)
    assert kept == every == len(browser.run("kit.data.trials.number"))
    last = browser.run("kit.data.trials.axes.length")
    untouched = picture_of(browser, "parallel")
    browser.drag(place_of(browser, last, 0.1), place_of(browser, last, 0.5))
    first, _ = brushed(browser)
    # The field shows four digits of an end, so that a trial right at it may fall to either side.
    assert 0 < first < every and abs(first - within(browser, last)) <= 1
    assert picture_of(browser, "parallel") != untouched
    browser.drag(place_of(browser, 0, 0.05), place_of(browser, 0, 0.5))
    both, _ = brushed(browser)
    assert 0 <= both < first
    assert browser.run("kept.tBodies[0].rows.length") == min(both, 10)
    # A click on an axis, without dragging, lets all pass there again.
    browser.drag(place_of(browser, 0, 0.9), place_of(browser, 0, 0.9))
    assert brushed(browser)[0] == first
    browser.resize(width + 40)
    browser.settle()
    assert brushed(browser)[0] == first, "a brush outlives a change of width"
    assert browser.wrong == []


def test_trials_are_brushed_with_the_keyboard_alone(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["usual"], 1600)
    untouched = picture_of(browser, "parallel")
    browser.run("document.querySelector('#filters summary').focus()")
    browser.press("Enter", text="\r")
    assert browser.run("filters.open")
    fields = browser.run("document.querySelectorAll('.filters select, .filters input').length")
    for _ in range(fields - 1):  # to the lower end of the last axis, the score
        browser.press("Tab")
    assert browser.run("document.activeElement.getAttribute('aria-label')") == "accuracy, from"
    browser.run("document.activeElement.select()")
    browser.type("0.9")
    browser.press("Tab")
    kept, every = brushed(browser)
    scores = browser.run("kit.data.trials.score")
    assert kept == sum(score >= 0.9 for score in scores) < every
    browser.settle()
    assert picture_of(browser, "parallel") != untouched, "the chart shows what the field says"
    browser.press("Tab")
    assert browser.run("document.activeElement.id") == "unbrush"
    browser.press("Enter", text="\r")
    assert brushed(browser) == (every, every)
    assert browser.wrong == []


def test_brushing_by_name_lets_a_range_of_values_pass(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["usual"], 800)
    assert browser.run("kit.data.trials.axes[0].name") == "adaptation"
    browser.run(
        "(() => { const to = document.querySelectorAll('.filters select')[1]; to.value = '0';"
        "to.dispatchEvent(new Event('change')); })()"
    )
    kinds = browser.run("kit.data.trials.kind")
    name = browser.run("kit.data.trials.axes[0].names[0]")
    assert brushed(browser)[0] == kinds.count(name) == within(browser, 0)


def test_what_a_score_costs_is_chosen_with_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["weighed"], 800)
    before = picture_of(browser, "costs")
    browser.run("cost.focus()")
    browser.press("ArrowDown")
    assert browser.run("cost.selectedOptions[0].text") == "size, MB"
    assert picture_of(browser, "costs") != before


def test_what_has_the_focus_can_be_seen(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["usual"], 800)
    seen = []
    for _ in range(6):
        browser.press("Tab")
        seen.append(
            browser.run(
                "(() => { const one = document.activeElement; const look = getComputedStyle(one);"
                "const inside = one.getBoundingClientRect().left >= 0;"
                "return [look.outlineStyle, parseFloat(look.outlineWidth), inside]; })()"
            )
        )
    assert all(style == "solid" and wide >= 2 and inside for style, wide, inside in seen), seen


@pytest.mark.parametrize("name", ["large", "hostile", "weighed"])
def test_nothing_is_cut_on_paper(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name], PAPER, dark=True)
    folded = browser.run("document.querySelectorAll('details:not([open])').length")
    browser.media(dark=True, medium="print")
    browser.settle()
    facts: dict[str, Any] = browser.run(FACTS)
    assert facts["scroll"] <= PAPER and facts["outside"] == 0 and facts["drawn"] == facts["charts"]
    assert browser.run("document.querySelectorAll('details:not([open]):not(#filters)').length") == 0
    # A dark page is printed in light colours.
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.media()
    browser.settle()
    assert browser.run("document.querySelectorAll('details:not([open])').length") == folded
    assert browser.wrong == []


def test_it_prints(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["usual"], 1600)
    paper = browser.paper()
    assert paper.startswith(b"%PDF-") and len(re.findall(rb"/Type ?/Page\b", paper)) > 3
    assert browser.wrong == []
