"""The check: each thing it must find, what it must not, and the dropping of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luthier.data import Dataset, check, clean, drop_leaks, read
from luthier.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def dataset(**splits):
    return Dataset("d", {name: pd.DataFrame(columns) for name, columns in splits.items()})


def words(count, seed=0):
    generator = np.random.default_rng(seed)
    return [" ".join("".join(generator.choice(list("abcdefgh"), 5)) for _ in range(6)) for _ in range(count)]


def text_check(data, target_kind="class", target="label", **more):
    return check(data, input="text", target=target, kind="text", target_kind=target_kind, **more)


def found(findings, code):
    return [(one.severity, one.split, one.rows) for one in findings if one.code == code]


def codes(findings, severity):
    return {one.code for one in findings if one.severity == severity}


def test_good_data_is_found_good():
    data = dataset(
        train={"text": words(20), "label": ["a", "b"] * 10},
        test={"text": words(6, 1), "label": ["a", "b"] * 3},
    )
    assert text_check(data) == []


def test_errors_of_structure():
    good = {"text": ["x y"], "label": ["a"]}
    assert found(text_check(dataset(test=good)), "no-train")
    assert found(text_check(dataset(train={"text": [], "label": []})), "empty-split") == [
        ("error", "train", [])
    ]
    no_label = text_check(dataset(train=good, test={"text": ["z w"]}))
    assert found(no_label, "no-column") == [("error", "test", [])]
    assert "Leave that split out" in no_label[0].message


def test_missing_labels_all_and_some():
    assert codes(text_check(dataset(train={"text": words(3), "label": [None, "", " "]})), "error") == {
        "labels-all-missing"
    }
    data = dataset(train={"text": words(4), "label": ["a", None, "b", float("nan")]})
    findings = text_check(data)
    assert found(findings, "missing-label") == [("warning", "train", [2, 4])]
    assert "2 train rows" in findings[0].message
    cleaned = clean(data, findings)
    assert cleaned.splits["train"]["__row__"].tolist() == [1, 3]
    assert cleaned.splits["train"].index.tolist() == [0, 1]
    assert "2 train rows" in cleaned.notes[0] and data.notes == []


def test_one_class_and_constant_target():
    assert codes(text_check(dataset(train={"text": words(3), "label": [1, 1.0, "1"]})), "error") == {
        "one-class"
    }
    assert codes(
        text_check(dataset(train={"text": words(3), "label": [2, 2.0, "2"]}), "number"), "error"
    ) == {"constant-target"}
    assert codes(
        text_check(dataset(train={"text": words(2), "label": [["a"], ["a"]]}), "multi"), "error"
    ) == {"one-class"}


def test_classes_absent_and_unseen():
    data = dataset(
        train={"text": words(9), "label": ["a", "b", "c"] * 3},
        test={"text": words(3, 1), "label": ["a", "b", "z"]},
    )
    findings = text_check(data)
    assert found(findings, "class-absent") == [("warning", "test", [])]
    assert found(findings, "class-unseen") == [("warning", "test", [3])]


def test_imbalance_and_identifiers():
    data = dataset(train={"text": words(33), "label": ["a"] * 30 + ["b"] * 3})
    assert found(text_check(data), "imbalance")
    assert not found(
        text_check(dataset(train={"text": words(9), "label": ["a"] * 6 + ["b"] * 3})), "imbalance"
    )
    assert found(text_check(dataset(train={"text": words(30), "label": list(range(30))})), "many-classes")


def test_leaks_and_their_dropping():
    train, fresh = words(10), words(3, 1)
    long = "a rather long sentence about the opening hours of the city library on public holidays"
    data = dataset(
        train={"text": [*train, long], "label": ["a", "b"] * 5 + ["a"]},
        validation={"text": [train[3].upper() + "!", fresh[0]], "label": ["b", "a"]},
        test={"text": [fresh[1], fresh[0], train[5], long + " too", fresh[2]], "label": list("ababa")},
    )
    findings = text_check(data)
    assert found(findings, "leak") == [
        ("warning", "validation", [1]),
        ("warning", "test", [3]),
        ("warning", "test", [2]),
    ]
    assert found(findings, "near-leak") == [("warning", "test", [4])]
    dropped = drop_leaks(data, findings)
    assert len(dropped.splits["train"]) == 11
    assert dropped.splits["validation"]["__row__"].tolist() == [2]
    assert dropped.splits["test"]["__row__"].tolist() == [1, 4, 5]
    assert not found(text_check(dropped), "leak")


def test_empty_texts_are_no_leaks():
    data = dataset(
        train={"text": ["", *words(2)], "label": ["a", "a", "b"]},
        test={"text": [None, *words(2, 1)], "label": ["b", "a", "b"]},
    )
    findings = text_check(data)
    assert not found(findings, "leak") and not found(findings, "conflicting-labels")
    assert found(findings, "empty-input") == [("warning", "train", [1]), ("warning", "test", [1])]


def test_conflicting_labels():
    data = dataset(
        train={"text": ["one two", "One two!", "three four", "three four"], "label": ["a", "b", "a", "a"]}
    )
    findings = text_check(data)
    assert found(findings, "conflicting-labels") == [("warning", "train", [1, 2])]
    assert found(findings, "duplicate") == [("info", "train", [2, 4])]
    assert len(clean(data, findings).splits["train"]) == 4


def test_truncation_counts_tokens():
    data = dataset(train={"text": ["a b c d", "a b", "c d e f g"], "label": ["x", "y", "x"]})
    findings = text_check(
        data, lengths=lambda texts: np.array([len(text.split()) for text in texts]), max_length=3
    )
    assert found(findings, "truncated") == [("warning", "train", [1, 3])]


@pytest.mark.parametrize(
    ("text", "broken"),
    [("cafÃ© au lait", True), ("itâ€™s here", True), ("bad \ufffd sign", True), ("ðŸ˜€ hi", True),
     ("café naïve Ångström", False), ("Âge d’or — “São”", False), ("тест", False), ("CAFÉ’S", False),
     ("ação é", False)],
)  # fmt: skip
def test_broken_encodings(text, broken):
    findings = text_check(dataset(train={"text": [text, "plain words"], "label": ["a", "b"]}))
    assert bool(found(findings, "broken-encoding")) == broken


def test_numbers():
    data = dataset(train={"text": words(5), "label": ["1.5", "two", 3, float("inf"), None]})
    findings = text_check(data, "number")
    assert found(findings, "not-a-number") == [("warning", "train", [2, 4])]
    assert clean(data, findings).splits["train"].label.tolist() == ["1.5", 3]
    assert codes(text_check(dataset(train={"text": words(2), "label": ["x", "y"]}), "number"), "error") == {
        "all-not-a-number"
    }


def test_columns_of_zero_and_one():
    data = dataset(train={"text": words(4), "p": [1, 0, None, 2], "q": [0, None, None, 1]})
    findings = text_check(data, "multi", ["p", "q"])
    assert found(findings, "missing-label") == [("warning", "train", [3])]
    assert found(findings, "bad-label") == [("warning", "train", [4])]
    assert "p = '2" in next(one for one in findings if one.code == "bad-label").message


def test_tags():
    tokens = [["a", "b"], ["c"], ["d", "e"], ["f"], ["g", "h"], []]
    tags = [["B-x", "I-x"], ["O", "O"], ["O", "NN"], None, ["O", "I-y"], []]
    data = dataset(train={"tokens": tokens, "tags": tags})
    findings = check(data, input="tokens", target="tags", kind="tokens", target_kind="tags")
    assert found(findings, "length-mismatch") == [("warning", "train", [2])]
    assert found(findings, "bad-tag") == [("warning", "train", [3])]
    assert found(findings, "missing-label") == [("warning", "train", [4])]
    assert found(findings, "loose-tag") == [("warning", "train", [5])]
    assert found(findings, "empty-input") == [("warning", "train", [6])]
    assert clean(data, findings).splits["train"]["__row__"].tolist() == [1, 5]


def test_tags_without_entities_and_without_bio():
    only_o = dataset(train={"tokens": [["a"]], "tags": [["O"]]})
    assert codes(
        check(only_o, input="tokens", target="tags", kind="tokens", target_kind="tags"), "error"
    ) == {"one-class"}
    pos = dataset(train={"tokens": [["a"]], "tags": [["NN"]]})
    assert codes(check(pos, input="tokens", target="tags", kind="tokens", target_kind="tags"), "error") == {
        "all-bad-tag"
    }


def test_nothing_left_when_every_row_has_some_fault():
    data = dataset(train={"text": ["", "", "x y"], "label": ["a", "b", None]})
    assert "nothing-left" in codes(text_check(data), "error")


def test_errors_come_first():
    order = [
        one.severity
        for one in text_check(dataset(train={"text": ["x y", "", "x y"], "label": ["a", "a", "a"]}))
    ]
    assert order == sorted(order, key=["error", "warning", "info"].index) and order[0] == "error"


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"the real data {name} does not lie beside this checkout")
    return read(SHARED / name)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "input", "target", "kind", "split", "count"),
    [("trec6", "text", "label", "text", "test", 11), ("banking77", "text", "category", "text", "test", 29),
     ("pneumonia", "image", "label", "image", "validation", 3)],
)  # fmt: skip
def test_known_leaks(name, input, target, kind, split, count):
    data = shared(name)
    findings = check(data, input=input, target=target, kind=kind, target_kind="class")
    assert [(one.split, len(one.rows)) for one in findings if one.code == "leak"] == [(split, count)]
    assert len(drop_leaks(data, findings).splits[split]) == len(data.splits[split]) - count
    assert not codes(findings, "error")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "sizes", "modality"),
    [("sst2", (6920, 872, 1821), "text"), ("wnut17", (3394, 1009, 1287), "text"),
     ("cifar10", (3000, 1000), "image"),
     ("spoken_digits", (1800, 200), "audio"), ("molecules/esol.csv", (1128,), "text"),
     ("molecules/tox21.csv", (8014,), "text")],
)  # fmt: skip
def test_real_data_is_read(name, sizes, modality):
    data = shared(name)
    assert tuple(map(len, data.splits.values())) == sizes
    assert data.modality == modality


@pytest.mark.shared
@pytest.mark.parametrize("name", ["molecules", "raccoon", "isbi_membrane", "dicom_samples", "xquad_en"])
def test_real_data_of_unknown_form_is_refused(name):
    with pytest.raises(DataError):
        shared(name)
