"""The page of monitoring: one HTML file as the report is, with the same look, charts and content policy."""

from __future__ import annotations

import math
from typing import Any

from luthier.monitor.account import Account
from luthier.report import monitored
from luthier.report.html import page
from luthier.report.view.trials import finite

SCRIPTS = ("templates/kit.js", "templates/redraw.js", "templates/monitoring.js")
CLASSES = 16
"""Classes in the chart of shares; with more, those that moved the most."""
COMPARISONS = 30


def render(account: Account) -> str:
    """The whole page. Anything that requests or labels brought along may be hostile: it is escaped as text,
    and as JSON in the data block."""
    drifts = account.looked.judgement.drifts
    values = {
        "account": account,
        "looked": account.looked,
        "said": account.looked.judgement,
        "monitored": monitored,
        "comparisons": drifts[:COMPARISONS],
        "left_out": max(0, len(drifts) - COMPARISONS),
    }
    return page("monitoring.html", SCRIPTS, charts(account), values)


def charts(account: Account) -> dict[str, Any]:
    """What the scripts draw from; None where the page has no such chart."""
    # One window is a point, which the verdict has said.
    several = len(account.course) > 1
    return {
        "course": _course(account) if several else None,
        "change": _change(account) if several else None,
        "shares": _shares(account),
    }


def _course(account: Account) -> dict[str, Any] | None:
    """The metric of each window with its interval, by labels where there are enough; and the tested one."""
    points = []
    tested = None
    for one in account.course:
        best = one.counted or one.estimate
        if best is not None and math.isfinite(one.end):
            point: dict[str, Any] = {"x": 1000 * one.end, "y": finite([best.value])[0]}
            point |= {"interval": finite(list(best.interval)), "n": best.n}
            points.append(point | {"by": "labels" if one.counted else "estimate"})
            tested = best
    if tested is None:
        return None
    low, high = finite(list(tested.tested_interval))
    return {
        "points": points,
        "tested": {"value": finite([tested.tested])[0], "low": low, "high": high},
        "metric": tested.metric,
    }


def _change(account: Account) -> dict[str, Any] | None:
    """The largest effect of each kind of comparison in each window."""
    names: dict[str, list[list[float]]] = {}
    for window in account.course:
        largest: dict[str, float] = {}
        for one in window.drifts:
            if one.length == "long" and one.of != "features" and math.isfinite(one.effect):
                name = monitored.compared(one) if one.of == "statistic" else monitored.WHAT[one.of]
                largest[name] = max(largest.get(name, 0.0), one.effect)
        for name, effect in largest.items():
            names.setdefault(name, []).append([1000 * window.end, effect])
    return {"lines": [{"name": name, "points": points} for name, points in names.items()]} if names else None


def _shares(account: Account) -> dict[str, Any] | None:
    """Shares of classes among test rows and requests, those that moved the most."""
    ranked = sorted(account.shares, key=lambda one: -abs(one.now - one.tested))[:CLASSES]
    if not ranked:
        return None
    kept = [one for one in account.shares if one in ranked]
    rows = [{"name": one.name, "tested": one.tested, "now": one.now} for one in kept]
    return {"rows": rows, "left_out": len(account.shares) - len(kept)}
