"""How each setting mattered: shares, what it does alone, what two do together, and the score along each."""

from __future__ import annotations

from typing import Any

from luthier.evaluate.anova import Curve
from luthier.report import words
from luthier.report.story import Story
from luthier.report.view.trials import finite

BARS = 12
ALONG = 6
"""Settings whose curve is drawn."""
LEAST = 0.01
"""Two settings are told of together where they account for at least this share."""


def shares(story: Story) -> list[dict[str, Any]]:
    """Rows of the table: the total share, and what each does alone."""
    alone = {one.settings[0]: one for one in story.importance.anova.effects if len(one.settings) == 1}
    return [
        {
            "name": words.plain_name(one.setting),
            "one": one,
            "alone": alone.get(one.setting),
            "chosen": words.setting(story.best.recipe.get(one.setting)),
        }
        for one in story.importance.settings
    ]


def bars(story: Story) -> list[dict[str, Any]]:
    """The largest shares, with the ends of their intervals, as numbers."""
    return [
        {"name": words.plain_name(one.setting), "value": one.share, "interval": finite([one.low, one.high])}
        for one in story.importance.settings[:BARS]
    ]


def together(story: Story) -> list[dict[str, Any]]:
    """Pairs of settings that do more than each alone."""
    return [
        {"names": " and ".join(words.plain_name(name) for name in one.settings), "one": one}
        for one in story.importance.anova.effects
        if len(one.settings) == 2 and one.share >= LEAST
    ]


def along(story: Story) -> list[dict[str, Any]]:
    """The curves of the settings that mattered most, in the metric's own values."""
    order = {one.setting: index for index, one in enumerate(story.importance.settings)}
    known = sorted(story.importance.anova.curves, key=lambda one: order.get(one.setting, len(order)))
    return [_along(story, curve) for curve in known[:ALONG]]


def _along(story: Story, curve: Curve) -> dict[str, Any]:
    sign = words.shown_score(story, 1.0)
    ends = (curve.low, curve.high) if sign > 0 else (curve.high, curve.low)
    low, high = (finite([sign * value for value in end]) for end in ends)
    ranged = all(isinstance(place, float) for place in curve.at)
    return {
        "name": words.plain_name(curve.setting),
        "at": finite(curve.at) if ranged else [words.cut(str(place), 24) for place in curve.at],
        "ranged": ranged,
        "log": curve.log,
        "value": finite([sign * value for value in curve.score]),
        "low": low,
        "high": high,
        "counts": curve.counts,
        "trials": curve.trials,
        "all": curve.trials == story.importance.trials,
    }
