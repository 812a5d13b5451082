"""int8 for CPUs by onnxruntime: dynamic for networks of linear layers, static for convolutional ones.

Weights have a scale for each channel. Dynamic: each activation by its own range. Static: activations by
ranges measured on calibration rows, as pairs of QuantizeLinear and DequantizeLinear (QDQ).
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luthier.deploy.export.base import Inputs
from luthier.errors import ModelError

STEM = 3
"""Convolutions that stay in float32. The first ones have few weights and channels of very different ranges:
MobileNetV2 in int8 with them gave the answer of float32 on 46 of 100 images, without on 74."""


def dynamic(source: Path, target: Path) -> None:
    """Quantises the linear layers and embeddings of a model; no rows are needed.

    Args:
        source: A model in float32.
        target: Where to.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        plain = _without_shapes(source, Path(scratch))
        quantize_dynamic(
            plain,
            target,
            # Gather: the table of embeddings, which is most of a small model.
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=True,
            # Seven bits: processors without VNNI add pairs of products in 16 bits, which eight would
            # overflow.
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


def static(source: Path, target: Path, calibration: Sequence[Inputs]) -> None:
    """Quantises convolutions and linear layers, but for the first `STEM` convolutions.

    Weights take all eight bits: to depthwise convolutions, seven are too few. A processor without VNNI may
    overflow on them, which the check there tells.

    Args:
        source: A model in float32.
        target: Where to.
        calibration: Batches like those the model will meet.

    Raises:
        ModelError: There is no calibration batch.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not calibration:
        raise ModelError("Convolutions in int8 need rows to measure the ranges of activations on.")
    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "model.onnx"
        # Folds what is constant, and notes the shapes that the quantiser goes by.
        quant_pre_process(source, plain, skip_symbolic_shape=True)
        quantize_static(
            plain,
            target,
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            # Clip, Relu: the convolution before one then gets the range of what this lets pass.
            op_types_to_quantize=["Conv", "MatMul", "Gemm", "Clip", "Relu"],
            nodes_to_exclude=_stem(plain),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _stem(path: Path) -> list[str]:
    """Names of the first convolutions of a graph, whose nodes are in the order of the forward pass."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type == "Conv"][:STEM]


class _Batches:
    """Calibration batches as onnxruntime asks for them."""

    def __init__(self, batches: Sequence[Inputs]) -> None:
        self._rest = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch; None when there is none left."""
        batch = next(self._rest, None)
        return None if batch is None else {name: value.numpy() for name, value in batch.items()}


def _without_shapes(source: Path, folder: Path) -> Path:
    """A copy without the shapes that the exporter noted, which the quantiser's own would contradict."""
    import onnx

    model = onnx.load(source)
    del model.graph.value_info[:]
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without advice on preparing models, which is followed already."""
    root: Any = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
