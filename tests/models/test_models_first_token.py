from __future__ import annotations

import copy
from typing import Any

import models_tiny
import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from luthier.models import cut, families, first_token, network, source
from luthier.recipe import Recipe

KINDS = list(first_token.FORWARDS)
WITHOUT = [kind for kind in families.FAMILIES if kind not in KINDS]


def make(tiny: Any, kind: str, *, level: Any = "example", **settings: Any) -> network.Network:
    settings = {"adaptation": "last_k", "last_k": 1, "pooling": "cls", "lora_rank": 2, **settings}
    recipe = Recipe(model=kind, **settings)
    return network.build(tiny(kind), recipe, level=level, num_outputs=3, seed=0)


def pair(tiny: Any, kind: str, **settings: Any) -> tuple[network.Network, network.Network]:
    """A whole network and its like, narrowed."""
    whole = make(tiny, kind, **settings)
    narrowed = copy.deepcopy(whole)
    assert first_token.narrow(narrowed)
    return whole, narrowed


def assert_alike(whole: network.Network, narrowed: network.Network, batch: dict[str, torch.Tensor]) -> None:
    """Equal logits and gradients in double precision."""
    found = []
    for net in (whole.double(), narrowed.double()):
        net.zero_grad()
        doubled = {name: t.double() if t.is_floating_point() else t for name, t in batch.items()}
        logits = net(**doubled)
        logits.square().sum().backward()
        found.append((logits, {name: parameter.grad for name, parameter in net.trainable().items()}))
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-12, rtol=1e-12)
    for name, gradient in found[0][1].items():
        if gradient is None:
            assert "mask_token" in name
        else:
            torch.testing.assert_close(found[1][1][name], gradient, atol=1e-12, rtol=1e-10, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adaptation", ["last_k", "lora", "full"])
def test_a_narrowed_network_is_the_same_function(tiny: Any, kind: str, adaptation: str) -> None:
    whole, narrowed = pair(tiny, kind, adaptation=adaptation)
    assert list(dict(narrowed.named_parameters())) == list(dict(whole.named_parameters()))
    batch = models_tiny.inputs(kind)
    assert narrowed.backbone(**batch).last_hidden_state.shape == (3, 1, narrowed.width)
    torch.testing.assert_close(narrowed(**batch), whole(**batch), atol=1e-6, rtol=1e-6)
    # A batch without padding goes without a mask.
    unpadded = {name: tensor[:2] for name, tensor in batch.items()}
    assert_alike(whole, narrowed, unpadded)
    assert_alike(whole, narrowed, batch)


@pytest.mark.parametrize("kind", KINDS)
def test_explicit_attention_is_narrowed_alike(tiny: Any, kind: str) -> None:
    whole, narrowed = pair(tiny, kind)
    for net in (whole, narrowed):
        net.backbone.set_attn_implementation("eager")  # type: ignore[operator]
    assert_alike(whole, narrowed, models_tiny.inputs(kind))


def test_the_window_of_a_local_block_is_kept(tiny: Any, tmp_path: Any) -> None:
    local = {"layer_types": ["full_attention", "sliding_attention"], "local_attention": 4}
    folder = models_tiny.write("modernbert", tmp_path / "m", **local)
    whole, narrowed = pair(lambda _: source.find(str(folder), "text"), "modernbert")
    batch = models_tiny.inputs("modernbert")
    assert_alike(whole, narrowed, batch)
    everywhere = make(tiny, "modernbert").double()
    everywhere.load_state_dict(whole.state_dict())
    assert not torch.allclose(everywhere(**batch), whole(**batch)), "the window is narrower than the texts"


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_network_can_be_narrowed_and_a_narrowed_one_cut(tiny: Any, kind: str) -> None:
    whole, narrowed = pair(tiny, kind)
    batch = models_tiny.inputs(kind)
    states = cut.capture(whole, [1], batch)[1].detach()
    assert torch.equal(cut.capture(narrowed, [1], batch)[1], states)
    expected = whole(**batch)
    inputs = {"states": states} | {name: batch[name] for name in batch if name == "attention_mask"}
    cut.at(narrowed, 1)
    cut.at(whole, 1)
    assert first_token.narrow(whole)
    for net in (whole, narrowed):
        torch.testing.assert_close(net(**inputs), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if families.FAMILIES[kind].checkpointing])
def test_activations_of_a_narrowed_block_can_be_recomputed(tiny: Any, kind: str) -> None:
    settings = {"dropout": 0.0, "head_dropout": 0.0}
    whole = make(tiny, kind, **settings)
    narrowed = make(tiny, kind, gradient_checkpointing=True, **settings)
    assert first_token.narrow(narrowed)
    passes: list[int] = []
    linear = next(m for m in cut.blocks(narrowed)[-1][1].modules() if isinstance(m, nn.Linear))
    linear.register_forward_hook(lambda *_: passes.append(1))
    for net in (whole, narrowed):
        net.train()
    assert_alike(whole, narrowed, models_tiny.inputs(kind))
    assert len(passes) == 2, "once forward, once more for the gradients"


@pytest.mark.parametrize("kind", KINDS)
def test_dropouts_are_the_blocks_own(tiny: Any, kind: str) -> None:
    _, narrowed = pair(tiny, kind, dropout=0.5, head_dropout=0.0)
    narrowed.train()
    block = cut.blocks(narrowed)[-1][1]
    shapes: list[tuple[int, ...]] = []

    class Recorded(nn.Module):
        p = 0.5

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(states.shape))
            return states

    for name in [name for name, module in block.named_modules() if isinstance(module, nn.Dropout)]:
        block.set_submodule(name, Recorded())
    narrowed(**models_tiny.inputs(kind))
    # One behind each half of a block. MPNet's attention has one more, on its probabilities.
    assert len(shapes) == {"mpnet": 3, "distilbert": 1, "dinov2": 0}.get(kind, 2)
    assert all(shape[-2] == 1 for shape in shapes)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mpnet"])
def test_attention_goes_through_the_function_that_the_config_names(
    tiny: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, torch.Size, torch.Size, Any, float]] = []

    def watched(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        calls.append((module, query.shape, key.shape, mask, kwargs["dropout"]))
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    whole, narrowed = pair(tiny, kind, dropout=0.25)
    batch = models_tiny.inputs(kind)
    expected = whole(**batch)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", watched)  # type: ignore[arg-type]
    torch.testing.assert_close(narrowed(**batch), expected, atol=1e-6, rtol=1e-6)
    narrowed.train()(**batch)
    block = cut.blocks(narrowed)[-1][1]
    attention = {"modernbert": "attn"}.get(kind, "attention")
    if hasattr(block.get_submodule(attention), "self"):
        attention += ".self"
    assert len(calls) == 4, "two blocks, in eval mode and in training"
    for _, query, key, mask, _ in (calls[1], calls[3]):
        assert query[2] == 1 < key[2] and (mask is None or mask.shape[2] == 1)
    assert calls[1][0] is calls[3][0] is block.get_submodule(attention)
    assert [call[4] for call in calls] == [0.0, 0.0, 0.0, 0.25], "a frozen block drops nothing"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {"pooling": "mean"}),
        ("bert", {"level": "token"}),
        ("vit", {"pooling": "max"}),
        ("dinov2", {"pooling": "native"}),
        *((kind, {"pooling": "native"}) for kind in WITHOUT),
    ],
)
def test_where_more_than_the_first_token_is_read_nothing_changes(
    tiny: Any, kind: str, settings: dict[str, Any]
) -> None:
    net = make(tiny, kind, **settings)
    batch = models_tiny.inputs(kind)
    types, expected = [type(module) for module in net.modules()], net(**batch)
    assert not first_token.narrow(net)
    assert [type(module) for module in net.modules()] == types
    assert torch.equal(net(**batch), expected)


def test_a_head_alone_and_a_causal_body_are_left_as_they_are(tiny: Any) -> None:
    head = make(tiny, "bert", adaptation="probe")
    cut.at(head, 0)
    assert not first_token.narrow(head)
    causal = make(tiny, "bert")
    causal.config.is_decoder = True
    assert not first_token.narrow(causal)


def test_narrowing_twice_is_narrowing_once(tiny: Any) -> None:
    _, net = pair(tiny, "bert")
    kind = type(cut.blocks(net)[-1][1])
    assert first_token.narrow(net) and type(cut.blocks(net)[-1][1]) is kind
    # Blocks of other networks are not touched.
    assert type(cut.blocks(make(tiny, "bert"))[-1][1]) is kind.__mro__[1]
