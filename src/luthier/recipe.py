"""`Recipe`: every decision about how one model is fine-tuned.

Plain data; what the settings do lives in `models` and `engine`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.errors import SettingError

Adaptation = Literal["probe", "last_k", "bias", "lora", "full"]
OptimizerName = Literal["adamw", "adam", "sgd", "rmsprop", "lion", "adafactor"]


class Recipe(BaseModel):
    """All settings of one fine-tuning. Immutable; every field but ``model`` has a default.

    Two recipes with equal fields, trained with the same seed on the same data, give the same learning curve.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        description="Pre-trained model: a local directory, a hub id, or a short name such as 'minilm'."
    )
    init: Literal["pretrained", "scratch"] = Field(
        "pretrained", description="Start from the pre-trained weights, or from random ones (a baseline)."
    )

    # What is trained.
    adaptation: Adaptation = Field(
        "full",
        description="What is trainable: the head (probe), the head and the last k blocks (last_k), the head "
        "and all biases (bias; BitFit, Ben Zaken et al. 2022), the head and low-rank updates (lora; "
        "Hu et al. 2021), all (full).",
    )
    last_k: int = Field(2, ge=1, le=200, description="Blocks trained when adaptation is last_k.")
    lora_rank: int = Field(8, ge=1, le=512, description="Rank r of each low-rank update.")
    lora_alpha: float = Field(16.0, gt=0, description="LoRA's alpha: updates are scaled by alpha / rank.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the input of each low-rank update.")
    lora_targets: Literal["attention", "all"] = Field(
        "all",
        description="Linear layers that get an update: attention projections, or every linear layer of the "
        "blocks.",
    )
    head: Literal["native", "linear", "mlp"] = Field(
        "native", description="native: the head of the transformers class for this architecture; linear; mlp."
    )
    pooling: Literal["native", "cls", "mean", "max"] = Field(
        "native",
        description="How token features become one vector. native: as the transformers class does it.",
    )
    head_init: Literal["random", "probe", "model"] = Field(
        "random",
        description="Where a new head starts: random weights, those that fit the frozen features best "
        "(LP-FT, Kumar et al. 2022), or those of the model, where it was fine-tuned for the task before.",
    )

    # Regularisation.
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout in trained layers; None keeps the model's own."
    )
    head_dropout: float = Field(0.1, ge=0, lt=1, description="Dropout before (and inside) the head.")
    weight_decay: float = Field(
        0.01, ge=0, description="Decoupled weight decay (L2), per step, scaled by the rate."
    )
    l1: float = Field(0.0, ge=0, description="L1 penalty on trained weights, added to the loss.")
    l2_start: float = Field(
        0.0,
        ge=0,
        description="L2 distance to the starting weights, added to the loss (L2-SP, Li et al. 2018, eq. 2).",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Mass moved from the true class to all classes."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: each class weighs n / (classes * its count) in the training loss."
    )

    # Optimisation.
    optimizer: OptimizerName = Field(
        "adamw", description="Optimizer; Adam applies weight_decay to the gradient."
    )
    learning_rate: float = Field(1e-4, gt=0, description="Peak rate of the backbone's top block.")
    head_lr_ratio: float = Field(1.0, gt=0, description="The head's rate divided by the backbone's.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Each block's rate is this times that of the block above."
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="SGD's and RMSprop's momentum; Adam's and Lion's beta 1."
    )
    nesterov: bool = Field(True, description="Nesterov's form of momentum (SGD).")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="Decay of the rate after warmup."
    )
    warmup: float = Field(
        0.1, ge=0, lt=1, description="Share of all steps over which the rate rises from zero."
    )
    batch_size: int = Field(32, ge=1, description="Examples a step (over all accumulated microbatches).")
    accumulate: int = Field(1, ge=1, description="Microbatches a step is split into, to save memory.")
    epochs: int = Field(4, ge=1, description="Passes over the training data at most.")
    patience: int | None = Field(
        None, ge=1, description="Epochs without a better validation score before stopping."
    )
    clip_norm: float | None = Field(
        1.0, gt=0, description="Largest norm of the gradient; None for no clipping."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="auto: mixed precision where this hardware was measured to gain from it, otherwise fp32.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory."
    )

    # Inputs.
    max_length: int | None = Field(None, ge=4, description="Tokens kept of a text; None: the model's limit.")
    image_size: int | None = Field(
        None, ge=16, description="Side of the square input in pixels; None: the model's own."
    )
    augmentation: Literal["none", "flip", "flip_shift"] = Field(
        "none",
        description="Random changes of training images: mirror left-right; and shift by up to an eighth.",
    )

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Recipe:
        """Builds a recipe from plain values, such as a strategy's or a file's.

        Raises:
            SettingError: A name is unknown or a value is out of its range; names both.
        """
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise SettingError(
                f"Unknown recipe setting {unknown[0]!r}.",
                f"Known settings: {', '.join(sorted(cls.model_fields))}.",
            )
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise SettingError(
                f"Recipe setting {name!r} cannot be {first.get('input')!r}: {first['msg']}."
            ) from None

    def describe(self) -> str:
        """One short line with the settings in which fine-tunings differ most, for progress and tables."""
        what = {"last_k": f"last {self.last_k}", "lora": f"lora r{self.lora_rank}"}.get(
            self.adaptation, self.adaptation
        )
        how = f"{self.optimizer} {self.learning_rate:.1e}"
        return f"{what}, {how}, batch {self.batch_size}, {self.epochs} epochs"
