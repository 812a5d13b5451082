"""Opens reports in headless Chromium at three widths: no errors, no sideways scrolling, every chart drawn.

One browser opens a page that frames all of them, since a window cannot be as narrow as a phone.
"""

from __future__ import annotations

import base64
import hashlib
import html as markup
import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from report_stories import bare_story, hostile_story, made_story, weighed_story

from luthier.report import html
from luthier.report.story import Story

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--virtual-time-budget=6000",
)
WIDTHS = (360, 800, 1600)
STORIES = {"usual": made_story, "hostile": hostile_story, "bare": bare_story, "weighed": weighed_story}

# Stands before all other scripts of a report, and tells the framing page what went wrong.
PROBE = """
const wrong = [];
const note = (what) => { wrong.push(String(what)); };
addEventListener("error", (event) => note(event.message));
addEventListener("unhandledrejection", (event) => note(event.reason));
addEventListener("securitypolicyviolation", (event) => note("policy: " + event.violatedDirective));
console.error = console.warn = (...parts) => note(parts.join(" "));
addEventListener("load", () => setTimeout(() => {
  const charts = [...document.querySelectorAll("[data-chart]")];
  parent.postMessage({
    wrong, width: innerWidth, scroll: document.documentElement.scrollWidth, title: document.title,
    charts: charts.length, drawn: charts.filter((chart) => chart.querySelector("canvas")).length,
    outside: charts.filter((chart) => chart.getBoundingClientRect().right > innerWidth).length,
  }, "*");
}, 300));
"""
COLLECT = """
const found = {};
addEventListener("message", (event) => {
  for (const frame of document.querySelectorAll("iframe")) {
    if (frame.contentWindow === event.source) found[frame.id] = event.data;
  }
  document.documentElement.dataset.found = JSON.stringify(found);
});
"""


def probed(story: Story, *, broken: bool = False) -> bytes:
    """The report with the probe in it; ``broken``, with what the probe must find."""
    text = html.render(story)
    allowed = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src &#39;sha256-{allowed}&#39; ", 1)
    text = text.replace("<style>", f"<script>{PROBE}</script><style>", 1)
    if broken:
        text = text.replace("<main>", '<main><p style="width:1px">x</p><svg width="3000"></svg>', 1)
    return text.encode("utf-8", "replace")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each page, by name and width, told."""
    folder = tmp_path_factory.mktemp("browser")
    for name, story in STORIES.items():
        (folder / f"{name}.html").write_bytes(probed(story()))
    (folder / "broken.html").write_bytes(probed(made_story(), broken=True))
    frames = [
        f'<iframe id="{name}-{width}" src="{name}.html" width="{width}" height="900"></iframe>'
        for name in (*STORIES, "broken")
        for width in WIDTHS
    ]
    all_pages = folder / "all.html"
    all_pages.write_text(
        f"<!doctype html><style>iframe{{border:0}}</style><script>{COLLECT}</script>{''.join(frames)}",
        encoding="utf-8",
    )
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", all_pages.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    told = re.search(r'data-found="([^"]*)"', done.stdout.decode("utf-8", "replace"))
    assert told is not None, done.stderr[-2000:]
    pages: dict[str, dict[str, Any]] = json.loads(markup.unescape(told[1]))
    return pages


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "charts"), [("usual", 5), ("hostile", 5), ("bare", 1), ("weighed", 7)])
def test_it_opens_without_errors_and_without_sideways_scrolling(
    found: dict[str, dict[str, Any]], name: str, charts: int, width: int
) -> None:
    page = found[f"{name}-{width}"]
    assert page["wrong"] == []
    assert page["width"] == width
    assert page["scroll"] <= width and page["outside"] == 0
    assert page["charts"] == page["drawn"] == charts
    assert page["title"].startswith(f"{STORIES[name]().run}: ")


def test_the_probe_itself_sees_errors_and_overflow(found: dict[str, dict[str, Any]]) -> None:
    page = found["broken-360"]
    assert any("style-src" in note for note in page["wrong"])
    assert page["scroll"] > 360
