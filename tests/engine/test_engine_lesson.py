"""Trials that learn from resampled or weighted rows, or a teacher: alone as in a stack, on every path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from luthier.engine import setting
from luthier.engine.engine import Engine
from luthier.engine.lesson import Lesson
from luthier.recipe import Recipe
from luthier.tasks.base import Batch, Columns, Task
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression
from luthier.tasks.token_classification import TokenClassification
from luthier.trial import Order, Report

Make = Callable[..., Engine]
ROWS = 48
EXACT: dict[str, Any] = {"arithmetic": torch.float64, "dtype": "float32"}


def lessons() -> dict[int, Lesson]:
    rng = np.random.default_rng(3)
    teacher = list(rng.normal(size=(ROWS, 2)))
    return {
        0: Lesson(rows=rng.integers(0, ROWS, ROWS)),
        1: Lesson(weights=rng.exponential(size=ROWS)),
        2: Lesson(rows=rng.integers(0, ROWS, ROWS), weights=rng.exponential(size=ROWS)),
        4: Lesson(teacher=teacher, mix=0.7, temperature=3.0),
        5: Lesson(teacher=teacher, weights=rng.exponential(size=ROWS), temperature=1.0),
    }


def curves(reports: list[Report]) -> dict[int, list[dict[str, float]]]:
    assert not [report.reason for report in reports if report.status not in ("running", "completed")]
    found: dict[int, list[dict[str, float]]] = {}
    for report in reports:
        if report.status == "running":
            found.setdefault(report.trial, []).append(report.metrics)
    return found


def run(engine: Engine, recipe: Recipe, given: dict[int, Lesson], trials: list[int]) -> list[Report]:
    orders = [Order(trial, recipe, recipe.epochs, 100 + trial) for trial in trials]
    return list(engine.run(orders, lessons=given))


def assert_same(one: dict[int, Any], other: dict[int, Any], tolerance: float = 1e-9) -> None:
    assert one.keys() == other.keys() != set()
    for trial, expected in other.items():
        for a, b in zip(one[trial], expected, strict=True):
            assert a == pytest.approx(b, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("adaptation", ["probe", "lora", "full"])
@pytest.mark.parametrize("taught", [False, True])
def test_stacked_equals_alone(make_engine: Make, recipe: Recipe, adaptation: str, taught: bool) -> None:
    recipe = recipe.model_copy(
        update={"adaptation": adaptation, "head": "linear", "lora_rank": 2, "epochs": 2, "batch_size": 20}
    )
    given = {k: v for k, v in lessons().items() if taught or v.teacher is None}
    trials = [*given, 3]  # One learns from the rows as they are.
    stacked = curves(run(make_engine(**EXACT), recipe, given, trials))
    engine = make_engine(**EXACT)
    alone = {
        t: curves(run(engine, recipe, {k: v for k, v in given.items() if k == t}, [t]))[t] for t in trials
    }
    assert_same(stacked, alone)
    # Each has learnt something else.
    assert len({round(curve[-1]["loss"], 9) for curve in stacked.values()}) == len(trials)


class Nearer(TextClassification):
    """A task that compares answers in a way of its own."""

    def soft_loss(self, logits: torch.Tensor, said: torch.Tensor, *, temperature: float) -> torch.Tensor:
        return ((logits - said) ** 4).sum(dim=-1) / temperature


@pytest.mark.parametrize("kind", [TextClassification, Nearer])
def test_heads_in_closed_form_honour_lessons(
    make_engine: Make, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, kind: type[Task]
) -> None:
    recipe = recipe.model_copy(update={"adaptation": "probe", "head": "linear", "batch_size": 20})
    given, trials = lessons(), [0, 1, 2, 3, 4, 5]
    found = []
    for closed in (True, False):
        engine = make_engine(**EXACT)
        engine.task.__class__ = kind
        if not closed:
            monkeypatch.setattr(setting.heads, "supports", lambda *_: False)
        found.append(curves(run(engine, recipe, given, trials)))
    assert_same(*found)


@pytest.mark.parametrize("adaptation", ["probe", "full"])
def test_each_row_once_is_no_lesson(make_engine: Make, recipe: Recipe, adaptation: str) -> None:
    recipe = recipe.model_copy(update={"adaptation": adaptation, "head": "linear"})
    plain = Lesson(rows=np.arange(ROWS), weights=np.ones(ROWS))
    one = curves(run(make_engine(**EXACT), recipe, {0: plain}, [0]))
    assert_same(one, curves(run(make_engine(**EXACT), recipe, {}, [0])))


@pytest.mark.parametrize("adaptation", ["probe", "full"])
def test_rows_that_weigh_nothing_teach_nothing(make_engine: Make, recipe: Recipe, adaptation: str) -> None:
    recipe = recipe.model_copy(update={"adaptation": adaptation, "head": "linear"})
    weights = np.ones(ROWS)
    weights[::3] = 0
    found = []
    for wrong in (False, True):
        engine = make_engine(**EXACT)
        if wrong:
            frame = engine.inputs.frames["train"]
            frame.loc[frame.index[::3], "label"] = "no"
        found.append(curves(run(engine, recipe, {0: Lesson(weights=weights)}, [0])))
    assert_same(*found)


def test_a_trial_that_goes_on_with_its_lesson_is_as_if_it_never_stopped(
    make_engine: Make, recipe: Recipe
) -> None:
    given, whole = lessons(), make_engine(**EXACT)
    straight = curves(run(whole, recipe, given, [0, 4]))
    engine = make_engine(**EXACT)
    parts = [
        curves(list(engine.run([Order(t, recipe, until, 100 + t) for t in (0, 4)], lessons=given)))
        for until in (1, recipe.epochs)
    ]
    assert_same({t: parts[0][t] + parts[1][t] for t in (0, 4)}, straight)


def test_a_trial_may_start_from_weights_that_were_kept(make_engine: Make, recipe: Recipe) -> None:
    """Though it trains only the rows of the tokens that occur, and the kept ones have all."""
    engine = make_engine()
    closing = list(engine.run([Order(0, recipe, recipe.epochs, 5)]))[-1]
    engine.start_from(1, engine.checkpoints.load(0))
    still = recipe.model_copy(
        update={"learning_rate": 1e-12, "warmup": 0.0, "epochs": 1, "weight_decay": 0.0}
    )
    again = list(engine.run([Order(1, still, 1, 6)]))[-1]
    assert again.metrics["loss"] == pytest.approx(closing.metrics["loss"], abs=1e-5)
    assert engine.checkpoints.load(1).keys() == engine.checkpoints.load(0).keys()
    engine.checkpoints.remove(1)
    assert not engine.checkpoints.has(1) and engine.checkpoints.has(0)


def test_a_training_that_is_taken_forward_by_hand_is_the_engine_s(make_engine: Make, recipe: Recipe) -> None:
    order = Order(0, recipe, recipe.epochs, 5)
    expected = curves(list(make_engine().run([order])))[0]
    engine = make_engine()
    common, stack = engine.begin([order])
    steps: list[float] = []
    found = [stack.run_epoch(on_step=steps.append)[0] for _ in range(recipe.epochs)]
    assert [each.metrics for each in found] == expected  # type: ignore[union-attr]
    assert len(steps) == recipe.epochs * stack.steps_per_epoch
    engine.checkpoints.save(0, common.whole(stack.weights(0)))
    engine.network(recipe, 0, trial=0)


@pytest.mark.parametrize(
    "wrong",
    [
        Lesson(rows=np.arange(3)),
        Lesson(rows=np.full(ROWS, ROWS)),
        Lesson(weights=np.ones(3)),
        Lesson(weights=-np.ones(ROWS)),
        Lesson(weights=np.full(ROWS, np.nan)),
        Lesson(teacher=[np.zeros(2)]),
        Lesson(mix=1.5),
        Lesson(temperature=0.0),
    ],
)
def test_a_wrong_lesson_is_refused(make_engine: Make, recipe: Recipe, wrong: Lesson) -> None:
    with pytest.raises(ValueError):
        wrong.check(ROWS)
    (report,) = run(make_engine(), recipe, {0: wrong}, [0])
    assert report.status == "failed" and "ValueError" in report.reason


TASKS: list[tuple[type[Task], int]] = [
    (TextClassification, 3),
    (MultiLabelClassification, 3),
    (TextRegression, 1),
    (TokenClassification, 3),
]


@pytest.mark.parametrize(("kind", "width"), TASKS)
def test_a_teacher_s_own_answers_cost_nothing_and_all_others_lead_to_them(
    kind: type[Task], width: int
) -> None:
    task = kind(Columns({"input": "text", "target": "label"}))
    tagging = task.level == "token"
    rng = np.random.default_rng(0)
    said = [rng.normal(size=(2, width) if tagging else width) for _ in range(4)]
    targets = torch.tensor([[-100, 0, 1, -100]] * 4) if tagging else torch.zeros(4)
    laid = task.laid_out(said, targets).double()
    logits = torch.nan_to_num(laid).requires_grad_()
    assert torch.allclose(task.soft_loss(logits, laid, temperature=2.0), torch.zeros(4, dtype=torch.float64))
    other = torch.randn(logits.shape, dtype=torch.float64, requires_grad=True)
    first = last = task.soft_loss(other, laid, temperature=2.0).sum()
    for _ in range(200):
        (slope,) = torch.autograd.grad(last, other)
        other = (other - 0.2 * slope).detach().requires_grad_()
        last = task.soft_loss(other, laid, temperature=2.0).sum()
    assert last < 0.01 * first


@pytest.mark.parametrize(("kind", "width"), TASKS[:3])
def test_the_closed_form_is_the_derivative(kind: type[Task], width: int) -> None:
    task = kind(Columns({"input": "text", "target": "label"}))
    rng = torch.Generator().manual_seed(0)
    logits, said = (torch.randn(2, 5, width, generator=rng, dtype=torch.float64) for _ in range(2))
    temperatures = torch.tensor([1.0, 3.0], dtype=torch.float64).view(2, 1, 1)
    losses, slopes = task.soft_gradient(logits, said, temperatures)
    for trial, temperature in enumerate((1.0, 3.0)):
        leaf = logits[trial].clone().requires_grad_()
        expected = task.soft_loss(leaf, said[trial], temperature=temperature)
        torch.testing.assert_close(losses[trial], expected.detach())
        torch.testing.assert_close(slopes[trial], torch.autograd.grad(expected.sum(), leaf)[0])


def test_words_that_a_teacher_did_not_read_teach_nothing() -> None:
    task = TokenClassification(Columns({"input": "words", "target": "tags"}))
    targets = torch.tensor([[-100, 0, 1, 2, -100], [0, -1, -100, -100, -100]])
    said = [np.ones((2, 3)), np.ones((2, 3))]
    laid = task.laid_out(said, targets)
    assert torch.isnan(laid[..., 0]).tolist() == [
        [True, False, False, True, True],
        [False, False, True, True, True],
    ]
    back = task.outputs(laid[1:], Batch({}, targets[1:]))[0]
    np.testing.assert_array_equal(back, said[1])
    logits = torch.randn(2, 5, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(task.soft_loss(logits, laid, temperature=1.0).sum(), logits)
    assert (slope[torch.isnan(laid)] == 0).all() and (slope[~torch.isnan(laid)] != 0).any()
    assert torch.isfinite(slope).all()


def test_gradients_keep_their_size_whatever_the_temperature() -> None:
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    said, sizes = torch.tensor([[0.2, -0.1, 0.0]]), []
    for temperature in (4.0, 8.0, 16.0):
        logits = torch.zeros(1, 3, requires_grad=True)
        (slope,) = torch.autograd.grad(task.soft_loss(logits, said, temperature=temperature).sum(), logits)
        sizes.append(float(slope.norm()))
    assert max(sizes) < 1.2 * min(sizes)
