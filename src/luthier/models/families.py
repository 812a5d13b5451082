"""One entry for each kind of architecture: where its parts are, and how its transformers class pools and
classifies.

Only names live here. What is done with them is in `backbone`, `heads`, `adapt` and `saved`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from luthier.errors import ModelError

Level = Literal["example", "token"]
Modality = Literal["text", "image"]

# A stage's downsampling belongs to the stage's first block: group 2 is empty for it, which counts as 0.
STAGES = r"encoder\.stages\.(\d+)\.(?:layers\.(\d+)|downsampling_layer)\."


@dataclass(frozen=True)
class Family:
    """Names of one kind of architecture.

    Attributes:
        model_type: transformers' ``config.model_type``.
        modality: What it reads.
        embeddings: Prefixes of the parameters below the first block.
        blocks: Pattern at the start of a block's parameter names; its groups number the block.
        shared: Prefixes of parameters that every block reads; they lie as deep as the embeddings.
        pooling: What the transformers class pools with: ``cls``, ``mean``, ``cls_mean`` (both, side by
            side), ``pooler`` (the body's own pooled output) or ``config`` (named by
            ``config.classifier_pooling``).
        head: The form of the transformers class's head; see `luthier.models.heads`.
        head_names: Our head's layer to the layer in the transformers class, for one answer an example.
        token_head: As ``head``, for one answer a token; None for images.
        head_sources: Our head's layer to the layer that many checkpoints carry ready-trained.
        dropouts: Config names of the body's dropout rates, attention included.
        head_dropouts: Config names of the head's dropout rate.
        attention: What the names of attention projections hold; None where there is no attention.
        pooling_layer: Whether the class has a pooling layer that can be left out.
        special_tokens: Leading tokens that are not image patches; 0 for convolutions.
        resizes_positions: Whether position embeddings must be resampled for another image size.
        checkpointing: Whether transformers can recompute its activations.
        low_rank: Whether PEFT can put updates in.
    """

    model_type: str
    modality: Modality
    embeddings: tuple[str, ...]
    blocks: str
    pooling: str
    head: str
    head_names: dict[str, str]
    shared: tuple[str, ...] = ()
    token_head: str | None = None
    head_sources: dict[str, str] = field(default_factory=dict)
    dropouts: tuple[str, ...] = ()
    head_dropouts: tuple[str, ...] = ()
    attention: str | None = None
    pooling_layer: bool = False
    special_tokens: int = 0
    resizes_positions: bool = False
    checkpointing: bool = True
    low_rank: bool = True

    @cached_property
    def block_pattern(self) -> re.Pattern[str]:
        """``blocks``, compiled."""
        return re.compile(self.blocks)

    def head_form(self, level: Level) -> str:
        """The transformers class's head at a level.

        Raises:
            ModelError: It cannot answer once a token.
        """
        if level == "example":
            return self.head
        if self.token_head is None:
            raise ModelError(f"A {self.model_type} model cannot label words: it reads images.")
        return self.token_head

    def names(self, level: Level) -> dict[str, str]:
        """Our head's layers to those of the transformers class at a level."""
        if level == "example" or self.token_head == self.head:
            return self.head_names
        return {"classifier": "classifier"}

    def native_pooling(self, config: object) -> str:
        """What the transformers class pools with, for a config."""
        return str(getattr(config, "classifier_pooling", "cls")) if self.pooling == "config" else self.pooling


LAYERS = r"encoder\.layer\.(\d+)\."
BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")

BERT = Family(
    "bert",
    "text",
    embeddings=("embeddings.",),
    blocks=LAYERS,
    pooling="cls",
    head="dense_tanh",
    head_names={"dense": "bert.pooler.dense", "classifier": "classifier"},
    token_head="linear",
    head_sources={"dense": "pooler.dense"},
    dropouts=BERT_DROPOUTS,
    head_dropouts=("classifier_dropout",),
    attention="attention.",
    pooling_layer=True,
)
ROBERTA = replace(
    BERT,
    model_type="roberta",
    head="dropout_dense_tanh",
    head_names={"dense": "classifier.dense", "classifier": "classifier.out_proj"},
    head_sources={},
)
VIT = Family(
    "vit",
    "image",
    embeddings=("embeddings.",),
    blocks=r"layers\.(\d+)\.",
    pooling="cls",
    head="linear",
    head_names={"classifier": "classifier"},
    dropouts=BERT_DROPOUTS,
    attention="attention.",
    pooling_layer=True,
    special_tokens=1,
    resizes_positions=True,
)
CONVNEXT = Family(
    "convnext",
    "image",
    embeddings=("embeddings.",),
    blocks=STAGES,
    pooling="pooler",
    head="linear",
    head_names={"classifier": "classifier"},
    checkpointing=False,
)

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        BERT,
        ROBERTA,
        replace(ROBERTA, model_type="xlm-roberta"),
        replace(ROBERTA, model_type="camembert"),
        replace(
            ROBERTA,
            model_type="electra",
            embeddings=("embeddings.", "embeddings_project."),
            head="dropout_dense_gelu",
            pooling_layer=False,
        ),
        replace(
            ROBERTA,
            model_type="mpnet",
            # One table of relative positions: a change to it changes what the lowest block gives, so it is
            # trained only where the embeddings are.
            shared=("encoder.relative_attention_bias.",),
            head_dropouts=(),
            checkpointing=False,
        ),
        Family(
            "distilbert",
            "text",
            embeddings=("embeddings.",),
            blocks=r"transformer\.layer\.(\d+)\.",
            pooling="cls",
            head="dense_relu",
            head_names={"dense": "pre_classifier", "classifier": "classifier"},
            token_head="linear",
            dropouts=("dropout", "attention_dropout"),
            head_dropouts=("seq_classif_dropout",),
            attention="attention.",
        ),
        Family(
            "modernbert",
            "text",
            embeddings=("embeddings.",),
            blocks=r"layers\.(\d+)\.",
            pooling="config",
            head="prediction",
            head_names={"dense": "head.dense", "norm": "head.norm", "classifier": "classifier"},
            token_head="prediction",
            head_sources={"dense": "head.dense", "norm": "head.norm"},
            dropouts=("attention_dropout", "embedding_dropout", "mlp_dropout"),
            head_dropouts=("classifier_dropout",),
            attention="attn.",
        ),
        VIT,
        replace(VIT, model_type="deit", special_tokens=2),
        replace(
            VIT,
            model_type="dinov2",
            blocks=LAYERS,
            pooling="cls_mean",
            pooling_layer=False,
            resizes_positions=False,
        ),
        CONVNEXT,
        replace(CONVNEXT, model_type="convnextv2"),
        replace(
            CONVNEXT,
            model_type="resnet",
            embeddings=("embedder.",),
            head_names={"classifier": "classifier.1"},
        ),
        replace(
            CONVNEXT,
            model_type="mobilenet_v2",
            embeddings=("conv_stem.",),
            blocks=r"layer\.(\d+)\.",
            head_dropouts=("classifier_dropout_prob",),
            # Its forward pass reads stride and kernel off each convolution, which PEFT's wrapper does not
            # have.
            low_rank=False,
        ),
    )
}


def supported(modality: str) -> list[str]:
    """Kinds of architecture for a modality."""
    return [name for name, family in FAMILIES.items() if family.modality == modality]


def get(model_type: str) -> Family:
    """The entry for transformers' ``config.model_type``.

    Raises:
        ModelError: There is none; lists those there are.
    """
    if model_type not in FAMILIES:
        raise ModelError(
            f"Model kind {model_type!r} is not supported.",
            f"Text: {', '.join(supported('text'))}. Images: {', '.join(supported('image'))}.",
        )
    return FAMILIES[model_type]
