"""`SavedForm`: which of the two forms a network is saved in, and the Python that reads it without Luthier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn
from transformers import CONFIG_MAPPING

from luthier.errors import RunError
from luthier.models import families, heads, snippets
from luthier.models.network import Network
from luthier.models.source import Source
from luthier.recipe import Recipe

AUTO_CLASSES = (
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForImageClassification",
)


@dataclass(frozen=True)
class SavedForm:
    """How a directory is to be read.

    Attributes:
        kind: ``native`` or ``generic``; see the module.
        auto_class: The transformers class that loads it, ``AutoModel`` for the generic form.
        model_type: Kind of architecture.
        level: One answer an example, or one a token.
        pooling: See `luthier.models.heads.pool`.
        head: The head's form; see `luthier.models.heads.layers`.
        width: Size of the features.
        outputs: Size of the logits.
        base: What the adapter's base model is called; None where there is no adapter.
        base_options: Further arguments with which the base model is loaded.
    """

    kind: Literal["native", "generic"]
    auto_class: str
    model_type: str
    level: families.Level
    pooling: str
    head: str
    width: int
    outputs: int
    base: str | None
    base_options: dict[str, Any]

    def snippet(self, directory: str | Path = ".") -> str:
        """Python that defines ``logits(**inputs)`` from a directory in this form, without Luthier."""
        return snippet(self, directory)

    def adapter_snippet(self, directory: str | Path = ".") -> str | None:
        """Python that loads the adapter on its base model; None where there is no adapter."""
        if self.base is None:
            return None
        return snippets.adapter(
            str(directory), base=self.base, auto_class=self.auto_class, options=self.base_options
        )


def decide(network: Network, source: Source, recipe: Recipe, auto_class: str) -> SavedForm:
    """The form a network is saved in: native wherever the transformers class has its head and pooling.

    An adapter goes with it where its base is the published model as it is: not random, not resampled.

    Raises:
        RunError: ``auto_class`` is not one that models are saved as.
    """
    family, config = network.family, network.config
    if auto_class not in AUTO_CLASSES:
        raise RunError(
            f"A model cannot be saved as {auto_class!r}; expected one of {', '.join(AUTO_CLASSES)}."
        )
    pools = family.native_pooling(config) == network.pooling
    in_config = family.pooling == "config" and network.pooling in {"cls", "mean"}
    native = network.head_form == family.head_form(network.level) and (
        network.level == "token" or pools or in_config
    )
    base_options: dict[str, Any] = {"add_pooling_layer": False} if family.pooling_layer else {}
    if native:
        base_options = {"num_labels": network.num_outputs, "ignore_mismatched_sizes": True}
        if in_config and not pools:
            base_options["classifier_pooling"] = network.pooling
    resampled = recipe.image_size is not None and family.resizes_positions
    published = recipe.adaptation == "lora" and recipe.init == "pretrained" and not resampled
    return SavedForm(
        kind="native" if native else "generic",
        auto_class=auto_class if native else "AutoModel",
        model_type=family.model_type,
        level=network.level,
        pooling=network.pooling,
        head=network.head_form,
        width=network.width,
        outputs=network.num_outputs,
        base=source.reference if published else None,
        base_options=base_options if published else {},
    )


def snippet(form: SavedForm, directory: str | Path = ".") -> str:
    """Python that defines ``logits(**inputs)`` from a directory, without Luthier."""
    family = families.get(form.model_type)
    if form.kind == "native":
        return snippets.native(
            str(directory), auto_class=form.auto_class, modality=family.modality, level=form.level
        )
    return snippets.generic(
        str(directory),
        modality=family.modality,
        level=form.level,
        head=_head_code(form),
        pooling="token" if form.level == "token" else form.pooling,
        special_tokens=family.special_tokens,
        options={"add_pooling_layer": False} if family.pooling_layer else {},
    )


def _head_code(form: SavedForm) -> list[tuple[str, str]]:
    code = []
    config = CONFIG_MAPPING[form.model_type]()
    for name, layer in heads.layers(form.head, form.width, form.outputs, 0.0, config).items():
        if isinstance(layer, nn.Linear):
            bias = "" if layer.bias is not None else ", bias=False"
            code.append((name, f"torch.nn.Linear({layer.in_features}, {layer.out_features}{bias})"))
        elif isinstance(layer, nn.LayerNorm):
            bias = "" if layer.bias is not None else ", bias=False"
            code.append((name, f"torch.nn.LayerNorm({form.width}, eps={layer.eps}{bias})"))
        elif name == "activation":
            known = type(layer) in {nn.Tanh, nn.GELU, nn.ReLU}
            activation = (
                f"torch.nn.{type(layer).__name__}()" if known else "ACT2FN[body.config.classifier_activation]"
            )
            code.append((name, activation))
    return code
