"""The ``safetensors`` target: a plain transformers directory, in fewer bits or with its adapter apart.

16 bits are for storing and for processors that compute in them. Here fp16 is computed in float32, since a CPU
has no fp16 arithmetic worth the name; bf16 is computed in bf16.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import ClassVar

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from luthier.deploy.export.base import DTYPES, ExportTarget, Featured, Inputs, Job, Logits, Written
from luthier.errors import LuthierError, ModelError
from luthier.models import families
from luthier.models import source as sources
from luthier.models.backbone import quiet, seeded
from luthier.models.heads import last_linear
from luthier.models.saved import ADAPTER, HEAD, logits_of, open_network
from luthier.monitor.features import Tap

BASE = "base"
_CARD = "README.md"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"


class Safetensors(ExportTarget):
    """What ``from_pretrained`` reads.

    Merged, the folder itself is a transformers directory, with ``head.safetensors`` where no transformers
    class has the model's head. Otherwise ``base/`` is the published model (beside it the head, where it is
    apart) and ``adapter/`` PEFT's directory.
    """

    name: ClassVar[str] = "safetensors"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16")
    adapters: ClassVar[bool] = True

    def write(self, job: Job) -> None:
        """See `ExportTarget.write`."""
        dtype = DTYPES[job.precision]
        if job.merge:
            model = job.model.model if dtype == torch.float32 else copy.deepcopy(job.model.model).to(dtype)
            _write(model, job.model.head, job.directory, dtype)
        else:
            _write(_base(job, dtype), job.model.head, job.directory / BASE, dtype)
            _copy_adapter(job.source / ADAPTER, job.directory / ADAPTER, dtype)
        if (job.source / _CARD).is_file():
            shutil.copyfile(job.source / _CARD, job.directory / _CARD)

    def open(self, directory: Path, written: Written) -> Logits:
        """See `ExportTarget.open`."""
        # fp16 products take a CPU tens of times longer than float32 ones.
        dtype = torch.float32 if written.precision == "fp16" else DTYPES[written.precision]
        try:
            model, head = open_network(directory if written.merge else directory / BASE, written.form, dtype)
            if not written.merge:
                model = _with_adapter(model, directory / ADAPTER).to(dtype)
        except LuthierError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"'{directory}' does not load: {error}") from error
        model.eval()
        layer = last_linear(model if head is None else head)
        tap = Tap(layer)

        @torch.inference_mode()
        def logits(inputs: Inputs) -> torch.Tensor:
            cast = {
                name: value.to(dtype) if value.is_floating_point() else value
                for name, value in inputs.items()
            }
            return logits_of(model, head, written.form, cast).float()

        def both(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
            return logits(inputs), tap.take(inputs.get("attention_mask"))

        return logits if layer is None else Featured(logits, both)


def _write(model: nn.Module, head: nn.Module | None, directory: Path, dtype: torch.dtype) -> None:
    with quiet():
        model.save_pretrained(directory)  # type: ignore[operator]
    if head is not None:
        save_file(_cast(head.state_dict(), dtype), directory / HEAD)


def _base(job: Job, dtype: torch.dtype) -> nn.Module:
    """The published model that the adapter is for, with whatever head its class gives it."""
    form, base = job.model.form, job.model.base
    if form.base is None or not (job.source / ADAPTER).is_dir():
        raise ModelError(
            f"'{job.source}' has no adapter that could be kept apart (--no-merge): its recipe is"
            f" {job.model.recipe.describe()}.",
            "Export it merged, which is the default.",
        )
    found = sources.find(base["name"], families.get(form.model_type).modality)
    if found.fingerprint != base["fingerprint"]:
        raise ModelError(
            f"The model {base['name']!r} changed since the adapter was trained on it.",
            "Export the model merged, or put the base back as it was.",
        )
    options = {"local_files_only": True, "use_safetensors": True, "dtype": dtype, **form.base_options}
    with quiet(), seeded(0):
        model: nn.Module = getattr(transformers, form.auto_class).from_pretrained(found.path, **options)
    return model


def _copy_adapter(source: Path, target: Path, dtype: torch.dtype) -> None:
    target.mkdir()
    shutil.copyfile(source / "adapter_config.json", target / "adapter_config.json")
    tensors = _cast(load_file(source / _ADAPTER_WEIGHTS), dtype)
    save_file(tensors, target / _ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _with_adapter(model: nn.Module, directory: Path) -> nn.Module:
    from peft import PeftModel

    # PEFT would take a pickle where there are no safetensors.
    if not (directory / _ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"'{directory}' has no {_ADAPTER_WEIGHTS}.")
    with quiet():
        adapted: nn.Module = PeftModel.from_pretrained(model, str(directory))
    return adapted


def _cast(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype).clone().contiguous()
        for name, tensor in state.items()
    }
