"""What of a body is trained: nothing, its last blocks, its biases, low-rank updates, or all of it."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import nn

from luthier.errors import ModelError
from luthier.models.backbone import seeded
from luthier.models.families import Family
from luthier.recipe import Recipe

ADAPTER = "default"


class Depths:
    """How far below the head each part of a body is.

    Args:
        body: A backbone, before or after low-rank updates were put in.
        family: Its kind.
    """

    def __init__(self, body: nn.Module, family: Family) -> None:
        self.family = family
        found = {self._groups(name) for name, _ in body.named_parameters()}
        blocks = sorted(groups for groups in found if groups is not None)
        self._index = {groups: index for index, groups in enumerate(blocks)}

    @property
    def num_blocks(self) -> int:
        """Blocks between the embeddings and the head."""
        return len(self._index)

    def of(self, name: str) -> int:
        """1 for the top block and what is above it, ``num_blocks`` for the lowest; embeddings one more."""
        groups = self._groups(name)
        if groups is not None:
            return self.num_blocks - self._index[groups]
        below = self.family.embeddings + self.family.shared
        return self.num_blocks + 1 if name.startswith(below) else 1

    def _groups(self, name: str) -> tuple[int, ...] | None:
        match = self.family.block_pattern.match(name)
        return tuple(int(group or 0) for group in match.groups()) if match else None


def adapt(body: nn.Module, family: Family, recipe: Recipe, *, seed: int) -> None:
    """Freezes and unfreezes a body's parameters in place, and puts low-rank updates in for ``lora``.

    ``last_k`` with more blocks than there are trains all of them, but never the embeddings; ``full`` does
    that.

    Args:
        body: A backbone.
        family: Its kind.
        recipe: Its ``adaptation``, ``last_k`` and ``lora_*`` count.
        seed: What the updates' random halves depend on.

    Raises:
        ModelError: The architecture has nothing that could be trained so.
    """
    body.requires_grad_(recipe.adaptation == "full")
    if recipe.adaptation == "last_k":
        depths = Depths(body, family)
        last = min(recipe.last_k, depths.num_blocks)
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(depths.of(name) <= last)
    elif recipe.adaptation == "bias":
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
        if not any(parameter.requires_grad for parameter in body.parameters()):
            raise ModelError(
                f"Adaptation 'bias' does not fit this {family.model_type} model: it has no biases.",
                "Use adaptation probe for the head alone, or lora.",
            )
    elif recipe.adaptation == "lora":
        _inject(body, lora_config(body, family, recipe), seed)


def lora_config(body: nn.Module, family: Family, recipe: Recipe) -> Any:
    """PEFT's config for a recipe; its pattern fits the body alone and inside a transformers class.

    Raises:
        ModelError: The architecture cannot take updates, or ``attention`` was asked of one without any.
    """
    if not family.low_rank:
        raise ModelError(
            f"Adaptation 'lora' does not fit a {family.model_type} model: PEFT cannot wrap its convolutions.",
            "Use adaptation probe, last_k, bias or full.",
        )
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type, unused-ignore]
        lora_dropout=recipe.lora_dropout,
        target_modules=target_pattern(body, family, recipe.lora_targets),
        bias="none",
    )


def target_pattern(body: nn.Module, family: Family, targets: str) -> str:
    """A pattern for the full names of layers that get an update: linear ones and ungrouped convolutions."""
    if targets == "attention" and family.attention is None:
        raise ModelError(
            f"lora_targets 'attention' does not fit a {family.model_type} model: it has no attention layers.",
            "Use lora_targets: all.",
        )
    within = set()
    for name, module in body.named_modules():
        match = family.block_pattern.match(name)
        if match is None or not _takes_update(module):
            continue
        inner = name[match.end() :]
        if targets == "all" or inner.startswith(str(family.attention)):
            within.add(re.escape(inner))
    # Groups would change what a match means to PEFT, which reads layer numbers from them.
    blocks = re.sub(r"\((?!\?)", "(?:", family.blocks)
    return rf"(?:.*\.)?{blocks}(?:{'|'.join(sorted(within))})"


def merged(body: nn.Module) -> nn.Module:
    """A copy of a body as if it never had adapters: updates added to the weights, PEFT's wrappers gone."""
    plain = copy.deepcopy(body)
    for name, module in list(plain.named_modules()):
        if isinstance(getattr(module, "base_layer", None), nn.Module) and hasattr(module, "merge"):
            module.merge()
            plain.set_submodule(name, module.base_layer)
    return plain


def updates(body: nn.Module) -> dict[str, torch.Tensor]:
    """The low-rank halves, named as in PEFT's files but for the prefix: ``...lora_A.weight``."""
    return {
        name.replace(f".{ADAPTER}.", "."): tensor.detach().clone().contiguous()
        for name, tensor in body.state_dict().items()
        if ".lora_" in name
    }


def _takes_update(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _inject(body: nn.Module, config: Any, seed: int) -> None:
    from peft import inject_adapter_in_model

    with seeded(seed):
        inject_adapter_in_model(config, body, adapter_name=ADAPTER)
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(".lora_" in name)
