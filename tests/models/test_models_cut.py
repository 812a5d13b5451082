from __future__ import annotations

import gc
import weakref
from typing import Any

import models_tiny
import pytest
import torch

from luthier.models import cut, network, source
from luthier.models.families import FAMILIES
from luthier.recipe import Recipe

KINDS = [*models_tiny.TEXT, *models_tiny.IMAGE]
LEVELS = [
    (kind, level)
    for kind in KINDS
    for level in ("example", "token")
    if FAMILIES[kind].token_head or level == "example"
]
DEEPER = {
    "distilbert": {"n_layers": 4},
    **{kind: {"depths": [2, 3]} for kind in ("convnext", "convnextv2", "resnet")},
    "mobilenet_v2": {},
}
STILL = {"dropout": 0.0, "head_dropout": 0.0, "lora_dropout": 0.0}


def make(found: Any, kind: str, *, level: Any = "example", **settings: Any) -> network.Network:
    recipe = Recipe(model=kind, **{"adaptation": "last_k", "last_k": 1, "lora_rank": 2, **settings})
    return network.build(found(kind), recipe, level=level, num_outputs=3, seed=0)


@pytest.fixture(scope="session")
def deeper(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """As `tiny`, with at least four blocks a model."""
    folder = tmp_path_factory.mktemp("deeper")

    def get(kind: str) -> source.Source:
        if not (folder / kind).exists():
            models_tiny.write(kind, folder / kind, **DEEPER.get(kind, {"num_hidden_layers": 4}))
        return source.find(str(folder / kind), FAMILIES[kind].modality)

    return get


def resumed(net: network.Network, batch: dict[str, torch.Tensor], depth: int) -> dict[str, torch.Tensor]:
    """A batch as a network cut at a depth reads it."""
    net.eval()
    with torch.no_grad():
        states = cut.capture(net, [depth], batch)[depth]
    return {"states": states} | {name: batch[name] for name in batch if name == "attention_mask"}


def gradients(net: network.Network, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
    logits = net(**batch)
    logits.square().sum().backward()
    return logits.detach(), {name: parameter.grad for name, parameter in net.trainable().items()}


def assert_same(ours: Any, theirs: Any) -> None:
    """Both answers and gradients, to the last bit."""
    assert torch.equal(ours[0], theirs[0])
    assert list(ours[1]) == list(theirs[1])
    for name, gradient in theirs[1].items():
        assert gradient is not None and torch.equal(ours[1][name], gradient), name


@pytest.mark.parametrize(("kind", "level"), LEVELS)
@pytest.mark.parametrize("last_k", [1, 2, 3])
def test_a_cut_network_goes_on_exactly_where_it_was_cut(
    deeper: Any, kind: str, level: str, last_k: int
) -> None:
    whole, short = (make(deeper, kind, level=level, last_k=last_k) for _ in range(2))
    assert whole.cut == last_k < whole.num_blocks
    batch = models_tiny.inputs(kind)
    states = resumed(short, batch, short.cut)
    cut.at(short, short.cut)
    assert_same(gradients(short, states), gradients(whole, batch))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_network_trains_as_the_whole_one(deeper: Any, kind: str) -> None:
    whole, short = (make(deeper, kind, last_k=2, **STILL) for _ in range(2))
    batch = models_tiny.inputs(kind)
    states = resumed(short, batch, 2)
    cut.at(short, 2)
    for net in (whole, short):
        net.train()
    assert {name for name, m in short.named_modules() if m.training} == {
        name for name, m in whole.named_modules() if m.training
    }
    assert_same(gradients(short, states), gradients(whole, batch))
    # Batch norms moved their statistics alike.
    ours, theirs = short.trained_state(), whole.trained_state()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if FAMILIES[kind].low_rank])
def test_low_rank_updates_leave_only_the_embeddings_below_the_cut(tiny: Any, kind: str) -> None:
    whole, short = (make(tiny, kind, adaptation="lora", **STILL) for _ in range(2))
    assert whole.cut == whole.num_blocks
    batch = models_tiny.inputs(kind)
    states = resumed(short, batch, short.cut)
    cut.at(short, short.cut)
    assert_same(gradients(short, states), gradients(whole, batch))


@pytest.mark.parametrize(("kind", "level"), LEVELS)
def test_cut_at_the_head(tiny: Any, kind: str, level: str) -> None:
    whole, short = (make(tiny, kind, level=level, adaptation="probe") for _ in range(2))
    assert whole.cut == 0
    batch = models_tiny.inputs(kind)
    states = resumed(short, batch, 0)
    assert torch.equal(states["states"], whole.features(**batch))
    cut.at(short, 0)
    assert not list(short.backbone.parameters())
    assert_same(gradients(short, states), gradients(whole, batch))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_keeps_its_names_and_the_rest_is_freed(deeper: Any, kind: str) -> None:
    whole, short = (make(deeper, kind, last_k=2) for _ in range(2))
    below = [
        weakref.ref(parameter)
        for name, parameter in short.named_parameters()
        if short.depth(name) > 2 and not name.removeprefix("backbone.").startswith(short.family.shared)
    ]
    assert below
    cut.at(short, 2)
    gc.collect()
    assert not any(reference() is not None for reference in below)
    assert list(short.trainable()) == list(whole.trainable())
    assert {name: short.depth(name) for name, _ in short.named_parameters()}.items() <= {
        name: whole.depth(name) for name, _ in whole.named_parameters()
    }.items()
    assert (short.num_blocks, short.cut) == (whole.num_blocks, 2)
    with torch.no_grad():
        for parameter in short.trainable().values():
            parameter.add_(1)
    whole.load_trained_state(short.trained_state())
    for name, parameter in short.trainable().items():
        assert torch.equal(parameter, whole.get_parameter(name))


@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_captures_several_depths(deeper: Any, kind: str) -> None:
    net = make(deeper, kind)
    batch = models_tiny.inputs(kind)
    passes: list[int] = []
    net.backbone.register_forward_pre_hook(lambda *_: passes.append(1))
    depths = range(net.num_blocks + 1)
    states = cut.capture(net, depths, batch)
    assert sorted(states) == list(depths) and len(passes) == 1
    with torch.no_grad():
        expected = net(**batch)
    mask = {name: batch[name] for name in batch if name == "attention_mask"}
    net.requires_grad_(False)
    # Each cut goes on from the one before.
    for depth in reversed(depths):
        cut.at(net, depth)
        assert torch.equal(net(states=states[depth], **mask), expected)


@pytest.mark.parametrize("kind", ["bert", "mpnet", "vit", "convnext", "mobilenet_v2"])
def test_nothing_above_the_wanted_states_runs(deeper: Any, kind: str) -> None:
    net = make(deeper, kind)
    called: list[int] = []
    for name, module in net.named_modules():
        if not list(module.children()):
            depth = net.depth(f"{name}.")
            module.register_forward_pre_hook(lambda *_, depth=depth: called.append(depth))
    states = cut.capture(net, {2, 3}, models_tiny.inputs(kind))
    assert sorted(states) == [2, 3]
    # The states were kept on entering block 2, of which nothing has run.
    assert min(called) == 3
    called.clear()
    net(**models_tiny.inputs(kind))
    assert min(called) == 0, "the hooks of an earlier capture are gone"


@pytest.mark.parametrize("kind", KINDS)
def test_states_depend_on_all_that_lies_below_and_on_nothing_else(tiny: Any, kind: str) -> None:
    # What a parameter of no block feeds is easily overlooked: position tables, projections of the embeddings.
    net = make(tiny, kind, adaptation="full")
    states = cut.capture(net, range(1, net.num_blocks + 1), models_tiny.inputs(kind))
    assert len(states) == net.num_blocks
    names, parameters = zip(*net.named_parameters(), strict=True)
    for depth, state in states.items():
        found = torch.autograd.grad(state.square().sum(), parameters, retain_graph=True, allow_unused=True)
        used = {name for name, gradient in zip(names, found, strict=True) if gradient is not None}
        below = {name for name in names if net.depth(name) > depth and "mask_token" not in name}
        # A table that all blocks share is not read before the lowest one.
        shared = {n for n in below if n.removeprefix("backbone.").startswith(net.family.shared)}
        assert used == (below - shared if depth == net.num_blocks else below)


@pytest.mark.parametrize("last_k", [1, 2, 99])
def test_mpnets_shared_positions_are_trained_with_the_embeddings_alone(tiny: Any, last_k: int) -> None:
    name = "backbone.encoder.relative_attention_bias.weight"
    net = make(tiny, "mpnet", last_k=last_k)
    assert net.depth(name) == net.num_blocks + 1
    assert name not in net.trainable() and net.cut == min(last_k, net.num_blocks)
    assert name in make(tiny, "mpnet", adaptation="full").trainable()
    cut.at(net, net.cut)
    # Every block that is left reads it.
    assert name in dict(net.named_parameters())


def test_states_may_come_in_half_precision(tiny: Any) -> None:
    for kind in ("bert", "vit", "convnext"):
        whole, short = make(tiny, kind), make(tiny, kind)
        batch = models_tiny.inputs(kind)
        states = resumed(short, batch, 1)
        cut.at(short, 1)
        half = states | {"states": states["states"].half()}
        assert short(**half).dtype == torch.float32
        torch.testing.assert_close(short(**half), whole(**batch), atol=0.01, rtol=0.01)
        double = states | {"states": states["states"].double()}
        assert torch.equal(short.double()(**states), short(**double))
        assert short(**states).dtype == torch.float64


def test_states_carry_gradients_where_the_caller_wants_them(tiny: Any) -> None:
    net = make(tiny, "bert", last_k=2)
    assert cut.capture(net, [1], models_tiny.inputs("bert"))[1].requires_grad
    with torch.no_grad():
        assert not cut.capture(net, [1], models_tiny.inputs("bert"))[1].requires_grad


def test_activations_are_recomputed_above_a_cut(deeper: Any) -> None:
    settings = {"last_k": 2, "gradient_checkpointing": True, **STILL}
    whole, short = make(deeper, "bert", **settings), make(deeper, "bert", **settings)
    batch = models_tiny.inputs("bert")
    states = resumed(short, batch, 2)
    cut.at(short, 2)
    for net in (whole, short):
        net.train()
    assert_same(gradients(short, states), gradients(whole, batch))


def test_how_deep_each_adaptation_trains(tiny: Any) -> None:
    found = {
        kind: make(tiny, "bert", adaptation=kind).cut for kind in ("probe", "last_k", "lora", "bias", "full")
    }
    assert found == {"probe": 0, "last_k": 1, "lora": 2, "bias": 3, "full": 3}


def test_what_cannot_be_cut_or_read_is_refused(tiny: Any) -> None:
    net = make(tiny, "bert", last_k=2)
    batch = models_tiny.inputs("bert")
    assert cut.capture(net, [], batch) == {}
    with pytest.raises(ValueError, match="no block at depth 3"):
        cut.capture(net, [0, 3], batch)
    with pytest.raises(ValueError, match="no block at depth 3"):
        cut.at(net, 3)
    with pytest.raises(ValueError, match="trained down to 2"):
        cut.at(net, 1)
    with pytest.raises(ValueError, match="starts at depth 3"):
        net(states=torch.zeros(1, 2, 32))
    probe = make(tiny, "bert")
    cut.at(probe, 1)
    with pytest.raises(ValueError, match="starts at depth 1"):
        probe(**batch)
    with pytest.raises(ValueError, match="no block at depth 2"):
        cut.at(probe, 2)
