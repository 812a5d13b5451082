"""The contract of an export target: writes one network in a format, and opens what it wrote.

Which targets there are lives in `registry`; that an export repeats the model is not theirs to say, but
`check`'s.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from luthier.errors import MissingExtra
from luthier.models import families
from luthier.models.families import Family
from luthier.models.forms import SavedForm
from luthier.models.processor import ImageProcessor, Processor
from luthier.models.saved import SavedModel
from luthier.recipe import Recipe

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Inputs = dict[str, torch.Tensor]
"""``input_ids`` and ``attention_mask`` (batch, length) int64, or ``pixel_values`` (batch, 3, height, width)
float32, normalised."""

Logits = Callable[[Inputs], torch.Tensor]
"""A network that was opened: inputs to float32 logits, (batch, outputs) or (batch, length, outputs)."""


@dataclass(frozen=True)
class Featured:
    """A network that was opened and can tell what its head reads, too. It is a `Logits`.

    Attributes:
        logits: As of any.
        both: Inputs to logits and features, (batch, width) float32, as `luthier.monitor.features.pooled`
            gives them.
    """

    logits: Logits
    both: Callable[[Inputs], tuple[torch.Tensor, torch.Tensor]]

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """The logits."""
        return self.logits(inputs)


@dataclass(frozen=True)
class Job:
    """One network to be written.

    Attributes:
        model: The network, in float32 on the CPU.
        source: Its model directory.
        directory: An existing folder for what is written; tokenizer or image processor come from others.
        precision: One of the target's.
        merge: False keeps a LoRA adapter apart.
        calibration: Batches of inputs that are not judged by, for targets that measure ranges; may be empty.
    """

    model: SavedModel
    source: Path
    directory: Path
    precision: str
    merge: bool = True
    calibration: Sequence[Inputs] = ()


@dataclass(frozen=True)
class Written:
    """What must be known of a network to open it; kept in the export's manifest.

    Attributes:
        form: How the model it is from was saved.
        precision: As in `Job`.
        merge: As in `Job`.
        side: Of the images that it was trained on, in pixels; None for texts.
    """

    form: SavedForm
    precision: str
    merge: bool = True
    side: int | None = None

    @classmethod
    def of(
        cls, form: SavedForm, recipe: Recipe, processor: Processor, precision: str, merge: bool = True
    ) -> Written:
        """For a model with its processor."""
        side = recipe.image_size or processor.image_size if isinstance(processor, ImageProcessor) else None
        return cls(form, precision, merge, side)

    @property
    def family(self) -> Family:
        """The network's kind."""
        return families.get(self.form.model_type)


class ExportTarget(ABC):
    """One format. Stateless: an object may write and open any number of networks."""

    name: ClassVar[str]
    """As ``--format`` names it."""
    precisions: ClassVar[tuple[str, ...]]
    """Those of `PRECISIONS` that it can write, the usual one first."""
    adapters: ClassVar[bool] = False
    """Whether it can keep a LoRA adapter apart."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Modules of optional dependencies that it needs."""
    extra: ClassVar[str] = "export"
    """The extra that brings them."""

    def require(self) -> None:
        """Raises MissingExtra where an optional dependency is not installed."""
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if absent:
            raise MissingExtra(f"The format {self.name!r} ({', '.join(absent)})", self.extra)

    def needs_calibration(self, family: Family, precision: str) -> bool:
        """Whether `write` measures ranges on rows for this."""
        return False

    @abstractmethod
    def write(self, job: Job) -> None:
        """Writes the network into ``job.directory``; files only, no links, nothing outside.

        Raises:
            ModelError: The network cannot be written in this format.
        """

    @abstractmethod
    def open(self, directory: Path, written: Written) -> Logits:
        """Opens what `write` wrote, for the CPU. Unpickles nothing and runs no code that lies in the folder.
        What is opened may be a `Featured`.

        Args:
            directory: Its files are those of the manifest; see `luthier.deploy.export.manifest`.
            written: As the manifest has it.

        Raises:
            ModelError: It holds something that would have to be trusted, or does not load.
        """

    def axes(self, directory: Path, written: Written) -> dict[str, list[Any]]:
        """Each input's axes: a number where its size is fixed, otherwise a name.

        By default, all that `Inputs` says is free, but for images that position embeddings fix the size of.
        """
        if written.family.modality == "text":
            return {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]}
        free = written.family.attention is None
        return {"pixel_values": ["batch", 3, *(["height", "width"] if free else [written.side] * 2)]}
