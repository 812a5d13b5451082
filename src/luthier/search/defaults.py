"""The default spaces: what is worth varying for a task, over which range, around which value, and why.

They are made for small budgets, in which a handful of trials is all there is: the centre of each is a recipe
that is known to do well, and what seldom matters stays at the recipe's default. "QuickTune" below is the
study of 4,665 fine-tunings of image models by Pineda Arango et al. (2024), of which the best tenth of each
dataset was compared with all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from luthier.errors import SettingError
from luthier.space import Space
from luthier.space.parse import parse_setting

_TRAINED_EXAMPLES = {"text": 20_000, "image": 12_000}
"""Examples seen in all epochs together, at which the number of epochs is centred. Four epochs of 5,000 texts
is common practice; small data sets need more epochs, not fewer steps (Mosbach et al. 2021; Zhang et al.
2021). An image takes longer than a text."""


def default_space(
    modality: Literal["text", "image"],
    level: Literal["example", "token"],
    models: Sequence[str],
    *,
    num_examples: int,
    num_blocks: int,
    classification: bool = True,
    image_size: int | None = None,
    resizable: bool = False,
    adaptations: Sequence[str] | None = None,
) -> Space:
    """A space that does well on most data sets; its ``default()`` is a known good recipe.

    Args:
        modality: What goes in.
        level: Whether the head answers once an example or once a token.
        models: Candidates, the most promising first.
        num_examples: Training examples: fewer mean more epochs and smaller batches.
        num_blocks: Blocks of the (shallowest) model: deeper ones want lower rates.
        classification: Whether there are classes to smooth and weigh.
        image_size: Side in pixels of the images the model was made for.
        resizable: Whether it takes other sides too, as convolutional networks do.
        adaptations: Those to choose among; None: all that the space has.

    Raises:
        SettingError: The space has no such adaptation.
    """
    epochs = min(max(round(_TRAINED_EXAMPLES[modality] / max(num_examples, 1)), 3), 12)
    settings: dict[str, Any] = {"model": list(models) if len(models) > 1 else models[0]}
    if modality == "text":
        settings |= _text(level, num_examples, num_blocks, epochs)
    else:
        settings |= _image(num_blocks, epochs, image_size if resizable else None)
    if adaptations is not None:
        settings["adaptation"] = _chosen(settings["adaptation"], adaptations)
    if classification:
        # Balanced weights help rare classes and cost accuracy on frequent ones, so they are the exception.
        settings["class_weights"] = {"values": ["none", "balanced"], "weights": [0.8, 0.2]}
        # Up to 0.1: Szegedy et al. 2016. QuickTune found 0, 0.05 and 0.1 alike.
        settings["label_smoothing"] = {"low": 0.0, "high": 0.1, "prior": 0.0 if modality == "text" else 0.05}
    return Space.from_dict(
        {name: entry for name, each in settings.items() if (entry := _reachable(each, settings))}
    )


def going_on(space: Space, model: str, head: str, pooling: str) -> Space:
    """A space in which one of the models goes on with the head that it was fine-tuned with.

    Args:
        space: Has the model among its models.
        model: Its name.
        head: The setting that it was fine-tuned with.
        pooling: Likewise.
    """
    when = {"model": model}
    fixed: dict[str, Any] = {
        "head": {"value": head, "when": when},
        "pooling": {"value": pooling, "when": when},
        # Its head knows the old rows; one that fits all rows anew may do better where many are new.
        "head_init": {"values": ["model", "probe"], "weights": [0.75, 0.25], "when": when},
    }
    first = {
        name: (*parse_setting(name, entry), *space.settings.get(name, ())) for name, entry in fixed.items()
    }
    return Space({**space.settings, **first}, space.forbidden)


def _text(level: str, num_examples: int, num_blocks: int, epochs: int) -> dict[str, Any]:
    # Small encoders: 3e-5 to 3e-4 (Turc et al. 2019); base: 2e-5 to 5e-5 (Devlin et al. 2019); large: 1e-5 to
    # 3e-5 (Liu et al. 2019). A factor of about four to both sides, since the right rate also moves with the
    # data.
    rate = 1e-4 if num_blocks <= 6 else 5e-5 if num_blocks <= 12 else 2e-5
    return {
        # Full fine-tuning is hard to beat on small encoders; where something else wins, it is most often a
        # part of the blocks (Lee et al. 2023), or LoRA (Hu et al. 2021). Probes win seldom but cost almost
        # nothing.
        "adaptation": _adaptations(num_blocks, {"full": 0.55, "last_k": 0.25, "lora": 0.15, "probe": 0.05}),
        **_last_k(num_blocks),
        # Ranks from 4 to 16 do alike when every linear layer has an update (Dettmers et al. 2023).
        "lora_rank": {"values": [8, 4, 16], "weights": [0.5, 0.25, 0.25], "when": {"adaptation": "lora"}},
        "learning_rate": [
            _PROBE_RATE,
            # LoRA wants about ten times the rate of full fine-tuning (Biderman et al. 2024).
            _rate(10 * rate, 5, {"adaptation": "lora"}),
            _rate(rate, 4),
        ],
        "head_lr_ratio": _HEAD_RATIO,
        **_layer_decay(num_blocks),
        "epochs": [_PROBE_EPOCHS, _epochs(epochs)],
        # Devlin et al. 2019 tried 16 and 32. Few examples, or few decisions an example, need more steps.
        "batch_size": _batches(16 if num_examples < 2000 or level == "token" else 32),
        # The model's own dropout is nearly always right; none at all suits many epochs less, short runs more.
        "dropout": {"values": [None, 0.0, 0.2], "weights": [0.7, 0.15, 0.15], "when": _DEEP},
        "head_dropout": {"low": 0.0, "high": 0.3, "prior": 0.1},
        **({} if level == "token" else _TEXT_HEADS),
    }


def _image(num_blocks: int, epochs: int, image_size: int | None) -> dict[str, Any]:
    return {
        # In QuickTune's best tenth 61% freeze a fifth to four fifths of the blocks (48% of all), and 8%
        # everything (24% of all). Frozen blocks also need no backward pass, which is most of the time on a
        # CPU.
        "adaptation": _adaptations(num_blocks, {"last_k": 0.55, "full": 0.35, "probe": 0.1}),
        **_last_k(num_blocks),
        # QuickTune's best rates spread over 1e-5 to 5e-3 with the peak at 5e-4; ends are rare with AdamW.
        "learning_rate": [_PROBE_RATE, {"low": 5e-5, "high": 5e-3, "log": True, "prior": 5e-4}],
        "head_init": _FROM_PROBE,
        "head_lr_ratio": _HEAD_RATIO,
        **_layer_decay(num_blocks),
        "epochs": [_PROBE_EPOCHS, _epochs(epochs)],
        # Batches of up to 16 are over-represented in QuickTune's best tenth, those of 64 and more are rare in
        # it; below 16 a CPU or GPU is badly used.
        "batch_size": {"values": [32, 16, 64], "weights": [0.5, 0.35, 0.15]},
        # QuickTune's best tenth drops little: 0 in 39% of them (20% of all), 0.4 in 9% (20% of all).
        "head_dropout": {"low": 0.0, "high": 0.3, "prior": 0.1},
        # Mirroring helps photographs and harms what has a left and a right, such as digits or X-rays.
        "augmentation": {
            "values": ["none", "flip"],
            "weights": [0.6, 0.4],
            "when": {"adaptation": ["full", "last_k"]},
        },
        **_sizes(image_size),
    }


# A linear model on fixed features: convex, so high rates and many epochs are safe, and with cached features
# they are cheap.
_PROBE_RATE = {"low": 1e-3, "high": 3e-2, "log": True, "prior": 1e-2, "when": {"adaptation": "probe"}}
_PROBE_EPOCHS = {"low": 10, "high": 60, "log": True, "prior": 30, "when": {"adaptation": "probe"}}
# Starting where a probe ends, the first epoch of a fine-tuning is ahead of it (LP-FT, Kumar et al. 2022).
_DEEP = {"adaptation": ["full", "last_k", "lora"]}
_FROM_PROBE = {"value": "probe", "when": _DEEP}
# A frozen encoder says more in its mean than in one position that was never trained for this (Reimers &
# Gurevych 2019), so this is what a probe reads, and what starts from one. Three epochs of MiniLM reach
# .918 to .925 of BANKING77's validation rows by a linear head on the mean that starts as a probe, .915 to
# .920 by a random one, .892 to .915 by the head of the model's own class, which every program loads.
_TEXT_HEADS = {
    "head": [
        {"value": "linear", "when": {"adaptation": "probe"}},
        {"values": ["linear", "native"], "weights": [0.8, 0.2], "when": _DEEP},
    ],
    "pooling": {"value": "mean", "when": {"head": "linear"}},
    "head_init": {"value": "probe", "when": {"head": "linear", **_DEEP}},
}
# A new head starts from nothing and can go faster than what was pre-trained (Howard & Ruder 2018, section
# 3.2); LoRA's rate is high already.
_HEAD_RATIO = [
    {"low": 0.1, "high": 1.0, "log": True, "prior": 0.3, "when": {"adaptation": "lora"}},
    {"low": 1.0, "high": 10.0, "log": True, "prior": 2.0, "when": {"adaptation": ["full", "last_k"]}},
]


def _adaptations(num_blocks: int, weights: dict[str, float]) -> dict[str, Any]:
    """Without blocks to choose from, last_k would be full under another name."""
    kept = {name: weight for name, weight in weights.items() if name != "last_k" or num_blocks > 1}
    return {"values": list(kept), "weights": list(kept.values())}


def _chosen(entry: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Some of the adaptations, as likely among themselves as they were."""
    weights = dict(zip(entry["values"], entry["weights"], strict=True))
    unknown = [name for name in names if name not in weights]
    if unknown or not names:
        what = f"has no adaptation {unknown[0]!r} here" if unknown else "is left without an adaptation"
        raise SettingError(
            f"The default space {what}.", f"It has {', '.join(weights)}; others go into a space of your own."
        )
    return {"values": list(names), "weights": [weights[name] for name in names]}


def _reachable(entry: Any, settings: dict[str, Any]) -> Any:
    """Takes adaptations that the space lacks out of conditions, and alternatives left without any."""
    if isinstance(entry, list) and isinstance(entry[0], dict):
        return [kept for each in entry if (kept := _reachable(each, settings))]
    if not isinstance(entry, dict) or "when" not in entry:
        return entry
    if "adaptation" not in entry["when"]:
        return entry
    wanted = entry["when"]["adaptation"]
    present = settings["adaptation"]["values"]
    kept = [name for name in (wanted if isinstance(wanted, list) else [wanted]) if name in present]
    return entry | {"when": entry["when"] | {"adaptation": kept}} if kept else None


def _last_k(num_blocks: int) -> dict[str, Any]:
    """From one block to all but one, around half: which depth wins differs by data set (Lee et al. 2023;
    QuickTune).
    """
    most = num_blocks - 1
    if most < 1:
        return {}
    when = {"adaptation": "last_k"}
    if most == 1:
        return {"last_k": {"value": 1, "when": when}}
    return {"last_k": {"low": 1, "high": most, "prior": max(1, num_blocks // 2), "when": when}}


def _layer_decay(num_blocks: int) -> dict[str, Any]:
    """Lower blocks change less: 0.65 to 0.95 in ELECTRA and BEiT; decay compounds, so deeper models want less
    of it.
    """
    if num_blocks < 2:
        return {}
    return {
        "layer_decay": {"low": 0.7, "high": 1.0, "prior": 0.9, "when": {"adaptation": ["full", "last_k"]}}
    }


def _rate(centre: float, factor: float, when: dict[str, Any] | None = None) -> dict[str, Any]:
    bounds = {
        "low": float(f"{centre / factor:.2g}"),
        "high": float(f"{centre * factor:.2g}"),
        "log": True,
        "prior": centre,
    }
    return bounds | ({"when": when} if when else {})


def _epochs(centre: int) -> dict[str, Any]:
    return {"low": max(2, round(0.6 * centre)), "high": round(1.75 * centre), "prior": centre}


def _batches(centre: int) -> dict[str, Any]:
    return {"values": [centre, centre // 2, centre * 2], "weights": [0.5, 0.25, 0.25]}


def _sizes(own: int | None) -> dict[str, Any]:
    """A side of four sevenths, such as 128 of 224, costs a third of the time, which in a small budget buys
    more than the last points that a full side brings (Howard et al. 2017, table 7: 64.4% against 70.6% on
    ImageNet).
    """
    if own is None or own < 160:
        return {}
    smaller = round(own * 4 / 7 / 32) * 32
    return {"image_size": {"values": [smaller, None], "weights": [0.6, 0.4]}}
