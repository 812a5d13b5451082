"""Python for people: the few lines that load a saved model without Luthier."""

from __future__ import annotations

from typing import Any

TEXT_CALL = 'tokenizer(["Some text."], return_tensors="pt", truncation=True)'
WORDS_CALL = 'tokenizer([["Some", "words"]], is_split_into_words=True, return_tensors="pt", truncation=True)'
IMAGE_CALL = 'processor(Image.open("picture.png").convert("RGB"), return_tensors="pt")'

POOLING = {
    "pooler": "output.pooler_output.flatten(1)",
    "cls": "states[:, 0]",
    "cls_mean": "torch.cat([states[:, 0], states[:, 1:].mean(1)], dim=1)",
    "token": "states",
}


def native(folder: str, *, auto_class: str, modality: str, level: str) -> str:
    """Loads a plain transformers directory."""
    loader, call = _reader(modality, level)
    lines = ["import torch", *_imports(modality, auto_class)]
    lines += ["", f"folder = {folder!r}", f"model = {auto_class}.from_pretrained(folder).eval()", loader, ""]
    lines += ["", "@torch.no_grad()", "def logits(**inputs):", "    return model(**inputs).logits", ""]
    return "\n".join([*lines, "", f"# logits(**{call})", ""])


def generic(
    folder: str,
    *,
    modality: str,
    level: str,
    head: list[tuple[str, str]],
    pooling: str,
    special_tokens: int,
    options: dict[str, Any],
) -> str:
    """Loads a body, and the head that stands in a file of its own.

    Args:
        folder: The saved directory.
        modality: ``text`` or ``image``.
        level: ``example`` or ``token``.
        head: Names of the head's layers, and the Python that makes each.
        pooling: See `luthier.models.heads.pool`.
        special_tokens: Leading tokens that a mean or maximum over an image leaves out.
        options: Further arguments of ``from_pretrained``.
    """
    loader, call = _reader(modality, level)
    extra = "".join(f", {key}={value!r}" for key, value in options.items())
    lines = ["import torch", "from safetensors.torch import load_file", *_imports(modality, "AutoModel")]
    if any("ACT2FN" in code for _, code in head):
        lines.append("from transformers.activations import ACT2FN")
    lines += ["", f"folder = {folder!r}", f"body = AutoModel.from_pretrained(folder{extra}).eval()", loader]
    lines += ["head = torch.nn.Sequential()", *(f'head.add_module("{name}", {code})' for name, code in head)]
    lines += ['head.load_state_dict(load_file(f"{folder}/head.safetensors"))', "head.eval()", ""]
    lines += ["", "@torch.no_grad()", "def logits(**inputs):", "    output = body(**inputs)"]
    lines += ["    states = output.last_hidden_state"]
    lines += [f"    {line}" for line in _pooling(pooling, modality, special_tokens)]
    return "\n".join([*lines, "    return head(pooled)", "", "", f"# logits(**{call})", ""])


def adapter(folder: str, *, base: str, auto_class: str, options: dict[str, Any]) -> str:
    """Loads the low-rank adapter on its base model with PEFT."""
    extra = "".join(f", {key}={value!r}" for key, value in options.items())
    return "\n".join(
        [
            "from peft import PeftModel",
            f"from transformers import {auto_class}",
            "",
            f"base = {auto_class}.from_pretrained({base!r}{extra})",
            f"model = PeftModel.from_pretrained(base, {folder + '/adapter'!r}).eval()",
            "",
        ]
    )


def _imports(modality: str, auto_class: str) -> list[str]:
    if modality == "image":
        return ["from PIL import Image", f"from transformers import AutoImageProcessor, {auto_class}"]
    return [f"from transformers import AutoTokenizer, {auto_class}"]


def _reader(modality: str, level: str) -> tuple[str, str]:
    if modality == "image":
        return 'processor = AutoImageProcessor.from_pretrained(folder, backend="pil")', IMAGE_CALL
    return "tokenizer = AutoTokenizer.from_pretrained(folder)", WORDS_CALL if level == "token" else TEXT_CALL


def _pooling(kind: str, modality: str, special_tokens: int) -> list[str]:
    if kind in POOLING:
        return [f"pooled = {POOLING[kind]}"]
    if modality == "text":
        mask = 'mask = inputs["attention_mask"].unsqueeze(-1)'
        if kind == "mean":
            return [mask, "pooled = (states * mask).sum(1) / mask.sum(1)"]
        return [mask, "pooled = states.masked_fill(mask == 0, torch.finfo(states.dtype).min).amax(1)"]
    lines = [] if special_tokens else ["states = states.flatten(2).transpose(1, 2)"]
    rest = f"states[:, {special_tokens}:]" if special_tokens else "states"
    return [*lines, f"pooled = {rest}.{'mean' if kind == 'mean' else 'amax'}(1)"]
