from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from tasks_fakes import CharacterProcessor, token_frame

from luthier.errors import DataError
from luthier.tasks.base import Columns
from luthier.tasks.token_classification import TokenClassification

ROLES = Columns({"input": "tokens", "target": "tags"})
LABELS = ["B-person", "B-place", "I-person", "I-place", "O"]


def fitted() -> TokenClassification:
    task = TokenClassification(ROLES)
    task.fit(token_frame())
    return task


def say(tags: list[str]) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[[LABELS.index(tag) for tag in tags]].reshape(-1, 5) * 9


def table(*tags: list[str] | None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "tokens": [[f"w{i}" for i in range(3 if row is None else len(row))] for row in tags],
            "tags": list(tags),
        }
    )


sentences = st.lists(
    st.integers(0, 8).flatmap(
        lambda n: st.tuples(*[st.lists(st.sampled_from(LABELS), min_size=n, max_size=n) for _ in range(2)])
    ),
    min_size=1,
    max_size=6,
)


@given(sentences)
@settings(deadline=None)
def test_f1_is_seqevals(pairs: list[tuple[list[str], list[str]]]) -> None:
    task = fitted()
    true, said = [t for t, _ in pairs], [s for _, s in pairs]
    metrics = task.metrics([say(row) for row in said], task.targets(table(*true)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert metrics["f1"] == pytest.approx(f1_score(true, said))
        assert metrics["precision"] == pytest.approx(precision_score(true, said))
        assert metrics["recall"] == pytest.approx(recall_score(true, said))


def test_both_tags_of_every_type_are_labels() -> None:
    assert fitted().label_names == LABELS
    task = TokenClassification(ROLES)
    task.fit(table(["O", "I-new thing"]))
    assert task.label_names == ["B-new thing", "I-new thing", "O"]


def test_words_that_were_cut_away_are_outside() -> None:
    task = fitted()
    targets = task.targets(table(["B-person", "O", "B-place"]))
    outputs = [say(["B-person", "O"])]
    metrics = task.metrics(outputs, targets)
    assert (metrics["precision"], metrics["recall"]) == (1, 0.5)
    assert metrics["loss"] == pytest.approx(np.log1p(4 * np.exp(-9)), rel=1e-3)
    decoded = task.decode(outputs, pd.DataFrame({"tokens": [["Anna", "in", "Rome"]]}))
    assert decoded[0]["tags"] == ["B-person", "O", "O"]
    names, counts = task.confusion(outputs, targets) or ([], np.empty(0))
    assert names == ["O", "person", "place"]
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    nothing = [np.empty((0, 5), np.float32)]
    assert task.metrics(nothing, targets)["recall"] == 0
    assert task.decode(nothing) == [{"entities": [], "tags": []}]


def test_an_entity_of_an_unseen_type_is_one_miss() -> None:
    task = fitted()
    frame = table(["B-person", "O", "B-brand", "I-brand"])
    assert task.targets(frame)[0].tolist() == [0, 4, -1, -1]
    metrics = task.metrics([say(["B-person", "O", "O", "O"])], task.targets(frame))
    assert (metrics["precision"], metrics["recall"]) == (1, 0.5)
    assert np.isfinite(metrics["loss"])


def test_rows_without_tags_count_as_nothing() -> None:
    task = fitted()
    frame = table(["B-person"], None)
    metrics = task.metrics([say(["B-person"]), say(["B-place", "O", "O"])], task.targets(frame))
    assert metrics["f1"] == 1


def test_entities_are_decoded_with_their_words() -> None:
    words = pd.DataFrame({"tokens": [["near", "New", "York", "Anna"]]})
    row = fitted().decode([say(["O", "B-place", "I-place", "B-person"])], words)[0]
    first = row["entities"][0]
    sure = np.exp(9) / (np.exp(9) + 4)
    assert first == {
        "text": "New York",
        "type": "place",
        "start": 1,
        "end": 3,
        "confidence": pytest.approx(sure),
    }
    assert row["tags"] == ["O", "B-place", "I-place", "B-person"]
    assert "text" not in fitted().decode([say(["B-place"])])[0]["entities"][0]


def test_the_loss_is_the_mean_over_counted_words() -> None:
    task = fitted()
    logits = torch.randn(2, 4, 5, dtype=torch.float64)
    targets = torch.tensor([[-100, 2, -1, 3], [-100] * 4])
    loss = task.loss(logits, targets)
    each = torch.nn.functional.cross_entropy(logits[0, [1, 3]], torch.tensor([2, 3]), reduction="none")
    assert loss.tolist() == pytest.approx([float(each.mean()), 0.0])


def test_labels_stand_at_first_pieces() -> None:
    task = fitted()
    frame = pd.DataFrame({"tokens": [["Annabella", "in", "Rome"]], "tags": [["B-person", "O", "B-place"]]})
    batch = task.encode(frame, CharacterProcessor()).batch(np.array([0]))
    assert batch.targets.tolist() == [[-100, 0, -100, -100, 4, 1, -100, -100]]
    cut = task.outputs(torch.arange(40.0).reshape(1, 8, 5), batch)
    assert cut[0][:, 0].tolist() == [5, 20, 25]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(["O", "O"]), "one tag only"),
        (table(None), "All 1 rows lack tags"),
        (table(["O", "person"]), "Row 1 has the tag 'person'"),
        (
            pd.DataFrame({"tokens": [["a"], ["a", "b"]], "tags": [["O"], ["O"]]}),
            "Row 2 has 2 words but 1 tags",
        ),
        (pd.DataFrame({"tokens": ["a b"], "tags": [["O"]]}), "should hold lists"),
        (pd.DataFrame({"tokens": [["a"]], "tags": ["O"]}), "tags should be a list"),
    ],
)
def test_bad_tags_are_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TokenClassification(ROLES).fit(frame)


def test_the_memory_of_words_is_a_baseline() -> None:
    task, frame = fitted(), token_frame()
    name, outputs = task.classical(frame, frame, seed=0) or ("", [])
    assert "most frequent tag" in name
    assert task.metrics(outputs, task.targets(frame))["f1"] > 0.7
    new = task.classical(frame, pd.DataFrame({"tokens": [["zebra"], []]}), seed=0)
    assert new is not None
    assert task.decode(new[1])[0]["tags"] == ["O"]
    assert new[1][1].shape == (0, 5)
