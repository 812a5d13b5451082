"""What `quality.py` compares: each contender as a process, given the same rows as JSON, that answers the test
inputs. The true answers of the test split are not among what it is given.

Ours is the command line. Logistic regression and the `Trainer` study run here, as ``contenders.py NAME GIVEN
OUT``; SetFit and AutoGluon in environments of their own, from scripts in ``outside``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outside.environment import Unavailable, interpreter
from rivals import Curve, Given, TrainerStudy, embeddings, epochs_that_fit, usual_epochs

# Exact, so that the figures can be had again.
SETFIT = [
    "setfit==1.2.0", "sentence-transformers==6.2.0", "transformers==5.23.0", "datasets==5.2.0",
    "torch==2.13.0",
]  # fmt: skip
# torchvision as it fits this torch; transformers is the newest that AutoGluon takes.
AUTOGLUON = ["autogluon.multimodal==1.6.3", "torch==2.13.0", "torchvision==0.28.0", "transformers==5.14.1"]
ELSEWHERE = {
    "setfit": ("setfit_pairs.py", SETFIT),
    "autogluon": ("autogluon_multimodal.py", AUTOGLUON),
}
# A contender that has not answered after so many budgets, and as many seconds for loading and answering on a
# slow machine, is ended.
PATIENCE, GRACE = 2.0, 300.0
# Mixed precision must be this much faster to be worth its rounding.
WORTHWHILE = 1.15
LUTHIER = [sys.executable, "-m", "luthier.cli.main"]


def handed(prepared: Any, *, seed: int, started: float, budget: float) -> tuple[Given, list[str], list[str]]:
    """What a prepared run gives a contender: the splits that Luthier trains, chooses and is judged on.

    Args:
        prepared: Of one model, as `luthier.run.prepare` makes it.
        seed: Of the contender.
        started: When its clock starts.
        budget: Its seconds.

    Returns:
        The rows, the names of the labels, and the true answers of the test split by name. Test rows come by
        their numbers in the source.
    """
    task, frames = prepared.task, dict(prepared.dataset.splits)
    frames["test"] = frames["test"].sort_values("__row__")
    names = list(task.label_names)
    numbers = {name: at for at, name in enumerate(names)}
    image = prepared.dataset.modality == "image"
    inputs, labels = {}, {}
    for split, frame in frames.items():
        column = frame[task.columns.roles["input"]]
        inputs[split] = [str((prepared.dataset.root / each).resolve()) if image else each for each in column]
        labels[split] = [str(each) for each in frame[task.columns.roles["target"]]]
    splits = {
        split: (inputs[split], [numbers[label] for label in labels[split]])
        for split in ("train", "validation")
    }
    (source,) = prepared.sources.values()
    given = Given(
        modality="image" if image else "text", splits=splits, test=inputs["test"], num_labels=len(names),
        path=str(source.path), seed=seed, started=started, budget=budget,
    )  # fmt: skip
    return given, names, labels["test"]


def ours(data: Path, model: str, names: list[str], *, seed: int, budget: float) -> dict[str, Any]:
    """One `luthier tune` command with its defaults; its time includes reading, proving and reporting.

    Raises:
        Unavailable: It ended with an error.
    """
    import pandas as pd

    numbers = {name: at for at, name in enumerate(names)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [*LUTHIER, "tune", str(data), f"--model={model}", f"--budget={budget:g}s", f"--seed={seed}"]
        started = time.monotonic()
        carried_out([*command, "--out", str(out)], "luthier tune", budget)
        seconds = time.monotonic() - started
        predictions = pd.read_csv(out / "predictions.csv", dtype=str, keep_default_na=False)
        evaluation = json.loads((out / "evaluation.json").read_text())
        trials = len(pd.read_csv(out / "trials.csv"))
    predictions = predictions.sort_values("row", key=lambda rows: rows.astype(int))
    return {
        "answers": [numbers[label] for label in predictions["label"]], "seconds": seconds,
        "note": f"{trials} trials", "combined": evaluation.get("combined", []),
    }  # fmt: skip


def theirs(name: str, given: Given) -> dict[str, Any]:
    """One contender's answers, seconds and what should be known of them.

    Raises:
        Unavailable: Its environment cannot be made, or it ended without an answer.
    """
    here = Path(__file__)
    # All they need is here: none should wait for a hub.
    command, env = [sys.executable, str(here), name], os.environ | {"HF_HUB_OFFLINE": "1"}
    if name in ELSEWHERE:
        script, requirements = ELSEWHERE[name]
        command = [str(interpreter(requirements)), str(here.parent / "outside" / script)]
        # Its own packages only: not those that ours may be told of.
        env.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "given.json", Path(folder) / "answer.json"
        question.write_text(json.dumps(asdict(given) | {"started": time.time()}))
        carried_out([*command, str(question), str(answer)], name, given.budget, env=env)
        if not answer.exists():
            raise Unavailable(f"{name} ended without an answer")
        found: dict[str, Any] = json.loads(answer.read_text())
    if len(found["answers"]) != len(given.test):
        raise Unavailable(f"{name} answered {len(found['answers'])} of {len(given.test)} test inputs")
    return found


def carried_out(command: list[str], name: str, budget: float, env: dict[str, str] | None = None) -> None:
    """Runs a command to its end; what it prints goes to stderr.

    Raises:
        Unavailable: It failed, or did not end in time.
    """
    limit = PATIENCE * budget + GRACE
    try:
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=limit, env=env)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{name} had not ended after {limit:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{name} ended with code {error.returncode}") from None


def sklearn(given: Given) -> dict[str, Any]:
    """Logistic regression on embeddings: C chosen on validation, then fitted on all rows."""
    return embeddings(given, Curve(given.started), refit=True)


def trainer(given: Given) -> dict[str, Any]:
    """The `Trainer` study, in bfloat16 where a few steps are faster so, with epochs that fit the budget."""
    plain, fast = (TrainerStudy(given, Curve(given.started), bf16=bf16) for bf16 in (False, True))
    seconds = {study: study.epoch_seconds() for study in (plain, fast)}
    study = fast if seconds[plain] > WORTHWHILE * seconds[fast] else plain
    return study.run(epochs_that_fit(usual_epochs(given), seconds[study], given.budget))


def main() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    name, question, answer = sys.argv[1:]
    given = Given.read(question)
    found = {"sklearn": sklearn, "trainer": trainer}[name](given)
    found["note"] = f"{found['trials']} trials, {found['note']}"
    Path(answer).write_text(json.dumps({key: found[key] for key in ("answers", "seconds", "note")}))


if __name__ == "__main__":
    main()
