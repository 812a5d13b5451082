"""Table files: what is read, and what is refused with a sentence that says why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data import read
from luthier.errors import DataError


def rows(dataset):
    return dataset.splits["train"]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiter_is_found_out(tmp_path, delimiter):
    path = tmp_path / "data.csv"
    path.write_text(
        f"text{delimiter}label\nhello, you{delimiter}a\n"
        if delimiter != ","
        else 'text,label\n"hello, you",a\n'
    )
    frame = rows(read(path))
    assert frame[["text", "label"]].values.tolist() == [["hello, you", "a"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "data.csv"
    path.write_bytes("text,label\ncafé “crème”,a\n".encode(encoding))
    dataset = read(path)
    assert rows(dataset).text[0] == "café “crème”"
    assert bool(dataset.notes) == (encoding == "cp1252")


def test_damaged_utf8_is_marked_not_guessed(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes("text,label\ncafé é é,a\n".encode() + b"bad \xff here,b\n")
    dataset = read(path)
    assert "\ufffd" in rows(dataset).text[1] and "é" in rows(dataset).text[0]
    assert "damaged" in dataset.notes[0]


def test_row_numbers_are_lines_also_after_multiline_fields_and_blank_lines(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('text,label\n"two\nlines",a\n\nplain,b\n')
    assert rows(read(path))["__row__"].tolist() == [2, 5]


def test_words_that_pandas_takes_for_missing_stay_words(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label,number,zip\nNA,null,1.5,007\nNone,nan,NA,123\n,x,,001\n")
    frame = rows(read(path))
    assert frame.text.tolist() == ["NA", "None", None]
    assert frame.label.tolist() == ["null", "nan", "x"]
    np.testing.assert_array_equal(frame.number, [1.5, np.nan, np.nan])
    assert frame.zip.tolist() == ["007", "123", "001"]


def test_unpaired_quotes_in_tsv_are_characters(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text('text\tlabel\n"hello she said\ta\nplain\tb\n')
    dataset = read(path)
    assert rows(dataset).text.tolist() == ['"hello she said', "plain"]
    assert "quotes" in dataset.notes[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1), st.integers(0, 9)
        ),
        min_size=1,
    )
)
def test_csv_round_trip(tmp_path, cells):
    """Any text survives: quotes, delimiters, line ends, other scripts."""
    cells = [("x" + "".join(c for c in text if c >= " " or c in "\t\n"), label) for text, label in cells]
    path = tmp_path / "data.csv"
    pd.DataFrame(cells, columns=["text", "label"]).to_csv(path, index=False, encoding="utf-8-sig")
    frame = rows(read(path))
    assert list(zip(frame.text, frame.label, strict=True)) == cells


def test_json_lines_array_and_parquet_agree(tmp_path):
    records = [
        {"text": "a b", "label": "x", "tokens": ["a", "b"]},
        {"text": "c", "label": "y", "tokens": ["c"]},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n\n")
    (tmp_path / "b.json").write_text(json.dumps(records))
    pd.DataFrame(records).to_parquet(tmp_path / "c.parquet")
    for name in ("a.jsonl", "b.json", "c.parquet"):
        frame = rows(read(tmp_path / name))
        assert frame.drop(columns="__row__").to_dict("records") == records
        assert frame["__row__"].tolist() == [1, 2]


def test_class_names_in_parquet_of_the_datasets_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(
        tmp_path / "a.parquet"
    )
    assert rows(read(tmp_path / "a.parquet")).label.tolist() == ["yes", "no"]


BAD = {
    "empty.csv": (b"", "empty"),
    "header.csv": (b"text,label\n", "no rows"),
    "ragged.csv": (b"text,label\na,b\na,b,c\n", "line 3"),
    "short.csv": (b"text,label\na,b\nlonely\n", "line 3"),
    "quote.csv": (b'text,label\n"open,b\nc,d\ne\n', "quoted field"),
    "double.csv": (b"text,text\na,b\n", "two columns"),
    "nameless.csv": (b"text,,label\na,b,c\n", "no name"),
    "caret.csv": (b"text^label\na^b\nc^d\n", "delimited by '^'"),
    "binary.csv": (bytes(range(256)) * 8, "binary"),
    "garbage.jsonl": (b'{"text": 1}\n{oops\n', "line 2"),
    "list.jsonl": (b"[1, 2]\n", "line 1"),
    "object.json": (b'{"version": 1, "data": [{"a": 1}]}', "not an array"),
    "numbers.json": (b"[1, 2]", "record 1"),
    "none.json": (b"[]", "no rows"),
    "broken.json": (b"[{]", "not valid JSON"),
    "cut.parquet": (b"PAR1 and no more", "Parquet"),
    "table.xlsx": (b"PK\3\4", "'.xlsx'"),
    "notes.txt": (b"just some words\n", "'.txt'"),
    "words.conll": (b"a\tO\nb\n", "line 2"),
    "blank.conll": (b"-DOCSTART- -X- O\n", "no sentences"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_plain_words(tmp_path, name):
    content, expected = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected.replace("^", r"\^")) as raised:
        read(path)
    assert str(path) in raised.value.message


def test_deeply_nested_json_is_refused(tmp_path):
    path = tmp_path / "deep.jsonl"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="line 1"):
        read(path)


def test_empty_name_is_not_the_current_folder():
    with pytest.raises(DataError, match="empty"):
        read("")


def test_missing_file_names_it():
    with pytest.raises(DataError, match=r"No such file: no/such\.csv"):
        read("no/such.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    path.chmod(0)
    with pytest.raises(DataError, match="may not be read"):
        read(path)


def test_permission_denied_by_the_system(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="may not be read"):
        read(tmp_path / "data.csv")
