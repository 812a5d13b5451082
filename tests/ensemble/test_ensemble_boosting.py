"""Gradient boosting: its sum is one head, and what is chosen is no worse than its start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import parts_made
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import made
from luthier.engine.train import never
from luthier.ensemble.bench import Bench
from luthier.ensemble.boosting import boosting
from luthier.ensemble.stages import Boosted, Hidden, Rows, boost
from luthier.tasks.base import Columns, Task
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression

Model = Callable[[str], Path]


def hidden(units: int, width: int, outputs: int, seed: int) -> Hidden:
    rng = torch.Generator().manual_seed(seed)
    shapes = ((units, width), (units,), (outputs, units), (outputs,))
    return Hidden(*(torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes))


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_networks_add_up(units: int, outputs: int, seed: int) -> None:
    one, other = hidden(units, 6, outputs, seed), hidden(2, 6, outputs, seed + 1)
    x = torch.randn(7, 6, dtype=torch.float64)
    torch.testing.assert_close((one + other.times(0.3))(x), one(x) + 0.3 * other(x))
    assert one.padded(9).units == 9
    torch.testing.assert_close(one.padded(9)(x), one(x))
    weight, bias = torch.randn(outputs, 6).double(), torch.randn(outputs).double()
    torch.testing.assert_close(Hidden.of_linear(weight, bias)(x), x @ weight.T + bias)


def classes() -> tuple[Task, Callable[[torch.Tensor], torch.Tensor]]:
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(pd.DataFrame({"label": list("ab")}))
    return task, lambda x: (x[:, 0] * x[:, 1] > 0).long()


def labels() -> tuple[Task, Callable[[torch.Tensor], torch.Tensor]]:
    task = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    task.fit(pd.DataFrame({"labels": [["a", "b"], ["a"], []]}))
    return task, lambda x: torch.stack([x[:, 0] * x[:, 1] > 0, x[:, 2].abs() > 0.7], dim=1).float()


def values() -> tuple[Task, Callable[[torch.Tensor], torch.Tensor]]:
    task = TextRegression(Columns({"input": "text", "target": "value"}))
    task.fit(pd.DataFrame({"value": [1.0, 2.0, 4.0]}))
    return task, lambda x: (x[:, 0] * x[:, 1]).float()


def boosted(
    make: Callable[[], Any], shrinkages: tuple[float, ...], stages: int = 20, noise: bool = False
) -> tuple[Task, Boosted, Rows, Hidden]:
    task, answer = make()
    rng = torch.Generator().manual_seed(0)
    splits = []
    for rows in (400, 200):
        x = torch.randn(rows, 6, generator=rng, dtype=torch.float64)
        seen = torch.randn(rows, 6, generator=rng, dtype=torch.float64) if noise else x
        splits.append(Rows(seen * torch.tensor([1, 10, 0.1, 1, 1, 1]) + 3, answer(x)))
    start = Hidden.of_linear(
        torch.zeros(task.num_outputs, 6).double(), torch.zeros(task.num_outputs).double()
    )
    found = boost(task, *splits, start, shrinkages=shrinkages, units=6, stages=stages, seed=3, stop=never)
    return task, found, splits[1], start


def mean_loss(task: Task, network: Hidden, rows: Rows) -> float:
    return float(task.gradient(network(rows.vectors), rows.targets)[0].mean())


@pytest.mark.parametrize("make", [classes, labels, values])
def test_it_learns_what_no_linear_head_can(make: Callable[[], Any]) -> None:
    task, found, validation, start = boosted(make, (0.1, 0.5))
    assert found.stages > 0
    chosen = mean_loss(task, found.network, validation)
    assert chosen == pytest.approx(float(found.losses.min()), rel=1e-9)
    assert chosen < 0.5 * mean_loss(task, start, validation)


def test_the_choice_is_the_lowest_validation_loss_on_the_way() -> None:
    _, found, _, _ = boosted(classes, (0.1, 0.5))
    column = found.losses[:, (0.1, 0.5).index(found.shrinkage)]
    assert column[found.stages] == found.losses.min() <= found.losses[0, 0]
    assert found.network.units == 4 + 6 * found.stages


def test_from_noise_nothing_is_chosen_that_loses() -> None:
    task, found, validation, start = boosted(classes, (1.0,), noise=True)
    assert mean_loss(task, found.network, validation) <= mean_loss(task, start, validation) + 1e-12
    # It does not go on and on once validation only gets worse.
    assert len(found.losses) < 20


def test_a_shrinkage_is_what_it_is_alone() -> None:
    _, both, _, _ = boosted(values, (0.1, 0.5), stages=4)
    for index, shrinkage in enumerate((0.1, 0.5)):
        _, one, _, _ = boosted(values, (shrinkage,), stages=4)
        torch.testing.assert_close(both.losses[:, index], one.losses[:, 0], rtol=1e-7, atol=1e-9)
    # Of the same first stage less is taken.
    first = both.losses[0] - both.losses[1]
    assert 0 < first[0] < 0.5 * first[1]


def test_it_is_shipped_as_one_network(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(
        tmp_path, tiny_model("bert"), parts_made.animals(256), parts_made.animals(128, 1)
    )
    trials = parts_made.finished(engine, [parts_made.PROBE])
    context, said = parts_made.context(engine, trials)
    candidate = parts_made.check(engine, boosting(context))
    (part,) = candidate.parts
    assert (part.recipe.head, part.recipe.adaptation) == ("mlp", "probe")
    assert parts_made.loss(engine, candidate.validation) < trials[0].loss
    again = boosting(context)
    assert again is not None and said == []
    for ours, theirs in zip(candidate.validation, again.validation, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_numbers_take_it_too_and_from_no_head_at_all(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(
        tmp_path, tiny_model("bert"), made.ratings(96), made.ratings(48, 1), "text-regression"
    )
    trials = parts_made.finished(engine, [parts_made.RECIPE.model_copy(update={"epochs": 1})])
    context, said = parts_made.context(engine, trials)
    candidate = boosting(context)
    if candidate is not None:
        parts_made.check(engine, candidate)
    else:
        assert "no stage did better" in said[0] and not parts_made.numbers(engine)


def test_where_a_linear_head_has_no_room_it_starts_from_the_majority(
    tiny_model: Model, tmp_path: Path
) -> None:
    def firsts(rows: int, seed: int) -> pd.DataFrame:
        frame = made.sentences(rows, seed)
        frame["label"] = [made.WORDS[at % 10] for at in range(rows)]
        frame["text"] = [
            f"{label} {label} {text}" for label, text in zip(frame["label"], frame["text"], strict=True)
        ]
        return frame

    engine = parts_made.engine(tmp_path, tiny_model("bert"), firsts(200, 0), firsts(100, 1))
    trials = parts_made.finished(engine, [parts_made.PROBE])
    context, _ = parts_made.context(engine, trials)
    candidate = parts_made.check(engine, boosting(context))
    prior = engine.task.majority(engine.inputs.targets("train"), context.targets)
    assert parts_made.loss(engine, candidate.validation) < parts_made.loss(engine, prior) - 0.2
    # As many units as the vectors are wide, stages alone.
    state = parts_made.weights(engine, candidate)
    used = int((state["head.classifier.weight"].abs().sum(dim=0) > 0).sum())
    assert used % 8 == 0 and 0 < used <= 32 == len(state["head.dense.weight"])


def test_without_a_head_and_time_for_one_it_is_refused(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(24), made.sentences(16, 1))
    trials = parts_made.finished(engine, [parts_made.RECIPE.model_copy(update={"epochs": 1})])
    context, said = parts_made.context(engine, trials)
    monkeypatch.setattr(Bench, "affordable", lambda *_, **__: 0)
    assert boosting(context) is None and "no linear head was at hand" in said[0]
    monkeypatch.undo()
    monkeypatch.setattr(Bench, "judging_seconds", lambda *_: 60.0)
    context, said = parts_made.context(engine, trials, seconds=100.0)
    assert boosting(context) is None and "frozen features take 120 s" in said[0]
    assert not parts_made.numbers(engine)


def test_tagging_is_refused_and_so_is_no_time(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(48), made.sentences(24, 1))
    context, said = parts_made.context(engine, parts_made.finished(engine, [parts_made.PROBE]), seconds=0.0)
    assert boosting(context) is None and "no time is left" in said[0]
    engine.task.level = "token"  # type: ignore[misc]
    context, said = parts_made.context(engine, context.ranked)
    assert boosting(context) is None and "one answer an example" in said[0]
