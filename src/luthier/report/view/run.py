"""The run itself: what the data check found, and where the time went."""

from __future__ import annotations

from typing import Any

from luthier.report.story import Story


def data_remarks(story: Story) -> list[tuple[str, str]]:
    """What of the data wants something done, errors first, as (severity, sentence)."""
    findings = sorted(story.dataset.findings, key=lambda finding: finding[0] != "error")
    return [(severity, message) for severity, message in findings if severity != "info"]


def data_notes(story: Story) -> list[str]:
    """What is good to know of the data and wants nothing done: what was assumed, and what the check noted."""
    return [*story.notes, *(message for severity, message in story.dataset.findings if severity == "info")]


def stages(story: Story) -> list[dict[str, Any]]:
    """Stages with their share of the time, and where each starts on a bar 100 wide."""
    total = sum(seconds for _, seconds in story.stages) or 1.0
    rows, start = [], 0.0
    for name, seconds in story.stages:
        share = 100 * seconds / total
        rows.append({"name": name, "seconds": seconds, "share": share, "start": start})
        start += share
    return rows
