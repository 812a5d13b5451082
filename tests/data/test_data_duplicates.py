"""Equal and nearly equal texts: the laws of the hash, and its speed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.duplicates import jaccard, near_duplicates, normalise

WORDS = st.lists(
    st.sampled_from(["the", "a", "cat", "dog", "sat", "ran", "over", "green", "hill", "river", "quickly"]),
    min_size=8,
)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Hello, World!", "hello  world", True),
        ("don't go", "dont go", True),
        ("ﬁne  print", "FINE PRINT", True),
        ("good 😀", "good 😢", False),
        ("1 + 2", "1 = 2", False),
        ("C(=O)C", "CC", False),
        ("CO", "co", False),
        ("?!  ?!", "...  ...", False),
        ("well  said", "well done", False),
    ],
)
def test_equal_texts(one, other, equal):
    assert (normalise(one) == normalise(other)) == equal


@settings(max_examples=25, deadline=None)
@given(
    st.lists(WORDS.map(" ".join), min_size=1, max_size=20),
    st.lists(WORDS.map(" ".join), min_size=1, max_size=20),
)
def test_whatever_is_found_is_near(reference, texts):
    for text, place in zip(texts, near_duplicates(reference, texts), strict=True):
        if place >= 0:
            assert jaccard(text, reference[place]) >= 0.8


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=20, unique=True))
def test_every_text_is_near_itself(texts):
    assert (near_duplicates(texts, texts) >= 0).all()


def test_small_edits_of_sentences_are_found_and_others_are_not():
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghijklmnop"), 6)) for _ in range(500)]
    reference = [" ".join(generator.choice(words, 15)) for _ in range(2000)]
    edited = [text[:40] + "x" + text[41:] for text in reference[:300]]
    strangers = [" ".join(generator.choice(words, 15)) for _ in range(300)]
    found = near_duplicates(reference, edited)
    assert (found == np.arange(300)).mean() > 0.99
    assert (near_duplicates(reference, strangers) == -1).all()


def test_texts_with_equal_beginnings_are_told_apart_by_their_ends():
    head = "the same long introduction to every text in this corpus " * 30
    reference, text = head + "alpha beta gamma " * 200, head + "one two three four " * 200
    assert near_duplicates([reference], [text]).tolist() == [-1]


def test_empty_sides_and_lone_surrogates():
    assert near_duplicates([], ["a"]).tolist() == [-1]
    assert near_duplicates(["a"], []).tolist() == []
    assert near_duplicates(["\ud800 abc"], ["\ud800 abc"]).tolist() == [0]


def test_linear_in_templated_rows():
    """A hundred thousand rows that all share their bands must not be compared pair by pair."""
    texts = [f"a message made from a template for the customer number {i % 7}" for i in range(20_000)]
    begun = time.process_time()
    assert (near_duplicates(texts, texts[:2000]) >= 0).all()
    assert time.process_time() - begun < 10
