"""The numbers of all the page's charts, as JSON values."""

from __future__ import annotations

from typing import Any

from luthier.report import words
from luthier.report.story import Story
from luthier.report.view import results, settings, trials, trust


def charts(story: Story) -> dict[str, Any]:
    """What the scripts draw from; each part is empty, or None, where the page has no such chart."""
    return {
        "metric": words.plain_name(story.metric),
        "maximize": story.maximize,
        "baselines": [
            {"name": row["name"], "value": trials.finite([row["value"]])[0]}
            | {"interval": trials.finite(row["interval"]), "chosen": row["chosen"]}
            for row in results.baselines(story)
        ],
        "trials": trials.points(story),
        "curves": trials.curves(story),
        "importance": settings.bars(story),
        "along": settings.along(story),
        "calibration": trust.calibration(story),
        "sizes": trust.sizes(story),
    }
