"""Which of several pre-trained models deserve the budget: a probe and LogME on each one's frozen features."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from luthier.engine.engine import Engine
from luthier.engine.prefix import Features
from luthier.models.rank import logme
from luthier.run.baselines import Trained, probe, probe_recipe

# Models that go on to be fine-tuned. A probe orders models well but not surely, so the second gets its chance
# too.
KEPT = 2
# LogME looks at this many examples at most; its order hardly changes beyond.
SAMPLE = 5_000
# Checkpoints of ranking probes.
FIRST_TRIAL = -10


@dataclass(frozen=True)
class Candidate:
    """One model's standing.

    Attributes:
        model: As the user named it.
        parameters: Of its body and a linear head.
        probe: Validation score of a linear head on its frozen features, higher is better.
        logme: Log evidence of a linear model on the same features, a value an example (You et al. 2021).
        seconds: Its ranking took.
        trained: The probe itself.
    """

    model: str
    parameters: int
    probe: float
    logme: float
    seconds: float
    trained: Trained | None

    def row(self) -> dict[str, Any]:
        """Plain values, for tables."""
        return {key: value for key, value in asdict(self).items() if key != "trained"}


def rank(engine: Engine, seed: int, names: Sequence[str] | None = None) -> list[Candidate]:
    """The engine's models, or those named, best probe first."""
    candidates = []
    for position, name in enumerate(engine.sources if names is None else names):
        started = time.perf_counter()
        recipe = probe_recipe(engine, name)
        network = engine.network(recipe, seed)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        trained = probe(engine, name, seed, trial=FIRST_TRIAL - position)
        features = engine.features(recipe, "train", network)
        evidence = _logme(features.values.float().numpy(), _targets(features), seed)
        score = trained.score if trained else float("nan")
        candidates.append(
            Candidate(name, parameters, score, evidence, time.perf_counter() - started, trained)
        )
    return sorted(candidates, key=lambda c: (np.nan_to_num(c.probe, nan=-np.inf), c.logme), reverse=True)


def _targets(features: Features) -> np.ndarray:
    """One row for each of the values: of tokens, which lie end to end, without the padding of a batch."""
    targets = np.asarray(features.targets.numpy())
    if not features.ragged:
        return targets
    return np.asarray(targets[np.arange(targets.shape[1]) < features.lengths[:, None]])


def _logme(features: np.ndarray, targets: np.ndarray, seed: int) -> float:
    """LogME on a sample of the rows that carry a target."""
    counted = np.flatnonzero(targets >= 0) if targets.dtype.kind == "i" else np.arange(len(targets))
    if len(counted) > SAMPLE:
        counted = np.sort(np.random.default_rng(seed).choice(counted, SAMPLE, replace=False))
    return logme(features[counted], targets[counted])
