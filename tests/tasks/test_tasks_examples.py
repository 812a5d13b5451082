from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tasks_fakes import CharacterProcessor, SquareProcessor, image_frame

from luthier.errors import DataError
from luthier.tasks.examples import Ragged, TextExamples, encode_images, encode_texts, encode_words

PROCESSOR = CharacterProcessor(max_length=8)


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=8), st.data())
def test_ragged_gives_back_its_rows(rows: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged([np.array(row, dtype=np.int32) for row in rows], np.int32)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5)))
    padded = ragged.padded(chosen, -7)
    for out, index in zip(padded, chosen, strict=True):
        assert out.tolist() == rows[index] + [-7] * (padded.shape[1] - len(rows[index]))
    assert [ragged.take(chosen)[i].tolist() for i in range(len(chosen))] == [rows[i] for i in chosen]


def test_a_batch_is_padded_to_its_own_longest() -> None:
    texts = ["abc", "abc def ghi", "abc def ghi jkl mno pqr stu vwx"]
    examples = encode_texts(texts, np.arange(3), PROCESSOR, None)
    assert examples.lengths.tolist() == [3, 5, 8]
    batch = examples.batch(np.array([1, 0]))
    assert batch.inputs["input_ids"].shape == (2, 5)
    assert batch.inputs["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch.inputs["input_ids"][1, 3:].tolist() == [PROCESSOR.pad_id] * 2
    assert batch.inputs["input_ids"].dtype == batch.inputs["attention_mask"].dtype == torch.int64
    assert batch.targets.tolist() == [1, 0]


def test_truncation_is_counted_only_where_something_was_cut() -> None:
    texts = [
        "abc def ghi jkl mno pqr",
        "abc def ghi jkl mno pqr stu",
        "abc",
        "",
    ]  # 8, 9, 3 and 2 tokens; 8 fit.
    examples = encode_texts(texts, np.arange(4), PROCESSOR, None)
    assert examples.truncated == 1
    assert examples.take(np.array([0, 2])).truncated == 0
    assert encode_texts(texts, np.arange(4), PROCESSOR, 5).truncated == 2


def test_words_that_are_no_token_still_get_an_output() -> None:
    words = [["abc", "\u200b", "abcdef", "\u200b"]]
    examples = encode_words(words, [np.array([3, 4, 5, 6])], PROCESSOR, None)
    assert examples.batch(np.array([0])).targets.tolist() == [[-100, 3, 4, 5, -100, 6, -100]]
    assert examples.truncated == 0


def test_words_cut_away_have_no_target_and_unknown_tags_stand_as_minus_one() -> None:
    words = [["abc"] * 9, ["abc", "def"]]
    examples = encode_words(words, [np.array([-1] + [2] * 8), np.array([-100, -100])], PROCESSOR, None)
    targets = examples.batch(np.array([0, 1])).targets
    assert targets[0].tolist() == [-100, -1, 2, 2, 2, 2, 2, -100]
    assert targets[1].tolist() == [-100, -1, -1, -100, -100, -100, -100, -100]
    assert examples.truncated == 1
    part = examples.take(np.array([1]))
    assert (len(part), part.truncated, part.lengths.tolist()) == (1, 0, [4])
    assert part.batch(np.array([0])).targets.tolist() == [[-100, -1, -1, -100]]


def test_images_come_from_files_pictures_and_bytes_alike(tmp_path: Path) -> None:
    frame = image_frame(tmp_path)
    file = tmp_path / frame["image"][0]
    buffer = io.BytesIO(file.read_bytes())
    cells = [frame["image"][0], str(file), Image.open(file), {"bytes": buffer.getvalue(), "path": None}]
    examples = encode_images(cells, str(tmp_path), np.zeros(4, int), SquareProcessor(), None, range(1, 5))
    batch = examples.batch(np.arange(4)).inputs["pixel_values"]
    assert batch.shape == (4, 3, 8, 8)
    assert batch.dtype == torch.float32
    assert all(torch.equal(row, batch[0]) for row in batch)
    assert -1 <= float(batch.min()) < float(batch.max()) <= 1


@pytest.mark.parametrize("cell", ["broken.png", "absent.png", None, {"bytes": b"GIF89a?"}])
def test_a_broken_image_is_named_with_its_row(cell: object, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(DataError, match="Row 17") as caught:
        encode_images([cell], str(tmp_path), np.zeros(1, int), SquareProcessor(), None, [17])
    if isinstance(cell, str):
        assert cell in str(caught.value)


def test_examples_are_told_apart_by_their_inputs_alone(tmp_path: Path) -> None:
    texts = ["abc def", "ghi"]
    first = encode_texts(texts, np.arange(2), PROCESSOR, None)
    known = first.fingerprint()
    assert encode_texts(texts, np.array([5, 6]), PROCESSOR, 8).fingerprint() == known
    assert encode_texts(texts[::-1], np.arange(2), PROCESSOR, None).fingerprint() != known
    # The same tokens, otherwise shared out.
    ids = first.ids.values
    shifted = [ids[:3], ids[3:]]
    assert TextExamples(shifted, np.arange(2), PROCESSOR.pad_id, np.zeros(2)).fingerprint() != known
    part = first.take(np.array([1]))
    assert part.fingerprint() == encode_texts(["ghi"], np.arange(1), PROCESSOR, None).fingerprint() != known
    words = encode_words([["abc", "def"], ["ghi"]], [np.zeros(2, int), np.zeros(1, int)], PROCESSOR, None)
    assert words.fingerprint() == known
    assert words.take(np.array([1])).fingerprint() == part.fingerprint()


def test_images_are_told_apart_by_pixels_and_normalisation(tmp_path: Path) -> None:
    class Brighter(SquareProcessor):
        def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().normalise(pixels) + 0.1

    cells = image_frame(tmp_path)["image"][:3]

    def fingerprint(cells: object, processor: SquareProcessor, size: int | None = None) -> str:
        rows = range(1, 4)
        return encode_images(cells, str(tmp_path), np.zeros(3, int), processor, size, rows).fingerprint()

    known = fingerprint(list(cells), SquareProcessor())
    assert fingerprint(list(cells), SquareProcessor(), 8) == known
    others = [
        fingerprint(list(cells)[::-1], SquareProcessor()),
        fingerprint(list(cells), Brighter()),
        fingerprint(list(cells), SquareProcessor(), 16),
    ]
    assert len({known, *others}) == 4
    empty = encode_images([], str(tmp_path), np.zeros(0, int), SquareProcessor(), None, [])
    assert empty.fingerprint() != known
