"""`Brought`: the trained head that a finished model brings along when it is fine-tuned further, for the
outputs that the new task has. Which output is which is for the caller to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from luthier.errors import ModelError
from luthier.models import families
from luthier.models.forms import SavedForm
from luthier.models.saved import HEAD, MANIFEST
from luthier.models.source import Source

LAST = "classifier"
"""What every form of head calls the layer that its outputs come from."""
NEW = -1
"""Stands for an output that the finished model did not have."""


@dataclass(frozen=True)
class Brought:
    """A head's weights, and how its outputs become those of a new task.

    Attributes:
        form: See `heads.layers`.
        pooling: See `heads.pool`.
        level: One answer an example, or one a token.
        state: Weights by our names of its layers, without the temperature that it was saved with.
        outputs: (new outputs,) the old output that each is, `NEW` where there was none.
        factor: What old outputs are multiplied by.
        shift: What is then added.
    """

    form: str
    pooling: str
    level: str
    state: dict[str, torch.Tensor]
    outputs: tuple[int, ...]
    factor: float = 1.0
    shift: float = 0.0

    def start(self, head: nn.Sequential) -> None:
        """Gives a new head of this form these weights; rows of new outputs stay as they are.

        Raises:
            ModelError: The head is of another shape.
        """
        own = head.state_dict()
        if set(own) != set(self.state):
            raise ModelError(
                f"The head that the model brings has the weights {', '.join(sorted(self.state))}; "
                f"expected {', '.join(sorted(own))}."
            )
        kept = [at for at, old in enumerate(self.outputs) if old != NEW]
        rows = [self.outputs[at] for at in kept]
        started = dict(self.state)
        for leaf in ("weight", "bias"):
            full = f"{LAST}.{leaf}"
            if full not in own:
                continue
            values = own[full].clone()
            values[kept] = self.state[full][rows] * self.factor + (self.shift if leaf == "bias" else 0.0)
            started[full] = values
        head.load_state_dict(started)


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """What a finished model's folder says of it; None of any other folder.

    Raises:
        ModelError: It cannot be read.
    """
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        SavedForm(**values["form"])
        return dict(values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{file}' cannot be read: {error}.") from None


def brought(
    source: Source, manifest: dict[str, Any], outputs: Sequence[int], factor: float, shift: float
) -> Brought | None:
    """The head of a finished model; None where it is not of the kind that can go on.

    Args:
        source: Its folder.
        manifest: From `manifest_of`.
        outputs: As in `Brought`, as are ``factor`` and ``shift``.
    """
    form = SavedForm(**manifest["form"])
    state = _head(source, form)
    if len(state.get(f"{LAST}.weight", ())) != form.outputs:
        return None
    # A saved head's last layer was divided by the temperature, which is to be found anew.
    temperature = float(manifest.get("temperature", 1.0))
    for name in state:
        if name.startswith(f"{LAST}."):
            state[name] = state[name] * temperature
    return Brought(form.head, form.pooling, form.level, state, tuple(outputs), factor, shift)


def _head(source: Source, form: SavedForm) -> dict[str, torch.Tensor]:
    """The head's tensors by our names; empty where the folder lacks them."""
    if form.kind == "generic":
        file = source.path / HEAD
        return load_file(file) if file.is_file() else {}
    theirs = {layer: ours for ours, layer in families.get(form.model_type).names(form.level).items()}
    found = {}
    for path in source.weights:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                layer, _, leaf = name.rpartition(".")
                if layer in theirs:
                    found[f"{theirs[layer]}.{leaf}"] = tensors.get_tensor(name).float()
    return found
