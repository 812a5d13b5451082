"""A network as one graph with free axes, by `torch.export`; what the targets that store graphs share."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from luthier.deploy.export.base import DTYPES, Job
from luthier.errors import ModelError
from luthier.models import families
from luthier.models.processor import ImageProcessor
from luthier.models.saved import SavedModel
from luthier.monitor.features import Tap, reader

_NAMES = {
    "input_ids": {0: "batch", 1: "length"},
    "attention_mask": {0: "batch", 1: "length"},
    "pixel_values": {0: "batch", 2: "height", 3: "width"},
}


@dataclass(frozen=True)
class Traced:
    """A graph and its inputs' axes.

    Attributes:
        program: From the inputs, in the order of ``axes``, to float32 ``outputs``.
        axes: See `ExportTarget.axes`.
        outputs: ``logits`` and, where they are to be had, ``features``.
    """

    program: torch.export.ExportedProgram
    axes: dict[str, list[Any]]
    outputs: list[str]

    @property
    def free(self) -> dict[str, dict[int, str]]:
        """Names of the axes that are free, by position."""
        return {
            name: {place: size for place, size in enumerate(sizes) if isinstance(size, str)}
            for name, sizes in self.axes.items()
        }


class _Wrapped(nn.Module):
    """A network whose forward pass ends with plain float32 tensors.

    Args:
        network: The network.
        layer: Whose input the features are; None where they are not wanted.
    """

    def __init__(self, network: nn.Module, layer: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.featured = layer is not None
        self.tap = Tap(layer)

    def told(
        self, logits: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """What is given out."""
        return (logits.float(), self.tap.take(mask)) if self.featured else logits.float()


class _Texts(_Wrapped):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        logits = self.network(input_ids=input_ids, attention_mask=attention_mask)
        return self.told(logits, attention_mask)


class _Images(_Wrapped):
    def forward(self, pixel_values: torch.Tensor) -> Any:
        dtype = next(self.network.parameters()).dtype
        return self.told(self.network(pixel_values=pixel_values.to(dtype)), None)


def trace(job: Job) -> Traced:
    """The graph of a network; where its logits come from a linear layer, it gives what that reads, too.

    The batch and, for texts, the length up to the model's limit are free. The size of images is free where
    the architecture's forward pass does not fix it: in convolutional ones, as far as they do not compute with
    it.

    Args:
        job: Whose network it is.

    Raises:
        ModelError: The network has no such graph.
    """
    dtype = DTYPES.get(job.precision, torch.float32)
    # The hook that takes the features goes with the copy.
    network = copy.deepcopy(job.model).to(dtype)
    inputs = _example(job.model)
    layer = reader(network)
    wrapped = (_Texts if "input_ids" in inputs else _Images)(network, layer)
    try:
        with silent(), torch.no_grad():
            program = torch.export.export(
                wrapped.eval(), (), inputs, dynamic_shapes=_dimensions(job.model), strict=False
            )
    # torch.export raises whatever the model's own code raises on its symbols.
    except Exception as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"A {job.model.form.model_type} model cannot be written as a graph: {said}",
            "Export it as safetensors.",
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of the machine that exported
    sizes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder"}
    axes = {name: [_axis(name, place, size) for place, size in enumerate(sizes[name])] for name in inputs}
    return Traced(program, axes, ["logits"] if layer is None else ["logits", "features"])


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without the exporters' remarks on torchvision, axis names and deprecations inside themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _axis(name: str, place: int, size: int | torch.SymInt) -> int | str:
    """A size that the graph fixes, which torch may still write as a symbol, or the name of a free axis."""
    return int(size) if str(size).isdigit() else _NAMES[name][place]


def _example(model: SavedModel) -> dict[str, torch.Tensor]:
    """Inputs of which only the shapes count. Sizes of 0 and 1 would be taken for fixed."""
    if isinstance(model.processor, ImageProcessor):
        side = model.recipe.image_size or model.processor.image_size
        return {"pixel_values": torch.zeros(2, 3, side, side)}
    ids = torch.ones(2, min(7, model.processor.max_length), dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _dimensions(model: SavedModel) -> dict[str, dict[int, Any]]:
    batch = torch.export.Dim("batch", min=1)
    if isinstance(model.processor, ImageProcessor):
        # Position embeddings fix the size; a convolution does not, unless its code computes with it.
        convolutional = families.get(model.form.model_type).attention is None
        side = dict.fromkeys((2, 3), torch.export.Dim.AUTO) if convolutional else {}
        return {"pixel_values": {0: batch, **side}}
    length = torch.export.Dim("length", min=1, max=model.processor.max_length)
    return {name: {0: batch, 1: length} for name in ("input_ids", "attention_mask")}
