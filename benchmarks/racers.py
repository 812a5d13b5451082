"""The sides of `race.py`, each run as a process: ``racers.py SIDE DATASET SECONDS OUT``.

A side writes its curve, [seconds since its process was started, best validation accuracy so far] whenever
that rises, and its answers on the test split. Answering is not in its time.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contenders import handed
from rivals import Curve, Given, TrainerStudy, usual_epochs
from rivals import embeddings as embedded

STARTED = float(os.environ["STARTED"])
SHARED = Path(os.environ.get("SHARED", Path(__file__).parents[1].parent / "shared"))
SEED = 0


def luthier(data: str, seconds: float) -> dict[str, Any]:
    """The whole command, but in this process, so that it can be watched."""
    import pandas as pd

    from luthier.run.progress import Silent
    from luthier.run.settings import Settings
    from luthier.run.tune import tune

    curve = Curve(STARTED)

    class Watch(Silent):
        def report(self, report: Any, metric: str) -> None:
            if report.status == "running" and report.score == report.score:
                curve.add(report.score)

        def note(self, message: str) -> None:
            print(f"  {time.time() - STARTED:6.1f} s  {message}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        overrides = {
            "model": "minilm", "budget": f"{seconds}s", "seed": SEED, "out": str(out), "baselines": ["probe"],
            **({"strategy": os.environ["STRATEGY"]} if "STRATEGY" in os.environ else {}),
        }  # fmt: skip
        settings = Settings.gather(str(SHARED / "data" / data), overrides)
        tune(settings, progress=Watch(), spent=time.time() - STARTED)
        took = time.time() - STARTED
        if keep := os.environ.get("KEEP"):
            import shutil

            shutil.copytree(out, Path(keep) / data, dirs_exist_ok=True)
        predictions = pd.read_csv(out / "predictions.csv", dtype=str, keep_default_na=False)
        trials = len(pd.read_csv(out / "trials.csv"))
    predictions = predictions.sort_values("row", key=lambda rows: rows.astype(int))
    return {
        "curve": curve.points, "trials": trials, "seconds": took,
        "answers": list(predictions["label"]), "truth": list(predictions["truth"]),
    }  # fmt: skip


def given(data: str, seconds: float) -> tuple[Given, list[str], list[str]]:
    """The same splits, and the labels' names and the true answers of the test split."""
    from luthier.run.prepare import prepare
    from luthier.run.settings import Settings

    found = prepare(Settings(data=str(SHARED / "data" / data), model=["minilm"], seed=SEED))
    return handed(found, seed=SEED, started=STARTED, budget=seconds)


def optuna(data: str, seconds: float) -> dict[str, Any]:
    """An Optuna study that drives transformers' `Trainer`, in float32, its default."""
    asked, names, truth = given(data, seconds)
    found = TrainerStudy(asked, Curve(STARTED)).run(usual_epochs(asked))
    return found | {"answers": [names[answer] for answer in found["answers"]], "truth": truth}


def embeddings(data: str, seconds: float) -> dict[str, Any]:
    """Logistic regression on mean-pooled embeddings, C chosen on validation."""
    asked, names, truth = given(data, seconds)
    found = embedded(asked, Curve(STARTED), refit=False)
    return found | {"answers": [names[answer] for answer in found["answers"]], "truth": truth}


def main() -> None:
    side, data, seconds, out = sys.argv[1:]
    found = {"luthier": luthier, "optuna": optuna, "embeddings": embeddings}[side](data, float(seconds))
    found["answers"] = [str(answer) for answer in found["answers"]]
    found["truth"] = [str(answer) for answer in found["truth"]]
    Path(out).write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
