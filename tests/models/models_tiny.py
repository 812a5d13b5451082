"""Tiny random-weight models of each kind, written as their publishers write them, and saved as a run does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedTokenizerFast

from luthier.models import network, processor, saved, source
from luthier.models.families import FAMILIES
from luthier.recipe import Recipe

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "mat",
    "fast",
    "slow",
    "red",
    "blue",
    "house",
    "tree",
    "bird",
    "sky",
    "walk",
    "talk",
    "good",
    "bad",
    "##s",
    "##ing",
]
SPECIAL = ["<s>", "[PAD]", "</s>", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIDE = 32

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
VOCABULARY = {"vocab_size": 64, "pad_token_id": 1, "max_position_embeddings": 40}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 2]}
CONFIGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert", "mpnet"], SIZES | VOCABULARY),
    "modernbert": SIZES | VOCABULARY,
    "electra": SIZES | VOCABULARY | {"embedding_size": 16},
    "distilbert": VOCABULARY | {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    **{kind: SIZES | {"image_size": SIDE, "patch_size": 8} for kind in ("vit", "deit", "dinov2")},
    **{kind: STAGES | {"num_stages": 2} for kind in ("convnext", "convnextv2")},
    "resnet": STAGES | {"embedding_size": 8, "layer_type": "basic"},
    "mobilenet_v2": {"depth_multiplier": 0.25, "finegrained_output": False, "image_size": SIDE},
}
TEXT = [kind for kind, family in FAMILIES.items() if family.modality == "text"]
IMAGE = [kind for kind, family in FAMILIES.items() if family.modality == "image"]

CROPPED = {
    "size": {"shortest_edge": 36},
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_center_crop": True,
}
PROCESSORS: dict[str, dict[str, Any]] = {
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}},
    "deit": {"image_processor_type": "DeiTImageProcessor", **CROPPED},
    "dinov2": {"image_processor_type": "BitImageProcessor", **CROPPED},
    "convnext": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_pct": 0.875,
    },
    "mobilenet_v2": {"image_processor_type": "MobileNetV2ImageProcessor", **CROPPED},
}
PROCESSORS |= {"resnet": PROCESSORS["convnext"], "convnextv2": PROCESSORS["convnext"]}

LABELS = ["no", "yes", "perhaps"]
STATE = {"labels": LABELS, "columns": {"input": "text"}}


def write(kind: str, folder: Path, **changes: Any) -> Path:
    """A tiny model of a kind, with its tokenizer or image processor."""
    config = CONFIG_MAPPING[kind](**CONFIGS[kind] | changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = MODEL_MAPPING[type(config)](config)
        with torch.no_grad():
            # Fresh biases and scales are all 0 and 1, which would hide a tensor that went astray.
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
            for name, buffer in model.named_buffers():
                if "running" in name:
                    buffer.add_(torch.rand_like(buffer) * 0.1)
    model.save_pretrained(folder)
    if kind in TEXT:
        tokenizer(kind).save_pretrained(folder)
    else:
        settings = {
            "do_resize": True,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "resample": 2,
        }
        settings |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings | PROCESSORS[kind]))
    return folder


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer, with a length and padding of its own baked in, as some are published."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    pieces = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 4), ("[SEP]", 5)]
    )
    pieces.enable_truncation(6)
    pieces.enable_padding(length=6, pad_id=1, pad_token="[PAD]")
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def inputs(kind: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch of three; the last text is shorter than the others."""
    generator = torch.Generator().manual_seed(seed)
    if kind in IMAGE:
        return {"pixel_values": torch.randn(3, 3, SIDE, SIDE, generator=generator)}
    ids = torch.randint(7, 29, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    ids[2, 5:], mask[2, 5:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask}


def auto_class(kind: str, level: str = "example") -> str:
    if kind in IMAGE:
        return "AutoModelForImageClassification"
    return "AutoModelForSequenceClassification" if level == "example" else "AutoModelForTokenClassification"


def trained(src: source.Source, recipe: Recipe, level: Any = "example") -> network.Network:
    """A network whose trainable parameters have moved."""
    net = network.build(src, recipe, level=level, num_outputs=3, seed=3)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in net.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return net


def store(
    src: source.Source,
    net: network.Network,
    recipe: Recipe,
    folder: Path,
    level: str = "example",
    temperature: float = 1.0,
) -> saved.SavedForm:
    kind = src.model_type
    reader = processor.load(src, net.family.modality)
    peft_type = None if kind in IMAGE else {"example": "SEQ_CLS", "token": "TOKEN_CLS"}[level]
    return saved.save(
        net,
        src,
        reader,
        recipe,
        folder,
        task_state=STATE,
        auto_class=auto_class(kind, level),
        problem_type="single_label_classification" if level == "example" else None,
        labels=LABELS,
        peft_type=peft_type,
        temperature=temperature,
    )
