from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from tasks_fakes import multi_frame, regression_frame, text_frame

from luthier.errors import DataError
from luthier.tasks.base import Columns, Task
from luthier.tasks.classification import balanced_weights, cross_entropy
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression

ROLES = Columns({"input": "text", "target": "label"})


def classification(labels: list[object] | None = None) -> TextClassification:
    task = TextClassification(ROLES)
    frame = text_frame() if labels is None else pd.DataFrame({"text": "x", "label": labels})
    task.fit(frame)
    return task


def logits_for(count: int, outputs: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.floats(0, 0.9), st.booleans(), st.integers(2, 6), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_cross_entropy_is_torchs(smoothing: float, weighted: bool, classes: int, seed: int) -> None:
    logits = logits_for(7, classes, seed)
    targets = torch.randint(0, classes, (7,), generator=torch.Generator().manual_seed(seed))
    targets[0] = -100
    weights = (
        torch.rand(classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        if weighted
        else None
    )
    ours = cross_entropy(logits, targets, smoothing, weights)
    theirs = F.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(ours, theirs)


def test_cross_entropy_vectorises_over_trials() -> None:
    logits, targets = torch.randn(3, 4, 5), torch.tensor([0, -1, 2, 4])
    smoothing = torch.tensor([0.0, 0.1, 0.5])
    stacked = torch.vmap(lambda x, s: cross_entropy(x, targets, s))(logits, smoothing)
    for row, x, s in zip(stacked, logits, smoothing, strict=True):
        torch.testing.assert_close(row, cross_entropy(x, targets, float(s)))


def test_balanced_weights_weigh_one_on_average() -> None:
    classes = np.array([0, 0, 0, 1, -1, -100])
    weights = balanced_weights(classes, 3)
    assert weights.tolist() == pytest.approx([4 / 9, 4 / 3, 1.0])


def test_labels_are_sorted_and_alike_however_they_are_written() -> None:
    assert classification(["b", "a", None, " b "]).label_names == ["a", "b"]
    assert classification([10, 9, 1]).label_names == ["1", "9", "10"]
    task = classification([1.0, 0.0, np.nan])
    assert task.label_names == ["0", "1"]
    frame = pd.DataFrame({"label": pd.Series(["1", 0, 1.0, None, "2"], dtype=object)})
    assert [int(t) for t in task.targets(frame)] == [1, 0, 1, -100, -1]


def test_unseen_labels_are_errors_without_a_loss_and_missing_ones_are_nothing() -> None:
    task = classification()
    targets = [np.asarray(value) for value in (0, 1, -1, -100)]
    outputs = [np.array([9.0, 0, 0], np.float32), np.array([0, 9.0, 0], np.float32)] * 2
    metrics = task.metrics(outputs, targets)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["loss"] == pytest.approx(np.log1p(2 * np.exp(-9)), rel=1e-4)
    assert np.isnan(task.example_losses(outputs, targets)).tolist() == [False, False, True, True]
    assert task.confusion(outputs, targets)[1].sum() == 2  # type: ignore[index]
    loss = task.loss(torch.zeros(4, 3), torch.tensor([0, 1, -1, -100]))
    assert loss.tolist() == pytest.approx([np.log(3), np.log(3), 0, 0])


def test_a_diverged_network_shows_in_the_loss() -> None:
    task = classification()
    assert np.isnan(task.metrics([np.full(3, np.nan, np.float32)] * 2, [np.asarray(0)] * 2)["loss"])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
@settings(deadline=None)
def test_macro_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    task = classification()
    true, said = zip(*pairs, strict=True)
    metrics = task.metrics([np.eye(3, dtype=np.float32)[s] for s in said], [np.asarray(t) for t in true])
    assert metrics["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"))


# -- gradients in closed form -------------------------------------------------------------------------------


class Doubled(TextClassification):
    """A stranger's loss on top of a built-in one, without a gradient of its own."""

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
        return 2 * super().loss(logits, targets, **options)


def fitted(name: str) -> Task:
    if name == "labels":
        return multi()
    if name == "number":
        task = TextRegression(Columns({"input": "review", "target": "score"}))
        task.fit(regression_frame())
        return task
    kind = {"class": TextClassification, "stranger": Doubled}[name](ROLES)
    kind.fit(text_frame())
    return kind


def answers(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """True answers, among them missing ones."""
    if name == "labels":
        drawn = torch.randint(0, 3, (*shape, 3), generator=generator)
        return torch.where(drawn == 2, -100, drawn).float()
    if name == "number":
        drawn = torch.randn(shape, generator=generator)
        return torch.where(drawn > 1, float("nan"), drawn)
    drawn = torch.randint(0, 5, shape, generator=generator)
    return torch.tensor([0, 1, 2, -1, -100])[drawn]


@pytest.mark.parametrize("name", ["class", "labels", "number", "stranger"])
@given(
    st.lists(st.floats(0, 0.9), min_size=1, max_size=4),
    st.sampled_from(["none", "shared", "own"]),
    st.integers(1, 6),
    st.sampled_from([0.1, 1.0, 30.0]),
    st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_the_gradient_is_autograds(
    name: str, smoothing: list[float], weighted: str, rows: int, size: float, seed: int
) -> None:
    """For a stack in which every trial has its own settings, and for each trial alone."""
    task, generator = fitted(name), torch.Generator().manual_seed(seed)
    trials, outputs = len(smoothing), task.num_outputs
    logits = size * torch.randn(trials, rows, outputs, generator=generator, dtype=torch.float64)
    targets = answers(name, (trials, rows), generator)
    weights = torch.rand(trials, 1, outputs, generator=generator) + 0.1
    given_weights = {"none": None, "shared": weights[0, 0], "own": weights}[weighted]
    amounts = torch.tensor(smoothing, dtype=torch.float64).view(-1, 1, 1)
    losses, slopes = task.gradient(logits, targets, label_smoothing=amounts, class_weights=given_weights)
    assert not losses.requires_grad and not slopes.requires_grad
    for trial in range(trials):
        own = {"none": None, "shared": weights[0, 0], "own": weights[trial, 0]}[weighted]
        options: dict[str, Any] = {"label_smoothing": smoothing[trial], "class_weights": own}
        leaf = logits[trial].clone().requires_grad_()
        loss = task.loss(leaf, targets[trial], **options)
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        alone = task.gradient(logits[trial], targets[trial], **options)
        for found in ((losses[trial], slopes[trial]), alone):
            # torch's softplus is a straight line from 20 on, which is off by exp(-20), 2e-9.
            torch.testing.assert_close(found, (loss.detach(), slope), rtol=1e-9, atol=5e-9)


def test_a_gradient_is_not_inherited_past_another_loss() -> None:
    assert Doubled.gradient is Task.gradient
    assert TextClassification.gradient is not Task.gradient


def test_gradients_of_infinite_logits_are_no_numbers() -> None:
    """A diverged trial is to be seen as one."""
    losses, slopes = fitted("class").gradient(torch.full((1, 3), float("inf")), torch.tensor([0]))
    assert not bool(torch.isfinite(losses).any()) and not bool(torch.isfinite(slopes).any())


# -- many labels --------------------------------------------------------------------------------------------


def multi() -> MultiLabelClassification:
    task = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    task.fit(multi_frame())
    return task


@given(
    st.lists(
        st.tuples(st.tuples(*[st.booleans()] * 3), st.tuples(*[st.booleans()] * 3)), min_size=1, max_size=20
    )
)
@settings(deadline=None)
def test_multi_label_f1_is_scikit_learns(pairs: list[tuple[tuple[bool, ...], tuple[bool, ...]]]) -> None:
    task = multi()
    true = np.array([t for t, _ in pairs], dtype=np.float32)
    said = np.array([s for _, s in pairs], dtype=np.float32)
    metrics = task.metrics(list(said * 2 - 1), list(true))
    nan = float("nan")
    expected = f1_score(true, said, average="micro", zero_division=nan)
    assert metrics["micro_f1"] == pytest.approx(expected, nan_ok=True)
    assert metrics["macro_f1"] == pytest.approx(
        f1_score(true, said, average="macro", zero_division=nan), nan_ok=True
    )
    assert metrics["exact_match"] == pytest.approx((true == said).all(axis=1).mean())


def test_multi_label_loss_is_torchs_over_known_labels() -> None:
    task = multi()
    logits, targets = (
        logits_for(4, 3),
        torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, -100, 0], [-100, -100, -100]]),
    )
    weights = torch.tensor([2.0, 0.5, 1.0])
    loss = task.loss(logits, targets, label_smoothing=0.2, class_weights=weights)
    smoothed = (targets * 0.8 + 0.1).double()
    theirs = F.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=weights, reduction="none")
    assert loss[0] == pytest.approx(float(theirs[0].mean()))
    assert loss[2] == pytest.approx(float(theirs[2, [0, 2]].mean()))
    assert loss[3] == 0


def test_multi_label_unseen_labels_are_missed_and_gaps_are_nothing() -> None:
    task = multi()
    targets = task.targets(pd.DataFrame({"text": "x", "labels": [["food", "art"], ["sport"], None]}))
    assert [t.tolist() for t in targets] == [[1, 0, 0, -1], [0, 0, 1], [-100] * 3]
    outputs = [np.array(o, dtype=np.float32) for o in ([5, -5, -5], [-5, -5, 5], [5, 5, 5])]
    metrics = task.metrics(outputs, targets)
    assert metrics["micro_f1"] == pytest.approx(4 / 5)  # Two hits, one miss.
    assert metrics["exact_match"] == 0.5


def test_multi_label_reads_joined_names_and_zero_one_columns_alike() -> None:
    lists = multi_frame()
    joined = lists.assign(labels=[" ; ".join(row) for row in lists["labels"]])
    task = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    task.fit(joined)
    flags = MultiLabelClassification(Columns({"input": "text", "target": ["food", "music", "sport"]}))
    table = pd.DataFrame(
        {name: [int(name in row) for row in lists["labels"]] for name in ("food", "music", "sport")}
    )
    flags.fit(table)
    assert task.label_names == flags.label_names == multi().label_names
    for one, two, three in zip(
        task.targets(joined), flags.targets(table), multi().targets(lists), strict=True
    ):
        assert two.tolist() == three.tolist()
        assert one.tolist() in (two.tolist(), [-100] * 3)  # An empty cell of a CSV says nothing.
    with pytest.raises(DataError, match=r"'food' should hold 0 and 1, but row 2 holds 3"):
        flags.fit(table.assign(food=[0, 3, *[1] * 13]))


# -- regression ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=3, max_size=30))
@settings(deadline=None)
def test_regression_metrics_are_those_of_the_columns_units(pairs: list[tuple[float, float]]) -> None:
    task = TextRegression(Columns({"input": "review", "target": "score"}))
    task.fit(pd.DataFrame({"score": [10.0, 20.0, 60.0]}))
    mean, std = task.scale
    assert (mean, std) == pytest.approx((30.0, np.std([10, 20, 60])))
    true, said = np.array(pairs).T
    targets = task.targets(pd.DataFrame({"score": true}))
    outputs = [np.array([(s - mean) / std], dtype=np.float32) for s in said]
    assert [row["value"] for row in task.decode(outputs)] == pytest.approx(said.tolist(), abs=1e-3)
    metrics = task.metrics(outputs, targets)
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean((true - said) ** 2)), abs=1e-3)
    assert metrics["mae"] == pytest.approx(np.mean(np.abs(true - said)), abs=1e-3)
    if true.std() > 1 and said.std() > 1:
        assert metrics["pearson"] == pytest.approx(np.corrcoef(true, said)[0, 1], abs=1e-3)
        expected = 1 - np.mean((true - said) ** 2) / true.var()
        assert metrics["r2"] == pytest.approx(expected, abs=1e-2, rel=1e-3)


def test_regression_leaves_missing_values_out_and_refuses_words() -> None:
    task = TextRegression(Columns({"input": "review", "target": "score"}))
    frame = regression_frame()
    task.fit(frame)
    targets = task.targets(pd.DataFrame({"score": [1.75, None]}))
    outputs = [np.array([0.0], np.float32), np.array([99.0], np.float32)]
    assert task.metrics(outputs, targets) == pytest.approx(
        task.metrics(outputs[:1], targets[:1]), nan_ok=True
    )
    assert task.loss(torch.tensor([[0.0], [9.0]]), torch.tensor([1.0, float("nan")])).tolist() == [1, 0]
    with pytest.raises(DataError, match="row 2 holds 'many'"):
        task.fit(pd.DataFrame({"score": ["1", "many"]}))
    with pytest.raises(DataError, match="one value only, 3"):
        task.fit(pd.DataFrame({"score": [3, 3, None]}))
    with pytest.raises(DataError, match="missing"):
        task.fit(pd.DataFrame({"score": [None, None]}))
