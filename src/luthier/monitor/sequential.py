"""Many comparisons and many looks: what each may count as a change, so that false alarms stay as rare as was
asked for. The comparisons themselves live elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None) -> np.ndarray:
    """p values corrected for their number by Holm's weighted procedure (1979, section 4).

    Rejecting where the result is at most a keeps the probability of any false rejection at a, whatever the
    dependence of the tests.

    Args:
        p: (k,) p values.
        weights: (k,) importance of each, above 0; None: equal ones, which is the common procedure.

    Returns:
        (k,) in [0, 1], in the order of ``p``.
    """
    values = np.asarray(p, dtype=np.float64)
    shares = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(values / shares, kind="stable")
    left = np.cumsum(shares[order][::-1])[::-1]
    corrected = np.maximum.accumulate(np.minimum(1.0, values[order] / shares[order] * left))
    found = np.empty(len(values))
    found[order] = corrected
    return found


def spend(alpha: float, new: int, window: int) -> float:
    """What one look may spend of the rate of false alarms.

    Alpha spending (Lan & DeMets 1983) with a constant rate: a look may raise a false alarm with a probability
    of ``alpha`` times the windows' worth of requests that came since the last look. By linearity of
    expectation, looks that together saw N new requests raise at most ``alpha`` N / ``window`` false alarms on
    average, however they are spaced and however dependent they are; at most one in 1 / ``alpha`` windows. A
    service has no end, so it is this rate that is held: any bound on the probability of one alarm in all
    time would make the power of later looks vanish.

    Args:
        alpha: False alarms accepted in one window of requests.
        new: Requests since the last look.
        window: Requests of a window.

    Returns:
        In [0, ``alpha``].
    """
    return alpha * min(1.0, max(0, new) / window)
