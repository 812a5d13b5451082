"""Heads that train together in closed form have the numbers that `Training` gives each of them alone."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from luthier.engine import compiled, heads
from luthier.engine.compiled import compile_pays, has_compiler
from luthier.engine.heads import BIAS, WEIGHT, HeadStack, supports
from luthier.engine.state import Diverged, EpochResult, Halted, Member, TrialState
from luthier.engine.train import Training
from luthier.models.network import build
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.tasks.base import Batch, Columns, Task
from luthier.tasks.image_classification import ImageClassification
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression
from luthier.tasks.token_classification import TokenClassification

CPU = torch.device("cpu")
WIDTH = 32  # Of the tiny models.
ROWS = 43  # No multiple of the batch size: one batch of an epoch is smaller.


@dataclass
class Vectors:
    """Pooled vectors with answers."""

    values: torch.Tensor
    answers: torch.Tensor
    truncated: int = 0

    def __post_init__(self) -> None:
        self.lengths = np.ones(len(self.values), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.values)

    def targets_of(self, indices: np.ndarray) -> torch.Tensor:
        return self.answers[torch.as_tensor(indices)]

    def batch(self, indices: np.ndarray) -> Batch:
        return Batch({"features": self.values[torch.as_tensor(indices)]}, self.targets_of(indices), indices)

    def fingerprint(self) -> str:
        return "vectors"


class Hinge(TextClassification):
    """A task whose gradient is left to autograd."""

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
        return super().loss(logits, targets, **options) + (logits - 1).relu().sum(-1)


def classification(kind: type[TextClassification] = TextClassification) -> Task:
    task = kind(Columns({"input": "text", "target": "label"}))
    task.fit(pd.DataFrame({"label": list("abcd")}))
    return task


def labels() -> Task:
    task = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    task.fit(pd.DataFrame({"labels": [["a", "b"], ["c"], []]}))
    return task


def regression() -> Task:
    task = TextRegression(Columns({"input": "text", "target": "value"}))
    task.fit(pd.DataFrame({"value": [1.0, 2.0, 4.0]}))
    return task


def vectors(task: Task, rows: int = ROWS, seed: int = 0, dtype: torch.dtype = torch.float64) -> Vectors:
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=(rows, WIDTH))).to(dtype)
    answers: np.ndarray
    if isinstance(task, TextClassification):
        answers = rng.integers(0, 4, rows)
        answers[:2] = -1, -100
    elif isinstance(task, MultiLabelClassification):
        answers = rng.integers(0, 2, (rows, 3)).astype(np.float32)
        answers[0, 1], answers[1] = -100, -100
    else:
        answers = rng.normal(size=rows).astype(np.float32)
        answers[0] = np.nan
    return Vectors(values, torch.from_numpy(answers))


def recipe(**settings: Any) -> Recipe:
    plain = {"model": "tiny", "adaptation": "probe", "head": "linear", "learning_rate": 0.01}
    # The general path would mix precisions where this machine gains by it; heads never do.
    exact = {"precision": "fp32", "batch_size": 8, "epochs": 4, "weight_decay": 0.1}
    return Recipe.parse(plain | exact | settings)


MIXED = [
    recipe(optimizer="sgd", label_smoothing=0.1, head_dropout=0.3, clip_norm=0.5),
    recipe(optimizer="adamw", schedule="cosine", warmup=0.3, l1=0.01, epochs=6),
    recipe(optimizer="lion", learning_rate=1e-3, head_dropout=0.0, head_lr_ratio=2.0),
    recipe(optimizer="adam", clip_norm=None, momentum=0.5, label_smoothing=0.3),
    recipe(optimizer="rmsprop", learning_rate=1e-3, schedule="constant", momentum=0.0),
    recipe(optimizer="adamw", weight_decay=0.0, head_dropout=0.5, nesterov=False),
    recipe(optimizer="sgd", nesterov=False, momentum=0.0, clip_norm=None, l2_start=0.5),
]


def members(
    source: Source, task: Task, recipes: list[Recipe], dtype: torch.dtype = torch.float64
) -> list[Member]:
    weights = [None, torch.linspace(0.5, 2.0, task.num_outputs)]
    found = []
    for index, each in enumerate(recipes):
        network = build(source, each, level="example", num_outputs=task.num_outputs, seed=index)
        state = {name: value.to(dtype) for name, value in network.trained_state().items()}
        found.append(Member(each, 50 + index, TrialState(state), class_weights=weights[index % 2]))
    return found


def stack(task: Task, group: list[Member], dtype: torch.dtype = torch.float64) -> HeadStack:
    train, validation = vectors(task, dtype=dtype), vectors(task, 19, 1, dtype)
    targets = list(validation.answers.numpy())
    return HeadStack(group, task, train, validation, targets, device=CPU, dtype=dtype)


def training(
    source: Source, task: Task, member: Member, dtype: torch.dtype = torch.float64
) -> Training:  # fmt: skip
    """The member alone, on the general path."""
    network = build(source, member.recipe, level="example", num_outputs=task.num_outputs, seed=0).to(dtype)
    train, validation = vectors(task, dtype=dtype), vectors(task, 19, 1, dtype)
    targets = list(validation.answers.numpy())
    return Training(network, [member], task, train, validation, targets, device=CPU)


def metrics(result: EpochResult | Diverged) -> dict[str, float]:
    assert isinstance(result, EpochResult)
    return result.metrics


def assert_states_equal(one: TrialState, other: TrialState, tolerance: float = 1e-9) -> None:
    assert (one.epoch, one.steps) == (other.epoch, other.steps)
    assert one.optimizer.keys() == other.optimizer.keys()
    torch.testing.assert_close(one.weights, other.weights, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(one.optimizer, other.optimizer, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("make", [classification, labels, regression, lambda: classification(Hinge)])
def test_a_stack_is_its_trials_alone(tiny_bert: Source, make: Any) -> None:
    task = make()
    group = members(tiny_bert, task, MIXED)
    alone = [training(tiny_bert, task, copy.deepcopy(member)) for member in group]
    together = stack(task, group)
    for epoch in range(1, 4):
        results = together.run_epoch()
        for index, (result, one) in enumerate(zip(results, alone, strict=True)):
            (expected,) = one.run_epoch()
            assert metrics(result) == pytest.approx(metrics(expected), rel=1e-9, abs=1e-9, nan_ok=True)
            assert isinstance(result, EpochResult) and result.epoch == epoch
            assert_states_equal(together.state(index), one.state(0))


def test_members_may_stand_at_different_epochs(tiny_bert: Source) -> None:
    """The smaller batch comes at another step in each epoch; newcomers and old hands meet it at their own."""
    task = classification()
    group = members(tiny_bert, task, MIXED)
    alone = [training(tiny_bert, task, copy.deepcopy(member)) for member in group]
    for _ in range(2):
        for one in alone:
            one.run_epoch()
    first = stack(task, group[:4])
    first.run_epoch()
    for index in range(4):
        group[index].state = first.state(index)
    second = stack(task, group[::-1])
    for _ in range(2):
        results = second.run_epoch()
    for index, one in enumerate(alone):
        if index < 4:
            (expected,) = one.run_epoch()
            result = results[len(group) - 1 - index]
            assert metrics(result) == pytest.approx(metrics(expected), rel=1e-9, abs=1e-9)
        assert_states_equal(second.state(len(group) - 1 - index), one.state(0))


def test_a_trial_goes_on_on_the_general_path_and_back(tiny_bert: Source) -> None:
    task = classification()
    group = members(tiny_bert, task, MIXED)
    straight = stack(task, copy.deepcopy(group))
    moved = stack(task, group)
    for _ in range(3):
        results = straight.run_epoch()
    moved.run_epoch()
    for index, member in enumerate(group):
        member.state = moved.state(index)
        alone = training(tiny_bert, task, member)
        alone.run_epoch()
        member.state = alone.state(0)
    back = stack(task, group)
    for index, (result, expected) in enumerate(zip(back.run_epoch(), results, strict=True)):
        assert metrics(result) == pytest.approx(metrics(expected), rel=1e-9, abs=1e-9)
        assert_states_equal(back.state(index), straight.state(index))


def test_in_float32_the_curves_are_those_of_trials_alone(tiny_bert: Source) -> None:
    task = classification()
    group = members(tiny_bert, task, MIXED, torch.float32)
    alone = [training(tiny_bert, task, copy.deepcopy(member), torch.float32) for member in group]
    together = stack(task, group, torch.float32)
    for _ in range(4):
        for result, one in zip(together.run_epoch(), alone, strict=True):
            assert metrics(result) == pytest.approx(metrics(one.run_epoch()[0]), abs=1e-4)
    assert together.weights(0)[WEIGHT].dtype == torch.float32


def test_a_diverging_trial_leaves_the_others_alone(tiny_bert: Source) -> None:
    task = regression()
    found = []
    for rate in (1e-3, 1e30):
        wild = recipe(optimizer="sgd", clip_norm=None, learning_rate=rate, schedule="constant")
        together = stack(task, members(tiny_bert, task, [MIXED[1], wild, MIXED[0]]))
        for _ in range(2):
            results = together.run_epoch()
        found.append(([metrics(results[k]) for k in (0, 2)], [together.weights(k) for k in (0, 2)]))
    assert isinstance(results[1], Diverged)
    assert "in epoch 2" in str(results[1])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_an_epoch_ends_early_once_all_have_diverged(
    tiny_bert: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "LOOK_EVERY", 2)
    task = regression()
    wild = recipe(optimizer="sgd", clip_norm=None, learning_rate=1e200, schedule="constant", warmup=0)
    told: list[float] = []
    (result,) = stack(task, members(tiny_bert, task, [wild])).run_epoch(on_step=told.append)
    assert isinstance(result, Diverged)
    assert "the training loss became" in str(result)
    assert len(told) < math.ceil(ROWS / 8)


def test_halted_and_continued_equals_straight_through(tiny_bert: Source) -> None:
    task = classification()
    group = members(tiny_bert, task, MIXED)
    straight = stack(task, copy.deepcopy(group))
    expected = straight.run_epoch()
    halted = stack(task, group)
    told: list[float] = []
    with pytest.raises(Halted, match="enough"):
        halted.run_epoch(lambda: "enough" if len(told) == 3 else None, told.append)
    assert halted.done == told[-1] == 3 / halted.steps_per_epoch
    assert (halted.state(0).epoch, halted.state(0).steps) == (0, 3)
    judged = halted.evaluate()
    assert all(isinstance(each, dict) and math.isfinite(each["loss"]) for each in judged)

    # Half of them elsewhere, the other half where they are.
    position = halted.position().part(2, 3)
    for index in (2, 3, 4):
        group[index].state = halted.state(index)
    some = stack(task, [replace(member, state=copy.deepcopy(member.state)) for member in group[2:5]])
    some.resume(position)
    for index, result in enumerate(some.run_epoch()):
        assert metrics(result) == pytest.approx(metrics(expected[2 + index]), rel=1e-9)
        assert_states_equal(some.state(index), straight.state(2 + index))
    for index, result in enumerate(halted.run_epoch(on_step=told.append)):
        assert metrics(result) == pytest.approx(metrics(expected[index]), rel=1e-9)
        assert_states_equal(halted.state(index), straight.state(index))
    assert told == [(step + 1) / halted.steps_per_epoch for step in range(halted.steps_per_epoch)]


def test_what_a_state_carries(tiny_bert: Source) -> None:
    task = classification()
    group = members(tiny_bert, task, MIXED[:2])
    best = {WEIGHT: torch.ones(1)}
    group[1].state.best, group[1].state.best_epoch, group[1].state.best_score = best, 7, 0.5
    together = stack(task, group)
    assert together.state(1).optimizer == {}
    before = together.weights(1)
    (_, result) = together.run_epoch()
    state = together.state(1)
    assert (state.best, state.best_epoch, state.best_score) == (best, 7, 0.5)
    assert state.optimizer.keys() == {WEIGHT, BIAS}
    assert not torch.equal(before[WEIGHT], state.weights[WEIGHT])
    kept = state.optimizer[WEIGHT]["exp_avg"].clone()
    assert isinstance(result, EpochResult) and result.seconds > 0 and result.peak_memory > 0
    together.run_epoch()
    assert torch.equal(kept, state.optimizer[WEIGHT]["exp_avg"])


def test_outputs_are_the_networks(tiny_bert: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    task = classification()
    together = stack(task, members(tiny_bert, task, MIXED))
    together.run_epoch()
    whole = together.evaluate()
    split = vectors(task, 19, 1)
    for index in range(len(MIXED)):
        weights = together.weights(index)
        expected = torch.nn.functional.linear(split.values, weights[WEIGHT], weights[BIAS])
        np.testing.assert_allclose(np.stack(together.outputs(index)), expected.numpy(), rtol=1e-6)
        assert whole[index] == task.metrics(together.outputs(index), list(split.answers.numpy()))
    monkeypatch.setattr(heads, "LOGITS_AT_ONCE", 2 * 19 * task.num_outputs)
    assert together.evaluate() == whole


def test_what_is_supported() -> None:
    text = classification()
    assert supports(recipe(), "linear", text) and supports(recipe(precision="auto"), "linear", text)
    for change in (
        {"adaptation": "full"},
        {"optimizer": "adafactor"},
        {"accumulate": 2},
        {"precision": "bf16"},
    ):
        assert not supports(recipe(**change), "linear", text)
    assert not supports(recipe(), "dense_tanh", text)
    tags = TokenClassification(Columns({"input": "tokens", "target": "tags"}))
    assert not supports(recipe(), "linear", tags)
    images = ImageClassification(Columns({"input": "image", "target": "label"}))
    assert supports(recipe(), "linear", images)
    assert not supports(recipe(augmentation="flip"), "linear", images)
    assert supports(recipe(augmentation="flip"), "linear", text)


def test_compiling_pays_only_for_long_trainings() -> None:
    assert not compile_pays(10_000, 0.001)
    assert compile_pays(200_000, 0.001)


def test_the_compiler_is_looked_for_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda name: f"/bin/{name}" if name == "mine" else None)
    monkeypatch.delenv("CXX", raising=False)
    assert not has_compiler(CPU)
    monkeypatch.setenv("CXX", "mine")
    assert has_compiler(CPU)
    assert not has_compiler(torch.device("mps"))


@pytest.mark.skipif(not has_compiler(CPU), reason="there is no compiler")
def test_a_compiled_step_has_the_same_numbers(tiny_bert: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled after the first measured steps, in the middle of a training that would repay it."""
    monkeypatch.setattr(compiled, "MEASURED", 3)
    monkeypatch.setattr(compiled, "COLD_SECONDS", 0.0)
    task = classification()
    group = members(tiny_bert, task, MIXED, torch.float32)
    fast, plain = stack(task, copy.deepcopy(group), torch.float32), stack(task, group, torch.float32)
    plain._learn._open = False
    for _ in range(2):
        for one, other in zip(fast.run_epoch(), plain.run_epoch(), strict=True):
            assert metrics(one) == pytest.approx(metrics(other), abs=1e-5)
    for index in range(len(MIXED)):
        torch.testing.assert_close(fast.weights(index), plain.weights(index), rtol=1e-5, atol=1e-5)
    assert fast._learn.function not in (fast._learn._plain, fast._learn._first)
    assert plain._learn.function is plain._learn._plain


def test_where_compiling_fails_the_step_is_taken_once(
    tiny_bert: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fail_halfway(function: Any, **options: Any) -> Any:
        def broken(*arguments: Any) -> None:
            function(*arguments)
            raise RuntimeError("the compiler crashed")

        tried.append(options)
        return broken

    monkeypatch.setattr(torch, "compile", fail_halfway)
    task = classification()
    group = members(tiny_bert, task, MIXED)
    fast, plain = stack(task, copy.deepcopy(group)), stack(task, group)
    fast._learn.compile()
    for one, other in zip(fast.run_epoch(), plain.run_epoch(), strict=True):
        assert metrics(one) == metrics(other)
    assert len(tried) == 1
