"""What an export is checked on: batches of inputs with the logits of the model that was evaluated.

Held-out rows come first, cut so that they are padded, odd-sized and single, then made inputs that reach the
ends of what the model can read. How the logits compare is `check`'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from luthier.deploy.export.base import Inputs, Logits
from luthier.errors import ModelError
from luthier.models.processor import ImageProcessor, Processor
from luthier.models.saved import SavedModel
from luthier.tasks.base import Batch, Examples
from luthier.tasks.examples import ImageExamples

FILE = "sample.safetensors"
STORED = 64
"""Held-out rows that an export keeps."""
_FIRST = (1, 3, 7, 16, 37)  # sizes of the first batches, together those that are stored
_FURTHER = 64
_IDS = 30_000  # made ids stay below this and the model's own vocabulary


@dataclass
class Sample:
    """Batches for one network.

    Attributes:
        inputs: Of each batch: ``input_ids`` and ``attention_mask``, or ``pixels``, uint8 (batch, 3, height,
            width), which the processor normalises.
        marks: Targets of each batch as its examples have them, from which a task cuts logits into outputs;
            only of held-out rows.
        logits: What the evaluated model says of each batch, float32.
        truths: The true answers of the held-out rows, in order; empty where nothing is known of them.
    """

    inputs: list[Inputs]
    marks: list[torch.Tensor] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)
    truths: list[np.ndarray] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Held-out rows."""
        return sum(len(marks) for marks in self.marks)

    @property
    def made(self) -> int:
        """Batches of made inputs."""
        return len(self.inputs) - len(self.marks)

    def expect(self, logits: Logits, processor: Processor) -> None:
        """Takes what a network says of each batch as what is right."""
        self.logits = answers(self, logits, processor)

    def outputs(self, task: Any, logits: Sequence[torch.Tensor]) -> list[np.ndarray]:
        """The held-out rows' outputs, cut from each batch's logits."""
        pairs = zip(self.marks, logits, strict=False)
        return [output for marks, each in pairs for output in task.outputs(each, Batch({}, marks))]

    def stored(self, *, held_out: bool) -> Sample:
        """What an export keeps of it.

        Args:
            held_out: False leaves all rows of the data out.
        """
        keep = len(_FIRST) if held_out else 0
        kept = [*range(min(keep, len(self.marks))), *range(len(self.marks), len(self.inputs))]
        marks = self.marks[:keep]
        return Sample(
            [self.inputs[index] for index in kept],
            marks,
            [self.logits[index] for index in kept],
            self.truths[: sum(map(len, marks))],
        )


def answers(sample: Sample, logits: Logits, processor: Processor) -> list[torch.Tensor]:
    """What a network says of each batch, in float32."""
    return [logits(ready(inputs, processor)) for inputs in sample.inputs]


def ready(inputs: Inputs, processor: Processor) -> Inputs:
    """A stored batch as a network reads it."""
    if isinstance(processor, ImageProcessor):
        return {"pixel_values": processor.normalise(inputs["pixels"])}
    return {name: value.to(torch.int64) for name, value in inputs.items()}


def held_out(examples: Examples, truths: list[np.ndarray]) -> Sample:
    """A sample of encoded rows, in their order, in batches of several sizes.

    Args:
        examples: At least one.
        truths: Their true answers, or an empty list.
    """
    sample = Sample([], truths=truths)
    start, sizes = 0, iter(_FIRST)
    while start < len(examples):
        indices = np.arange(start, min(start + next(sizes, _FURTHER), len(examples)))
        sample.inputs.append(_inputs(examples, indices))
        sample.marks.append(examples.targets_of(indices))
        start += len(indices)
    return sample


def batches(examples: Examples, size: int = 32) -> list[Inputs]:
    """Encoded rows as a network reads them, for calibration."""
    parts = np.array_split(np.arange(len(examples)), max(1, -(-len(examples) // size)))
    return [examples.batch(indices).inputs for indices in parts if len(indices)]


def made(model: SavedModel, axes: dict[str, list[Any]]) -> list[Inputs]:
    """Random inputs: single ones, odd numbers of them, the shortest and longest texts, other sizes of images.

    Args:
        model: Whose inputs they are.
        axes: See `ExportTarget.axes`; images get other sizes only where these are free.
    """
    generator = torch.Generator().manual_seed(0)
    if isinstance(model.processor, ImageProcessor):
        side = model.recipe.image_size or model.processor.image_size
        shapes = [(1, side, side), (3, side, side)]
        if all(isinstance(size, str) for size in axes["pixel_values"][2:]):
            shapes += [(2, side + 17, side + 33), (1, side + 32, side)]
        return [
            {"pixels": torch.randint(0, 256, (n, 3, *size), generator=generator, dtype=torch.uint8)}
            for n, *size in shapes
        ]
    longest = model.processor.max_length
    vocabulary = min(_IDS, _vocabulary(model))
    found = []
    for count, length in ((1, min(4, longest)), (3, min(11, longest)), (2, longest), (1, longest)):
        ids = torch.randint(0, vocabulary, (count, length), generator=generator, dtype=torch.int32)
        mask = torch.ones_like(ids)
        if count > 1:
            ids[-1, length // 2 :], mask[-1, length // 2 :] = model.processor.pad_id, 0
        found.append({"input_ids": ids, "attention_mask": mask})
    return found


def _vocabulary(model: SavedModel) -> int:
    config: Any = model.model.config
    return int(config.vocab_size)


def save(sample: Sample, path: Path) -> None:
    """Writes a sample; logits included."""
    tensors = {
        f"inputs.{i}.{name}": value for i, each in enumerate(sample.inputs) for name, value in each.items()
    }
    tensors |= {f"marks.{i}": marks for i, marks in enumerate(sample.marks)}
    tensors |= {f"logits.{i}": logits for i, logits in enumerate(sample.logits)}
    if sample.truths:
        tensors["truths"] = torch.from_numpy(np.concatenate([np.ravel(truth) for truth in sample.truths]))
        tensors["truths.shapes"] = torch.tensor(
            [-1 if np.ndim(truth) == 0 else len(truth) for truth in sample.truths]
        )
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)


def load(path: Path) -> Sample:
    """The sample that `save` wrote.

    Raises:
        ModelError: It is none, or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
        logits = [tensors[f"logits.{i}"] for i in range(sum(name.startswith("logits.") for name in tensors))]
        inputs: list[Inputs] = [{} for _ in logits]
        for name, tensor in tensors.items():
            if name.startswith("inputs."):
                _, index, leaf = name.split(".")
                inputs[int(index)][leaf] = tensor
        marks = [tensors[f"marks.{i}"] for i in range(sum(name.startswith("marks.") for name in tensors))]
        return Sample(inputs, marks, logits, _truths(tensors))
    except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
        raise ModelError(f"'{path}' is not the sample of an export: {error!r}.") from None


def _truths(tensors: dict[str, torch.Tensor]) -> list[np.ndarray]:
    if "truths" not in tensors:
        return []
    values, place, found = tensors["truths"].numpy(), 0, []
    for size in tensors["truths.shapes"].tolist():
        found.append(values[place] if size < 0 else values[place : place + size])
        place += abs(size)
    return [np.asarray(truth) for truth in found]


def _inputs(examples: Examples, indices: np.ndarray) -> Inputs:
    if isinstance(examples, ImageExamples):
        return {"pixels": torch.from_numpy(examples.pixels[indices])}
    inputs = examples.batch(indices).inputs
    return {name: value.to(torch.int32) for name, value in inputs.items()}
