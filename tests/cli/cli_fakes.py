"""The command line invoked, and the result of a run that was never carried out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner

from luthier.cli.main import app
from luthier.evaluate.baselines import Baseline
from luthier.evaluate.evaluation import Evaluation

runner = CliRunner()


EVALUATION = Evaluation(
    metric="accuracy",
    maximize=True,
    metrics={"accuracy": 0.9512, "macro_f1": math.nan},
    intervals={"accuracy": (0.93, 0.97), "macro_f1": (math.nan, math.nan)},
    n=1234,
    baselines=[
        Baseline("majority [class]", {"accuracy": 0.2}, (0.18, 0.22), 0.1, "", 0.7512, (0.7, 0.8)),
        Baseline("from scratch", {"accuracy": 0.5}, (0.4, 0.6), 12.0),
    ],
)  # fmt: skip


@dataclass
class FakeResult:
    folder: Path
    evaluation: Evaluation = field(default_factory=lambda: EVALUATION)
    asked: list = field(default_factory=list)

    def summary(self):
        return {
            "model": "minilm",
            "recipe": "full",
            "trials": 7,
            "failed": 1,
            "spent": 61.0,
            "score": math.nan,
        }

    def evaluate(self, data, *, slices=None):
        self.asked.append(data if slices is None else (data, slices))
        return self.evaluation

    def to_optuna(self, storage):
        self.asked.append(storage)
        return f"sqlite:///{storage}"

    def predict(self, inputs):
        self.asked.append(inputs)
        return [{"label": f"é{i}", "scores": {"a": 0.5}} for i in range(len(inputs))]


def invoke(*arguments, code=0, input=None):
    done = runner.invoke(app, [str(argument) for argument in arguments], input=input)
    assert done.exit_code == code, done.output
    return done
