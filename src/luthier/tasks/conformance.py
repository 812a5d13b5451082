"""What every task must do, as checks that any implementation can run; a stranger's package too.

@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check):
    check(conformance.Case(MyTask, train, test, processor))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from luthier.tasks.base import Batch, Columns, Examples, Modality, Task
from luthier.tasks.columns import Hints

Outputs = list[np.ndarray]


@dataclass
class Case:
    """A task and a small data set for it, on which the checks run.

    Attributes:
        task: The class.
        train: A dozen rows or more; every label in it.
        test: Five rows or more, with at least two different answers.
        processor: Encodes the task's inputs.
        modality: As in `Task.claim`.
        hints: Roles to fix, where the columns cannot be inferred.
        root: Folder of the frames' file names.
        answer: Maps (task, targets) to outputs that are surely right; by default `right_answers`.
    """

    task: type[Task]
    train: pd.DataFrame
    test: pd.DataFrame
    processor: Any
    modality: Modality = "text"
    hints: Hints = field(default_factory=dict)
    root: str = "."
    answer: Callable[[Task, Sequence[np.ndarray]], Outputs] | None = None

    def fitted(self) -> Task:
        """The task, fitted to the training rows with the columns it claims."""
        columns = self.task.claim(self.train, self.modality, self.hints)
        _require(columns is not None, "the task does not claim its own data")
        task = self.task(columns or Columns({}))
        task.fit(self.train)
        return task

    def encoded(self, task: Task, frame: pd.DataFrame | None = None) -> Examples:
        """Rows (those of the test split unless given), encoded."""
        return task.encode(self.test if frame is None else frame, self.processor, root=self.root)

    def bare(self, task: Task) -> pd.DataFrame:
        """The rows of the test split without their answers."""
        target = task.columns.roles["target"]
        return self.test.drop(columns=[target] if isinstance(target, str) else list(target))

    def right(self, task: Task, targets: Sequence[np.ndarray]) -> Outputs:
        """Outputs that are surely right."""
        return (self.answer or right_answers)(task, targets)


def right_answers(task: Task, targets: Sequence[np.ndarray], sure: float = 12.0) -> Outputs:
    """Outputs that are surely right for the targets of classes, tags, 0/1 vectors or single values."""
    found = []
    for target in map(np.asarray, targets):
        if target.dtype.kind == "f":
            vector = target[: task.num_outputs] if target.ndim else target[None]
            found.append((sure * (2 * vector - 1) if target.ndim else vector).astype(np.float32))
        else:
            hot = np.zeros((*target.shape, task.num_outputs), dtype=np.float32)
            np.put_along_axis(hot, np.maximum(target, 0)[..., None].astype(np.int64), sure, axis=-1)
            found.append(hot)
    return found


def check_state_restores(case: Case) -> None:
    """`state` is JSON, and `from_state` gives a task that says the same of everything."""
    task = case.fitted()
    again = case.task.from_state(json.loads(json.dumps(task.state())))
    _require(again.state() == task.state(), "the restored state differs")
    _require(again.label_names == task.label_names, "the restored label names differ")
    _require(
        again.num_outputs == task.num_outputs == len(task.label_names), "num_outputs and label_names differ"
    )
    _require(again.columns.roles == task.columns.roles, "the restored columns differ")
    outputs = case.right(task, task.targets(case.test))
    _same_all(again.targets(case.test), task.targets(case.test), "the restored task encodes other targets")
    _require(again.decode(outputs, case.test) == task.decode(outputs, case.test), "it decodes otherwise")


def check_encoded_shapes(case: Case) -> None:
    """Examples, batches and outputs have the shapes that the contract names, also without a target column."""
    task = case.fitted()
    for frame in (case.test, case.bare(task)):
        examples = case.encoded(task, frame)
        _require(len(examples) == len(examples.lengths) == len(frame), "not as many examples as rows")
        batch = examples.batch(np.arange(len(frame)))
        _require(
            all(len(value) == len(frame) for value in batch.inputs.values()), "inputs are not (batch, ...)"
        )
        _require(np.array_equal(batch.indices, np.arange(len(frame))), "the batch does not name its indices")
        cut = task.outputs(_logits(task, batch, seed=0), batch)
        _require(len(cut) == len(frame), "not one output array for each example")
        _require(all(output.dtype == np.float32 for output in cut), "outputs are not float32")
        _require(
            all(output.shape[-1] == task.num_outputs for output in cut), "outputs are not (..., num_outputs)"
        )
        _require(len(task.targets(frame)) == len(frame), "not one target for each row")
        _require(len(task.decode(cut, frame)) == len(frame), "not one prediction for each row")
    _require(len(task.show(case.test)) == len(case.test), "not one shown line for each row")


def check_examples_are_known_again(case: Case) -> None:
    """The fingerprint is that of the inputs, whatever the targets, which can be had without inputs."""
    task = case.fitted()
    examples = case.encoded(task)
    known = examples.fingerprint()
    _require(case.encoded(task).fingerprint() == known, "the same rows have another fingerprint")
    _require(case.encoded(task, case.bare(task)).fingerprint() == known, "the fingerprint depends on targets")
    turned = case.encoded(task, case.test[::-1])
    _require(turned.fingerprint() != known, "rows in another order have the same fingerprint")
    for part in (np.arange(len(examples)), np.array([3, 1])):
        alone, batch = examples.targets_of(part), examples.batch(part)
        _same(alone.numpy(), batch.targets.numpy(), "targets differ from those of the batch")


def check_batch_equals_alone(case: Case) -> None:
    """An example's loss does not depend on what it is batched with, and padding is not counted."""
    task = case.fitted()
    examples = case.encoded(task)
    everything = examples.batch(np.arange(len(examples)))
    logits = _logits(task, everything, seed=1)
    together = task.loss(logits, everything.targets)
    _require(together.shape == (len(examples),), "the loss is not (batch,)")
    for index in range(len(examples)):
        alone = examples.batch(np.array([index]))
        row = logits[index : index + 1]
        if task.level == "token":
            row = row[:, : alone.targets.shape[1]]
        _require(
            bool(torch.isclose(task.loss(row, alone.targets)[0], together[index])),
            f"example {index} differs alone",
        )
        _same(
            task.outputs(row, alone)[0],
            task.outputs(logits, everything)[index],
            f"output {index} differs alone",
        )


def check_loss(case: Case) -> None:
    """The loss is finite, has a gradient, and is lower for right answers than for wrong."""
    task = case.fitted()
    examples = case.encoded(task)
    batch = examples.batch(np.arange(len(examples)))
    logits = _logits(task, batch, seed=2).requires_grad_()
    weights = task.class_weights(task.targets(case.train))
    _require(weights is None or weights.shape == (task.num_outputs,), "class weights are not (outputs,)")
    for smoothing in (0.0, 0.1):
        loss = task.loss(logits, batch.targets, label_smoothing=smoothing, class_weights=weights)
        _require(bool(torch.isfinite(loss).all()), "the loss is not finite")
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        _require(
            bool(torch.isfinite(gradient).all() and gradient.abs().sum() > 0),
            "the gradient is not finite or zero",
        )
    targets = task.targets(case.test)
    right, wrong = case.right(task, targets), _wrong(case, task, targets)
    good, bad = task.example_losses(right, targets), task.example_losses(wrong, targets)
    _require(good.shape == (len(targets),), "example_losses is not (n,)")
    _require(np.nansum(good) < np.nansum(bad), "right answers do not have a lower loss than wrong ones")
    alone = task.example_losses(task.outputs(logits, batch), targets)
    trained = task.loss(logits, batch.targets).detach().numpy()
    _require(
        np.allclose(np.nan_to_num(alone), trained, rtol=1e-4, atol=1e-5),
        "example_losses differ from the loss that is trained with (which is 0 where they are NaN)",
    )


def check_gradient(case: Case) -> None:
    """The gradient is the derivative of the loss, for one trial and for a stack of different ones."""
    task = case.fitted()
    batch = case.encoded(task).batch(np.arange(len(case.test)))
    logits = torch.stack([_logits(task, batch, seed).double() for seed in (3, 4)])
    weights = task.class_weights(task.targets(case.train))
    if weights is not None:
        # Not the task's own, which are ones where classes are balanced, and would hide what forgets them.
        weights = torch.linspace(0.5, 2.0, 2 * task.num_outputs).view(2, *[1] * (logits.ndim - 2), -1)
    smoothing = torch.tensor([0.0, 0.1], dtype=torch.float64).view(2, *[1] * (logits.ndim - 1))
    targets = torch.stack([batch.targets] * 2)
    stacked = task.gradient(logits, targets, label_smoothing=smoothing, class_weights=weights)
    for trial in range(2):
        leaf = logits[trial].clone().requires_grad_()
        options: dict[str, Any] = {
            "label_smoothing": float(smoothing[trial]),
            "class_weights": None if weights is None else weights[trial].flatten(),
        }
        loss = task.loss(leaf, batch.targets, **options)
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        alone = task.gradient(logits[trial], batch.targets, **options)
        for losses, slopes in (alone, (stacked[0][trial], stacked[1][trial])):
            _require(bool(torch.allclose(losses, loss.detach())), "the gradient comes with another loss")
            _require(bool(torch.allclose(slopes, slope)), "the gradient is not the derivative of the loss")


def check_soft_loss(case: Case) -> None:
    """Another network's outputs can be laid out as logits, and cost nothing where they are said again."""
    task = case.fitted()
    batch = case.encoded(task).batch(np.arange(len(case.test)))
    logits = _logits(task, batch, seed=5)
    outputs = task.outputs(logits, batch)
    said = task.laid_out(outputs, batch.targets)
    _require(said.shape == logits.shape, "outputs are not laid out as logits")
    _same_all(task.outputs(said, batch), outputs, "what is laid out is cut to other outputs")
    for temperature in (1.0, 3.0):
        again = task.soft_loss(logits, said, temperature=temperature)
        _require(again.shape == (len(case.test),), "the soft loss is not (batch,)")
        _require(bool(torch.allclose(again, torch.zeros_like(again), atol=1e-5)), "the same answer costs")
        other = _logits(task, batch, seed=6).requires_grad_()
        loss = task.soft_loss(other, said, temperature=temperature)
        _require(bool((loss > 0).all()), "another answer costs nothing")
        (slope,) = torch.autograd.grad(loss.sum(), other)
        _require(bool(torch.isfinite(slope).all()), "the gradient of the soft loss is not finite")
        nearer = task.soft_loss((other - 1e-2 * slope).detach(), said, temperature=temperature)
        _require(bool((nearer <= loss).all()), "the gradient does not lead to the other's answer")


def check_statistics_add_up(case: Case) -> None:
    """Sums of statistics rows give the metrics; an example's row does not depend on the others."""
    task = case.fitted()
    targets = task.targets(case.test)
    outputs = _noisy(case.right(task, targets), seed=3)
    table = task.statistics(outputs, targets)
    _require(table.ndim == 2 and len(table) == len(targets), "statistics is not (n, k)")
    metrics = task.metrics(outputs, targets)
    _require(next(iter(metrics)) == task.metric, "the optimised metric does not come first")
    _require("loss" in metrics, "the loss is not among the metrics")
    rows = np.concatenate([task.statistics([o], [t]) for o, t in zip(outputs, targets, strict=True)])
    _same(rows, table, "an example's statistics depend on its neighbours")
    half = len(targets) // 2
    parts = task.statistics(outputs[:half], targets[:half]).sum(0) + task.statistics(
        outputs[half:], targets[half:]
    ).sum(0)
    _require_metrics(task.summarise(parts), metrics)
    order = np.random.default_rng(0).permutation(len(targets))
    _require_metrics(task.metrics([outputs[i] for i in order], [targets[i] for i in order]), metrics)
    _require(
        np.isclose(metrics["loss"], np.nanmean(task.example_losses(outputs, targets))),
        "loss is not the mean loss",
    )
    _require(task.statistics([], []).shape == (0, table.shape[1]), "statistics of nothing is not (0, k)")


def check_scores_are_those_of_the_metrics(case: Case) -> None:
    """What a bootstrap over trials is fed with gives the objective that `score` gives, many at a time."""
    task = case.fitted()
    targets = task.targets(case.test)
    several = [_noisy(case.right(task, targets), seed=seed) for seed in range(4)]
    expected = np.array([[task.score(task.metrics(outputs, targets)) for outputs in several]])
    rows = [task.score_statistics(outputs, targets) for outputs in several]
    totals = np.stack([table.sum(axis=0) for table in rows])
    _require(bool(np.isfinite(expected).all()), "the objective cannot be formed")
    _require(all(len(table) == len(targets) for table in rows), "score_statistics is not (n, j)")
    _require(bool(np.allclose(task.scores(totals[None]), expected)), "scores are not those of the metrics")
    nothing = task.score_statistics([], [])
    _require(nothing.shape == (0, totals.shape[1]), "score_statistics of nothing is not (0, j)")
    empty, said = task.scores(np.zeros(totals.shape[1])), task.score(task.summarise(_none(task)))
    _require(bool(np.isclose(empty, said, equal_nan=True)), "scores of nothing are not those of the metrics")


def _none(task: Task) -> np.ndarray:
    return np.asarray(task.statistics([], []).sum(axis=0))


def check_right_scores_best(case: Case) -> None:
    """Right answers score higher than wrong and than noisy ones, and their confusion is diagonal."""
    task = case.fitted()
    targets = task.targets(case.test)
    right = case.right(task, targets)
    best = task.score(task.metrics(right, targets))
    _require(np.isfinite(best), "the score of right answers is not finite")
    _require(
        task.score(task.metrics(_wrong(case, task, targets), targets)) < best, "wrong answers score as high"
    )
    for seed in range(5):
        noisy = task.score(task.metrics(_noisy(right, seed), targets))
        _require(noisy <= best, "noisy answers score higher than right ones")
    if (confusion := task.confusion(right, targets)) is not None:
        names, counts = confusion
        _require(counts.shape == (len(names), len(names)), "the confusion matrix is not (labels, labels)")
        _require(
            int(np.trace(counts)) == int(counts.sum()) > 0, "the confusion of right answers is not diagonal"
        )


def check_decodes_to_json(case: Case) -> None:
    """Predictions are plain JSON values that name the answer first."""
    task = case.fitted()
    decoded = task.decode(case.right(task, task.targets(case.test)))
    _require(json.loads(json.dumps(decoded, allow_nan=False)) == decoded, "predictions do not survive JSON")
    _require(
        {next(iter(row)) for row in decoded} <= {"label", "value", "entities"},
        "the answer does not come first",
    )


def check_baselines(case: Case) -> None:
    """Baselines give outputs that the task's own statistics understand, shaped for the rows asked about."""
    task = case.fitted()
    train, test = task.targets(case.train), task.targets(case.test)
    right = case.right(task, test)
    found = [task.majority(train, test)]
    if (classical := task.classical(case.train, case.test, seed=0, root=case.root)) is not None:
        _require(bool(classical[0]), "the classical baseline has no name")
        found.append(classical[1])
    for outputs in found:
        _require(
            [o.shape for o in outputs] == [o.shape for o in right], "a baseline's outputs have other shapes"
        )
        metrics = task.metrics(outputs, test)
        _require(np.isfinite(metrics["loss"]), "a baseline's loss is not finite")
        _require(
            task.score(metrics) <= task.score(task.metrics(right, test)), "a baseline beats right answers"
        )


def check_strata(case: Case) -> None:
    """Strata need no fitted task, since a split is made before labels are learnt."""
    columns = case.fitted().columns
    strata = case.task(columns).strata(case.train)
    _require(strata is None or strata.shape == (len(case.train),), "strata are not (n,)")


CHECKS: list[Callable[[Case], None]] = [
    check_state_restores,
    check_encoded_shapes,
    check_examples_are_known_again,
    check_batch_equals_alone,
    check_loss,
    check_gradient,
    check_soft_loss,
    check_statistics_add_up,
    check_scores_are_those_of_the_metrics,
    check_right_scores_best,
    check_decodes_to_json,
    check_baselines,
    check_strata,
]
"""All checks; each takes a `Case` and raises AssertionError with what is wrong."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _same(one: np.ndarray, other: np.ndarray, message: str) -> None:
    _require(one.shape == other.shape and bool(np.allclose(one, other, equal_nan=True)), message)


def _same_all(ones: Sequence[np.ndarray], others: Sequence[np.ndarray], message: str) -> None:
    for one, other in zip(ones, others, strict=True):
        _same(one, other, message)


def _require_metrics(one: dict[str, float], other: dict[str, float]) -> None:
    _require(one.keys() == other.keys(), "summarise names other metrics")
    for name, value in one.items():
        _require(bool(np.isclose(value, other[name], equal_nan=True)), f"{name} is not a function of sums")


def _logits(task: Task, batch: Batch, seed: int) -> torch.Tensor:
    size = batch.targets.shape if task.level == "token" else batch.targets.shape[:1]
    return torch.randn((*size, task.num_outputs), generator=torch.Generator().manual_seed(seed))


def _noisy(outputs: Outputs, seed: int) -> Outputs:
    rng = np.random.default_rng(seed)
    return [(o + rng.normal(0, 8, o.shape)).astype(np.float32) for o in outputs]


def _wrong(case: Case, task: Task, targets: Sequence[np.ndarray]) -> Outputs:
    """The opposite of what is right."""
    return [-output for output in case.right(task, targets)]
