"""What was kept, forgotten and gained against the model that a run continues, as rows and sentences."""

from __future__ import annotations

from typing import Any

from luthier.evaluate.continued import told
from luthier.report.story import Story


def sentences(story: Story) -> list[str]:
    """What is to be said of it; nothing of a run that continues none."""
    found = story.evaluation.continued
    return [] if found is None else told(found, story.metric, maximize=story.maximize)


def rows(story: Story) -> list[dict[str, Any]]:
    """Old test rows, added ones, then each class of the old ones, the ones that got worse first."""
    found = story.evaluation.continued
    if found is None or found.refused:
        return []
    whole = [("Old test rows", found.old), ("Added test rows", found.new)]
    listed = [{"name": name, "metric": story.metric, "one": one} for name, one in whole if one is not None]
    classes = [*found.worse, *(one for one in found.classes if not one.worse)]
    return listed + [{"name": f"Old: {one.name}", "metric": "recall", "one": one} for one in classes]
