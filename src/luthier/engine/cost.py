"""What an epoch of a recipe will cost: its arithmetic times the measured speed of its model."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.models.source import Source
from luthier.recipe import Recipe

# Forward, gradient of activations, gradient of weights: a third each of a full training step.
FORWARD = 1.0


def relative_cost(recipe: Recipe, blocks: int, native_size: int | None = None) -> float:
    """Arithmetic of one example in one epoch, in forward passes through the whole body.

    A frozen block costs its forward pass; a block whose weights train costs three; one that only passes
    gradients on (LoRA, biases) two.

    Args:
        recipe: Its adaptation and image size count.
        blocks: Blocks of the body.
        native_size: Side in pixels that the model was made for; the cost of an image grows with its area.
    """
    match recipe.adaptation:
        case "probe":
            cost = FORWARD
        case "last_k":
            cost = FORWARD + 2.0 * min(recipe.last_k, blocks) / blocks
        case "bias" | "lora":
            cost = 2.0 + (0.2 if recipe.adaptation == "lora" else 0.0)
        case "full":
            cost = 3.0
    if recipe.gradient_checkpointing and recipe.adaptation != "probe":
        cost += FORWARD
    if recipe.image_size and native_size:
        cost *= (recipe.image_size / native_size) ** 2
    return cost


@dataclass(frozen=True)
class Cost:
    """Seconds of a training: once, whatever its length, and for each epoch."""

    once: float
    each: float

    def total(self, epochs: int) -> float:
        """Seconds of so many epochs."""
        return self.once + epochs * self.each

    def epochs_within(self, seconds: float, wanted: int) -> int:
        """How many epochs of those wanted fit."""
        if self.total(wanted) <= seconds:
            return wanted
        return int(min(wanted, max(0.0, (seconds - self.once) / self.each))) if self.each > 0 else 0


class CostModel:
    """Predicts seconds an epoch, learning the speed of each model from the epochs that were measured."""

    def __init__(self) -> None:
        self._speed: dict[str, float] = {}
        self._exact: dict[tuple[str, str], float] = {}

    def observe(self, source: Source, recipe: Recipe, units: float, seconds: float) -> None:
        """Takes note of a finished epoch: its `relative_cost` units and its seconds."""
        # The newest measurement counts half: the machine may be shared, and its speed drift.
        old = self._speed.get(source.fingerprint)
        new = seconds / units
        self._speed[source.fingerprint] = new if old is None else 0.5 * (old + new)
        self._exact[self._key(source, recipe)] = seconds

    def guess(self, source: Source, seconds: float) -> None:
        """Notes the seconds of a forward pass over the training data, until a trained epoch says more."""
        self._speed.setdefault(source.fingerprint, seconds)

    def predict(self, source: Source, recipe: Recipe, units: float) -> float | None:
        """Seconds for one epoch, or None before anything of this model was measured."""
        exact = self._exact.get(self._key(source, recipe))
        if exact is not None:
            return exact
        speed = self._speed.get(source.fingerprint)
        return None if speed is None else speed * units

    @staticmethod
    def _key(source: Source, recipe: Recipe) -> tuple[str, str]:
        """Recipes that differ only in what costs nothing share a measurement."""
        shape = recipe.model_dump(
            include={
                "init", "adaptation", "last_k", "lora_rank", "lora_targets", "optimizer", "batch_size",
                "accumulate", "precision", "gradient_checkpointing", "max_length", "image_size",
            }
        )  # fmt: skip
        return source.fingerprint, repr(shape)
