"""Equal and nearly equal texts, fast at a hundred thousand rows. What follows is said in `leaks`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

SHINGLE = 5
"""Characters of a shingle."""
BANDS, ROWS = 16, 4
"""Bands, and min-hashes in a band: a pair of Jaccard similarity .8 is missed at odds of 2e-4."""
_SKETCHED = 1000
"""Characters of a text that the sketch sees; the verdict on a candidate is over the whole texts."""
_CHUNK = 1 << 20


class _Punctuation(dict[int, str | None]):
    """For `str.translate`: deletes punctuation and white space, but not symbols such as + or emoji."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        drop = (
            category[0] in "PZ" or category == "Sk" or character.isspace()
        )  # Sk: ` and ´ typed as apostrophes
        self[code] = None if drop else character
        return self[code]


_TABLE = _Punctuation()


def normalise(text: str) -> str:
    """The form in which texts count as equal: NFKC, case folded, without white space and punctuation.

    A text of one word is kept as it is but for its ends: codes, formulas and SMILES differ by signs and case
    alone. So is one that holds nothing but punctuation.
    """
    words = text.split()
    if len(words) < 2:
        return text.strip()
    return unicodedata.normalize("NFKC", text).casefold().translate(_TABLE) or " ".join(words)


def input_texts(frame: pd.DataFrame, columns: str | list[str]) -> list[str]:
    """(n,) inputs of a frame as texts: words joined by spaces, columns by line ends, missing cells empty."""
    names = [columns] if isinstance(columns, str) else columns
    parts = [[_cell_text(cell) for cell in frame[name]] for name in names]
    return parts[0] if len(parts) == 1 else ["\n".join(row) for row in zip(*parts, strict=True)]


def _cell_text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, (list, tuple, np.ndarray)):
        return " ".join(map(str, cell))
    return "" if cell is None or cell is pd.NA or cell != cell else str(cell)


def near_duplicates(reference: Sequence[str], texts: Sequence[str], threshold: float = 0.8) -> np.ndarray:
    """For each text a nearly equal one among the reference texts.

    Candidates share a band of min-hashes (Broder 1997; banding as in Leskovec et al., Mining of Massive
    Datasets, section 3.4); the best of a text's candidates is then measured exactly. Time and memory are
    linear in the characters.

    Args:
        reference: Texts to look in, such as those of training.
        texts: (n,) texts to look for.
        threshold: Least Jaccard similarity of the sets of 5-character shingles, case and white space apart.

    Returns:
        (n,) int64 positions in ``reference``, -1 where nothing is near.
    """
    found = np.full(len(texts), -1, dtype=np.int64)
    if not len(reference) or not len(texts):
        return found
    known, asked = [_plain(text) for text in reference], [_plain(text) for text in texts]
    known_sketch, asked_sketch = _sketches(known), _sketches(asked)
    best, likeness = found.copy(), np.zeros(len(texts))
    for band in range(BANDS):
        columns = slice(band * ROWS, (band + 1) * ROWS)
        candidate = _first_with_key(
            _band_keys(known_sketch[:, columns]), _band_keys(asked_sketch[:, columns])
        )
        rows = np.flatnonzero(candidate >= 0)
        estimate = (known_sketch[candidate[rows]] == asked_sketch[rows]).mean(axis=1)
        better = estimate > likeness[rows]
        best[rows[better]], likeness[rows[better]] = candidate[rows[better]], estimate[better]
    for row in np.flatnonzero(likeness > threshold - 0.2):  # .2 is four standard errors of the estimate
        if jaccard(asked[row], known[best[row]]) >= threshold:
            found[row] = best[row]
    return found


def jaccard(one: str, other: str) -> float:
    """Jaccard similarity of two texts' sets of shingles; a text shorter than a shingle is one itself."""
    first, second = _shingles(one), _shingles(other)
    return len(first & second) / len(first | second)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _shingles(text: str) -> set[str]:
    return {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}


def _sketches(texts: list[str]) -> np.ndarray:
    """(n, BANDS * ROWS) uint32 min-hashes of the texts' shingles."""
    sketch = np.empty((len(texts), BANDS * ROWS), dtype=np.uint32)
    start = 0
    while start < len(texts):
        stop, size = start, 0
        while stop < len(texts) and (size == 0 or size < _CHUNK):
            size += min(len(texts[stop]), _SKETCHED) + SHINGLE
            stop += 1
        sketch[start:stop] = _sketch_chunk(texts[start:stop])
        start = stop
    return sketch


def _sketch_chunk(texts: list[str]) -> np.ndarray:
    cut = [text[:_SKETCHED].ljust(SHINGLE, "\0") for text in texts]
    lengths = np.fromiter((len(text) for text in cut), dtype=np.int64, count=len(cut))
    codes = np.frombuffer("".join(cut).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    hashes = np.zeros(len(codes) - SHINGLE + 1, dtype=np.uint32)
    for offset in range(SHINGLE):
        hashes = hashes * np.uint32(0x01000193) + codes[offset : len(codes) - SHINGLE + 1 + offset]
    ends = np.cumsum(lengths)
    inside = np.ones(len(codes), dtype=bool)
    for offset in range(1, SHINGLE):
        inside[ends - offset] = False  # shingles that would run into the next text
    hashes = _mix(hashes[inside[: len(hashes)]])
    starts = np.concatenate(([0], np.cumsum(lengths - SHINGLE + 1)[:-1]))
    generator = np.random.default_rng(0)
    factors = generator.integers(1 << 31, size=BANDS * ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    masks = generator.integers(1 << 32, size=BANDS * ROWS, dtype=np.uint32)
    columns = [
        np.minimum.reduceat((hashes ^ mask) * factor, starts)
        for factor, mask in zip(factors, masks, strict=True)
    ]
    return np.stack(columns, axis=1)


def _mix(values: np.ndarray) -> np.ndarray:
    """Spreads every bit over all (the finaliser of MurmurHash3)."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return np.asarray(values ^ (values >> np.uint32(16)))


def _band_keys(part: np.ndarray) -> np.ndarray:
    """(n,) uint64 keys of (n, ROWS) min-hashes."""
    key = np.zeros(len(part), dtype=np.uint64)
    for column in part.T:
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key


def _first_with_key(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(n,) first position in ``known`` of each key in ``asked``, -1 where it is absent."""
    keys, first = np.unique(known, return_index=True)
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, first[place], -1)
