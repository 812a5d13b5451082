"""The default space of a run, narrowed to some adaptations. Spaces of the user's own pass by here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from luthier.errors import SettingError
from luthier.models import families, processor, source
from luthier.models.network import build
from luthier.recipe import Recipe
from luthier.search.defaults import default_space


def narrowed(
    models: str | Sequence[str] | None,
    adaptations: str | Sequence[str],
    modality: Literal["text", "image"],
    *,
    num_examples: int,
    classification: bool,
) -> dict[str, Any]:
    """The default space with some of its adaptations, in plain form, for the models that the run has.

    Args:
        models: As `luthier.tune` takes them; the first one's depth and sizes count.
        adaptations: Their names.
        modality: What the models read.
        num_examples: Rows that there are.
        classification: Whether targets are classes.

    Raises:
        SettingError: There is no default model, or no such adaptation.
        ModelError: The model cannot be used.
    """
    names = [models] if isinstance(models, str) else list(models or [])
    first = names[0] if names else source.default(modality)
    if first is None:
        raise SettingError(f"No model was given, and there is no default one for {modality}s.", "Name one.")
    found = source.find(first, modality)
    network = build(found, Recipe(model=first), level="example", num_outputs=2, seed=0)
    space = default_space(
        modality,
        "example",
        [first],
        num_examples=num_examples,
        num_blocks=network.num_blocks,
        classification=classification,
        image_size=getattr(processor.load(found, modality), "image_size", None),
        resizable=families.get(found.model_type).special_tokens == 0,
        adaptations=[adaptations] if isinstance(adaptations, str) else list(adaptations),
    )
    plain = space.to_dict()
    # Which models there are is the run's to say.
    del plain["model"]
    return plain
