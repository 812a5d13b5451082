from __future__ import annotations

from typing import Any

import models_tiny
import pytest
import torch
from torch import nn

from luthier.errors import ModelError
from luthier.models import families, network, source
from luthier.recipe import Recipe

KINDS = [*models_tiny.TEXT, *models_tiny.IMAGE]
ADAPTATIONS = ["probe", "last_k", "bias", "lora", "full"]
LORA_KINDS = [kind for kind in KINDS if families.FAMILIES[kind].low_rank]


def make(tiny: Any, kind: str, *, level: Any = "example", seed: int = 0, **settings: Any) -> network.Network:
    recipe = Recipe(model=kind, **{"last_k": 1, "lora_rank": 2, **settings})
    return network.build(tiny(kind), recipe, level=level, num_outputs=3, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_gradients_reach_what_is_trained_and_nothing_else(tiny: Any, kind: str, adaptation: str) -> None:
    if adaptation == "lora" and kind not in LORA_KINDS:
        pytest.skip("PEFT cannot wrap it")
    if (kind, adaptation) == ("modernbert", "bias"):
        with pytest.raises(ModelError, match="no biases"):
            make(tiny, kind, adaptation=adaptation)
        return
    net = make(tiny, kind, adaptation=adaptation)
    net.train()
    logits = net(**models_tiny.inputs(kind))
    assert logits.shape == (3, 3) and logits.dtype == torch.float32
    logits.square().sum().backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    # A mask token exists for masked-image pre-training and takes part in nothing here.
    assert reached - set(net.trainable()) == set()
    assert {name for name in set(net.trainable()) - reached if "mask_token" not in name} == set()
    assert net.body_is_frozen == (adaptation == "probe")
    depths = {net.depth(name) for name in net.trainable()}
    expected = {
        "probe": {0},
        "last_k": {0, 1},
        "lora": set(range(net.num_blocks + 1)),
        "full": set(range(net.num_blocks + 2)),
        "bias": set(range(net.num_blocks + 2)),
    }[adaptation]
    assert depths == expected


@pytest.mark.parametrize("kind", KINDS)
def test_depth_counts_from_the_head_down(tiny: Any, kind: str) -> None:
    net = make(tiny, kind)
    assert net.num_blocks == {"mobilenet_v2": 16}.get(
        kind, 3 if "hidden_sizes" in models_tiny.CONFIGS[kind] else 2
    )
    # Changing a part must change what comes out of every block above it and of none below it.
    by_depth: dict[int, list[str]] = {}
    for name, _ in net.named_parameters():
        by_depth.setdefault(net.depth(name), []).append(name)
    assert sorted(by_depth) == list(range(net.num_blocks + 2))
    assert all(name.startswith("head.") for name in by_depth[0])
    embeddings = by_depth[net.num_blocks + 1]
    assert all("embed" in n or "conv_stem" in n or "relative_attention_bias" in n for n in embeddings)


@pytest.mark.parametrize("kind", models_tiny.TEXT)
def test_token_level_answers_for_each_token(tiny: Any, kind: str) -> None:
    net = make(tiny, kind, level="token")
    batch = models_tiny.inputs(kind)
    assert net.features(**batch).shape == (3, 9, net.width)
    assert net(**batch).shape == (3, 9, 3)


def test_an_image_model_cannot_label_words(tiny: Any) -> None:
    with pytest.raises(ModelError, match="vit"):
        make(tiny, "vit", level="token")


@pytest.mark.parametrize("kind", ["bert", "modernbert", "vit", "deit", "dinov2", "resnet", "convnext"])
@pytest.mark.parametrize("pooling", ["native", "mean", "max", "cls"])
def test_pooling(tiny: Any, kind: str, pooling: str) -> None:
    if pooling == "cls" and kind in {"resnet", "convnext"}:
        with pytest.raises(ModelError, match="no class token"):
            make(tiny, kind, pooling=pooling)
        return
    net = make(tiny, kind, pooling=pooling)
    batch = models_tiny.inputs(kind)
    features = net.features(**batch)
    assert features.shape == (3, net.width)
    if kind in models_tiny.TEXT:
        # Padding says nothing: the short text alone, unpadded, has the same features.
        short = {name: tensor[2:, :5] for name, tensor in batch.items()}
        torch.testing.assert_close(net.features(**short)[0], features[2], atol=1e-5, rtol=1e-5)


def test_pooling_takes_what_it_says(tiny: Any) -> None:
    batch = models_tiny.inputs("bert")
    states = make(tiny, "bert").backbone(**batch).last_hidden_state[2, :5]
    torch.testing.assert_close(make(tiny, "bert", pooling="mean").features(**batch)[2], states.mean(0))
    torch.testing.assert_close(make(tiny, "bert", pooling="max").features(**batch)[2], states.amax(0))
    torch.testing.assert_close(make(tiny, "bert").features(**batch)[2], states[0])


def test_bert_head_starts_from_the_pretrained_pooler(tiny: Any) -> None:
    from transformers import AutoModel

    trained = AutoModel.from_pretrained(tiny("bert").path).pooler.dense
    net = make(tiny, "bert")
    assert torch.equal(net.head.get_submodule("dense").weight, trained.weight)
    assert not torch.equal(
        make(tiny, "bert", init="scratch").head.get_submodule("dense").weight, trained.weight
    )


@pytest.mark.parametrize("kind", ["bert", "resnet", "modernbert"])
@pytest.mark.parametrize("settings", [{"init": "scratch"}, {"adaptation": "lora"}, {"head": "mlp"}])
def test_random_weights_depend_on_the_seed_alone(tiny: Any, kind: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first = make(tiny, kind, seed=5, **settings).state_dict()
    torch.manual_seed(2)
    torch.rand(10)
    before = torch.get_rng_state()
    second = make(tiny, kind, seed=5, **settings).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    third = make(tiny, kind, seed=6, **settings).state_dict()
    assert any(not torch.equal(first[name], third[name]) for name in first)


def test_builds_do_not_share_weights(tiny: Any) -> None:
    first, second = make(tiny, "bert"), make(tiny, "bert")
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert all(bool(p.any()) for name, p in second.named_parameters() if name.endswith("query.weight"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adaptation", ["probe", "last_k"])
def test_frozen_parts_stay_in_eval_mode(tiny: Any, kind: str, adaptation: str) -> None:
    net = make(tiny, kind, adaptation=adaptation, dropout=0.5)
    net.train()
    lowest = 0 if adaptation == "probe" else 1
    for name, module in net.backbone.named_modules():
        if not list(module.children()):
            assert module.training == (net.depth(f"backbone.{name}.") <= lowest), name
    assert net.head.training
    batch = models_tiny.inputs(kind)
    torch.manual_seed(0)
    first = net.features(**batch)
    second = net.features(**batch)
    assert torch.equal(first, second) or adaptation == "last_k"
    net.eval()
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("kind", ["resnet", "mobilenet_v2"])
@pytest.mark.parametrize("adaptation", ["probe", "bias", "last_k", "full"])
def test_batch_statistics_move_only_where_the_scale_is_trained(tiny: Any, kind: str, adaptation: str) -> None:
    net = make(tiny, kind, adaptation=adaptation)
    net.train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers() if "running_mean" in name}
    net(**models_tiny.inputs(kind))
    moved = {
        name
        for name, buffer in net.named_buffers()
        if name in before and not torch.equal(before[name], buffer)
    }
    expected = {n for n in before if n.replace("running_mean", "weight") in net.trainable()}
    assert moved == expected
    assert moved <= set(net.trained_state())
    assert bool(moved) == (adaptation in {"last_k", "full"})


@pytest.mark.parametrize("kind", ["bert", "modernbert", "resnet", "mobilenet_v2"])
@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_trained_state_restores_what_training_changed(tiny: Any, kind: str, adaptation: str) -> None:
    if adaptation == "lora" and kind not in LORA_KINDS:
        pytest.skip("PEFT cannot wrap it")
    if (kind, adaptation) == ("modernbert", "bias"):
        pytest.skip("it has no biases")
    batch = models_tiny.inputs(kind)
    net = make(tiny, kind, adaptation=adaptation)
    net.train()
    net(**batch).square().sum().backward()
    with torch.no_grad():
        for parameter in net.trainable().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    net.eval()
    state, expected = net.trained_state(), net(**batch)
    other = make(tiny, kind, adaptation=adaptation, seed=0)
    assert not torch.allclose(other(**batch), expected)
    other.load_trained_state(state)
    assert torch.equal(other(**batch), expected)
    with pytest.raises(ModelError, match="another network"):
        make(tiny, kind, adaptation="probe" if adaptation != "probe" else "full").load_trained_state(state)


def test_last_k_beyond_the_blocks_leaves_the_embeddings(tiny: Any) -> None:
    net = make(tiny, "bert", adaptation="last_k", last_k=99)
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen and all(name.startswith("backbone.embeddings.") for name in frozen)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if families.FAMILIES[kind].dropouts])
def test_dropout_reaches_the_whole_body_and_none_keeps_the_models_own(tiny: Any, kind: str) -> None:
    batch = models_tiny.inputs(kind)
    off = make(tiny, kind, dropout=0.0, head_dropout=0.0).train()
    assert torch.equal(off(**batch), off(**batch))
    on = make(tiny, kind, dropout=0.4, head_dropout=0.2)
    body = [m.p for m in on.backbone.modules() if isinstance(m, nn.Dropout)]
    assert body and set(body) == {0.4}
    assert {m.p for m in on.head.modules() if isinstance(m, nn.Dropout)} == {0.2}
    assert not torch.equal(on.train()(**batch), on(**batch))
    torch.testing.assert_close(on.eval()(**batch), off.eval()(**batch))
    assert make(tiny, kind).config.to_dict().get("hidden_dropout_prob") == tiny(kind).config.get(
        "hidden_dropout_prob"
    )


@pytest.mark.parametrize("targets", ["attention", "all"])
@pytest.mark.parametrize("kind", LORA_KINDS)
def test_lora_starts_as_the_plain_model_and_covers_its_targets(tiny: Any, kind: str, targets: str) -> None:
    if targets == "attention" and families.FAMILIES[kind].attention is None:
        with pytest.raises(ModelError, match="no attention"):
            make(tiny, kind, adaptation="lora", lora_targets=targets)
        return
    net = make(tiny, kind, adaptation="lora", lora_targets=targets)
    batch = models_tiny.inputs(kind)
    torch.testing.assert_close(net(**batch), make(tiny, kind)(**batch))
    covered = {name.split(".lora_A")[0] for name, _ in net.named_parameters() if ".lora_A" in name}
    plain = make(tiny, kind)
    within = {
        name
        for name, module in plain.named_modules()
        if name.startswith("backbone.")
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
        and families.FAMILIES[kind].block_pattern.match(name.removeprefix("backbone."))
    }
    if targets == "attention":
        within = {name for name in within if "attention." in name or ".attn." in name}
    assert covered == within


def test_lora_on_mobilenet_says_why_not(tiny: Any) -> None:
    with pytest.raises(ModelError, match="mobilenet_v2"):
        make(tiny, "mobilenet_v2", adaptation="lora")


def test_gradient_checkpointing_gives_the_same_gradients(tiny: Any) -> None:
    batch = models_tiny.inputs("bert")
    gradients = []
    for checkpointing in (False, True):
        net = make(
            tiny,
            "bert",
            adaptation="last_k",
            gradient_checkpointing=checkpointing,
            dropout=0.0,
            head_dropout=0.0,
        )
        net.train()
        net(**batch).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in net.trainable().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])
    with pytest.raises(ModelError, match="resnet"):
        make(tiny, "resnet", gradient_checkpointing=True)


@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_another_image_size_resamples_positions_as_transformers_does(tiny: Any, kind: str) -> None:
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    resized = make(tiny, kind, image_size=48)
    expected = make(tiny, kind).backbone(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(resized.backbone(pixel_values=pixels).last_hidden_state, expected)


def test_weights_of_another_shape_are_refused(tmp_path: Any) -> None:
    folder = models_tiny.write("bert", tmp_path / "m")
    config = (folder / "config.json").read_text().replace('"hidden_size": 32', '"hidden_size": 64')
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match="do not fit its config"):
        network.build(
            source.find(str(folder), "text"), Recipe(model="m"), level="example", num_outputs=2, seed=0
        )


def test_missing_tensors_are_named(tmp_path: Any) -> None:
    folder = models_tiny.write("bert", tmp_path / "m")
    config = (folder / "config.json").read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"lack .*layer\.2"):
        network.build(
            source.find(str(folder), "text"), Recipe(model="m"), level="example", num_outputs=2, seed=0
        )
