"""What it saves that the C library keeps freed memory (`luthier.engine.allocator`): steps of plain PyTorch
with and without, in processes of their own that take turns.

Networks have random weights, and data is random: neither changes the time. ROUNDS is how often each side
runs, three times if it is not given.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import table

ROUNDS = int(os.environ.get("ROUNDS") or 3)
SECONDS = 3.0
"""That each kind of step is repeated for, after two that do not count."""
KEPT, GIVEN = "kept", "given back"
KINDS = ("image", "text float32", "text bfloat16")


def image() -> Any:
    """MobileNetV2 with channels last, as the engine has it."""
    import torch
    import transformers

    network = transformers.MobileNetV2ForImageClassification(transformers.MobileNetV2Config())
    return network.to(memory_format=torch.channels_last)


def text(dtype: str) -> Any:
    """A BERT of MiniLM's size."""
    import torch
    import transformers

    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    return transformers.BertForSequenceClassification(config).to(getattr(torch, dtype))


def steps(kind: str) -> dict[str, Callable[[], None]]:
    """What is timed of a network, by name."""
    import torch

    if kind == "image":
        network, name = image(), "pixel_values"
        inputs = torch.randn(32, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    else:
        network, name = text(kind.split()[1]), "input_ids"
        inputs = torch.randint(5, 20_000, (256, 32))

    def forward() -> None:
        with torch.inference_mode():
            network.eval()(**{name: inputs})

    def both() -> None:
        network.zero_grad()
        network.train()(**{name: inputs[:16]}).logits.float().square().mean().backward()

    return {f"{kind}, forward, {len(inputs)}": forward, f"{kind}, forward and backward, 16": both}


def child(side: str, kind: str) -> None:
    """Times a network's steps in this process, and prints seconds by name and the peak of its memory."""
    import torch

    from luthier.engine.allocator import keep_memory

    if side == KEPT and not keep_memory():
        sys.exit("The C library cannot be told to keep memory.")
    torch.manual_seed(0)
    seconds = {}
    for name, step in steps(kind).items():
        step(), step()
        taken, end = [], time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(taken) < 3:
            began = time.perf_counter()
            step()
            taken.append(time.perf_counter() - began)
        seconds[name] = statistics.median(taken)
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def run(side: str, kind: str) -> dict[str, Any]:
    """A child's figures."""
    done = subprocess.run(
        [sys.executable, __file__, side, kind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{kind}, {side}: peak {found['peak'] / 2**10:.0f} MiB", file=sys.stderr, flush=True)
    return found


def measured(kind: str) -> list[dict[str, Any]]:
    """The rows of a network."""
    rounds = [{side: run(side, kind) for side in (GIVEN, KEPT)} for _ in range(ROUNDS)]
    rows = []
    for name in rounds[0][KEPT]["seconds"]:
        kept, given = ([each[side]["seconds"][name] for each in rounds] for side in (KEPT, GIVEN))
        ratios = [before / now for now, before in zip(kept, given, strict=True)]
        ratio = statistics.median(ratios)
        rows.append(
            table.row(
                name, 1000 * statistics.median(kept), "ms a step",
                peer=f"memory given back: {1000 * statistics.median(given):.1f} ms", ratio=ratio,
                spread=f"{min(ratios):.2f} to {max(ratios):.2f} times as fast",
                bar="at most 5% slower", met=ratio >= 0.95,
            )
        )  # fmt: skip
    peaks = {side: statistics.median(each[side]["peak"] for each in rounds) / 2**10 for side in (KEPT, GIVEN)}
    rows.append(
        table.row(
            f"{kind}, peak", peaks[KEPT], "MiB", peer=f"memory given back: {peaks[GIVEN]:.0f} MiB",
            ratio=peaks[KEPT] / peaks[GIVEN],
        )
    )  # fmt: skip
    return rows


def main() -> None:
    rows = [row for kind in KINDS for row in measured(kind)]
    table.merge("allocator", rows)
    table.show(rows)


if __name__ == "__main__":
    child(*sys.argv[1:]) if len(sys.argv) > 1 else main()
