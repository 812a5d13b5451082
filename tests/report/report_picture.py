"""Takes docs/img/report.png, the top of a report as Chromium shows it: of a run's, `python
tests/report/report_picture.py runs/demo/report.html`, or without a name of the made story of the tests."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from report_browser import BROWSER, Browser
from report_stories import made_story

from luthier.report import html

PICTURE = Path(__file__).parents[2] / "docs" / "img" / "report.png"
WIDTH, HEIGHT = 1100, 1240


def main() -> None:
    """Opens the report in a window of one size and writes what it shows."""
    if BROWSER is None:
        sys.exit("There is no Chromium on this machine.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "report.html"
        if len(sys.argv) < 2:
            page.write_text(html.render(made_story(60)), encoding="utf-8")
        browser = Browser(Path(folder) / "profile")
        browser.open(page, WIDTH, height=HEIGHT)
        PICTURE.write_bytes(browser.picture(whole=False))
        browser.close()


if __name__ == "__main__":
    main()
