"""Rules on the amount of data and the labels."""

from __future__ import annotations

import math

from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts.case import Case, percent

GAIN, SURE = 0.02, 0.005
"""Twice the rows are worth collecting where they would bring this much skill, and surely the second."""
NOISE, GRAVE = 0.03, 0.08
"""Wrong labels are spoken of where at least this share is likely wrong, and a fault from the second on; lower
ends of the interval."""


def too_few_data(case: Case) -> Verdict | None:
    """Twice the rows would bring a clear gain, by the curve over data sizes, and a tenth of the errors."""
    sizes = case.evaluation.sizes if case.evaluation else None
    if sizes is None or not math.isfinite(sizes.gain) or not math.isfinite(sizes.gain_interval[0]):
        return None
    room = (1.0 if case.maximize else 0.0) - case.majority
    if not room > 0 or sizes.gain < GAIN * room or sizes.gain_interval[0] < SURE * room:
        return None
    error = (1 - sizes.values[-1]) if case.maximize else sizes.values[-1]
    if sizes.gain < 0.1 * error:
        return None
    low, high = sizes.gain_interval
    half = len(sizes.rows) - 2
    return Verdict(
        "too-few-data",
        "advice",
        "More data would help",
        f"A head on the frozen features went from {sizes.values[half]:.3f} with {sizes.rows[half]:,} rows to "
        f"{sizes.values[-1]:.3f} with all {sizes.rows[-1]:,}. Twice as many may reach {sizes.twice:.3f}: "
        f"better by {sizes.gain:.3f}, 95% interval {low:.3f} to {high:.3f}.",
        f"Collect about {sizes.rows[-1]:,} more labelled rows, those like the worst errors first.",
    )


def label_noise(case: Case) -> Verdict | None:
    """Answers that a model is sure of are contradicted by the labels too often."""
    noise = case.noise
    if noise is None or not noise.interval[0] >= NOISE:
        return None
    low, high = noise.interval
    suspects = case.evaluation.suspects if case.evaluation else None
    listed = f" {sum(suspects.found.values()):,} rows are listed as suspects." if suspects else ""
    where = "`suspects.csv`" if suspects else "the worst errors in the report"
    return Verdict(
        "label-noise",
        "fault" if low >= GRAVE else "advice",
        f"About {percent(noise.share)} of the labels look wrong",
        f"{noise.source} is contradicted by the label in {percent(noise.share)} of its {noise.n:,} surest "
        f"answers (95% interval {percent(low)} to {percent(high)}), on rows that it was not trained "
        f"on.{listed}",
        f"Look through {where} and mend the labels; until then keep `label_smoothing` up and `epochs` few. "
        "The test labels are likely as wrong, so the true figure is better than the one reported.",
    )
