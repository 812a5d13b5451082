"""What every task must do, as checks that any implementation can run; a stranger's package too.

@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check):
    check(conformance.Case(MyTask, train, test, processor))

What they run on lives in `conformance_case`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from luthier.tasks.base import Batch, Task
from luthier.tasks.conformance_case import Case, noisy, require, right_answers

__all__ = ["CHECKS", "Case", "right_answers"]


def check_state_restores(case: Case) -> None:
    """`state` is JSON, and `from_state` gives a task that says the same of everything."""
    task = case.fitted()
    again = case.task.from_state(json.loads(json.dumps(task.state())))
    require(again.state() == task.state(), "the restored state differs")
    require(again.label_names == task.label_names, "the restored label names differ")
    require(
        again.num_outputs == task.num_outputs == len(task.label_names), "num_outputs and label_names differ"
    )
    require(again.columns.roles == task.columns.roles, "the restored columns differ")
    outputs = case.right(task, task.targets(case.test))
    _same_all(again.targets(case.test), task.targets(case.test), "the restored task encodes other targets")
    require(again.decode(outputs, case.test) == task.decode(outputs, case.test), "it decodes otherwise")


def check_encoded_shapes(case: Case) -> None:
    """Examples, batches and outputs have the shapes that the contract names, also without a target column."""
    task = case.fitted()
    for frame in (case.test, case.bare(task)):
        examples = case.encoded(task, frame)
        require(len(examples) == len(examples.lengths) == len(frame), "not as many examples as rows")
        batch = examples.batch(np.arange(len(frame)))
        require(
            all(len(value) == len(frame) for value in batch.inputs.values()), "inputs are not (batch, ...)"
        )
        require(np.array_equal(batch.indices, np.arange(len(frame))), "the batch does not name its indices")
        cut = task.outputs(_logits(task, batch, seed=0), batch)
        require(len(cut) == len(frame), "not one output array for each example")
        require(all(output.dtype == np.float32 for output in cut), "outputs are not float32")
        require(
            all(output.shape[-1] == task.num_outputs for output in cut), "outputs are not (..., num_outputs)"
        )
        require(len(task.targets(frame)) == len(frame), "not one target for each row")
        require(len(task.decode(cut, frame)) == len(frame), "not one prediction for each row")
    require(len(task.show(case.test)) == len(case.test), "not one shown line for each row")


def check_examples_are_known_again(case: Case) -> None:
    """The fingerprint is that of the inputs, whatever the targets, which can be had without inputs."""
    task = case.fitted()
    examples = case.encoded(task)
    known = examples.fingerprint()
    require(case.encoded(task).fingerprint() == known, "the same rows have another fingerprint")
    require(case.encoded(task, case.bare(task)).fingerprint() == known, "the fingerprint depends on targets")
    turned = case.encoded(task, case.test[::-1])
    require(turned.fingerprint() != known, "rows in another order have the same fingerprint")
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
    require(together.shape == (len(examples),), "the loss is not (batch,)")
    for index in range(len(examples)):
        alone = examples.batch(np.array([index]))
        row = logits[index : index + 1]
        if task.level == "token":
            row = row[:, : alone.targets.shape[1]]
        require(
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
    require(weights is None or weights.shape == (task.num_outputs,), "class weights are not (outputs,)")
    for smoothing in (0.0, 0.1):
        loss = task.loss(logits, batch.targets, label_smoothing=smoothing, class_weights=weights)
        require(bool(torch.isfinite(loss).all()), "the loss is not finite")
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        require(
            bool(torch.isfinite(gradient).all() and gradient.abs().sum() > 0),
            "the gradient is not finite or zero",
        )
    targets = task.targets(case.test)
    right, wrong = case.right(task, targets), case.wrong(task, targets)
    good, bad = task.example_losses(right, targets), task.example_losses(wrong, targets)
    require(good.shape == (len(targets),), "example_losses is not (n,)")
    require(np.nansum(good) < np.nansum(bad), "right answers do not have a lower loss than wrong ones")
    alone = task.example_losses(task.outputs(logits, batch), targets)
    trained = task.loss(logits, batch.targets).detach().numpy()
    require(
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
            require(bool(torch.allclose(losses, loss.detach())), "the gradient comes with another loss")
            require(bool(torch.allclose(slopes, slope)), "the gradient is not the derivative of the loss")


def check_soft_loss(case: Case) -> None:
    """Another network's outputs can be laid out as logits, and cost nothing where they are said again."""
    task = case.fitted()
    batch = case.encoded(task).batch(np.arange(len(case.test)))
    logits = _logits(task, batch, seed=5)
    outputs = task.outputs(logits, batch)
    said = task.laid_out(outputs, batch.targets)
    require(said.shape == logits.shape, "outputs are not laid out as logits")
    _same_all(task.outputs(said, batch), outputs, "what is laid out is cut to other outputs")
    for temperature in (1.0, 3.0):
        again = task.soft_loss(logits, said, temperature=temperature)
        require(again.shape == (len(case.test),), "the soft loss is not (batch,)")
        require(bool(torch.allclose(again, torch.zeros_like(again), atol=1e-5)), "the same answer costs")
        other = _logits(task, batch, seed=6).requires_grad_()
        loss = task.soft_loss(other, said, temperature=temperature)
        require(bool((loss > 0).all()), "another answer costs nothing")
        (slope,) = torch.autograd.grad(loss.sum(), other)
        require(bool(torch.isfinite(slope).all()), "the gradient of the soft loss is not finite")
        nearer = task.soft_loss((other - 1e-2 * slope).detach(), said, temperature=temperature)
        require(bool((nearer <= loss).all()), "the gradient does not lead to the other's answer")


def check_statistics_add_up(case: Case) -> None:
    """Sums of statistics rows give the metrics; an example's row does not depend on the others."""
    task = case.fitted()
    targets = task.targets(case.test)
    outputs = noisy(case.right(task, targets), seed=3)
    table = task.statistics(outputs, targets)
    require(table.ndim == 2 and len(table) == len(targets), "statistics is not (n, k)")
    metrics = task.metrics(outputs, targets)
    require(next(iter(metrics)) == task.metric, "the optimised metric does not come first")
    require("loss" in metrics, "the loss is not among the metrics")
    rows = np.concatenate([task.statistics([o], [t]) for o, t in zip(outputs, targets, strict=True)])
    _same(rows, table, "an example's statistics depend on its neighbours")
    half = len(targets) // 2
    parts = task.statistics(outputs[:half], targets[:half]).sum(0) + task.statistics(
        outputs[half:], targets[half:]
    ).sum(0)
    _require_metrics(task.summarise(parts), metrics)
    order = np.random.default_rng(0).permutation(len(targets))
    _require_metrics(task.metrics([outputs[i] for i in order], [targets[i] for i in order]), metrics)
    require(
        np.isclose(metrics["loss"], np.nanmean(task.example_losses(outputs, targets))),
        "loss is not the mean loss",
    )
    require(task.statistics([], []).shape == (0, table.shape[1]), "statistics of nothing is not (0, k)")


def check_scores_are_those_of_the_metrics(case: Case) -> None:
    """What a bootstrap over trials is fed with gives the objective that `score` gives, many at a time."""
    task = case.fitted()
    targets = task.targets(case.test)
    several = [noisy(case.right(task, targets), seed=seed) for seed in range(4)]
    expected = np.array([[task.score(task.metrics(outputs, targets)) for outputs in several]])
    rows = [task.score_statistics(outputs, targets) for outputs in several]
    totals = np.stack([table.sum(axis=0) for table in rows])
    require(bool(np.isfinite(expected).all()), "the objective cannot be formed")
    require(all(len(table) == len(targets) for table in rows), "score_statistics is not (n, j)")
    require(bool(np.allclose(task.scores(totals[None]), expected)), "scores are not those of the metrics")
    nothing = task.score_statistics([], [])
    require(nothing.shape == (0, totals.shape[1]), "score_statistics of nothing is not (0, j)")
    empty, said = task.scores(np.zeros(totals.shape[1])), task.score(task.summarise(_none(task)))
    require(bool(np.isclose(empty, said, equal_nan=True)), "scores of nothing are not those of the metrics")


def _none(task: Task) -> np.ndarray:
    return np.asarray(task.statistics([], []).sum(axis=0))


def check_right_scores_best(case: Case) -> None:
    """Right answers score higher than wrong and than noisy ones, and their confusion is diagonal."""
    task = case.fitted()
    targets = task.targets(case.test)
    right = case.right(task, targets)
    best = task.score(task.metrics(right, targets))
    require(np.isfinite(best), "the score of right answers is not finite")
    require(
        task.score(task.metrics(case.wrong(task, targets), targets)) < best, "wrong answers score as high"
    )
    for seed in range(5):
        score = task.score(task.metrics(noisy(right, seed), targets))
        require(score <= best, "noisy answers score higher than right ones")
    if (confusion := task.confusion(right, targets)) is not None:
        names, counts = confusion
        require(counts.shape == (len(names), len(names)), "the confusion matrix is not (labels, labels)")
        require(
            int(np.trace(counts)) == int(counts.sum()) > 0, "the confusion of right answers is not diagonal"
        )


def check_decodes_to_json(case: Case) -> None:
    """Predictions are plain JSON values that name the answer first."""
    task = case.fitted()
    decoded = task.decode(case.right(task, task.targets(case.test)))
    require(json.loads(json.dumps(decoded, allow_nan=False)) == decoded, "predictions do not survive JSON")
    require(
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
        require(bool(classical[0]), "the classical baseline has no name")
        found.append(classical[1])
    for outputs in found:
        require(
            [o.shape for o in outputs] == [o.shape for o in right], "a baseline's outputs have other shapes"
        )
        metrics = task.metrics(outputs, test)
        require(np.isfinite(metrics["loss"]), "a baseline's loss is not finite")
        require(
            task.score(metrics) <= task.score(task.metrics(right, test)), "a baseline beats right answers"
        )


def check_parts_of_the_result(case: Case) -> None:
    """Decisions, hits, measures and votes fit the rows; right answers are right decisions and full recall."""
    task = case.fitted()
    train, test = task.targets(case.train), task.targets(case.test)
    right = case.right(task, test)
    if (decisions := task.decisions(right, test)) is not None:
        sure = decisions.confidence
        require(len(sure) == len(decisions.right) == len(decisions.example) > 0, "decisions differ in length")
        require(bool(((sure >= 0) & (sure <= 1)).all()), "a confidence is no probability")
        require(bool(decisions.right.all()), "a right answer is a wrong decision")
        require(bool((decisions.example < len(test)).all()), "a decision belongs to no example")
    if (hits := task.hits(right, test)) is not None:
        names, found, there = hits
        require(found.shape == there.shape == (len(test), len(names)), "hits are not (n, classes)")
        require(bool((found == there).all()) and bool(there.any()), "right answers miss a class")
    if (measured := task.measure(case.test, case.root)) is not None:
        require(bool(measured[0]) and measured[1].shape == (len(test),), "measures are not (n,)")
    near = np.zeros((len(test), 2), dtype=np.int64)
    if (voted := task.vote(train, near)) is not None:
        require([o.shape for o in voted] == [o.shape for o in right], "votes have other shapes than outputs")
        require(np.isfinite(task.metrics(voted, test)["loss"]), "the loss of a vote is not finite")


def check_strata(case: Case) -> None:
    """Strata need no fitted task, since a split is made before labels are learnt."""
    columns = case.fitted().columns
    strata = case.task(columns).strata(case.train)
    require(strata is None or strata.shape == (len(case.train),), "strata are not (n,)")


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
    check_parts_of_the_result,
    check_strata,
]
"""All checks; each takes a `Case` and raises AssertionError with what is wrong."""


def _same(one: np.ndarray, other: np.ndarray, message: str) -> None:
    require(one.shape == other.shape and bool(np.allclose(one, other, equal_nan=True)), message)


def _same_all(ones: Sequence[np.ndarray], others: Sequence[np.ndarray], message: str) -> None:
    for one, other in zip(ones, others, strict=True):
        _same(one, other, message)


def _require_metrics(one: dict[str, float], other: dict[str, float]) -> None:
    require(one.keys() == other.keys(), "summarise names other metrics")
    for name, value in one.items():
        require(bool(np.isclose(value, other[name], equal_nan=True)), f"{name} is not a function of sums")


def _logits(task: Task, batch: Batch, seed: int) -> torch.Tensor:
    size = batch.targets.shape if task.level == "token" else batch.targets.shape[:1]
    return torch.randn((*size, task.num_outputs), generator=torch.Generator().manual_seed(seed))
