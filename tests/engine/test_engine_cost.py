from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import models_tiny
import pytest
import torch
from engine_clock import Clock
from hypothesis import given
from hypothesis import strategies as st

from luthier.engine import cost
from luthier.engine.cost import Cost, CostModel, Profile, profile, update_seconds
from luthier.models import source
from luthier.models.network import Network, build
from luthier.recipe import Recipe

seconds = st.floats(0, 1e4)

# The head, four blocks and the embeddings; only their arithmetic counts, since an update costs nothing.
EVEN = Profile((0.0, 1.0, 1.0, 1.0, 1.0, 0.0), (10, 100, 100, 100, 100, 50), 16.0, update=0.0)
WORK = {"rows": 100, "validation_rows": 0}


def recipe(**settings: object) -> Recipe:
    return Recipe.parse({"model": "m", "batch_size": 100} | settings)


def model(*profiles: Profile) -> CostModel:
    made = CostModel()
    for each in profiles or (EVEN,):
        made.note("m", each)
    return made


def passes(found: CostModel, cut: int, *, of: Recipe | None = None, **options: object) -> float:
    """Passes through the body that one example takes in an epoch."""
    cost = found.predict("m", of or recipe(), cut=cut, **(WORK | options))
    assert cost is not None
    return round(cost.each / 100 / 4, 3)


@given(seconds, seconds, seconds, st.integers(1, 100))
def test_what_fits_fits(once: float, each: float, left: float, wanted: int) -> None:
    cost = Cost(once, each)
    epochs = cost.epochs_within(left, wanted)
    assert 0 <= epochs <= wanted
    if epochs:
        assert cost.total(epochs) <= left * (1 + 1e-9)
    if epochs < wanted and each > 0:
        assert cost.total(epochs + 1) > left * (1 - 1e-9)


def test_nothing_is_known_before_a_profile() -> None:
    empty = CostModel()
    assert empty.predict("m", recipe(), cut=5, **WORK) is None
    empty.observe("m", recipe(), 1, 3.0, cut=5, **WORK)
    empty.observe_prefix("m", recipe(), 3.0, cut=1, rows=100)
    assert empty.predict("m", recipe(), cut=5, **WORK) is None
    assert not empty.knows("m")
    assert model().knows("m")


def test_passes_of_each_adaptation() -> None:
    """Forward, gradients of activations, gradients of weights: three where all is trained."""
    found = model()
    assert passes(found, 5) == 3.0
    assert passes(found, 5, of=recipe(gradient_checkpointing=True)) == 4.0
    assert passes(found, 2, of=recipe(adaptation="last_k", last_k=2)) == 3.0 * 2 / 4
    assert passes(found, 4, of=recipe(adaptation="lora")) == 2.2
    assert passes(found, 5, of=recipe(adaptation="bias")) == 2.0
    probe = recipe(adaptation="probe")
    assert passes(found, 0, of=probe) == 0.0
    # What is not kept is computed in every epoch.
    assert passes(found, 0, of=probe, cacheable=False) == 1.0
    assert passes(found, 1, of=recipe(adaptation="last_k", last_k=1), cacheable=False) == (3 + 3) / 4


def test_embeddings_want_no_gradient_of_what_they_read() -> None:
    found = model(Profile((0.0, 0.0, 1.0), (1, 1, 1), update=0.0))
    cost = found.predict("m", recipe(), cut=2, **WORK)
    assert cost is not None
    assert cost.each == pytest.approx(200, abs=0.01)


def test_evaluation_is_one_forward_pass_through_what_is_not_cached() -> None:
    found = model()
    for cut, options, expected in ((5, {}, 4), (2, {}, 2), (2, {"cacheable": False}, 4), (0, {}, 0)):
        both = [
            found.predict("m", recipe(), cut=cut, rows=100, validation_rows=rows, **options)
            for rows in (0, 10)
        ]
        assert both[0] is not None and both[1] is not None
        assert both[1].each - both[0].each == pytest.approx(10 * expected)


def test_the_frozen_part_is_paid_once() -> None:
    found = model()

    def once(cut: int, **options: object) -> float:
        cost = found.predict("m", recipe(), cut=cut, **{"rows": 100, "validation_rows": 20} | options)
        assert cost is not None
        return cost.once

    assert once(1) == 3 * 120
    assert once(0) == 4 * 120
    assert once(0, views=4) == 4 * 420
    assert once(5) == 0
    assert once(1, cached=True) == once(1, cacheable=False) == 0
    found.observe_prefix("m", recipe(), 2 * 3 * 120.0, cut=1, rows=120)
    assert once(1) == 2 * 3 * 120
    assert once(2) == 2 * 2 * 120
    found.observe_prefix("m", recipe(), 1.0, cut=5, rows=120)  # Nothing is frozen, so nothing is learnt.
    assert once(1) == 2 * 3 * 120


def test_updates_cost_by_parameters_and_steps() -> None:
    still = Profile((0.0,) * 6, EVEN.parameters, update=1.0)
    found = model(still)

    def each(cut: int = 5, trainable: int | None = None, **settings: object) -> float:
        cost = found.predict("m", recipe(**settings), cut=cut, trainable=trainable, **WORK)
        assert cost is not None
        return cost.each

    assert each() == pytest.approx(460, rel=0.01)
    assert each(batch_size=30) == pytest.approx(4 * 460, rel=0.01)
    assert each(2, adaptation="last_k", last_k=2) == pytest.approx(210, rel=0.01)
    assert each(0, adaptation="probe") == pytest.approx(10, rel=0.01)
    assert 10 < each(4, adaptation="lora") < 20
    assert each(4, trainable=77, adaptation="lora") == pytest.approx(77, rel=0.01)


def test_cost_grows_with_the_extent() -> None:
    found = model(EVEN)
    assert passes(found, 5, extent=32.0) == 6.0
    assert passes(found, 5, of=recipe(image_size=16)) == 48.0
    # The nearest of those measured counts.
    found.note("m", Profile(tuple(10 * f for f in EVEN.forward), EVEN.parameters, 64.0, update=0.0))
    assert passes(found, 5, extent=16.0) == 3.0
    assert passes(found, 5, extent=20.0) == 3.75
    assert passes(found, 5, extent=64.0) == 30.0
    assert passes(found, 5, extent=128.0) == 60.0


def test_what_was_measured_is_predicted() -> None:
    found = model()
    found.observe("m", recipe(), 3, 5000.0, cut=5, **WORK)
    exact = found.predict("m", recipe(), cut=5, size=3, **WORK)
    assert exact == Cost(0.0, 5000.0)
    # Newer ones count half, as ratios do.
    found.observe("m", recipe(), 3, 1250.0, cut=5, **WORK)
    assert found.predict("m", recipe(), cut=5, size=3, **WORK) == Cost(0.0, 2500.0)
    # What costs nothing makes no other training of it.
    assert found.predict("m", recipe(learning_rate=1.0, epochs=9), cut=5, size=3, **WORK) == Cost(0.0, 2500.0)
    # A new profile changes no measurement.
    found.note("m", Profile(tuple(9 * f for f in EVEN.forward), EVEN.parameters, 16.0))
    assert found.predict("m", recipe(), cut=5, size=3, **WORK) == Cost(0.0, 2500.0)


def test_corrections_come_from_what_is_most_alike() -> None:
    found = model()
    found.note("other", EVEN)

    def factor(key: str = "m", size: int = 1, cut: int = 5, **settings: object) -> float:
        made = [
            each.predict(key, recipe(**settings), cut=cut, size=size, **WORK) for each in (found, model())
        ]
        if key == "other":
            made[1] = model().predict("m", recipe(**settings), cut=cut, size=size, **WORK)
        assert made[0] is not None and made[1] is not None
        return round(made[0].each / made[1].each, 6)

    plain = model().predict("m", recipe(), cut=5, **WORK)
    assert plain is not None
    found.observe("m", recipe(), 1, 2 * plain.each, cut=5, **WORK)
    assert factor(size=4) == 2.0  # The same shape.
    assert factor(max_length=9) == 2.0  # The same adaptation.
    assert factor(adaptation="lora", cut=4) == 2.0  # The same model.
    assert factor("other") == 1.0
    found.observe("m", recipe(max_length=9), 1, 8 * plain.each, cut=5, **WORK)
    assert factor(size=4) == 2.0
    assert factor(max_length=9, size=4) == 8.0
    assert factor(max_length=5) == 4.0
    assert factor(adaptation="lora", cut=4) == 4.0
    found.observe("m", recipe(), 4, 3 * plain.each, cut=5, **WORK)
    assert factor() == 2.0
    assert factor(size=4) == 3.0
    # Other rows make another training of the same shape.
    more = [each.predict("m", recipe(), cut=5, rows=200, validation_rows=0) for each in (found, model())]
    assert more[0] is not None and more[1] is not None
    assert more[0].each == pytest.approx(2 * more[1].each)


def test_epochs_on_cached_features_say_nothing_of_the_model() -> None:
    found = model()
    probe = recipe(adaptation="probe")
    found.observe("m", probe, 1, 50.0, cut=0, **WORK)
    assert found.predict("m", probe, cut=0, cached=True, **WORK) == Cost(0.0, 50.0)
    assert passes(found, 5) == 3.0
    # Where nothing is cached, they do.
    found.observe("m", probe, 1, 800.0, cut=0, cacheable=False, **WORK)
    assert passes(found, 5) == pytest.approx(6.0, rel=0.01)


@pytest.mark.parametrize("measured", [0.0, -1.0, math.inf, math.nan])
def test_what_cannot_be_is_not_learnt(measured: float) -> None:
    found = model()
    found.observe("m", recipe(), 1, measured, cut=5, **WORK)
    assert passes(found, 5) == 3.0


@pytest.mark.parametrize(
    ("measured", "largest", "expected"),
    [
        ({}, 6, 6),
        ({1: 1.0}, 6, 6),  # Nothing says that more would not be better.
        ({1: 1.0, 6: 0.8}, 6, 6),
        ({1: 1.0, 6: 0.8}, 4, 4),
        ({1: 1.0, 6: 1.0}, 6, 6),
        ({1: 1.0, 6: 1.1}, 6, 1),
        ({1: 1.0, 6: 1.1}, 4, 1),
        ({1: 1.0, 4: 0.7, 6: 0.9}, 9, 4),
        ({1: 1.0, 4: 0.7, 6: 0.9}, 3, 3),
        ({1: 1.0, 4: 0.7, 6: 0.6}, 9, 9),
    ],
)
def test_stacks_grow_while_that_pays(measured: dict[int, float], largest: int, expected: int) -> None:
    found = model()
    for size, each in measured.items():
        found.observe("m", recipe(), size, each, cut=5, **WORK)
    assert found.best_size("m", recipe(learning_rate=0.5), largest) == expected
    assert found.best_size("m", recipe(batch_size=7), largest) == largest


@pytest.mark.parametrize("kind", ["bert", "modernbert", "vit", "convnext", "resnet", "mobilenet_v2"])
def test_a_profile_finds_what_is_slow(
    tiny_model: Callable[[str], Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    update_seconds(torch.device("cpu"))  # Is kept, and must not be of this clock.
    monkeypatch.setattr(cost, "time", clock)
    found = source.find(str(tiny_model(kind)), "image" if kind in models_tiny.IMAGE else "text")
    network = build(found, recipe(head="linear"), level="example", num_outputs=2, seed=0).train()
    inputs = models_tiny.inputs(kind)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    delays = {1: 0.03, network.num_blocks: 0.06, network.num_blocks + 1: 0.09}
    for depth, delay in delays.items():
        first_leaf(network, depth).register_forward_pre_hook(lambda *_, delay=delay: clock.sleep(delay))
    made = profile(network, inputs, torch.device("cpu"))
    assert len(made.forward) == len(made.parameters) == network.num_blocks + 2 == made.num_blocks + 2
    assert sum(made.parameters) == sum(p.numel() for p in network.parameters())
    assert made.parameters[0] == sum(p.numel() for p in network.head.parameters())
    assert made.extent == (32 * 32 if kind in models_tiny.IMAGE else 9)
    for depth, each in enumerate(made.forward):
        assert each == pytest.approx(delays.get(depth, 0.0) / 3), depth
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(m._forward_pre_hooks for n, m in network.named_modules() if n == "head")


def first_leaf(network: Network, depth: int) -> torch.nn.Module:
    """The first layer of a depth that has weights: in a stage's first block, what changes the resolution."""
    return next(
        module
        for name, module in network.backbone.named_modules()
        if not list(module.children())
        and list(module.parameters())
        and network.depth(f"backbone.{name}.weight") == depth
    )


def test_an_update_takes_time() -> None:
    assert 1e-12 < update_seconds(torch.device("cpu"), 2**12) < 1e-3


def test_predictions_repeat(tiny_model: Callable[[str], Path]) -> None:
    def history() -> list[Cost | None]:
        found, told = model(), []
        for size, cut in itertools.product((1, 2), (1, 5)):
            found.observe("m", recipe(), size, 0.1 + size * cut, cut=cut, **WORK)
            told.append(found.predict("m", recipe(max_length=8), cut=cut, size=size, **WORK))
        return told

    assert history() == history()
