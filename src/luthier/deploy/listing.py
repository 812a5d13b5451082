"""What is said of a deployment: its versions, who is in charge, and what the servers of it counted."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from luthier.deploy.counted import read
from luthier.deploy.state import DeploymentState
from luthier.deploy.versions import Deployment


def summary(deployment: Deployment) -> dict[str, Any]:
    """A deployment in plain values.

    Returns:
        ``name``, ``folder``, ``full``, ``since``, ``canary``, ``shadow`` (numbers, or None), ``versions``
        (the newest first), ``comparison`` of the shadow with the version in full charge, or None, and
        ``history``.

    Raises:
        RunError: There is no such deployment, or its state is damaged.
    """
    state = deployment.state
    counted = read(deployment.serving)
    return {
        "name": deployment.name,
        "folder": str(deployment.folder),
        "full": state.full,
        "since": state.since,
        "canary": None if state.canary is None else asdict(state.canary),
        "shadow": state.shadow,
        "versions": [
            _row(deployment, state, number, counted) for number in sorted(state.versions, reverse=True)
        ],
        "comparison": None if state.shadow is None else _comparison(state.shadow, counted),
        "history": [asdict(event) for event in state.history],
    }


def _row(
    deployment: Deployment, state: DeploymentState, number: int, counted: list[dict[str, Any]]
) -> dict[str, Any]:
    version = state.versions[number]
    facts = version.facts
    low, high = facts.intervals.get(facts.metric, (None, None))
    counts = [values.get("versions", {}).get(str(number), {}) for values in counted]
    return {
        "version": number,
        "role": state.role(number),
        "deployed": version.deployed,
        "task": facts.task,
        "metric": facts.metric or None,
        "value": facts.value if math.isfinite(facts.value) else None,
        "interval": [low, high],
        "kind": version.kind,
        "onnx": deployment.graph(number) is not None,
        "bytes": version.bytes,
        "digest": version.digest,
        "source": version.source,
        "failed": version.failed or None,
        "requests": sum(row.get("requests", 0) for row in counts),
        "errors": sum(row.get("errors", 0) for row in counts),
    }


def _comparison(shadow: int, counted: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What servers found by asking the shadow, too, summed over them."""
    found = [row for values in counted if (row := values.get("shadow")) and row.get("version") == shadow]
    if not found:
        return None
    total = {name: sum(row[name] for row in found) for name in found[0] if name != "version"}
    compared = total["compared"]
    share = {"agreement": total["agreed"], "confidence_difference": total["confidence"]}
    share |= {"seconds": total["seconds"], "shadow_seconds": total["shadow_seconds"]}
    return {
        "version": shadow,
        "compared": compared,
        "dropped": total["dropped"],
        "failed": total["failed"],
        **{name: value / compared if compared else None for name, value in share.items()},
    }
