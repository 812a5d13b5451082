"""Finished models on disk: written so that transformers and PEFT load them, and proven to before they count.

A directory is in one of two forms. *native*: a plain transformers directory whose Auto class gives the
logits. *generic*, where no transformers class has that head and pooling: the body as a plain directory, and
the head in ``head.safetensors``.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING

from luthier.errors import ModelError, RunError
from luthier.models import adapt, families, heads, processor, weights
from luthier.models.backbone import quiet, seeded
from luthier.models.forms import AUTO_CLASSES, SavedForm, decide
from luthier.models.network import Network
from luthier.models.processor import ImageProcessor, Processor, TextProcessor
from luthier.models.source import Source
from luthier.recipe import Recipe

MANIFEST = "luthier.json"
HEAD = "head.safetensors"
ADAPTER = "adapter"
FORMAT = 1
LIMIT = 1e-4
"""Largest difference allowed between a network's logits and those of the directory it was saved to."""


class SavedModel(nn.Module):
    """A finished model: inputs to logits, and all that is needed to make the inputs and read the logits.

    Attributes:
        processor: Tokenizer or image processor.
        recipe: How it was fine-tuned.
        task_state: What `luthier.tasks.base.Task.from_state` restores the task from.
        labels: Names of the outputs.
        form: How it is stored.
        base: Name and fingerprint of the model it came from.
        temperature: What its logits were divided by when it was saved; they come out divided.
    """

    def __init__(
        self,
        model: nn.Module,
        head: nn.Module | None,
        *,
        processor: Processor,
        manifest: dict[str, Any],
        form: SavedForm,
    ) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.processor = processor
        self.form = form
        self.recipe = Recipe.parse(manifest["recipe"])
        self.task_state: dict[str, Any] = manifest["task_state"]
        self.labels: list[str] = manifest["labels"]
        self.base: dict[str, str] = manifest["base"]
        self.temperature = float(manifest.get("temperature", 1.0))
        self.eval()

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits: (batch, outputs), or (batch, length, outputs). Inputs as for `Network.forward`."""
        return logits_of(self.model, self.head, self.form, inputs)


def logits_of(
    model: nn.Module, head: nn.Module | None, form: SavedForm, inputs: dict[str, torch.Tensor]
) -> torch.Tensor:
    """What the two parts that `open_network` gives say together; see `SavedModel.forward`."""
    output = model(**inputs)
    if head is None:
        return torch.as_tensor(output.logits)
    if form.level == "token":
        features = output.last_hidden_state
    else:
        special = families.get(form.model_type).special_tokens
        features = heads.pool(form.pooling, output, inputs.get("attention_mask"), special)
    logits: torch.Tensor = head(features)
    return logits


def save(
    network: Network,
    source: Source,
    processor: Processor,
    recipe: Recipe,
    directory: Path,
    *,
    task_state: dict[str, Any],
    auto_class: str,
    problem_type: str | None,
    labels: list[str],
    peft_type: str | None,
    temperature: float = 1.0,
) -> SavedForm:
    """Writes a finished network, and reads it back before it counts.

    The directory is complete or absent: all is written beside it and renamed. One that is there already is
    replaced. A LoRA network is written merged, with the adapter in PEFT's format in ``adapter/`` where its
    base is the published model.

    Args:
        network: As trained; left as it is.
        source: The model it came from.
        processor: What its inputs were made with.
        recipe: Its recipe.
        directory: Where to.
        task_state: JSON values to restore the task from.
        auto_class: The transformers class for the task.
        problem_type: transformers' ``config.problem_type``.
        labels: Names of the outputs.
        peft_type: PEFT's task type, where it has one.
        temperature: What its logits are to be divided by. The last layer of the head is divided instead, so
            that whoever loads the directory gets them so. Of a head that `heads.last_linear` finds no such
            layer in, only 1 can be asked.

    Raises:
        RunError: The directory cannot be written, or does not repeat the network's logits.
    """
    directory = Path(directory)
    partial = directory.parent / f".{directory.name}.partial-{os.getpid()}"
    plain = copy.deepcopy(network).cpu().eval()
    form = decide(plain, source, recipe, auto_class)
    inputs = _sample(plain, recipe, processor)
    with torch.no_grad():
        expected = plain(**inputs) / temperature
    heads.divide(plain.head, temperature)
    try:
        partial.mkdir(parents=True)
        body = adapt.merged(plain.backbone)
        _write_model(plain, body, form, partial, problem_type, labels)
        if form.base is not None:
            config = adapt.lora_config(body, plain.family, recipe)
            _write_adapter(plain, config, form, partial / ADAPTER, peft_type)
        write_processor(processor, recipe, partial, form)
        manifest = {
            "format": FORMAT,
            "form": asdict(form),
            "labels": labels,
            "base": {"name": source.name, "fingerprint": source.fingerprint},
            "recipe": recipe.model_dump(mode="json"),
            "task_state": task_state,
            "temperature": temperature,
            "files": _digests(partial),
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
        _verify(expected, inputs, plain, source, partial, form)
        put(partial, directory)
    except (OSError, SafetensorError) as error:
        raise RunError(f"The model cannot be saved to '{directory}': {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return form


def load(directory: str | Path) -> SavedModel:
    """A finished model, from its directory alone.

    Raises:
        ModelError: It is not such a directory, or a file is missing, changed or added since it was saved.
    """
    directory = Path(directory)
    manifest = _manifest(directory)
    form = SavedForm(**manifest["form"])
    model, head = open_network(directory, form)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    reader = processor.open_folder(directory, families.get(form.model_type).modality, config, str(directory))
    return SavedModel(model, head, processor=reader, manifest=manifest, form=form)


def open_network(
    directory: Path, form: SavedForm, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, nn.Module | None]:
    """The transformers model in a directory, and the head where its form has one apart.

    Args:
        directory: Its files are taken as they are: that they are those that were saved is checked before.
        form: How it is to be read.
        dtype: Of the weights.
    """
    family = families.get(form.model_type)
    config_values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config = CONFIG_MAPPING[form.model_type].from_dict(config_values)
    options: dict[str, Any] = {"config": config, "dtype": dtype}
    options |= {"use_safetensors": True, "local_files_only": True}
    with quiet():
        if form.kind == "native":
            return getattr(transformers, form.auto_class).from_pretrained(directory, **options), None
        options |= {"add_pooling_layer": False} if family.pooling_layer else {}
        model = MODEL_MAPPING[type(config)].from_pretrained(directory, **options)
    head = nn.Sequential(heads.layers(form.head, form.width, form.outputs, 0.0, config))
    head.load_state_dict(load_file(directory / HEAD))
    return model, head.to(dtype)


# -- writing --------------------------------------------------------------------------------


def _write_model(
    network: Network, body: Any, form: SavedForm, directory: Path, problem_type: str | None, labels: list[str]
) -> None:
    config = copy.deepcopy(network.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = problem_type
    for name in network.family.head_dropouts:
        setattr(config, name, _dropout(network.head))
    if network.family.pooling == "config" and form.kind == "native" and form.level == "example":
        config.classifier_pooling = form.pooling
    if form.kind == "generic":
        body.config = config
        with quiet():
            body.save_pretrained(directory)
        save_file(_contiguous(network.head.state_dict()), directory / HEAD)
        return
    with seeded(0), quiet():
        model = getattr(transformers, form.auto_class).from_config(config)
        prefix = model.base_model_prefix
        state = {f"{prefix}.{name}": tensor for name, tensor in body.state_dict().items()}
        model.load_state_dict(state | _head_state(network))
        model.save_pretrained(directory)


def _write_adapter(
    network: Network, config: Any, form: SavedForm, directory: Path, peft_type: str | None
) -> None:
    config.base_model_name_or_path = form.base
    config.inference_mode = True
    native = form.kind == "native"
    prefix = f"{network.backbone.base_model_prefix}." if native else ""
    tensors = {f"{prefix}{name}": tensor for name, tensor in adapt.updates(network.backbone).items()}
    if native:
        head = _head_state(network)
        tensors |= head
        # Whole modules only: PEFT itself adds "classifier" for some task types, and does not nest them.
        layers = {name.removeprefix(prefix).partition(".")[0] for name in head}
        config.modules_to_save = sorted(layers)
        config.task_type = peft_type
    directory.mkdir()
    config.save_pretrained(str(directory))
    tensors = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    save_file(_contiguous(tensors), directory / "adapter_model.safetensors", metadata={"format": "pt"})


def write_processor(reader: Processor, recipe: Recipe, directory: Path, form: SavedForm) -> None:
    """Writes the tokenizer or image processor with the trained length or size."""
    if isinstance(reader, TextProcessor):
        reader.save(directory, recipe.max_length, words=form.level == "token")
    else:
        reader.save(directory, recipe.image_size)


def _head_state(network: Network) -> dict[str, torch.Tensor]:
    """The head's tensors by their names in the transformers class."""
    names = network.family.names(network.level)
    state = {}
    for name, tensor in network.head.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        state[f"{names[layer]}.{leaf}"] = tensor
    return state


def _dropout(head: nn.Module) -> float:
    return next((module.p for module in head.modules() if isinstance(module, nn.Dropout)), 0.0)


def _contiguous(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): weights.digest(path) for path in files}


def put(partial: Path, directory: Path) -> None:
    """Puts a directory that is complete in its place, where another may be."""
    old = directory.parent / f".{directory.name}.old-{os.getpid()}"
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


# -- proving --------------------------------------------------------------------------------


def _verify(
    expected: torch.Tensor,
    inputs: dict[str, torch.Tensor],
    network: Network,
    source: Source,
    directory: Path,
    form: SavedForm,
) -> None:
    with torch.no_grad():
        _compare(expected, load(directory)(**inputs), "the saved directory")
        if form.base is not None:
            _compare(expected, _with_adapter(network, source, directory, form)(inputs), "the adapter")


def _with_adapter(network: Network, source: Source, directory: Path, form: SavedForm) -> Any:
    from peft import PeftModel

    with quiet(), seeded(0):
        base = getattr(transformers, form.auto_class).from_pretrained(
            source.path, local_files_only=True, dtype=torch.float32, use_safetensors=True, **form.base_options
        )
        adapted = PeftModel.from_pretrained(base, str(directory / ADAPTER)).eval()

    def logits(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        output = adapted(**inputs)
        if form.kind == "native":
            return torch.as_tensor(output.logits)
        states = output.last_hidden_state
        if form.level == "example":
            special = network.family.special_tokens
            states = heads.pool(form.pooling, output, inputs.get("attention_mask"), special)
        return torch.as_tensor(network.head(states))

    return logits


def _sample(network: Network, recipe: Recipe, reader: Processor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if isinstance(reader, ImageProcessor):
        side = recipe.image_size or reader.image_size
        pixels = torch.randint(0, 256, (2, 3, side, side), generator=generator, dtype=torch.uint8)
        return {"pixel_values": reader.normalise(pixels)}
    length = min(12, reader.max_length)
    ids = torch.randint(0, network.config.vocab_size, (3, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, length // 2 :] = 0
    ids[-1, length // 2 :] = reader.pad_id
    return {"input_ids": ids, "attention_mask": mask}


def _compare(expected: torch.Tensor, actual: torch.Tensor, what: str) -> None:
    difference = float((expected - actual).abs().max())
    scale = max(1.0, float(expected.abs().max()))
    # Written so that a NaN is refused, too.
    if not difference <= LIMIT * scale:
        raise RunError(
            f"The model was not saved: {what} gives logits that differ from the trained network's"
            f" by {difference:.2g} (at most {LIMIT * scale:.0e} is allowed)."
        )


# -- reading --------------------------------------------------------------------------------


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise ModelError(
            f"'{directory}' is not a finished model: it has no {MANIFEST}.", "Is the run finished?"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, files, auto_class = (
            manifest["format"],
            dict(manifest["files"]),
            manifest["form"]["auto_class"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{path}' is damaged: {error!r}.") from None
    if version != FORMAT:
        raise ModelError(
            f"'{path}' is of format {version!r}; this version reads {FORMAT}.", "Upgrade Luthier."
        )
    if auto_class not in {*AUTO_CLASSES, "AutoModel"}:
        raise ModelError(f"'{path}' names the class {auto_class!r}, which is none that Luthier saves.")
    for name, expected in files.items():
        file = directory / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"'{path}' names the file {name!r}, which is outside its directory.")
        if not file.is_file():
            raise ModelError(f"'{file}' is missing from the saved model.", "Copy or save the model again.")
        if weights.digest(file) != expected:
            raise ModelError(f"'{file}' was changed after the model was saved: its sha256 differs.")
    found = list(directory.glob("*.safetensors*")) + list(directory.glob("adapter_config.json"))
    added = sorted(file.name for file in found if file.name not in files)
    if added or not {"config.json", "model.safetensors"} & set(files):
        raise ModelError(f"'{directory}' holds {added[0] if added else 'no weights'!r}, not what was saved.")
    return dict(manifest)
