"""Bodies without their heads: read once from safetensors, then copied for each trial; or drawn at random."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING
from transformers.utils import logging

from luthier.errors import ModelError
from luthier.models.families import Family
from luthier.models.source import Source

CACHED_BODIES = 4
"""Pre-trained bodies kept in memory; the least recently used goes first."""

_cache: OrderedDict[str, nn.Module] = OrderedDict()
_lock = threading.Lock()


def config_of(source: Source, family: Family, dropout: float | None = None) -> Any:
    """The body's config, with every dropout rate of the body set where ``dropout`` is given.

    ``auto_map`` is ignored: it is an invitation to run code from the folder, and the kinds in `families`
    need none.
    """
    values = {k: v for k, v in source.config.items() if k not in {"auto_map", "dtype", "torch_dtype"}}
    config = CONFIG_MAPPING[family.model_type].from_dict(values)
    if dropout is not None:
        for name in family.dropouts:
            setattr(config, name, dropout)
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: missing weights are checked for by the caller."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Names that go away with transformers 6: PEFT asks by one, older versions have the other.
            old = "`(is_gradient_checkpointing|gradient_checkpointing_enable)` is deprecated"
            warnings.filterwarnings("ignore", old, FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws within depend on ``seed`` alone and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator only: torch.manual_seed would also reseed an accelerator's, which is not forked
        # here.
        torch.default_generator.manual_seed(seed)
        yield


def pretrained(source: Source, family: Family, *, dropout: float | None = None) -> nn.Module:
    """A fresh copy of a pre-trained body, float32, on the CPU.

    The weights are read from disk once; see `CACHED_BODIES`.

    Args:
        source: Where it comes from.
        family: Its kind.
        dropout: Rate of every dropout in the body; None keeps the config's.

    Raises:
        ModelError: The weights do not fit the config.
    """
    with _lock:
        if source.fingerprint not in _cache:
            _cache[source.fingerprint] = _read(source, family)
            if len(_cache) > CACHED_BODIES:
                _cache.popitem(last=False)
        _cache.move_to_end(source.fingerprint)
        original = _cache[source.fingerprint]
    return copy_into(config_of(source, family, dropout), original)


def scratch(source: Source, family: Family, *, dropout: float | None = None, seed: int) -> nn.Module:
    """The same architecture with random weights that depend on ``seed`` alone."""
    config = config_of(source, family, dropout)
    with seeded(seed):
        body: nn.Module = MODEL_MAPPING[type(config)](config, **_options(family))
    return body.float().eval()


def copy_into(config: Any, original: nn.Module) -> nn.Module:
    """A module of ``original``'s class made from ``config``, with copies of its parameters and buffers."""
    options = {"add_pooling_layer": False} if getattr(original, "pooler", 0) is None else {}
    # On the meta device nothing is drawn or allocated; what matters is then copied over, buffers outside the
    # state too.
    with torch.device("meta"):
        copy: nn.Module = type(original)(config, **options)
    for name, parameter in original.named_parameters():
        owner, _, leaf = name.rpartition(".")
        setattr(copy.get_submodule(owner), leaf, nn.Parameter(parameter.detach().clone()))
    for name, buffer in original.named_buffers():
        owner, _, leaf = name.rpartition(".")
        setattr(copy.get_submodule(owner), leaf, buffer.detach().clone())
    return copy.eval()


def checkpoint_layer(source: Source, name: str, prefix: str) -> dict[str, torch.Tensor]:
    """A layer's tensors as a checkpoint carries them, e.g. ``{"weight": ..., "bias": ...}``; empty where it
    does not.

    Args:
        source: Where to look.
        name: The layer, e.g. ``pooler.dense``.
        prefix: The body's name in a whole model, which may stand before it.
    """
    found = {}
    for path in source.weights:
        with safe_open(path, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - not a dict
                layer, _, leaf = key.rpartition(".")
                if layer in {name, f"{prefix}.{name}"}:
                    found[leaf] = weights.get_tensor(key).float()
    return found


def resample_positions(body: nn.Module, family: Family, image_size: int) -> None:
    """Fits the position embeddings of a ViT kind to another image size, by bicubic resampling of their grid.

    The config is changed with them, so that the saved model reads images of that size as they are.
    """
    config: Any = body.config
    embeddings: Any = body.get_submodule("embeddings")
    patch = config.patch_size
    old, new = config.image_size // patch, image_size // patch
    positions = embeddings.position_embeddings.detach()
    special, grid = positions[:, : family.special_tokens], positions[:, family.special_tokens :]
    grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    resampled = torch.cat([special, grid.permute(0, 2, 3, 1).reshape(1, new * new, -1)], dim=1)
    embeddings.position_embeddings = nn.Parameter(resampled)
    config.image_size = image_size
    embeddings.patch_embeddings.image_size = (image_size, image_size)
    embeddings.patch_embeddings.num_patches = new * new
    embeddings.image_size = (image_size, image_size)


def _options(family: Family) -> dict[str, Any]:
    return {"add_pooling_layer": False} if family.pooling_layer else {}


def _read(source: Source, family: Family) -> nn.Module:
    config = config_of(source, family)
    kind = MODEL_MAPPING[type(config)]
    try:
        with quiet():
            body, report = kind.from_pretrained(
                Path(source.path),
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **_options(family),
            )
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise ModelError(
            f"The weights of {source.name!r} do not fit its config: {_first_line(error)}"
        ) from error
    missing = sorted(report["missing_keys"])
    # A second pooling layer that no head of ours uses may well be absent.
    missing = [name for name in missing if not name.startswith("pooler.")]
    if missing:
        raise ModelError(
            f"The weights of {source.name!r} lack {len(missing)} tensors of a {family.model_type} model,"
            f" such as {missing[0]!r}.",
            "Is the config of the same model as the weights?",
        )
    module: nn.Module = body
    return module.eval()


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
