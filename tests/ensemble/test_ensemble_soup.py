"""Soups: a mean of one is the trial, of twins the twin; and means of updates are means of the products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import parts_made
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import made
from luthier.ensemble.bench import Bench
from luthier.ensemble.soup import averaged, averaged_updates, greedy_soup, soup
from luthier.ensemble.statistics import reestimated
from luthier.recipe import Recipe

Model = Callable[[str], Path]
LORA = Recipe(model="tiny", adaptation="lora")


def state(seed: int, rank: int = 0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    found = {
        "head.classifier.weight": torch.randn(3, 5, generator=rng),
        "backbone.norm.num_batches_tracked": torch.tensor(seed),
    }
    if rank:
        found["backbone.q.lora_A.default.weight"] = torch.randn(rank, 4, generator=rng)
        found["backbone.q.lora_B.default.weight"] = torch.randn(6, rank, generator=rng)
    return found


@given(st.integers(0, 100), st.integers(1, 4))
def test_the_mean_of_one_and_of_twins_is_the_trial(seed: int, count: int) -> None:
    found = averaged([state(seed)] * count, [1 / count] * count)
    torch.testing.assert_close(found, state(seed), rtol=1e-6 if count == 3 else 0, atol=0)
    assert found["backbone.norm.num_batches_tracked"].dtype == torch.int64


def test_a_mean_is_of_each_number() -> None:
    found = averaged([state(1), state(2)], [0.25, 0.75])
    expected = 0.25 * state(1)["head.classifier.weight"] + 0.75 * state(2)["head.classifier.weight"]
    torch.testing.assert_close(found["head.classifier.weight"], expected)


def test_weights_of_other_shapes_have_no_mean() -> None:
    with pytest.raises(ValueError, match="same names and shapes"):
        averaged([state(1), state(2, rank=1)], [0.5, 0.5])
    with pytest.raises(ValueError, match="same names and shapes"):
        averaged([state(1, rank=2), state(2, rank=1)], [0.5, 0.5])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.floats(0.5, 32))
def test_the_mean_of_updates_is_that_of_their_products(ranks: list[int], alpha: float) -> None:
    recipes = [
        LORA.model_copy(update={"lora_rank": rank, "lora_alpha": alpha * (1 + at)})
        for at, rank in enumerate(ranks)
    ]
    states = [state(seed, rank) for seed, rank in enumerate(ranks)]
    weights = [(1 + at) / sum(range(1, len(ranks) + 1)) for at in range(len(ranks))]

    def update(one: dict[str, torch.Tensor], recipe: Recipe) -> torch.Tensor:
        halves = one["backbone.q.lora_B.default.weight"] @ one["backbone.q.lora_A.default.weight"]
        return halves * recipe.lora_alpha / recipe.lora_rank

    found, recipe = averaged_updates(states, recipes, weights)
    assert recipe.lora_rank == sum(ranks)
    expected = sum(w * update(s, r) for w, s, r in zip(weights, states, recipes, strict=True))
    torch.testing.assert_close(update(found, recipe), torch.as_tensor(expected), rtol=1e-4, atol=1e-4)


def test_too_large_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="600"):
        wide = LORA.model_copy(update={"lora_rank": 300})
        averaged_updates([state(0, 300), state(1, 300)], [wide, wide], [0.5, 0.5])


@pytest.mark.parametrize("adaptation", ["full", "last_k", "lora", "probe", "bias"])
def test_both_soups_are_one_network(tiny_model: Model, tmp_path: Path, adaptation: str) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(48), made.sentences(24, 1))
    recipe = parts_made.RECIPE.model_copy(
        update={"adaptation": adaptation, "last_k": 1, "head": "linear", "learning_rate": 1e-3}
    )
    rates = [
        recipe.model_copy(update={"learning_rate": rate, "lora_rank": r})
        for rate, r in ((1e-3, 2), (2e-3, 4), (4e-3, 1))
    ]
    trials = parts_made.finished(engine, rates)
    context, said = parts_made.context(engine, trials)
    whole = parts_made.check(engine, soup(context))
    (part,) = whole.parts
    assert part.recipe.lora_rank == (7 if adaptation == "lora" else trials[0].recipe.lora_rank)
    for number in {part.trial}:
        engine.checkpoints.remove(number)
    picked = greedy_soup(context)
    if picked is None:
        assert "at least as good" in said[0] and not parts_made.numbers(engine)
    else:
        parts_made.check(engine, picked)
        assert parts_made.score(engine, picked.validation) >= trials[0].score - 1e-9


def test_a_soup_of_a_trial_and_itself_is_the_trial(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(48), made.sentences(24, 1))
    (trial,) = parts_made.finished(engine, [parts_made.RECIPE])
    twin = type(trial)(**{**vars(trial), "trial": 1})
    engine.checkpoints.save(1, engine.checkpoints.load(0))
    context, _ = parts_made.context(engine, [trial, twin])
    for way in (soup, greedy_soup):
        candidate = way(context)
        assert candidate is not None
        torch.testing.assert_close(parts_made.weights(engine, candidate), engine.checkpoints.load(0))
        assert parts_made.loss(engine, candidate.validation) == pytest.approx(trial.loss, abs=1e-5)


def test_the_greedy_one_leaves_out_what_harms(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(96), made.sentences(48, 1))
    good = parts_made.RECIPE.model_copy(update={"epochs": 4, "head_init": "probe"})
    trials = parts_made.finished(engine, [good, good.model_copy(update={"learning_rate": 2e-3})])
    broken = engine.checkpoints.load(trials[1].trial)
    noise = torch.Generator().manual_seed(0)
    for value in broken.values():
        value += torch.randn(value.shape, generator=noise)
    engine.checkpoints.save(trials[1].trial, broken)
    context, said = parts_made.context(engine, trials)
    assert greedy_soup(context) is None and "at least as good" in said[0]
    everything = soup(context)
    assert everything is not None
    assert parts_made.score(engine, everything.validation) < trials[0].score


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"adaptation": "probe", "head": "linear"}, "model, adaptation and head"),
        ({"head": "mlp"}, "model, adaptation and head"),
        ({}, "heads started elsewhere"),
    ],
)
def test_what_has_no_mean_with_the_best_is_refused(
    tiny_model: Model, tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(24), made.sentences(24, 1))
    one = parts_made.RECIPE.model_copy(update={"epochs": 1, "head": "native"})
    trials = parts_made.finished(engine, [one, one.model_copy(update=changes)])
    context, said = parts_made.context(engine, trials)
    assert soup(context) is None and why in said[0]
    context, said = parts_made.context(engine, trials[:1])
    assert greedy_soup(context) is None and "fewer than two" in said[0]


def test_no_time_is_a_reason(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(24), made.sentences(24, 1))
    one = parts_made.RECIPE.model_copy(update={"epochs": 1, "head": "linear"})
    context, said = parts_made.context(engine, parts_made.finished(engine, [one, one]), seconds=0.0)
    assert soup(context) is None and greedy_soup(context) is None
    assert all("judging" in text for text in said) and not parts_made.numbers(engine)


def test_convolutional_networks_get_statistics_of_their_own_weights(
    tiny_model: Model, tmp_path: Path
) -> None:
    frame = parts_made.pictures(tmp_path / "data", 48)
    engine = parts_made.engine(
        tmp_path / "data", tiny_model("resnet"), frame[:32], frame[32:], "image-classification"
    )
    one = parts_made.RECIPE.model_copy(update={"learning_rate": 1e-2, "head": "linear"})
    trials = parts_made.finished(engine, [one, one.model_copy(update={"learning_rate": 2e-2})])
    context, _ = parts_made.context(engine, trials)
    candidate = parts_made.check(engine, soup(context))
    states = [engine.checkpoints.load(trial.trial) for trial in trials]
    mean, found = averaged(states, [0.5, 0.5]), parts_made.weights(engine, candidate)
    statistics = [name for name in mean if ".running_" in name]
    assert statistics
    assert any(not torch.allclose(mean[name], found[name], rtol=0.05) for name in statistics)
    same = [name for name in mean if "running_" not in name and "num_batches" not in name]
    torch.testing.assert_close({n: mean[n] for n in same}, {n: found[n] for n in same})
    # The first norm sees the first convolution of the pixels: its statistics can be told by hand.
    part = candidate.parts[0]
    network = engine.network(part.recipe, part.seed, trial=part.trial).eval()
    first = next(m for m in network.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen = []
    hook = first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    examples = engine.inputs.split("train", engine.sources["tiny"], part.recipe).examples
    with torch.no_grad():
        network(**examples.batch(torch.arange(32).numpy()).inputs)
    hook.remove()
    assert first.running_mean is not None and first.running_var is not None
    torch.testing.assert_close(first.running_mean, seen[0].mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first.running_var, seen[0].var(dim=(0, 2, 3)), rtol=0.02, atol=1e-4)
    with Bench(context, "soup") as bench:
        again = reestimated(bench, part.recipe, part.seed, found)
    torch.testing.assert_close(again, found, rtol=1e-4, atol=1e-5)
