"""Every built-in task passes the public checks, and the checks can fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tasks_fakes import CharacterProcessor, text_frame

from luthier.tasks import conformance
from luthier.tasks.base import Batch
from luthier.tasks.conformance import Case
from luthier.tasks.examples import TextExamples
from luthier.tasks.text_classification import TextClassification


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Callable[[Case], None], case: Case) -> None:
    check(case)


class ForgetsLabels(TextClassification):
    def state(self) -> dict[str, Any]:
        return {**super().state(), "labels": self._labels[::-1][1:]}


class MixesExamples(TextClassification):
    def loss(self, logits: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
        loss = super().loss(logits, targets, **options)
        return loss - loss.mean()


class Averages(TextClassification):
    def statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        table = super().statistics(outputs, targets)
        return table / max(len(table), 1)


class WrongWay(TextClassification):
    maximize = False


class HalfPrecision(TextClassification):
    def outputs(self, logits: torch.Tensor, batch: Any) -> list[np.ndarray]:
        return [output.astype(np.float16) for output in super().outputs(logits, batch)]


class ForgetsWeights(TextClassification):
    def gradient(
        self, logits: torch.Tensor, targets: torch.Tensor, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return super().gradient(logits, targets, **options | {"class_weights": None})


class SumsTwice(TextClassification):
    def gradient(
        self, logits: torch.Tensor, targets: torch.Tensor, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        losses, slopes = super().gradient(logits, targets, **options)
        return losses, 2 * slopes


class CountsRows(TextClassification):
    def encode(self, frame: pd.DataFrame, processor: Any, **options: Any) -> TextExamples:
        class Counted(TextExamples):
            def fingerprint(self) -> str:
                return str(len(self))

        examples = super().encode(frame, processor, **options)
        return Counted(examples.ids, examples.targets, examples.pad_id, examples.cut)


class HandsOutSortedTargets(TextClassification):
    def encode(self, frame: pd.DataFrame, processor: Any, **options: Any) -> TextExamples:
        class Sorted(TextExamples):
            def batch(self, indices: np.ndarray) -> Batch:
                batch = super().batch(indices)
                return Batch(batch.inputs, batch.targets.sort().values, indices)

        examples = super().encode(frame, processor, **options)
        return Sorted(examples.ids, examples.targets, examples.pad_id, examples.cut)


@pytest.mark.parametrize(
    ("task", "check"),
    [
        (ForgetsLabels, conformance.check_state_restores),
        (MixesExamples, conformance.check_batch_equals_alone),
        (MixesExamples, conformance.check_loss),
        (Averages, conformance.check_statistics_add_up),
        (WrongWay, conformance.check_right_scores_best),
        (HalfPrecision, conformance.check_encoded_shapes),
        (ForgetsWeights, conformance.check_gradient),
        (SumsTwice, conformance.check_gradient),
        (CountsRows, conformance.check_examples_are_known_again),
        (HandsOutSortedTargets, conformance.check_examples_are_known_again),
    ],
)
def test_checks_catch(task: type[TextClassification], check: Callable[[Case], None]) -> None:
    frame = text_frame()
    with pytest.raises((AssertionError, ValueError)):
        check(Case(task, frame, frame[:7], CharacterProcessor()))
