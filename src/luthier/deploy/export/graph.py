"""The ``onnx`` target: one ``model.onnx`` for onnxruntime and whatever else reads ONNX.

Written by torch's exporter that goes by `torch.export` (``dynamo=True``); the older one has been seen to
write models that answer wrongly without saying so. How int8 is made lives in `quantise`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch

from luthier.deploy.export.base import ExportTarget, Featured, Inputs, Job, Logits, Written
from luthier.deploy.export.traced import Traced, silent, trace
from luthier.errors import ModelError
from luthier.models import families
from luthier.models.families import Family

FILE = "model.onnx"
EMBEDDED = 1_500_000_000
"""Bytes of weights up to which they lie in the model's file, which cannot be larger than 2 GiB; beyond,
beside it."""


class Onnx(ExportTarget):
    """A graph of ONNX operators, opset 20, from the inputs to ``logits`` and ``features``."""

    name: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")

    def needs_calibration(self, family: Family, precision: str) -> bool:
        """Of convolutional kinds in int8, whose activations need ranges that are known beforehand."""
        return precision == "int8" and family.attention is None

    def write(self, job: Job) -> None:
        """See `ExportTarget.write`."""
        traced = trace(job)
        if job.precision == "int8":
            from luthier.deploy.export.quantise import dynamic, static

            plain = job.directory / f"fp32-{FILE}"
            _write(traced, plain)
            try:
                if self.needs_calibration(families.get(job.model.form.model_type), "int8"):
                    static(plain, job.directory / FILE, job.calibration)
                else:
                    dynamic(plain, job.directory / FILE)
            finally:
                for part in (plain, plain.with_name(f"{plain.name}.data")):
                    part.unlink(missing_ok=True)
        else:
            _write(traced, job.directory / FILE)

    def open(self, directory: Path, written: Written) -> Logits:
        """See `ExportTarget.open`."""
        import onnxruntime

        path = directory / FILE
        inspect(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; it warns of casts that it adds itself
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        # onnxruntime's exceptions share no base but Exception.
        except Exception as error:
            raise ModelError(f"'{path}' does not load: {error}") from error
        names = [each.name for each in session.get_inputs()]

        def said(inputs: Inputs, *outputs: str) -> tuple[torch.Tensor, ...]:
            found = session.run(outputs, {name: inputs[name].numpy() for name in names})
            return tuple(map(torch.from_numpy, found))

        def logits(inputs: Inputs) -> torch.Tensor:
            return said(inputs, "logits")[0]

        def both(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
            first, second = said(inputs, "logits", "features")
            return first, second

        # Where the logits come from no linear layer, there are no features.
        featured = "features" in [each.name for each in session.get_outputs()]
        return Featured(logits, both) if featured else logits

    def axes(self, directory: Path, written: Written) -> dict[str, list[Any]]:
        """See `ExportTarget.axes`."""
        graph = _load(directory / FILE).graph
        return {
            each.name: [size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim]
            for each in graph.input
        }


def inspect(path: Path) -> None:
    """Makes sure that a model's weights lie in its own folder.

    Raises:
        ModelError: They lie elsewhere, or it is no ONNX model.
    """
    for tensor in _tensors(_load(path)):
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            name = entry.value
            place = path.parent / name
            plain = Path(name).name == name and "\\" not in name and name not in {"", ".", ".."}
            if not plain or not place.exists() or not stat.S_ISREG(place.lstat().st_mode):
                raise ModelError(
                    f"'{path}' takes the weights {tensor.name!r} from {name!r}, which is no file in its"
                    f" own folder.",
                    "Export the model again.",
                )


def _write(traced: Traced, path: Path) -> None:
    with silent(), torch.no_grad():
        program = torch.onnx.export(
            traced.program,
            input_names=list(traced.axes),
            output_names=traced.outputs,
            dynamic_shapes=traced.free,
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        _name_axes(program.model, traced)
        size = sum(weight.nbytes for weight in traced.program.state_dict.values())
        program.save(path, external_data=size > EMBEDDED)


def _name_axes(model: Any, traced: Traced) -> None:
    """Sizes that are fixed as numbers: the exporter writes some as names."""
    import onnx_ir

    for value in model.graph.inputs:
        value.shape = onnx_ir.Shape(traced.axes[value.name])


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise ModelError(f"'{path}' is not an ONNX model: {error}") from None


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor in a model, in whatever graph, attribute or function it stands."""
    from onnx import TensorProto

    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if _repeated(value) else [value]:
            if isinstance(item, TensorProto):
                yield item
            else:
                yield from _tensors(item)


def _repeated(value: Any) -> bool:
    return not hasattr(value, "ListFields")
