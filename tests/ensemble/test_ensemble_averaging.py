"""SWA, EWA and snapshots: what is averaged is what the training went through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import parts_made
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import made
from luthier.engine.engine import Engine
from luthier.ensemble import averaging
from luthier.ensemble.averaging import Running, ewa, swa
from luthier.ensemble.base import Average
from luthier.ensemble.snapshot import cycle, snapshot
from luthier.trial import Order

Model = Callable[[str], Path]
STEADY = parts_made.RECIPE.model_copy(update={"head": "linear"})


def seen(decay: float, values: list[float]) -> float:
    mean = Running(decay)
    for value in values:
        mean.see({"w": torch.tensor([value], dtype=torch.float64), "n": torch.tensor(3)})
    assert mean.mean["n"].dtype == torch.int64
    return float(mean.mean["w"])


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.floats(0, 1))
def test_a_running_mean_is_the_weighted_mean(values: list[float], decay: float) -> None:
    counts = decay ** np.arange(len(values))[::-1].astype(float)
    assert seen(decay, values) == pytest.approx(float(counts @ values / counts.sum()), abs=1e-9)
    assert seen(0.0, values) == values[-1]
    assert seen(1.0, values) == pytest.approx(float(np.mean(values)), abs=1e-9)


def test_what_is_seen_may_change_afterwards() -> None:
    mean, weights = Running(0.5), {"w": torch.ones(2)}
    mean.see(weights)
    weights["w"] += 7
    torch.testing.assert_close(mean.mean["w"], torch.ones(2))


def make(folder: Path, model: Path) -> Engine:
    return parts_made.engine(folder, model, made.sentences(48), made.sentences(24, 1))


def test_without_memory_the_mean_is_the_last_weights(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(tmp_path, tiny_model("bert"))
    trials = parts_made.finished(engine, [STEADY.model_copy(update={"epochs": 1})])
    monkeypatch.setattr(averaging, "MEMORIES", (1e-6,))
    context, _ = parts_made.context(engine, trials)
    candidate = parts_made.check(engine, ewa(context))
    # The training is the trial's own, which took one epoch: its weights are those at that epoch's end.
    torch.testing.assert_close(
        parts_made.weights(engine, candidate), engine.checkpoints.load(trials[0].trial), rtol=1e-5, atol=1e-6
    )


def test_the_best_memory_is_taken_and_one_network_remains(tiny_model: Model, tmp_path: Path) -> None:
    engine = make(tmp_path, tiny_model("bert"))
    context, _ = parts_made.context(engine, parts_made.finished(engine, [STEADY]))
    candidate = parts_made.check(engine, ewa(context))
    assert len(candidate.parts) == 1 and candidate.combination == Average((1.0,))


def test_swa_averages_what_it_goes_through_from_the_trial_on(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(tmp_path, tiny_model("bert"))
    trials = parts_made.finished(engine, [STEADY])
    looks: list[dict[str, torch.Tensor]] = []
    see = Running.see
    monkeypatch.setattr(Running, "see", lambda self, weights: (looks.append(weights), see(self, weights))[1])
    context, _ = parts_made.context(engine, trials)
    candidate = parts_made.check(engine, swa(context))
    # The start and four a each of two epochs.
    assert len(looks) == 1 + 2 * averaging.POINTS
    name = "head.classifier.weight"
    torch.testing.assert_close(looks[0][name], engine.checkpoints.load(trials[0].trial)[name])
    expected = torch.stack([each[name] for each in looks]).mean(dim=0)
    torch.testing.assert_close(parts_made.weights(engine, candidate)[name], expected, rtol=1e-5, atol=1e-6)


def test_swa_lowers_the_loss_of_weights_that_a_large_rate_throws_about(
    tiny_model: Model, tmp_path: Path
) -> None:
    """At a constant rate weights wander about a place; their mean is nearer to it."""
    train = parts_made.animals(192)
    engine = parts_made.engine(tmp_path, tiny_model("bert"), train, parts_made.animals(96, 1))
    wild = parts_made.PROBE.model_copy(
        update={
            "optimizer": "sgd",
            "learning_rate": 3.0,
            "schedule": "constant",
            "clip_norm": None,
            "batch_size": 4,
        }
    )
    trials = parts_made.finished(engine, [wild])
    context, _ = parts_made.context(engine, trials)
    candidate = parts_made.check(engine, swa(context))
    assert parts_made.loss(engine, candidate.validation) < 0.9 * trials[0].loss


@pytest.mark.parametrize("way", [swa, ewa])
def test_images_with_batch_norms_and_probes_take_it(
    tiny_model: Model, tmp_path: Path, way: Callable[..., object]
) -> None:
    frame = parts_made.pictures(tmp_path / "data", 36)
    engine = parts_made.engine(
        tmp_path / "data", tiny_model("resnet"), frame[:24], frame[24:], "image-classification"
    )
    trials = parts_made.finished(engine, [STEADY, parts_made.PROBE.model_copy(update={"pooling": "native"})])
    for trial in trials:
        context, _ = parts_made.context(engine, [trial])
        candidate = parts_made.check(engine, way(context))  # type: ignore[arg-type]
        engine.checkpoints.remove(candidate.parts[0].trial)


@pytest.mark.parametrize("way", [swa, ewa, snapshot])
def test_what_cannot_be_done_in_time_is_refused(
    tiny_model: Model, tmp_path: Path, way: Callable[..., object]
) -> None:
    engine = make(tmp_path, tiny_model("bert"))
    trials = parts_made.finished(engine, [STEADY])
    context, said = parts_made.context(engine, trials, seconds=1e-6)
    assert way(context) is None and "no time is left" in said[0]
    context, said = parts_made.context(engine, trials, halt=lambda: "you stopped it")
    assert way(context) is None and said[0].startswith(f"No ensemble by {way.__name__}: ")
    context, said = parts_made.context(engine, [])
    assert way(context) is None and len(said) == 1
    assert not parts_made.numbers(engine)


@pytest.mark.parametrize("way", [swa, ewa])
def test_a_training_that_diverges_is_refused(
    tiny_model: Model, tmp_path: Path, way: Callable[..., object]
) -> None:
    engine = make(tmp_path, tiny_model("bert"))
    (trial,) = parts_made.finished(engine, [STEADY])
    wild = trial.recipe.model_copy(update={"learning_rate": 1e30, "clip_norm": None, "warmup": 0.0})
    context, said = parts_made.context(engine, [type(trial)(**{**vars(trial), "recipe": wild})])
    assert way(context) is None and "became nan" in said[0]


def test_snapshots_go_on_from_one_another(tiny_model: Model, tmp_path: Path) -> None:
    engine = make(tmp_path, tiny_model("bert"))
    trials = parts_made.finished(engine, [STEADY])
    context, _ = parts_made.context(engine, trials, parts=3)
    candidate = parts_made.check(engine, snapshot(context))
    assert candidate.parts[0].trial == trials[0].trial
    assert len(candidate.parts) == 3 and len({part.trial for part in candidate.parts}) == 3
    assert candidate.combination == Average((1 / 3,) * 3)
    recipe = cycle(trials[0])
    assert (recipe.schedule, recipe.warmup) == ("cosine", 0.0)
    # The last one again, by hand.
    before, last = candidate.parts[1], candidate.parts[2]
    other = make(tmp_path / "again", tiny_model("bert"))
    other.start_from(5, engine.checkpoints.load(before.trial))
    list(other.run([Order(5, last.recipe, last.recipe.epochs, last.seed)]))
    torch.testing.assert_close(other.checkpoints.load(5), engine.checkpoints.load(last.trial))
